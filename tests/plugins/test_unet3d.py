"""The 3D U-Net: routes of the conditioning, shapes, precision, motion."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longigen import Conditioning, LongigenError, Routes, patchify
from longigen.testing import CHECKS, run_check
from longigen_unet3d import UNet3D
from longigen_unet3d.convolution import Convolution

SMALL = {"width": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2}
ROUTES = Routes(concat=3, stem=1, embedding=5, tokens=6)


def built(routes: Routes = Routes(), *, channels: int = 1, random: bool = True, **config: Any) -> UNet3D:  # noqa: B008
    """Return a small network; with `random`, all layers have random weights, as after training."""
    torch.manual_seed(0)
    denoiser = UNet3D(**{**SMALL, **config})
    denoiser.build(channels=channels, routes=routes)
    if random:
        for parameter in denoiser.parameters():
            nn.init.normal_(parameter, std=0.2)
    return denoiser.eval()


def inputs(
    size: tuple[int, int, int] = (8, 12, 6), routes: Routes = ROUTES, *, batch: int = 2, channels: int = 1
) -> tuple[Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor | None:
        return None if 0 in shape else torch.randn(batch, *shape, generator=generator)

    z_t = torch.randn(batch, channels, *size, generator=generator)
    conditioning = Conditioning(
        noise(routes.concat, *size), noise(routes.stem, *size), noise(routes.embedding), noise(4, routes.tokens)
    )
    return z_t, torch.linspace(-18.0, 18.0, batch), conditioning


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(8, 8, 8), (5, 1, 9), (1, 1, 1), (7, 12, 3)])
def test_any_size(patch: int, size: tuple[int, int, int]) -> None:
    routes = replace(ROUTES, stem=8 // patch**3)
    z_t, log_snr, conditioning = inputs(size, routes, channels=2)
    output = built(routes, channels=2, patch=patch)(z_t, log_snr, conditioning)
    assert output.shape == z_t.shape
    assert output.isfinite().all()


def test_padding_does_not_change_the_result() -> None:
    """A volume that the caller pads as the network does has the same output."""
    denoiser = built()
    z_t, log_snr, _ = inputs((5, 8, 7))
    padded = nn.functional.pad(z_t, (0, 1, 0, 0, 0, 3), mode="replicate")
    expected = denoiser(padded, log_snr, Conditioning())[:, :, :5, :, :7]
    torch.testing.assert_close(denoiser(z_t, log_snr, Conditioning()), expected)


@pytest.mark.parametrize("config", [{}, {"patch": 1}, {"refine": 0}, {"dropout": 0.3}])
def test_initial_output_is_zero(config: dict[str, Any]) -> None:
    denoiser = built(Routes(concat=3), random=False, **config)
    z_t, log_snr, conditioning = inputs(routes=Routes(concat=3))
    assert torch.equal(denoiser.train()(z_t, log_snr, conditioning), torch.zeros_like(z_t))


@pytest.mark.parametrize("route", ["concat", "stem", "embedding", "tokens"])
def test_each_route_changes_the_output(route: str) -> None:
    denoiser = built(ROUTES)
    z_t, log_snr, conditioning = inputs()
    changed = replace(conditioning, **{route: getattr(conditioning, route) + 1.0})
    difference = denoiser(z_t, log_snr, changed) - denoiser(z_t, log_snr, conditioning)
    assert difference.abs().mean() > 1e-3


@pytest.mark.parametrize("route", ["concat", "stem", "embedding", "tokens"])
def test_absent_route_has_no_layers_and_wrong_channels_are_refused(route: str) -> None:
    full, without = built(ROUTES), built(replace(ROUTES, **{route: 0}))
    parameters = [sum(p.numel() for p in denoiser.parameters()) for denoiser in (full, without)]
    assert (parameters[0] == parameters[1]) == (route == "stem")  # the stem is added, without weights
    z_t, log_snr, conditioning = inputs()
    assert without(z_t, log_snr, replace(conditioning, **{route: None})).shape == z_t.shape
    with pytest.raises(ValueError, match=f"'{route}'"):
        without(z_t, log_snr, conditioning)
    with pytest.raises(ValueError, match=f"'{route}'"):
        full(z_t, log_snr, replace(conditioning, **{route: None}))


@pytest.mark.parametrize("patch", [1, 2])
def test_stem_is_added_to_the_first_layer(patch: int) -> None:
    """The second layer receives the output of the first plus the patches of the stem."""
    denoiser = built(Routes(stem=8 // patch**3), patch=patch)
    assert denoiser.stem_features == 8 // patch**3
    z_t, log_snr, conditioning = inputs((8, 12, 4), Routes(stem=denoiser.stem_features))
    seen = []
    next(denoiser.down[0].children()).register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    denoiser(z_t, log_snr, conditioning)
    assert conditioning.stem is not None
    first = denoiser.stem(patchify(z_t, patch))
    torch.testing.assert_close(seen[0], first + patchify(conditioning.stem, patch))


def test_noise_level_changes_the_output_and_saturates() -> None:
    denoiser = built()
    z_t, _, _ = inputs(batch=1)
    outputs = [denoiser(z_t, torch.tensor([level]), Conditioning()) for level in (-40.0, -20.0, -1.0, 1.0, 9.0, 20.0)]
    for one, other in pairwise(outputs[1:]):
        assert (one - other).abs().mean() > 1e-3
    torch.testing.assert_close(outputs[0], outputs[1], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("config", [{}, {"patch": 1, "attention": (0, 1)}, {"refine": 0}])
def test_gradients_reach_every_parameter(config: dict[str, Any]) -> None:
    routes = replace(ROUTES, stem=8 // config.get("patch", 2) ** 3)
    denoiser = built(routes, **config)
    z_t, log_snr, conditioning = inputs(routes=routes)
    denoiser(z_t, log_snr, conditioning).square().mean().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True, 1):
        denoiser = built(ROUTES, checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(3)
        denoiser(*inputs()).square().mean().backward()
        gradients.append([parameter.grad for parameter in denoiser.parameters()])
    for plain, *checkpointed in zip(*gradients, strict=True):
        for other in checkpointed:
            torch.testing.assert_close(plain, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("checkpointing", "levels"), [(False, set()), (0, set()), (1, {0}), (2, {0, 1}), (9, {0, 1, 2}), (True, {0, 1, 2})]
)
def test_checkpointing_by_level(checkpointing: bool | int, levels: set[int]) -> None:
    """The finest levels first, the refinement with them; what is recomputed is called twice."""
    denoiser = built(Routes(concat=1), multipliers=(1, 1, 1), checkpointing=checkpointing).train()
    calls: dict[str, int] = {}
    parts = {"refinement": denoiser.refinement, "middle": denoiser.middle[0]}
    parts |= {f"down{level}": blocks[0] for level, blocks in enumerate(denoiser.down)}  # type: ignore[index]
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    denoiser(*inputs((8, 8, 8), Routes(concat=1))).square().mean().backward()
    named = {0: {"refinement", "down0"}, 1: {"down1"}, 2: {"middle"}}
    twice = set().union(*(named[level] for level in levels))
    assert {name for name, count in calls.items() if count == 2} == twice


def test_batch_of_one_uses_the_same_convolution() -> None:
    torch.manual_seed(0)
    convolution = Convolution(4, 5)
    x = torch.randn(2, 4, 3, 5, 4)
    for sample in range(2):
        torch.testing.assert_close(convolution(x[sample : sample + 1]), convolution(x)[sample : sample + 1])


@pytest.mark.parametrize("size", [(12, 8, 8), (9, 8, 8)])
def test_winograd_convolution_is_the_plain_one(size: tuple[int, int, int]) -> None:
    """To rounding, with its gradients, for sizes that are a multiple of four and that are not."""
    torch.manual_seed(0)
    convolution = Convolution(32, 40).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 32, *size, requires_grad=True)
    output = convolution(x)
    assert "Winograd" in type(output.grad_fn).__name__
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    exact = nn.functional.conv3d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1)  # type: ignore[union-attr]
    torch.testing.assert_close(output.double(), exact, atol=2e-5, rtol=0)
    weight = torch.randn_like(output)
    leaves = [x, *convolution.parameters()]
    gradients = torch.autograd.grad((output * weight).sum(), leaves)
    for gradient, expected in zip(gradients, torch.autograd.grad((exact * weight).sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_convolution_of_channels_sums_to_that_of_all() -> None:
    torch.manual_seed(0)
    convolution, x = Convolution(5, 4), torch.randn(2, 5, 6, 4, 5)
    parts = convolution.of_channels(x[:, :2], 0) + convolution.of_channels(x[:, 2:], 2)
    torch.testing.assert_close(parts, convolution(x))


@pytest.mark.parametrize("config", [{}, {"refine": 0}, {"patch": 1}])
def test_prepared_conditioning_changes_nothing(config: dict[str, Any]) -> None:
    """What the conditioning adds is computed once for all noise levels, with guidance and without any route too."""
    all_routes = replace(ROUTES, stem=8 // config.get("patch", 2) ** 3)
    for routes in (all_routes, replace(all_routes, concat=0), Routes()):
        denoiser = built(routes, **config)
        z_t, log_snr, conditioning = inputs((5, 8, 6), routes)
        given = conditioning.cat_batch(conditioning.null())
        prepared = denoiser.prepared(conditioning).cat_batch(denoiser.prepared(conditioning.null()))
        twice = torch.cat([z_t, z_t]), torch.cat([log_snr, log_snr])
        torch.testing.assert_close(denoiser(*twice, prepared), denoiser(*twice, given), atol=1e-4, rtol=1e-4)


def test_samples_are_independent_and_outputs_repeat() -> None:
    denoiser = built(ROUTES)
    z_t, log_snr, conditioning = inputs(batch=3)
    together = denoiser(z_t, log_snr, conditioning)
    assert torch.equal(together, denoiser(z_t, log_snr, conditioning))
    alone = Conditioning(**{name: given[1:2] for name, given in vars(conditioning).items() if given is not None})
    torch.testing.assert_close(denoiser(z_t[1:2], log_snr[1:2], alone), together[1:2], atol=1e-4, rtol=1e-4)


def test_bfloat16_autocast() -> None:
    denoiser = built(ROUTES)
    z_t, log_snr, conditioning = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        output = denoiser(z_t, log_snr, conditioning)
    assert output.dtype == torch.float32
    exact = denoiser(z_t, log_snr, conditioning)
    assert (output - exact).square().mean().sqrt() < 0.1 * exact.std()


def test_output_has_the_dtype_of_the_volume() -> None:
    z_t, log_snr, _ = inputs()
    assert built()(z_t.double(), log_snr, Conditioning()).dtype == torch.float64
    assert built().to(torch.bfloat16)(z_t.bfloat16(), log_snr, Conditioning()).dtype == torch.bfloat16


def test_configuration_rebuilds_the_network() -> None:
    denoiser = built(ROUTES, attention=(0, -1))
    again = UNet3D.from_config(denoiser.config)
    again.build(channels=1, routes=ROUTES)
    again.load_state_dict(denoiser.state_dict())
    assert again.config == denoiser.config
    assert torch.equal(again.eval()(*inputs()), denoiser(*inputs()))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"width": 12}, "multiple of 8"),
        ({"width": 0}, "at least 1"),
        ({"multipliers": ()}, "one level"),
        ({"blocks": 0}, "at least 1"),
        ({"attention": (2,)}, "attention"),
        ({"attention": (-3,)}, "attention"),
        ({"heads": 5}, "heads"),
        ({"refine": -1}, "refine"),
        ({"dropout": 1.0}, "dropout"),
        ({"patch": 3}, "patch"),
    ],
)
def test_wrong_settings_are_refused(config: dict[str, object], word: str) -> None:
    with pytest.raises(LongigenError, match=word):
        UNet3D(**{**SMALL, **config})


def test_tokens_need_attention() -> None:
    with pytest.raises(LongigenError, match="tokens"):
        built(ROUTES, attention=())


def test_it_learns_to_denoise() -> None:
    """After a few steps on one volume the loss is well below that of a zero output."""
    denoiser = built(random=False).train()
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-3.0, 3.0, 12)] * 3, indexing="ij"))
    x = torch.tanh(2.0 - grid.square().sum(0))[None, None].expand(4, -1, -1, -1, -1)
    optimizer = torch.optim.AdamW(denoiser.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        z_t = (x + torch.randn(x.shape, generator=generator)) / math.sqrt(2.0)
        loss = (denoiser(z_t, torch.zeros(4), Conditioning()) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])


def network_with_motion(
    size: tuple[int, int, int], **config: Any
) -> tuple[UNet3D, tuple[Tensor, Tensor, Conditioning]]:
    """Return an untrained network that warps the last visit, and its inputs."""
    z_t, log_snr, conditioning = inputs(size)
    base = torch.randn(z_t.shape, generator=torch.Generator().manual_seed(2))
    stem = conditioning.stem if config.get("patch", 2) == 2 else torch.zeros(2, 8, *size)
    routes = replace(ROUTES, stem=1 if config.get("patch", 2) == 2 else 8)
    arguments = z_t, log_snr, replace(conditioning, base=base, gap=torch.ones(2), stem=stem)
    return built(routes, random=False, motion=True, **config), arguments


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(8, 12, 6), (7, 9, 5), (5, 1, 3)])
def test_with_motion_the_initial_output_is_the_last_visit(patch: int, size: tuple[int, int, int]) -> None:
    denoiser, arguments = network_with_motion(size, patch=patch)
    assert denoiser.predicts == "image"
    torch.testing.assert_close(denoiser(*arguments), arguments[2].base, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch", [1, 2])
def test_a_constant_velocity_shifts_the_last_visit_by_as_many_patches(patch: int) -> None:
    denoiser, arguments = network_with_motion((12, 8, 8), patch=patch)
    assert denoiser.velocity is not None
    with torch.no_grad():
        denoiser.velocity.bias[0] = 1.0  # type: ignore[index]
    base = arguments[2].base
    assert base is not None
    torch.testing.assert_close(denoiser(*arguments)[:, :, : 12 - patch], base[:, :, patch:], atol=1e-4, rtol=0)


# The slow check of compositions is left out, since motion does not change it.
@pytest.mark.parametrize("label", [label for label in CHECKS["denoiser"] if "composes" not in label])
def test_contracts_with_motion(label: str) -> None:
    run_check("denoiser", label, "unet3d", {"width": 8, "heads": 2, "blocks": 1, "motion": True})
