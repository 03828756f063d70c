"""The checks of samplers."""

from collections.abc import Callable

import torch
from torch import Tensor

from longigen.components.parameterization import to_x
from longigen.components.sampler import Sampler
from longigen.testing.assertions import keeps_its_configuration
from longigen.testing.case import Case
from longigen.testing.composition import composes_with_every_part
from longigen.testing.randomness import assert_draws_nothing_global

SHAPE = (3, 1, 4, 5, 6)

MANY = (3, 1, 16, 16, 16)
"""Enough voxels to tell a mean from 0 and a standard deviation from 1."""


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _bound(sampler: Sampler, like: Tensor) -> Sampler:
    """Return the sampler of a batch, whose base is standard normal if it starts at one."""
    if sampler.start == "noise":
        return sampler
    return sampler.starting_at(torch.randn(like.shape, generator=_generators(6)[0]))


def has_a_schedule(case: Case) -> None:
    """Check that λ falls strictly and that the process preserves variance."""
    sampler, t = case.make(), torch.linspace(0, 1, 101, dtype=torch.float64)
    log_snr = sampler.log_snr(t)
    assert bool(torch.isfinite(log_snr).all()), "λ is not finite somewhere on [0, 1]"
    assert bool((log_snr.diff() < 0).all()), "λ does not fall with t"
    alpha, sigma = sampler.alpha_sigma(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t)), "α² + σ² is not 1"
    assert torch.allclose((alpha / sigma).log() * 2, log_snr, atol=1e-6), "λ is not log(α²/σ²)"
    again = sampler.time(log_snr)
    assert torch.allclose(again, t, atol=1e-6), "time(λ) is not the inverse of log_snr(t)"
    times = sampler.timesteps(7)
    assert len(times) == 7, f"timesteps(7) gives {len(times)} times"
    assert bool((times.diff() < 0).all()), "times of generation do not fall"
    assert times[0] <= 1, "generation starts after t = 1"
    assert times[-1] >= 0, "generation ends before t = 0"


def corrupts_by_its_schedule(case: Case) -> None:
    """Check that z_t is α x and no more noise than σ, that the target gives x back, and the loss of predictions.

    Where the sampler starts at a base, z_t is α x + σ base, and the noise is what the sampler says.
    """
    x = torch.randn(MANY, generator=_generators(0)[0]).clamp(-1, 1)
    sampler = _bound(case.make(), x)
    z_t, log_snr, target = sampler.corrupt(x, _generators(1)[0])
    assert z_t.shape == x.shape, f"z_t is {tuple(z_t.shape)} for {tuple(x.shape)}"
    assert log_snr.shape == (3,), f"λ is {tuple(log_snr.shape)} for a batch of 3"
    for row in range(3):
        base = sampler.base[row] if sampler.start == "base" else None
        slope, spread, _ = _compared(sampler, z_t[row], x[row], base, log_snr[row])
        assert slope < 0.2, f"z_t at λ = {log_snr[row]:.3g} does not hold α x, but {slope:.2g} σ more or less of x"
        assert spread < 1.5, f"the noise in z_t at λ = {log_snr[row]:.3g} is {spread:.2g} times σ"
    clear = log_snr > -6  # with less signal, float32 cannot give x back from ε
    again = to_x(sampler.prediction, target, z_t, log_snr)
    if sampler.start == "noise":
        assert torch.allclose(again[clear], x[clear], atol=1e-2), "the target does not give x back"
    else:  # the target may leave out the noise on the way
        away = (again - x).square().flatten(1).mean(dim=1).sqrt()
        assert bool((away < 1e-2 + 1.5 * sampler.noise_std(sampler.time(log_snr))).all()), (
            "the target does not give x back"
        )
    loss = sampler.loss(target, target, log_snr)
    assert loss.shape == (3,), f"the loss is {tuple(loss.shape)}, not one per sample"
    assert torch.allclose(loss, torch.zeros(3)), "a perfect prediction has a loss"
    assert bool((sampler.loss(target + 0.3, target, log_snr) > 0).all()), "a wrong prediction has no loss"


def _compared(
    sampler: Sampler, z: Tensor, x: Tensor, base: Tensor | None, log_snr: Tensor
) -> tuple[float, float, bool]:
    """Compare z to α x + σ ε, or to α x + σ base and noise: how far its part of x is from α, and the size of the rest.

    Returns:
        Both, in standard deviations of the noise, and whether there is so much that its lack is not hidden by rounding.
    """
    alpha, sigma = (part.sqrt() for part in (log_snr.double().sigmoid(), (-log_snr.double()).sigmoid()))
    rest, deviation = z.double() - alpha * x.double(), sigma
    if base is not None:
        rest, deviation = rest - sigma * base.double(), sampler.noise_std(sampler.time(log_snr.double()))
    rest = rest / deviation.clamp(min=1e-3)
    slope = (rest * x).sum() / x.double().square().sum()
    return abs(slope.item()), rest.square().mean().sqrt().item(), deviation.item() > 1e-3


def returns_what_is_known(case: Case) -> None:
    """Check a closed form: if x̂ is one volume whatever z_t, generation ends there."""
    sampler, x = case.make(), torch.linspace(-1, 1, 3 * 4 * 5 * 6).view(SHAPE)
    for steps in (1, 2, 20):
        calls = []

        def predict(z_t: Tensor, log_snr: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(log_snr)
            return x

        z = torch.randn(SHAPE, generator=_generators(2)[0])
        result = sampler.sample(predict, z, _generators(3, 4, 5), steps=steps)
        assert torch.allclose(result, x, atol=1e-3), f"{steps} steps end {(result - x).abs().max():.2g} away"
        assert all(call.shape == (3,) for call in calls), "λ is not per sample"


def steps_to_the_next_noise_level(case: Case) -> None:
    """Check that with the true x as x̂ each z_s has the mean α_s x and, roughly, the standard deviation σ_s.

    Roughly, since a sampler may choose its reverse variance between that of the posterior and that of the forward
    process. From a base the mean is α_s x + σ_s base, and there may be less noise than in training, or none.
    """
    sampler, x = case.make(), torch.randn(MANY, generator=_generators(0)[0]).clamp(-1, 1)
    for steps in (2, 20):
        visited: list[tuple[Tensor, Tensor]] = []

        def predict(z_t: Tensor, log_snr: Tensor, visited: list[tuple[Tensor, Tensor]] = visited) -> Tensor:
            visited.append((z_t, log_snr.flatten()[0]))
            return x

        z = torch.randn(MANY, generator=_generators(2)[0])
        base = z if sampler.start == "base" else None
        sampler.sample(predict, z, _generators(3, 4, 5), steps=steps)
        for z_s, log_snr in visited[1:]:  # the first z is given
            slope, spread, visible = _compared(sampler, z_s, x, base, log_snr)
            where = f"at λ = {log_snr:.3g} of {steps} steps z_s"
            assert slope < 0.2, f"{where} does not hold α x, but {slope:.2g} σ more or less of x"
            assert spread < 2.5, f"{where} holds noise of {spread:.2g} σ"
            assert spread > 0.5 or not visible or base is not None, f"{where} holds noise of {spread:.2g} σ"


def keeps_to_what_the_network_knows(case: Case) -> None:
    """Check that training stays in the range that it declares, and generation in that of another one's training."""
    sampler, z = case.make(), torch.randn(SHAPE, generator=_generators(2)[0])
    low, high = sampler.trained_range
    x = torch.zeros(64, 1)
    _, log_snr, _ = _bound(sampler, x).corrupt(x, _generators(0)[0])
    outside = ((log_snr < low - 1e-3) | (log_snr > high + 1e-3)).any()
    assert not bool(outside), f"training leaves its range, λ from {low:.3g} to {high:.3g}"
    asked: list[Tensor] = []

    def predict(z_t: Tensor, log_snr: Tensor) -> Tensor:
        asked.append(log_snr)
        return torch.tanh(z_t)

    for low, high in ((-3.0, 1.0), (-25.0, -1.0), (-8.0, 25.0)):
        sampler.sample(predict, z, _generators(3, 4, 5), steps=4, within=(low, high))
        seen = torch.cat(asked)
        assert low - 1e-3 <= seen.min(), f"asks λ = {seen.min():.3g} of a network that begins at {low}"
        assert seen.max() <= high + 1e-3, f"asks λ = {seen.max():.3g} of a network that ends at {high}"
        asked.clear()


def is_seeded_per_sample(case: Case) -> None:
    """Check that a sample depends on its own generator, and not on its batch nor on what was generated before."""
    sampler = case.make()

    def predict(z_t: Tensor, log_snr: Tensor) -> Tensor:
        return torch.tanh(z_t)

    z = torch.randn(SHAPE, generator=_generators(2)[0])
    together = sampler.sample(predict, z, _generators(3, 4, 5), steps=5)
    alone = sampler.sample(predict, z[1:2], _generators(4), steps=5)
    assert torch.allclose(alone[0], together[1], atol=1e-6), "a sample depends on its batch"
    repeated = sampler.sample(predict, z, _generators(3, 4, 5), steps=5)
    assert torch.equal(repeated, together), "a sample depends on those that were generated before"
    if sampler.deterministic:
        other = z if sampler.start == "base" else -z
        made = sampler.sample(predict, other, _generators(7, 8, 9), steps=5)
        assert torch.equal(made, together), "it says that it is deterministic, and samples differ"


def draws_nothing_global(case: Case) -> None:
    """Check that training and generation draw from the generators that they are given, and from no other."""

    def answer() -> list[Tensor]:
        sampler: Sampler = case.make(seed=None)
        x, z = (torch.randn(SHAPE, generator=generator) for generator in _generators(0, 2))
        made = sampler.sample(lambda z_t, _: torch.tanh(z_t), z, _generators(3, 4, 5), steps=4)
        return [made, *_bound(sampler, x).corrupt(x.clamp(-1, 1), _generators(1)[0])]

    assert_draws_nothing_global(answer)


def tells_its_progress(case: Case) -> None:
    """Check the callback."""
    told: list[tuple[int, int]] = []
    z = torch.zeros(1, 1, 2, 2, 2)
    case.make().sample(lambda z_t, _: z_t, z, _generators(0), steps=3, callback=lambda *a: told.append(a))
    assert told, "the callback is never called"
    assert told[-1][0] == told[-1][1], f"the last call of the callback says {told[-1][0]} of {told[-1][1]} steps"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "has a schedule that preserves variance": has_a_schedule,
    "corrupts by its schedule": corrupts_by_its_schedule,
    "returns a volume that is known": returns_what_is_known,
    "steps to the noise level of the next time": steps_to_the_next_noise_level,
    "keeps to what the network knows": keeps_to_what_the_network_knows,
    "is seeded per sample": is_seeded_per_sample,
    "leaves global random generators alone": draws_nothing_global,
    "tells its progress": tells_its_progress,
    "composes with every installed part": composes_with_every_part,
}
"""By what a sampler is to do; see `Sampler`."""
