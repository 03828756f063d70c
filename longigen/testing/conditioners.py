"""The checks of conditioners."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from longigen.components.visit_sequence import Covariate, VisitSequence
from longigen.testing.assertions import (
    assert_outlined,
    assert_reached,
    assert_same,
    close,
    keeps_its_configuration,
    restored,
    tensors,
)
from longigen.testing.case import SIZES, Case, after, built_conditioner, history, with_covariates
from longigen.testing.composition import composes_with_every_part
from longigen.testing.randomness import assert_draws_nothing_global

UNIT = 256.0
"""How much longer the unit of time is that histories are written in again; a power of 2 changes no digit."""


def _visits(size: tuple[int, ...] = SIZES[0], *, lengths: tuple[int, ...] = (3, 2), seed: int = 0) -> VisitSequence:
    return with_covariates(history(size, lengths=lengths, seed=seed), seed)


def emits_its_routes(case: Case) -> None:
    """Check channels against `routes`, and volumes against the history's size."""
    conditioner = built_conditioner(case)
    for size in SIZES:
        visits = _visits(size)
        given = conditioner(visits, after(visits))
        assert given.routes == conditioner.routes, f"declares {conditioner.routes} but emits {given.routes}"
        for name, tensor in tensors(given).items():
            assert tensor.shape[0] == 2, f"{name} has batch {tensor.shape[0]} for 2 subjects"
            assert tensor.is_floating_point(), f"{name} is {tensor.dtype}, not floating"
            assert bool(torch.isfinite(tensor).all()), f"{name} is not finite at size {size}"
            if name in ("concat", "stem"):
                assert tensor.shape[2:] == size, f"{name} is {tuple(tensor.shape[2:])} for volumes of {size}"


def takes_one_visit(case: Case) -> None:
    """Check a history of a single visit."""
    _assert_finite(case, _visits(lengths=(1,)), "of a single visit")


def takes_visits_without_an_image(case: Case) -> None:
    """Check histories in which visits lack an image, one of them the last."""
    observed = torch.tensor([[True, False, True], [False, True, False]])
    _assert_finite(case, replace(_visits(lengths=(3, 3)), observed=observed), "in which visits lack an image")


def _assert_finite(case: Case, visits: VisitSequence, which: str) -> None:
    for name, tensor in tensors(built_conditioner(case)(visits, after(visits))).items():
        assert bool(torch.isfinite(tensor).all()), f"{name} is not finite for a history {which}"


def takes_several_channels(case: Case) -> None:
    """Check histories of several images per visit, of which some visits lack one, and a subject all of one channel."""
    conditioner = built_conditioner(case, channels=2)
    visits = with_covariates(history(SIZES[0], lengths=(3, 2), channels=2))
    lacking = torch.tensor([[[1, 1], [0, 1], [1, 0]], [[1, 0], [1, 0], [0, 0]]]) == 1
    for which, given in (("", visits), (", of which one is missing", replace(visits, observed_channels=lacking))):
        emitted = conditioner(given, after(visits))
        assert emitted.routes == conditioner.routes, (
            f"declares {conditioner.routes} but emits {emitted.routes} for two channels{which}"
        )
        for name, tensor in tensors(emitted).items():
            assert bool(torch.isfinite(tensor).all()), f"{name} is not finite for two channels{which}"


def is_deterministic(case: Case) -> None:
    """Check that the same history twice gives the same conditioning, with another history between."""
    conditioner, visits, other = built_conditioner(case), _visits(), _visits(seed=1)
    first = tensors(conditioner(visits, after(visits)))
    conditioner(other, after(other))
    second = tensors(conditioner(visits, after(visits)))
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert not differing, f"the same history gives another {' and '.join(differing)} the second time"


def draws_nothing_global(case: Case) -> None:
    """Check that it leaves the global random generators alone."""
    visits = _visits()

    def answer() -> list[Tensor]:
        conditioner = built_conditioner(case)
        given = list(tensors(conditioner(visits, after(visits))).values())
        return [*given, conditioner.explain(visits, after(visits))] if conditioner.explains else given

    assert_draws_nothing_global(answer)


def does_not_see_the_future(case: Case) -> None:
    """Check that nothing of a visit at the target's time matters nor, if causal, of a later one."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(4, 4))
    time = visits.times[:, 2].clone()
    hidden = (visits.times >= time[:, None]) if conditioner.causal else (visits.times == time[:, None])
    whose = "a visit at or after the target's time" if conditioner.causal else "the target's own visit"
    given = conditioner(visits, time)
    for what, changed in _changes(visits, hidden, times=conditioner.causal):
        assert_same(given, conditioner(changed, time), f"{what} {whose} matters")


def _changes(visits: VisitSequence, hidden: Tensor, *, times: bool) -> Iterator[tuple[str, VisitSequence]]:
    """Yield histories in which one thing about some visits is different, and what that is."""
    yield "the image of", replace(visits, images=torch.where(_voxels(hidden), -visits.images, visits.images))
    if times:
        yield "the time of", replace(visits, times=torch.where(hidden, visits.times + 3.0, visits.times))
    values, present = dict(visits.covariates), dict(visits.covariates)
    for name, item in visits.covariates.items():
        values[name] = Covariate(torch.where(hidden, item.values + 1.0, item.values), item.present)
        present[name] = Covariate(item.values, item.present & ~hidden)
    yield "a covariate of", replace(visits, covariates=values)
    yield "whether a covariate is present at", replace(visits, covariates=present)
    yield "whether there is an image of", replace(visits, observed=visits.observed & ~hidden)
    yield (
        "whether there is",
        replace(visits, observed=visits.observed & ~hidden, valid=visits.valid & ~hidden, covariates=present),
    )


def _voxels(per_visit: Tensor) -> Tensor:
    return per_visit[:, :, None, None, None, None]


def does_not_see_missing_covariates(case: Case) -> None:
    """Check that the value of a covariate where it is not present changes nothing."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(3, 3))
    absent = torch.tensor([[True, False, True], [False, True, True]])
    one, two = {}, {}
    for name, item in visits.covariates.items():
        present = item.present & ~absent
        one[name] = Covariate(item.values, present)
        two[name] = Covariate(torch.where(present, item.values, item.values + 7.0), present)
    given, changed = (conditioner(replace(visits, covariates=each), after(visits)) for each in (one, two))
    assert_same(given, changed, "the value of a covariate that is not present matters")


def uses_the_covariates_that_it_names(case: Case) -> None:
    """Check that covariates which `used_covariates` does not name change nothing."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(3, 3))
    used = conditioner.used_covariates
    if used is None:
        return
    other = {
        name: item if name in used else Covariate(item.values + 7.0, torch.ones_like(item.present))
        for name, item in visits.covariates.items()
    }
    given, changed = (conditioner(each, after(visits)) for each in (visits, replace(visits, covariates=other)))
    assert_same(given, changed, "a covariate that used_covariates does not name matters")


def ignores_padding(case: Case) -> None:
    """Check that visits which are not valid change nothing, whatever their times and covariates."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(2,))
    time, nowhere = after(visits), _visits(lengths=(2,), seed=5)
    valid = torch.tensor([[True, True, False, False]])
    padded = VisitSequence(
        torch.cat([visits.images, nowhere.images], dim=1),
        torch.cat([visits.times, nowhere.times], dim=1),
        valid,
        valid,
        {
            name: Covariate(*(torch.cat(parts, dim=1) for parts in zip(item, nowhere.covariates[name], strict=True)))
            for name, item in visits.covariates.items()
        },
    )
    assert_same(conditioner(visits, time), conditioner(padded, time), "padding matters")


def treats_subjects_apart(case: Case) -> None:
    """Check that a subject's conditioning does not depend on the others in its batch."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(3, 1))
    together = tensors(conditioner(visits, after(visits)))
    for row in range(2):
        alone = conditioner(visits.take(torch.tensor([row])), after(visits)[row : row + 1])
        for name, tensor in tensors(alone).items():
            assert torch.allclose(tensor[0], together[name][row], rtol=1e-3, atol=1e-4), (
                f"{name} of a subject depends on the others in the batch"
            )


def goes_by_the_typical_gap(case: Case) -> None:
    """Check that times in another unit, with `time_scale` in that unit too, change nothing."""
    visits = _visits()
    time = after(visits)
    given = built_conditioner(case)(visits, time)
    again = built_conditioner(case, time_scale=UNIT)(replace(visits, times=UNIT * visits.times), UNIT * time)
    assert_same(given, again, f"times and time_scale both multiplied by {UNIT:g} matter; divide times by time_scale")


def explains_itself(case: Case) -> None:
    """Check what `explain` says, of a conditioner that offers it, and that asking changes nothing."""
    conditioner = built_conditioner(case)
    if not conditioner.explains:
        return
    for size in SIZES:
        visits = _visits(size, lengths=(4, 2))
        time = torch.stack([visits.times[0, 2], visits.times[1, 1] + 1])
        given, shares = conditioner(visits, time), conditioner.explain(visits, time)
        assert shares.shape == (*visits.times.shape, *size), f"shares are {tuple(shares.shape)} for volumes of {size}"
        assert shares.dtype == torch.float32, f"shares are {shares.dtype}, not float32"
        assert not shares.requires_grad, "shares carry gradients"
        assert bool((shares >= 0).all()), "a share is negative or not a number"
        assert close(shares.sum(dim=1), torch.ones(2, *size)), "the shares do not sum to 1 over visits"
        hidden = ~visits.before(time) if conditioner.causal else ~visits.valid | (visits.times == time[:, None])
        assert not bool(shares[hidden].any()), "padding, the target's own or a later visit has a share"
        again = conditioner.explain(replace(visits, observed=visits.observed & ~hidden), time)
        assert close(shares, again), "an image that must not be seen moves the shares"
        assert torch.equal(conditioner.explain(visits, time), shares), "the shares are others the second time"
        assert_same(given, conditioner(visits, time), "asking where it looked changes what it emits")


def gives_gradients(case: Case) -> None:
    """Check that training can reach every parameter."""
    conditioner, visits = built_conditioner(case), _visits(lengths=(3, 3))
    observed = torch.tensor([[True, False, True], [True, True, True]])
    given = conditioner(replace(visits, observed=observed), after(visits))
    own = dict(conditioner.named_parameters())
    if own:
        loss = torch.stack([tensor.float().square().mean() for tensor in tensors(given).values()]).sum()
        assert loss.requires_grad, "no gradient reaches any parameter"
        loss.backward()
        assert_reached(own)


def saves_and_loads(case: Case) -> None:
    """Check that weights survive safetensors, strictly, and that their shapes are known without memory."""
    conditioner, visits = built_conditioner(case), _visits()
    assert_outlined(conditioner, lambda: built_conditioner(case, randomise=False))
    again = restored(conditioner, built_conditioner(case, seed=1, randomise=False))
    time = after(visits)
    assert_same(conditioner(visits, time), again(visits, time), "with its weights loaded, another one differs")


def runs_in_bf16(case: Case) -> None:
    """Check that it runs under bfloat16 autocast, to a few per cent."""
    conditioner, visits = built_conditioner(case), _visits()
    exact = tensors(conditioner(visits, after(visits)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = tensors(conditioner(visits, after(visits)))
    for name, tensor in exact.items():
        error = (rough[name].float() - tensor).norm() / tensor.norm().clamp(min=1e-6)
        assert error < 0.1, f"{name} is off by {error:.0%} in bfloat16"


def compiles(case: Case) -> None:
    """Check that torch.compile traces it (with the backend that needs no C++ compiler)."""
    conditioner, visits = built_conditioner(case), _visits()
    compiled = torch.compile(conditioner, backend="aot_eager")
    with torch.no_grad():
        assert_same(conditioner(visits, after(visits)), compiled(visits, after(visits)), "compiled, it differs")


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "emits the routes that it declares, at any size": emits_its_routes,
    "takes a history of one visit": takes_one_visit,
    "takes visits without an image": takes_visits_without_an_image,
    "takes several channels, and visits that lack one": takes_several_channels,
    "is deterministic": is_deterministic,
    "leaves global random generators alone": draws_nothing_global,
    "sees neither the target nor, if causal, what comes after it": does_not_see_the_future,
    "does not see covariates that are missing": does_not_see_missing_covariates,
    "uses no other covariates than it names": uses_the_covariates_that_it_names,
    "ignores padding": ignores_padding,
    "treats the subjects of a batch apart": treats_subjects_apart,
    "gives the same in any unit of time": goes_by_the_typical_gap,
    "says where it looked, if it says so at all": explains_itself,
    "gives gradients to every parameter": gives_gradients,
    "saves and loads": saves_and_loads,
    "runs in bfloat16": runs_in_bf16,
    "compiles": compiles,
    "composes with every installed part": composes_with_every_part,
}
"""By what a conditioner is to do; see `Conditioner`."""
