"""DiffuseMorph: its losses and warps compared with closed forms, and a shift that it learns."""

import pytest
import torch
from torch import Tensor

from helpers.fields import SIZE, noise, smooth
from longigen import Conditioning, DiffusionTarget, Example, LongigenError, Routes, doubled, flow, warp
from longigen.models.longitudinal import total
from longigen.testing.case import randomised
from longigen_baselines import DiffuseMorph
from longigen_baselines.registration import local_correlation, roughness
from longigen_continuous import ContinuousSampler


def blob(centre: float, size: int = 16) -> Tensor:
    axis = torch.arange(size, dtype=torch.float32)
    w, h, d = torch.meshgrid(axis, axis, axis, indexing="ij")
    distance = (w - centre) ** 2 + (h - size / 2) ** 2 + (d - size / 2) ** 2
    return (2 * torch.exp(-distance / 12) - 1)[None, None]


def test_the_local_correlation() -> None:
    """It is 1 for linearly related volumes, near 0 for independent ones, and 0 for constants."""
    one, other = noise(2, 1, 14, 12, 11), noise(2, 1, 14, 12, 11, seed=1)
    torch.testing.assert_close(local_correlation(one, 0.3 - 0.5 * one), torch.ones(2), atol=1e-3, rtol=0)
    assert local_correlation(one, other).max() < 0.05
    assert not local_correlation(torch.full_like(one, -1.0), one).any()
    # By hand, for a window that contains the whole volume.
    a, b = one[:1, :, :4, :4, :4], other[:1, :, :4, :4, :4]
    expected = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] ** 2
    torch.testing.assert_close(local_correlation(a, b)[0], expected, atol=1e-4, rtol=1e-4)


def test_roughness_is_the_mean_squared_gradient() -> None:
    ramp = torch.zeros(1, 3, *SIZE)
    ramp[:, 1] = 0.5 * torch.arange(SIZE[2]).float()
    torch.testing.assert_close(roughness(ramp), torch.tensor([0.25 / 9]))  # one of nine derivatives is 1/2
    assert not roughness(torch.ones(2, 3, *SIZE)).any()


def built(**config: object) -> DiffuseMorph:
    torch.manual_seed(0)
    network = DiffuseMorph(widths=(4, 8, 8), **config)  # type: ignore[arg-type]
    network.build(channels=1, routes=Routes())
    return network


def example(source: Tensor, image: Tensor, gap: Tensor, seed: int = 0) -> Example:
    return Example(
        image=image,
        conditioning=Conditioning(base=source, gap=gap),
        sampler=ContinuousSampler(prediction="x", steps=1, log_snr_max=0.0),
        generator=torch.Generator().manual_seed(seed),
        diffusion_target=DiffusionTarget(source, 0.3),
    )


def test_the_field_is_scaled_by_the_time() -> None:
    """A gap of zero returns the source, and twice the gap applies the warp twice."""
    source = blob(7.0)
    velocity = smooth(1.0, (8, 8, 8))[:1]

    def after(gap: float) -> Tensor:
        given = Conditioning(base=source, gap=torch.tensor([gap]))
        return warp(source, DiffuseMorph.displacement(velocity, given))

    torch.testing.assert_close(after(0.0), source, atol=1e-5, rtol=0)
    step = doubled(flow(velocity), source.shape[2:])
    assert (after(2.0) - warp(warp(source, step), step)).abs().max() < 0.1
    changes = [(after(gap) - source).abs().mean().item() for gap in (0.25, 0.5, 1.0, 2.0)]
    assert changes == sorted(changes)


def test_initial_output_is_the_source_and_losses_are_as_by_hand() -> None:
    source, image = blob(7.0), blob(8.0)
    network, given = built(weight=3.0).eval(), example(blob(7.0), blob(8.0), torch.tensor([1.3]))
    torch.testing.assert_close(network(noise(1, 1, 16, 16, 16), torch.zeros(1), given.conditioning), source)
    losses = network.losses(given)
    torch.testing.assert_close(losses["denoising"], given.x.square().flatten(1).mean(dim=1))
    torch.testing.assert_close(losses["similarity"], 3 * (1 - local_correlation(source, image)), atol=1e-4, rtol=1e-3)
    assert not losses["roughness"].any()


def test_gradients_of_the_similarity_reach_the_diffusion_network() -> None:
    network = randomised(built())
    network.losses(example(blob(7.0), blob(8.0), torch.ones(1)))["similarity"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.diffusion.parameters())


def test_it_learns_a_shift_per_time() -> None:
    """Trained on a blob that moves one voxel per typical gap, it moves the blob right for one and for two gaps."""
    network = built(scale_input=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    source = blob(6.0).expand(2, -1, -1, -1, -1)
    image = torch.cat([blob(7.0), blob(8.0)])
    gap = torch.tensor([1.0, 2.0])
    for step in range(60):
        total(network.losses(example(source, image, gap, step))).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        warped = network.eval()(noise(2, 1, 16, 16, 16), torch.full((2,), -20.0), Conditioning(base=source, gap=gap))
    mass = (warped + 1).clamp(min=0)
    centre = (mass.sum(dim=(1, 3, 4)) * torch.arange(16.0)).sum(dim=1) / mass.sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(centre, torch.tensor([7.0, 8.0]), atol=0.35, rtol=0)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(LongigenError, match="two multiples of 4 or more"):
        DiffuseMorph(widths=(8,))
    with pytest.raises(LongigenError, match="weight must be a number above 0"):
        DiffuseMorph(weight=0.0)
