"""The checks of denoisers."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from longigen.components.conditioning import Routes
from longigen.components.denoiser import Denoiser
from longigen.components.sampler import Sampler
from longigen.components.training_example import DiffusionTarget, Example
from longigen.models.longitudinal import total
from longigen.testing.assertions import assert_outlined, assert_reached, close, keeps_its_configuration, restored
from longigen.testing.case import SIZES, Case, built_denoiser, conditioning
from longigen.testing.composition import composes_with_every_part
from longigen.testing.randomness import assert_draws_nothing_global
from longigen.utils.randomness import Generators

LOG_SNR = torch.tensor([-12.0, 3.0])
SCALE = 0.3
"""Of the residual, in model intensities."""


class Plain(Sampler):
    """Training as `Sampler` has it, and generation without noise."""

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        return self.alpha_sigma(s)[0] * x


def _routes(case: Case) -> Routes:
    return Routes(concat=3, stem=case.make().stem_features, embedding=6, tokens=8)


def _noisy(size: tuple[int, ...] = SIZES[0], seed: int = 3) -> Tensor:
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(seed))


def _example(routes: Routes, size: tuple[int, ...] = SIZES[0], *, residual: bool = True) -> Example:
    given = conditioning(routes, 2, size)
    return Example(
        image=torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(5)) * 2 - 1,
        conditioning=given,
        sampler=Plain(),
        generator=torch.Generator().manual_seed(6),
        diffusion_target=DiffusionTarget(given.base, SCALE) if residual else DiffusionTarget(),
    )


def _of_adversary(denoiser: Denoiser) -> set[str]:
    """Return the names of the adversary's parameters."""
    known = set() if denoiser.adversary is None else {id(parameter) for parameter in denoiser.adversary.parameters()}
    return {name for name, parameter in denoiser.named_parameters() if id(parameter) in known}


def keeps_the_shape(case: Case) -> None:
    """Check shape and dtype over odd sizes, with all routes and with none."""
    for routes in (_routes(case), Routes()):
        denoiser = built_denoiser(case, routes)
        for size in SIZES:
            z_t = _noisy(size)
            output = denoiser(z_t, LOG_SNR, conditioning(routes, 2, size))
            assert output.shape == z_t.shape, f"{tuple(z_t.shape)} became {tuple(output.shape)} with {routes}"
            assert output.dtype == z_t.dtype, f"{z_t.dtype} became {output.dtype}"
            assert bool(torch.isfinite(output).all()), f"not finite at {size}"


def serves_every_route(case: Case) -> None:
    """Check that each route matters, and that the noise level and the noisy volume do, or, if declared, do not.

    What is prepared of the conditioning changes nothing.
    """
    routes, size = _routes(case), SIZES[0]
    denoiser = built_denoiser(case, routes)
    z_t, given = _noisy(size), conditioning(routes, 2, size)
    output = denoiser(z_t, LOG_SNR, given)
    with_features = denoiser(z_t, LOG_SNR, denoiser.prepared(given))
    assert torch.allclose(with_features, output, rtol=1e-3, atol=1e-4), "`prepared` changes the prediction"
    for route, channels in asdict(routes).items():
        if channels:
            changed = replace(given, **{route: getattr(given, route) + 1.0})
            assert not torch.allclose(denoiser(z_t, LOG_SNR, changed), output), f"the route '{route}' changes nothing"
    if denoiser.needs_base:
        assert given.base is not None
        changed = replace(given, base=-given.base)
        assert not torch.allclose(denoiser(z_t, LOG_SNR, changed), output), (
            "needs the last visit, which changes nothing"
        )
    else:
        without = denoiser(z_t, LOG_SNR, replace(given, base=None, gap=None))
        assert torch.equal(without, output), "does not need the last visit, but looks at it"
    level, volume = denoiser(z_t, LOG_SNR + 2, given), denoiser(z_t + 1, LOG_SNR, given)
    if denoiser.denoises:
        assert not torch.allclose(level, output), "the noise level changes nothing"
        assert not torch.allclose(volume, output), "the noisy volume changes nothing"
    else:
        assert torch.equal(level, output), "declares that it does not denoise, but the noise level matters"
        assert torch.equal(volume, output), "declares that it does not denoise, but the noisy volume matters"


def serves_each_route_alone(case: Case) -> None:
    """Check that a conditioner may use any one route."""
    for route, channels in asdict(_routes(case)).items():
        if channels:
            alone = Routes(**{route: channels})
            denoiser, given = built_denoiser(case, alone), conditioning(alone, 2, SIZES[0])
            output = denoiser(_noisy(), LOG_SNR, given)
            assert bool(torch.isfinite(output).all()), f"with the route '{route}' alone the prediction is not finite"
            changed = denoiser(_noisy(), LOG_SNR, replace(given, **{route: getattr(given, route) + 1.0}))
            assert not torch.allclose(changed, output), f"the route '{route}' alone changes nothing"


def moves_as_it_declares(case: Case) -> None:
    """Check that a denoiser that moves the last visit returns the displacement, and predicts what that makes."""
    for routes, size in itertools.product((_routes(case), Routes()), SIZES):
        denoiser = built_denoiser(case, routes)
        if not denoiser.moves:
            return
        assert denoiser.predicts == "image", f"moves, but predicts is {denoiser.predicts!r} and not 'image'"
        assert denoiser.needs_base, "moves, but does not declare that it needs the last visit"
        z_t, given = _noisy(size), conditioning(routes, 2, size)
        base, _ = given.require_base()
        moved, output = denoiser.moved(z_t, LOG_SNR, given), denoiser(z_t, LOG_SNR, given)
        shape = (len(z_t), 3, *size)
        assert moved.displacement.shape == shape, f"the displacement is {tuple(moved.displacement.shape)}, not {shape}"
        assert moved.change.shape == z_t.shape, f"the change is {tuple(moved.change.shape)}, not {tuple(z_t.shape)}"
        assert bool(torch.isfinite(moved.displacement).all()), "the displacement is not finite"
        error = (moved.image(base) - output).abs().max().item()
        assert error < 1e-5, f"the prediction differs from the last visit moved by up to {error:.2g}"


def is_deterministic(case: Case) -> None:
    """Check that the same input twice gives the same prediction, with another input between."""
    routes = _routes(case)
    denoiser, given = built_denoiser(case, routes), conditioning(routes, 2, SIZES[0])
    first = denoiser(_noisy(), LOG_SNR, given)
    denoiser(_noisy(seed=4), LOG_SNR, given)
    assert torch.equal(denoiser(_noisy(), LOG_SNR, given), first), (
        "the same input gives another prediction the second time"
    )


def draws_nothing_global(case: Case) -> None:
    """Check that prediction and losses leave the global random generators alone."""
    routes = _routes(case)
    given = conditioning(routes, 2, SIZES[0])

    def answer() -> list[Tensor]:
        denoiser = built_denoiser(case, routes)
        losses = [function(_example(routes)) for function in _loss_functions(denoiser)]
        return [denoiser(_noisy(), LOG_SNR, given), *(loss for named in losses for loss in named.values())]

    assert_draws_nothing_global(answer)


def _loss_functions(denoiser: Denoiser) -> list[Callable[[Example], Mapping[str, Tensor]]]:
    return [denoiser.losses, *([] if denoiser.adversary is None else [denoiser.adversary_losses])]


def treats_samples_apart(case: Case) -> None:
    """Check that a sample's output does not depend on the others in its batch: guidance relies on it."""
    routes, size = _routes(case), SIZES[0]
    denoiser, given, z_t = built_denoiser(case, routes), conditioning(routes, 2, size), _noisy(size)
    both = denoiser(z_t, LOG_SNR, given)
    for row in range(2):
        part = {n: None if t is None else t[row : row + 1] for n, t in vars(given).items()}
        alone = denoiser(z_t[row : row + 1], LOG_SNR[row : row + 1], replace(given, **part))
        assert torch.allclose(alone[0], both[row], rtol=1e-3, atol=1e-3), "a sample depends on its batch"


def has_losses(case: Case) -> None:
    """Check that losses are named, finite, of each sample, and the same for the same generator, for both targets."""
    routes = _routes(case)
    denoiser = built_denoiser(case, routes)
    assert denoiser.predicts in (None, "x", "image"), f"predicts is {denoiser.predicts!r}, not None, 'x' or 'image'"
    for size, residual, function in itertools.product(SIZES, (True, False), _loss_functions(denoiser)):
        losses, again = (function(_example(routes, size, residual=residual)) for _ in range(2))
        assert losses, f"{function.__name__} returns no loss"
        for name, loss in losses.items():
            assert name, "a loss has no name"
            assert loss.shape == (2,), f"the loss '{name}' is {tuple(loss.shape)}, not one per sample"
            assert bool(torch.isfinite(loss).all()), f"the loss '{name}' is not finite"
            assert torch.equal(loss, again[name]), f"the loss '{name}' differs for generators of the same seed"


def counts_no_missing_channel(case: Case) -> None:
    """Check two channels: shape and losses, on which what is predicted in a channel that is missing has no effect."""
    routes, size = _routes(case), SIZES[0]
    denoiser = built_denoiser(case, routes, channels=2)
    given = conditioning(routes, 2, size, channels=2)
    z_t = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(3))
    output = denoiser(z_t, LOG_SNR, given)
    assert output.shape == z_t.shape, f"{tuple(z_t.shape)} became {tuple(output.shape)}"
    counted = torch.tensor([[True, False], [True, True]])

    def losses(function: Callable[[Example], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        image = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(5)) * 2 - 1
        target = DiffusionTarget(given.base, SCALE)
        return function(
            Example(
                image=image,
                conditioning=given,
                sampler=Plain(),
                generator=torch.Generator().manual_seed(6),
                diffusion_target=target,
                counted=counted,
            )
        )

    def changed(module: nn.Module, inputs: object, prediction: Tensor) -> Tensor:
        return torch.where(counted[:, :, None, None, None], prediction, prediction + 7.0)

    for function in _loss_functions(denoiser):
        one, again = losses(function), losses(function)
        handle = denoiser.register_forward_hook(changed)
        other = losses(function)
        handle.remove()
        for name, loss in one.items():
            assert not torch.equal(loss, again[name]) or torch.equal(loss, other[name]), (
                f"what is predicted in a missing channel changes the loss '{name}'; use Example.counting"
            )


def gives_gradients(case: Case) -> None:
    """Check that its losses give finite gradients to every parameter but the adversary's."""
    routes = _routes(case)
    denoiser = built_denoiser(case, routes).train()
    theirs = _of_adversary(denoiser)
    own = {name: parameter for name, parameter in denoiser.named_parameters() if name not in theirs}
    if own:
        loss = total(denoiser.losses(_example(routes))).mean()
        assert loss.requires_grad, "no gradient reaches any parameter"
        loss.backward()
        assert_reached(own)


def keeps_its_adversary_apart(case: Case) -> None:
    """Check that an adversary's losses reach all of it and nothing else, and that generation does not look at it."""
    routes = _routes(case)
    denoiser = built_denoiser(case, routes).train()
    theirs = _of_adversary(denoiser)
    if not theirs:
        return
    loss = total(denoiser.adversary_losses(_example(routes))).mean()
    assert loss.requires_grad, "no gradient reaches the adversary"
    loss.backward()
    parameters = dict(denoiser.named_parameters())
    reached = [name for name, parameter in parameters.items() if parameter.grad is not None and name not in theirs]
    assert not reached, f"the adversary's losses give gradients to {', '.join(reached)}"
    assert_reached({name: parameters[name] for name in theirs})
    denoiser.eval()
    given, z_t = conditioning(routes, 2, SIZES[0]), _noisy()
    before = denoiser(z_t, LOG_SNR, given)
    with torch.no_grad():
        for name in theirs:
            parameters[name].add_(1.0)
    assert torch.equal(denoiser(z_t, LOG_SNR, given), before), "the adversary changes the prediction"


def saves_and_loads(case: Case) -> None:
    """Check that weights survive safetensors, strictly, and that their shapes are known without memory."""
    routes = _routes(case)
    denoiser, fresh = built_denoiser(case, routes), built_denoiser(case, routes, seed=1, randomise=False)
    assert_outlined(denoiser, lambda: built_denoiser(case, routes, randomise=False))
    given = conditioning(routes, 2, SIZES[0])
    one, two = (net(_noisy(), LOG_SNR, given) for net in (denoiser, restored(denoiser, fresh)))
    assert close(one, two), f"with its weights loaded, another one differs by {(one - two).abs().max().item():.2g}"


def runs_in_bf16(case: Case) -> None:
    """Check that it runs under bfloat16 autocast, to a few per cent."""
    routes = _routes(case)
    denoiser, given, z_t = built_denoiser(case, routes), conditioning(routes, 2, SIZES[0]), _noisy()
    exact = denoiser(z_t, LOG_SNR, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = denoiser(z_t, LOG_SNR, given)
    error = (rough.float() - exact).norm() / exact.norm().clamp(min=1e-6)
    assert error < 0.1, f"the prediction is off by {error:.0%} in bfloat16"


def compiles(case: Case) -> None:
    """Check that torch.compile traces it (with the backend that needs no C++ compiler)."""
    routes = _routes(case)
    denoiser, given, z_t = built_denoiser(case, routes), conditioning(routes, 2, SIZES[0]), _noisy()
    compiled = torch.compile(denoiser, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(z_t, LOG_SNR, given), denoiser(z_t, LOG_SNR, given), rtol=1e-3, atol=1e-4), (
            "compiled, it differs"
        )


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "keeps shape and dtype, at any size": keeps_the_shape,
    "serves every route": serves_every_route,
    "serves each route alone": serves_each_route_alone,
    "moves the last visit as it declares": moves_as_it_declares,
    "is deterministic": is_deterministic,
    "leaves global random generators alone": draws_nothing_global,
    "treats the samples of a batch apart": treats_samples_apart,
    "has losses, named and of each sample": has_losses,
    "has two channels, and counts none that is missing": counts_no_missing_channel,
    "gives gradients to every parameter": gives_gradients,
    "keeps its adversary apart": keeps_its_adversary_apart,
    "saves and loads": saves_and_loads,
    "runs in bfloat16": runs_in_bf16,
    "compiles": compiles,
    "composes with every installed part": composes_with_every_part,
}
"""By what a denoiser is to do; see `Denoiser`."""
