"""The checks of conditioners."""

from collections.abc import Callable
from dataclasses import replace

import torch

from longigen.components.visit_sequence import VisitSequence
from longigen.testing.case import (
    SIZES,
    Case,
    after,
    assert_gradients,
    assert_outlined,
    assert_same,
    built_conditioner,
    close,
    history,
    keeps_its_configuration,
    restored,
    tensors,
)
from longigen.testing.composition import composes_with_every_part


def emits_its_routes(case: Case) -> None:
    """Check channels against `routes`, and volumes against the history's size."""
    conditioner = built_conditioner(case)
    for size in SIZES:
        visits = history(size)
        given = conditioner(visits, after(visits))
        assert given.routes == conditioner.routes, f"declares {conditioner.routes} but emits {given.routes}"
        for name, tensor in tensors(given).items():
            assert tensor.shape[0] == 2, f"{name} has batch {tensor.shape[0]} for 2 subjects"
            assert bool(torch.isfinite(tensor).all()), f"{name} is not finite at size {size}"
            if name in ("concat", "stem"):
                assert tensor.shape[2:] == size, f"{name} is {tuple(tensor.shape[2:])} for volumes of {size}"


def takes_one_visit(case: Case) -> None:
    """Check a history of a single visit."""
    visits = history(SIZES[0], lengths=(1,))
    given = built_conditioner(case)(visits, after(visits))
    assert all(bool(torch.isfinite(t).all()) for t in tensors(given).values()), "not finite"


def is_deterministic(case: Case) -> None:
    """Check that the same question twice gives the same answer."""
    conditioner, visits = built_conditioner(case), history(SIZES[0])
    first, second = (tensors(conditioner(visits, after(visits))) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first), "two calls differ"


def does_not_see_the_future(case: Case) -> None:
    """Check that images at or after the target's time change nothing: the target's own, and later ones if causal."""
    conditioner, visits = built_conditioner(case), history(SIZES[0], lengths=(4, 4))
    time = visits.times[:, 2].clone()
    hidden = (visits.times >= time[:, None]) if conditioner.causal else (visits.times == time[:, None])
    images = torch.where(hidden[:, :, None, None, None, None], -visits.images, visits.images)
    given, changed = conditioner(visits, time), conditioner(replace(visits, images=images), time)
    assert_same(given, changed, "an image at or after the target's time matters")


def does_not_see_unobserved_images(case: Case) -> None:
    """Check that what a missing visit would have shown changes nothing."""
    conditioner, visits = built_conditioner(case), history(SIZES[0], lengths=(3, 3))
    observed = torch.tensor([[True, False, True], [True, True, False]])
    one = replace(visits, observed=observed)
    two = replace(visits, images=-visits.images, observed=observed)
    two = replace(two, images=torch.where(observed[:, :, None, None, None, None], visits.images, two.images))
    assert_same(conditioner(one, after(one)), conditioner(two, after(two)), "an unobserved image matters")


def ignores_padding(case: Case) -> None:
    """Check that visits which are not valid change nothing, whatever their times."""
    conditioner, visits = built_conditioner(case), history(SIZES[0], lengths=(2,))
    time = after(visits)
    nowhere = history(SIZES[0], lengths=(2,), seed=5)
    images, times = torch.cat([visits.images, nowhere.images], dim=1), torch.cat([visits.times, nowhere.times], dim=1)
    valid = torch.tensor([[True, True, False, False]])
    padded = VisitSequence(images, times, valid, valid)
    assert_same(conditioner(visits, time), conditioner(padded, time), "padding matters")


def treats_subjects_apart(case: Case) -> None:
    """Check that a subject's conditioning does not depend on the others in its batch."""
    conditioner, visits = built_conditioner(case), history(SIZES[0], lengths=(3, 1))
    together = tensors(conditioner(visits, after(visits)))
    for row in range(2):
        alone = visits.select(torch.arange(len(visits))[None].expand(2, -1))
        single = VisitSequence(*(getattr(alone, n)[row : row + 1] for n in ("images", "times", "observed", "valid")))
        for name, tensor in tensors(conditioner(single, after(visits)[row : row + 1])).items():
            assert torch.allclose(tensor[0], together[name][row], rtol=1e-3, atol=1e-4), f"{name} depends on the batch"


def explains_itself(case: Case) -> None:
    """Check what `explain` says, of a conditioner that offers it, and that asking changes nothing."""
    conditioner = built_conditioner(case)
    if not conditioner.explains:
        return
    for size in SIZES:
        visits = history(size, lengths=(4, 2))
        time = torch.stack([visits.times[0, 2], visits.times[1, 1] + 1])
        given, shares = conditioner(visits, time), conditioner.explain(visits, time)
        assert shares.shape == (*visits.times.shape, *size), f"shares are {tuple(shares.shape)} for volumes of {size}"
        assert not shares.requires_grad, "shares carry gradients"
        assert bool((shares >= 0).all()), "a share is negative or not a number"
        assert close(shares.sum(dim=1), torch.ones(2, *size)), "the shares do not sum to 1 over visits"
        hidden = ~visits.before(time) if conditioner.causal else ~visits.valid | (visits.times == time[:, None])
        assert not bool(shares[hidden].any()), "padding, the target's own or a later visit has a share"
        again = conditioner.explain(replace(visits, observed=visits.observed & ~hidden), time)
        assert close(shares, again), "an image that must not be seen moves the shares"
        assert torch.equal(conditioner.explain(visits, time), shares), "two calls differ"
        assert_same(given, conditioner(visits, time), "asking where it looked changes what it emits")


def gives_gradients(case: Case) -> None:
    """Check that training can reach every parameter."""
    conditioner, visits = built_conditioner(case), history(SIZES[0], lengths=(3, 3))
    observed = torch.tensor([[True, False, True], [True, True, True]])
    given = conditioner(replace(visits, observed=observed), after(visits))
    if list(conditioner.parameters()):
        assert_gradients(conditioner, list(tensors(given).values()))


def saves_and_loads(case: Case) -> None:
    """Check that weights survive safetensors, strictly, and that their shapes are known without memory."""
    conditioner, visits = built_conditioner(case), history(SIZES[0])
    with torch.device("meta"):
        outline = case.make()
        outline.build(channels=1, stem_features=4, time_scale=1.0, covariates=())
    assert_outlined(conditioner, outline)
    fresh = case.make()
    fresh.build(channels=1, stem_features=4, time_scale=1.0, covariates=())
    again = restored(conditioner, fresh)
    assert_same(conditioner(visits, after(visits)), again(visits, after(visits)), "weights changed")


def runs_in_bf16(case: Case) -> None:
    """Check that it runs under bfloat16 autocast, to a few per cent."""
    conditioner, visits = built_conditioner(case), history(SIZES[0])
    exact = tensors(conditioner(visits, after(visits)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = tensors(conditioner(visits, after(visits)))
    for name, tensor in exact.items():
        error = (rough[name].float() - tensor).norm() / tensor.norm().clamp(min=1e-6)
        assert error < 0.1, f"{name} is off by {error:.0%} in bfloat16"


def compiles(case: Case) -> None:
    """Check that torch.compile traces it (with the backend that needs no C++ compiler)."""
    conditioner, visits = built_conditioner(case), history(SIZES[0])
    compiled = torch.compile(conditioner, backend="aot_eager")
    with torch.no_grad():
        assert_same(conditioner(visits, after(visits)), compiled(visits, after(visits)), "compiled differs")


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "emits the routes that it declares, at any size": emits_its_routes,
    "takes a history of one visit": takes_one_visit,
    "is deterministic": is_deterministic,
    "sees neither the target nor, if causal, what comes after it": does_not_see_the_future,
    "does not see images that were not observed": does_not_see_unobserved_images,
    "ignores padding": ignores_padding,
    "treats the subjects of a batch apart": treats_subjects_apart,
    "says where it looked, if it says so at all": explains_itself,
    "gives gradients to every parameter": gives_gradients,
    "saves and loads": saves_and_loads,
    "runs in bfloat16": runs_in_bf16,
    "compiles": compiles,
    "composes with every installed part": composes_with_every_part,
}
