"""The checks of samplers."""

from collections.abc import Callable

import torch
from torch import Tensor

from longigen.components.parameterization import to_x
from longigen.testing.case import Case, keeps_its_configuration
from longigen.testing.composition import composes_with_every_part

SHAPE = (3, 1, 4, 5, 6)


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


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
    """Check that the training target gives the clean volume back, and that a perfect prediction has no loss."""
    sampler, x = case.make(), torch.randn(SHAPE, generator=_generators(0)[0]).clamp(-1, 1)
    z_t, log_snr, target = sampler.corrupt(x, _generators(1)[0])
    assert z_t.shape == x.shape, f"z_t is {tuple(z_t.shape)} for {tuple(x.shape)}"
    assert log_snr.shape == (3,), f"λ is {tuple(log_snr.shape)} for a batch of 3"
    clear = log_snr > -6  # with less signal, float32 cannot give x back from ε
    again = to_x(sampler.prediction, target, z_t, log_snr)
    assert torch.allclose(again[clear], x[clear], atol=1e-2), "the target does not give x back"
    loss = sampler.loss(target, target, log_snr)
    assert loss.shape == (3,), f"the loss is {tuple(loss.shape)}, not one per sample"
    assert torch.allclose(loss, torch.zeros(3)), "a perfect prediction has a loss"
    assert bool((sampler.loss(target + 0.3, target, log_snr) > 0).all()), "a wrong prediction has none"


def returns_what_is_known(case: Case) -> None:
    """Check a closed form: if x̂ is one volume whatever z_t, the walk ends there."""
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


def keeps_to_what_the_network_knows(case: Case) -> None:
    """Check that training stays in the range that it declares, and a walk in that of another sampler's training."""
    sampler, z = case.make(), torch.randn(SHAPE, generator=_generators(2)[0])
    low, high = sampler.trained_range
    _, log_snr, _ = sampler.corrupt(torch.zeros(64, 1), _generators(0)[0])
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
    """Check that a sample's walk depends on its own generator and not on its batch."""
    sampler = case.make()

    def predict(z_t: Tensor, log_snr: Tensor) -> Tensor:
        return torch.tanh(z_t)

    z = torch.randn(SHAPE, generator=_generators(2)[0])
    together = sampler.sample(predict, z, _generators(3, 4, 5), steps=5)
    alone = sampler.sample(predict, z[1:2], _generators(4), steps=5)
    assert torch.allclose(alone[0], together[1], atol=1e-6), "a sample depends on its batch"
    repeated = sampler.sample(predict, z, _generators(3, 4, 5), steps=5)
    assert torch.equal(repeated, together), "a walk depends on the walks before"


def tells_its_progress(case: Case) -> None:
    """Check the callback."""
    told: list[tuple[int, int]] = []
    z = torch.zeros(1, 1, 2, 2, 2)
    case.make().sample(lambda z_t, _: z_t, z, _generators(0), steps=3, callback=lambda *a: told.append(a))
    assert told, "the callback is never called"
    assert told[-1][0] == told[-1][1], f"the last call of the callback is {told[-1]}"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "has a schedule that preserves variance": has_a_schedule,
    "corrupts by its schedule": corrupts_by_its_schedule,
    "returns a volume that is known": returns_what_is_known,
    "keeps to what the network knows": keeps_to_what_the_network_knows,
    "is seeded per sample": is_seeded_per_sample,
    "tells its progress": tells_its_progress,
    "composes with every installed part": composes_with_every_part,
}
