"""The GAN: its losses by hand, and that generator and discriminator learn from each other."""

import pytest
import torch

from longigen import Conditioning, DiffusionTarget, Example, LongigenError, Routes
from longigen.models.longitudinal import total
from longigen.testing.case import history
from longigen_baselines import GAN, RegressionSampler
from longigen_baselines.gan import PatchDiscriminator

SIZE = (9, 8, 7)


def built(**config: object) -> GAN:
    torch.manual_seed(0)
    gan = GAN(widths=(4, 8, 8), discriminator=(8, 8), **config)  # type: ignore[arg-type]
    gan.build(channels=1, routes=Routes())
    return gan


def example(*, residual: bool = True) -> Example:
    images = history(SIZE).images
    return Example(
        image=images[:, 1],
        conditioning=Conditioning(base=images[:, 0], gap=torch.ones(2)),
        sampler=RegressionSampler(),
        generator=torch.Generator(),
        diffusion_target=DiffusionTarget(images[:, 0], 0.3) if residual else DiffusionTarget(),
    )


@pytest.mark.parametrize("residual", [True, False])
def test_the_losses_by_hand(residual: bool) -> None:
    """The initial output is zero, so the L1 loss is that of copy-last, or of a grey volume for an image target."""
    gan, given = built(l1=7.0), example(residual=residual)
    base, scores = given.conditioning.base, {}
    assert base is not None
    output = base if residual else torch.zeros_like(base)
    scores = {
        k: gan.adversary(torch.cat([x, base], dim=1)) for k, x in (("fake", torch.zeros_like(base)), ("real", given.x))
    }
    losses, adversary_losses = gan.losses(given), gan.adversary_losses(given)
    torch.testing.assert_close(losses["l1"], 7.0 * (given.image - output).abs().flatten(1).mean(dim=1))
    torch.testing.assert_close(losses["adversarial"], (scores["fake"] - 1).square().flatten(1).mean(dim=1))
    torch.testing.assert_close(adversary_losses["fake"], 0.5 * scores["fake"].square().flatten(1).mean(dim=1))
    torch.testing.assert_close(adversary_losses["real"], 0.5 * (scores["real"] - 1).square().flatten(1).mean(dim=1))


def test_the_discriminator_scores_patches() -> None:
    """Each score depends on a part of the volume, and there is one per stride for any size."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(1, (8,))  # no normalisation, which would see everything
    volume = torch.zeros(1, 1, 16, 5, 1)
    changed = volume.clone()
    changed[..., 15, :, :] = 1
    one, two = discriminator(volume), discriminator(changed)
    assert one.shape == (1, 1, 8, 3, 1)
    assert torch.equal(one[:, :, :6], two[:, :, :6])
    assert not torch.allclose(one[:, :, 7], two[:, :, 7])


def test_the_discriminator_learns_and_the_generator_follows_it() -> None:
    """Without the L1 loss, the generator moves towards the volumes that the discriminator scores as real."""
    gan, given = built(l1=0.0), example()
    adversary = gan.adversary
    assert adversary is not None
    discriminator_optimizer = torch.optim.Adam(adversary.parameters(), lr=3e-3)
    for _ in range(40):
        total(gan.adversary_losses(given)).mean().backward()
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad()
    loss = total(gan.adversary_losses(given)).mean()
    assert loss < 0.1  # 1/4 is chance
    before = gan.losses(given)["adversarial"].mean()
    generator_optimizer = torch.optim.Adam(gan.generator.parameters(), lr=3e-3)
    for _ in range(30):
        total(gan.losses(given)).mean().backward()
        generator_optimizer.step()
        generator_optimizer.zero_grad()
    assert gan.losses(given)["adversarial"].mean() < 0.7 * before


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(LongigenError, match="discriminator must be multiples of 4"):
        GAN(discriminator=(6,))
    with pytest.raises(LongigenError, match="l1 must be a number of at least 0"):
        GAN(l1=-1.0)
