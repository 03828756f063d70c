"""The cine denoiser: moved voxels, draws of a Gaussian of low rank, and its losses in closed form."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longigen import Conditioning, DiffusionTarget, Example, LongigenError, Routes
from longigen.registry.registry import registry
from longigen.testing import cases, run_check
from longigen_cine import CineUNet
from longigen_cine.denoiser import Modes, _positions
from longigen_cine.losses import (
    SCALES,
    amount_error,
    dissimilarity,
    ensemble_error,
    from_slices,
    squared_error,
    to_slices,
    warp_slices,
)
from longigen_metrics import SliceSSIM

SHAPE = (2, 1, 20, 18, 3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(**parameters: object) -> CineUNet:
    made = CineUNet(**{"width": 8, "multipliers": (1, 2), "latents": 3, "dropout": 0.0, **parameters})
    made.build(channels=1, routes=Routes(concat=2, embedding=4))
    return made


def conditioning(base: Tensor) -> Conditioning:
    size, shape = base.shape[0], base.shape[2:]
    return Conditioning(concat=noise(size, 2, *shape), embedding=noise(size, 4), base=base, gap=torch.ones(size))


def randomise(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 19, 7, 1), (1, 1, 9, 12, 11)])
def test_an_untrained_network_copies_the_last_visit(shape: tuple[int, ...]) -> None:
    base = noise(*shape).clamp(-1, 1)
    output = denoiser()(torch.zeros(shape), torch.full(shape[:1], -20.0), conditioning(base))
    torch.testing.assert_close(output, base, atol=2e-5, rtol=0)


def test_spread_widens_the_draws_and_not_the_central_forecast() -> None:
    wide, plain = denoiser(spread=1.5), denoiser()
    randomise(wide)
    plain.load_state_dict(wide.state_dict())
    base, level = noise(*SHAPE).clamp(-1, 1), torch.full(SHAPE[:1], -20.0)  # at this level z_t is noise alone
    z_t, given = noise(*SHAPE, seed=1), conditioning(base)
    drawn = wide.eval()(z_t, level, given)
    torch.testing.assert_close(drawn, plain.eval()(1.5 * z_t, level, given))
    assert not torch.allclose(drawn, plain(z_t, level, given), atol=1e-3)
    zeros = torch.zeros(SHAPE)
    torch.testing.assert_close(wide(zeros, level, given), plain(zeros, level, given), atol=0, rtol=0)


@pytest.mark.parametrize(("parameters", "message"), [({"width": 6}, "multiple of 4"), ({"multipliers": (1,)}, "two")])
def test_values_that_do_not_fit_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        CineUNet(**parameters)


def test_noise_below_the_level_of_the_signal_is_not_drawn_from() -> None:
    made, base = denoiser().eval(), noise(*SHAPE)
    randomise(made)
    z, given = noise(*SHAPE, seed=1), conditioning(base)
    clean, noisy = (made(z, torch.full((2,), level), given) for level in (30.0, -30.0))
    torch.testing.assert_close(clean, made(torch.zeros(SHAPE), torch.full((2,), -30.0), given), atol=1e-4, rtol=0)
    assert (noisy - clean).abs().max() > 1e-3


def test_positions_are_from_the_middle() -> None:
    x, y, length, z = _positions(torch.zeros(2, 1, 101, 4, 3))[1]
    assert (x[0, 0, 0], x[50, 2, 1], x[100, 3, 2]) == (-1.0, 0.0, 1.0)
    torch.testing.assert_close(y[7, :, 0] * 50, torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    torch.testing.assert_close(length, torch.hypot(x, y))
    assert z[3, 1].tolist() == [-1.0, 0.0, 1.0]
    assert not _positions(torch.zeros(1, 1, 4, 4, 1))[0, 3].any()  # a single slice


def test_no_time_means_no_change() -> None:
    made, base = denoiser().eval(), noise(*SHAPE).clamp(-1, 1)
    randomise(made)
    given, z, level = conditioning(base), noise(*SHAPE, seed=1), torch.full((2,), -20.0)
    changes = [
        (made(z, level, replace(given, gap=torch.full((2,), gap))) - base).abs().max() for gap in (1e-6, 0.1, 1.0)
    ]
    assert changes[0] < 1e-3 < changes[1] < changes[2]


@pytest.mark.parametrize(("steady", "ratio"), [(True, 2.0), (False, math.tanh(2.0) / math.tanh(1.0))])
def test_movement_grows_with_time(steady: bool, ratio: float) -> None:
    made, base = denoiser(steady=steady, output_scale=0.3).eval(), noise(*SHAPE).clamp(-1, 1)
    randomise(made)
    for parameter in made.gap.parameters():  # otherwise the network reads the gap too
        parameter.data.zero_()
    given = conditioning(base)
    one, two = (made._modes(replace(given, gap=torch.full((2,), gap))) for gap in (1.0, 2.0))
    torch.testing.assert_close(two.velocity, ratio * one.velocity)
    torch.testing.assert_close(two.change, ratio * one.change)
    made.output_scale = 0.6
    torch.testing.assert_close(made._modes(replace(given, gap=torch.ones(2))).velocity, 2 * one.velocity)


def test_a_draw_is_linear_in_its_latents() -> None:
    count, size = 2, (8, 6, 3)
    velocity = torch.zeros(1, 3 * (count + 1), 4, 3, 3)
    velocity[:, 0], velocity[:, 4], velocity[:, 8] = 0.25, 0.5, 0.1  # v_0 along W, v_1 along H, v_2 across
    change = torch.zeros(1, count + 1, 4, 3, 3)
    change[:, 0], change[:, 1] = 0.3, 0.2  # c_0, c_1
    modes = Modes(velocity, change, torch.Size((1, 1, *size)))
    z = noise(1, 1, *size)
    # Interleaved voxels, summed over the root of their number, are the latents.
    latents = z.flatten(1).unflatten(1, (-1, count)).sum(dim=1)[0] / math.sqrt(z.numel() / count)
    moved = modes.draw(z)
    # A constant velocity of v voxels of half the resolution moves by 2 v voxels.
    expected = torch.stack([torch.tensor(0.5), latents[0], torch.tanh(0.1 * latents[1])])
    torch.testing.assert_close(moved.displacement[0], expected.view(3, 1, 1, 1).expand(3, *size))
    torch.testing.assert_close(moved.change[0, 0], (0.3 + 0.2 * latents[0]).expand(size))
    central = modes.draw(torch.zeros_like(z))
    torch.testing.assert_close(central.displacement[0, 0], torch.full(size, 0.5))
    assert central.displacement[0, 1:].abs().max() == 0


def test_the_latents_of_noise_are_standard_normal() -> None:
    z = noise(4000, 1, 5, 3, 2)  # 30 voxels, which 4 does not divide
    modes = Modes(torch.zeros(4000, 15, 3, 2, 2), torch.zeros(4000, 5, 3, 2, 2), z.shape)
    modes.change[:, 1] = 1.0  # c_1 is 1: the change is u_1
    drawn = modes.draw(z).change[:, 0, 0, 0, 0]
    assert drawn.mean().abs() < 0.05
    assert drawn.std() == pytest.approx(1, abs=0.06)


def test_the_warp_moves_by_whole_voxels_and_slices_exactly() -> None:
    volume = noise(*SHAPE)
    shift = torch.tensor([2.0, -1.0, 1.0]).view(1, 3, 1, 1, 1).expand(2, 3, *SHAPE[2:])
    moved = warp_slices(volume, shift)
    torch.testing.assert_close(moved[:, :, 1:-3, 2:, :-1], volume[:, :, 3:-1, 1:-1, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(warp_slices(volume, torch.zeros_like(shift)), volume, atol=1e-4, rtol=0)


def test_the_warp_of_a_plane_between_voxels() -> None:
    W, H, D = SHAPE[2:]
    w, h, d = torch.meshgrid(*(torch.arange(float(size)) for size in (W, H, D)), indexing="ij")
    volume = (0.1 * w - 0.2 * h + 0.3 * d).expand(2, 1, W, H, D)
    shift = torch.tensor([0.5, 0.25, -0.5]).view(1, 3, 1, 1, 1).expand(2, 3, W, H, D)
    expected = volume + 0.1 * 0.5 - 0.2 * 0.25 - 0.3 * 0.5
    inner = (..., slice(3, -3), slice(3, -3), slice(1, -1))
    # torch's bicubic kernel (A = -0.75) reproduces constants exactly and slopes nearly.
    torch.testing.assert_close(warp_slices(volume, shift)[inner], expected[inner], atol=0.01, rtol=0)


def test_errors_of_constant_images_in_closed_form() -> None:
    true = torch.zeros(SHAPE)
    values = torch.tensor([[0.3], [-0.1], [0.2]])
    first, second, third = (true + value for value in values)
    assert squared_error(first, true).tolist() == pytest.approx([(SCALES + 1) * 0.09] * 2)
    # (|0.3| + |-0.1|) / 2 - |0.4| / 2 = 0: the truth lies between the draws.
    assert ensemble_error(first, second, true).abs().max() < 1e-6
    # (0.3 + 0.2) / 2 - 0.1 / 2 = 0.2: it does not.
    assert ensemble_error(first, third, true).tolist() == pytest.approx([(SCALES + 1) * 0.2] * 2)


def test_the_error_of_the_amount_in_closed_form() -> None:
    base = noise(2, 1, 16, 12, 3)
    changes = 0.3 * torch.ones(2, 1, 16, 12, 3), -0.1 * torch.ones(2, 1, 16, 12, 3)
    checkers = torch.tensor([1.0, -1.0]).repeat(6)[None, None, None, :, None]  # the mean of four voxels is 0
    error = amount_error(base + changes[0] + 0.5 * checkers, base + changes[1], base)
    torch.testing.assert_close(error, torch.full((2,), 0.2))
    still = base.clone().requires_grad_()
    amount_error(still, base, base).sum().backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()


def test_the_ensemble_error_is_lowest_for_draws_of_the_true_distribution() -> None:
    true = noise(64, 1, 16, 16, 2)

    def expected(scale: float, shift: float = 0.0) -> float:
        draws = (shift + scale * noise(64, 1, 16, 16, 2, seed=seed) for seed in (1, 2))
        return float(ensemble_error(*draws, true).mean())

    assert expected(1.0) < min(expected(0.6), expected(1.5), expected(1.0, shift=0.3))


@pytest.mark.parametrize("shape", [(2, 1, 24, 20, 5), (1, 1, 13, 30, 2)])
def test_the_dissimilarity_is_one_minus_the_ssim_of_slices(shape: tuple[int, ...]) -> None:
    generated, true = (noise(*shape, seed=seed).clamp(-1, 1) for seed in (0, 1))
    metric, whole = SliceSSIM(), torch.ones(shape[2:], dtype=torch.bool)
    expected = [1 - metric(x, y, y, whole) for x, y in zip(generated, true, strict=True)]
    assert dissimilarity(generated, true).tolist() == pytest.approx(expected, abs=1e-4)


def test_slices_and_volumes_are_inverse() -> None:
    volume = noise(*SHAPE)
    assert torch.equal(from_slices(to_slices(volume), SHAPE[-1]), volume)
    assert torch.equal(to_slices(volume)[SHAPE[-1]], volume[1, ..., 0])


def test_training_learns_a_motion_and_its_amount() -> None:
    """Squares that move right by 2 voxels or stay: the forecast is in between, and draws differ."""
    torch.manual_seed(0)
    made = denoiser(ensemble=3.0)
    base = torch.full((8, 1, 16, 16, 2), -1.0)
    base[:, :, 4:9, 5:11] = 1.0
    image = base.clone()
    image[::2] = base[::2].roll(2, dims=2)
    given = Conditioning(concat=torch.zeros(8, 2, 16, 16, 2), embedding=torch.zeros(8, 4), base=base, gap=torch.ones(8))
    sampler, generator = registry.make("sampler", "regression", {"noise": True}), torch.Generator().manual_seed(0)
    example = Example(
        image=image, conditioning=given, sampler=sampler, generator=generator, diffusion_target=DiffusionTarget()
    )
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    history = []
    for _ in range(120):
        loss = torch.stack(list(made.losses(example).values())).sum(dim=0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-10:]) < 0.75 * sum(history[:10])
    with torch.no_grad():
        draws = torch.stack(
            [made(noise(8, 1, 16, 16, 2, seed=seed), torch.full((8,), -20.0), given)[0] for seed in range(8)]
        )
    edge = (..., slice(4, 6), slice(6, 10), slice(None))  # covered before the motion, not after it
    still = (..., slice(12, 16), slice(None), slice(None))
    assert draws.std(dim=0)[edge].mean() > 3 * draws.std(dim=0)[still].mean()


@pytest.mark.parametrize(("_", "label"), [case for case in cases("denoiser") if "composes" not in case[1]])
def test_contracts_of_steady_movement(_: str, label: str) -> None:
    run_check("denoiser", label, "cine", {"steady": True, "amount": 1.0, "positions": False})
