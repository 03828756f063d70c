"""The conditional VAE: its losses compared with closed forms, and its latents computed from the sampler's noise."""

import pytest
import torch

from longigen import Conditioning, DiffusionTarget, Example, LongigenError, LongitudinalModel, Routes
from longigen.models.settings import ModelSettings
from longigen.testing.case import after, history, randomised
from longigen_baselines import VAE, RegressionSampler, SourceConditioner
from longigen_baselines.vae import latent_noise

SIZE = (9, 8, 7)


def built(**config: object) -> VAE:
    torch.manual_seed(0)
    vae = VAE(widths=(4, 8, 8), **config)  # type: ignore[arg-type]
    vae.build(channels=1, routes=Routes())
    return vae.eval()


def example(seed: int = 0) -> Example:
    images = history(SIZE).images
    return Example(
        image=images[:, 1],
        conditioning=Conditioning(base=images[:, 0], gap=torch.ones(2)),
        sampler=RegressionSampler(noise=True),
        generator=torch.Generator().manual_seed(seed),
        diffusion_target=DiffusionTarget(images[:, 0], 0.3),
    )


@pytest.mark.parametrize(("latents", "stride"), [(1, 4), (4, 4), (3, 2), (4, 8)])
def test_latents_of_standard_normal_noise_are_standard_normal_and_independent(latents: int, stride: int) -> None:
    """This includes blocks that are cut off at the border."""
    noise = torch.randn(8000, 2, 9, 8, 5, generator=torch.Generator().manual_seed(0))
    u = latent_noise(noise, stride, latents)
    assert u.shape == (8000, latents, -(-9 // stride), -(-8 // stride), -(-5 // stride))
    flat = u.flatten(1).double()
    empty = flat.abs().amax(dim=0) == 0  # a voxel-thin corner has no voxel for a channel
    assert empty.float().mean() < 0.12
    flat = flat[:, ~empty]
    covariance = flat.T @ flat / len(flat)
    torch.testing.assert_close(covariance, torch.eye(flat.shape[1]).double(), atol=0.07, rtol=0)
    assert flat.mean(dim=0).abs().max() < 0.06


def test_one_channel_is_the_mean_of_a_block_times_its_root_volume() -> None:
    noise = torch.randn(2, 1, 8, 8, 8)
    expected = torch.nn.functional.avg_pool3d(noise, 4) * 4**1.5
    torch.testing.assert_close(latent_noise(noise, 4, 1), expected)


def test_the_losses_by_hand() -> None:
    vae, given = built(beta=3.0), example()
    losses = vae.losses(given)
    assert list(losses) == ["reconstruction", "kl"]
    # Initially q is the prior and the output of the decoder is zero.
    torch.testing.assert_close(losses["kl"], torch.zeros(2))
    torch.testing.assert_close(losses["reconstruction"], given.x.square().flatten(1).mean(dim=1))
    randomised(vae)
    mean, log_variance = vae.encode(given.x, given.conditioning)
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(dim=1)
    torch.testing.assert_close(vae.losses(given)["kl"], 3.0 * divergence / (9 * 8 * 7))


def test_without_noise_the_latent_is_the_mean_of_the_prior() -> None:
    """If z_t contains no noise, or is zero, the latent is the mean of the prior."""
    vae, given = randomised(built()), example()
    z = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    mean = vae.decode(torch.zeros(2, 4, 3, 2, 2), given.conditioning)
    for volume, level in ((z, 40.0), (torch.zeros_like(z), -20.0)):
        torch.testing.assert_close(vae(volume, torch.full((2,), level), given.conditioning), mean)
    drawn = vae(z, torch.full((2,), -20.0), given.conditioning)
    torch.testing.assert_close(drawn, vae.decode(latent_noise(z, 4, 4), given.conditioning))
    assert not torch.allclose(drawn, mean, atol=1e-3)


def test_samples_differ_only_with_noise() -> None:
    visits = history(SIZE)
    time = after(visits)[:, None]
    for noise in (True, False):
        torch.manual_seed(0)
        parts = SourceConditioner(embedding=8), VAE(widths=(4, 8, 8)), RegressionSampler(noise=noise)
        model = LongitudinalModel(*parts, settings=ModelSettings(guidance=0.0)).eval()
        torch.testing.assert_close(model.generate(visits, time)[:, 0], visits.last(time[:, 0])[0])  # untrained
        randomised(model)
        one, same, other = (
            model.generate(visits, time, seed=seed, steps=steps) for seed, steps in [(0, 1), (0, 7), (1, 1)]
        )
        assert torch.equal(one, same)
        assert torch.allclose(one, other) is not noise


def test_it_learns_a_distribution_with_two_modes() -> None:
    """Trained on two random constants, the latent encodes which one, and samples from the prior contain both."""
    torch.manual_seed(0)
    vae = VAE(widths=(4, 8, 8), latents=1, beta=0.05)
    vae.build(channels=1, routes=Routes())
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    base, generator = torch.zeros(16, 1, 4, 4, 4), torch.Generator().manual_seed(0)
    given = Conditioning(base=base, gap=torch.ones(16))
    for _ in range(120):
        sign = torch.randint(0, 2, (16, 1, 1, 1, 1), generator=generator) * 2.0 - 1
        losses = vae.losses(
            Example(
                image=sign.expand_as(base),
                conditioning=given,
                sampler=RegressionSampler(),
                generator=generator,
                diffusion_target=DiffusionTarget(),
            )
        )
        sum(losses.values()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses["reconstruction"].mean() < 0.2
    z = torch.randn(16, 1, 4, 4, 4, generator=generator)
    with torch.no_grad():
        drawn = vae(z, torch.full((16,), -20.0), given).flatten(1).mean(dim=1)
    assert drawn.min() < -0.5
    assert drawn.max() > 0.5


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(LongigenError, match="two multiples of 4 or more"):
        VAE(widths=(6, 8))
    with pytest.raises(LongigenError, match="latents must be a whole number of at least 1"):
        VAE(latents=0)
