"""Tests of check_overrides: overriding methods must accept the parameters of the base class's methods."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from longigen import Conditioner, Conditioning, Dataset, Denoiser, Metric, Sampler, SetMetric

BUILD = "write def build(self, *, channels, stem_features, time_scale, covariates)"
FORWARD = "write def forward(self, z_t, log_snr, conditioning)"
STEP = "write def step(self, z_t, x, t, s, generator)"
SCORE = "write def __call__(self, generated, true, previous, foreground)"


def method(text: str) -> Callable[..., Any]:
    """Return a function of a signature, such as ``self, *, channels``."""
    made: dict[str, Any] = {}
    exec(f"def method({text}): ...", made)  # noqa: S102
    return made["method"]


@pytest.mark.parametrize(
    ("interface", "name", "signature", "message"),
    [
        (Conditioner, "build", "self, *, channels, stem_features, time_scale", f"does not take 'covariates'; {BUILD}"),
        (
            Conditioner,
            "build",
            "self, *, channels, stem_features, scale, covariates",
            f"does not take 'time_scale' and needs 'scale', which it is never given; {BUILD}",
        ),
        (
            Conditioner,
            "build",
            "self, channels, stem_features, time_scale, /, covariates",
            f"takes 'channels' by position only and takes 'stem_features' by position only and takes 'time_scale' by "
            f"position only; {BUILD}",
        ),
        (
            Conditioner,
            "forward",
            "self, history",
            "does not take 'target_time'; write def forward(self, history, target_time)",
        ),
        (
            Conditioner,
            "explain",
            "self, target_time, history",
            "takes target_time, history in that order; write def explain(self, history, target_time)",
        ),
        (Denoiser, "build", "self, *, channels", "does not take 'routes'; write def build(self, *, channels, routes)"),
        (Denoiser, "forward", "self, z_t, conditioning", f"does not take 'log_snr'; {FORWARD}"),
        (
            Denoiser,
            "forward",
            "self, z, log_snr, conditioning",
            f"does not take 'z_t' and needs 'z', which it is never given; {FORWARD}",
        ),
        (
            Denoiser,
            "forward",
            "self, log_snr, z_t, conditioning",
            f"takes log_snr, z_t, conditioning in that order; {FORWARD}",
        ),
        (
            Denoiser,
            "forward",
            "self, z_t, log_snr, *, conditioning",
            f"takes 'conditioning' by keyword only; {FORWARD}",
        ),
        (
            Denoiser,
            "forward",
            "self, z_t, scale=1.0, log_snr=None, conditioning=None",
            f"takes z_t, scale, log_snr in that order; {FORWARD}",
        ),
        (Denoiser, "losses", "self", "does not take 'example'; write def losses(self, example)"),
        (Sampler, "step", "self, z_t, x, t, s", f"does not take 'generator'; {STEP}"),
        (Sampler, "step", "self, z_t, x, t, s, generator, eta", f"needs 'eta', which it is never given; {STEP}"),
        (Sampler, "timesteps", "self, steps", "does not take 'within'; write def timesteps(self, steps, within=…)"),
        (Dataset, "subjects", "self", "does not take 'bad'; write def subjects(self, bad=…)"),
        (Dataset, "subjects", "self, bad", "has no default for 'bad'; write def subjects(self, bad=…)"),
        (Dataset, "claims", "cls, path", "must be a class method; write @classmethod before it"),
        (Metric, "__call__", "self, generated, true, foreground", f"does not take 'previous'; {SCORE}"),
        (Metric, "definition", "self", "must be a property; write @property before it"),
        (Metric, "aim", "self", "does not take 'samples'; write def aim(self, samples)"),
        (
            SetMetric,
            "describe",
            "self, generated, true",
            "does not take 'previous' and does not take 'foreground'; "
            "write def describe(self, generated, true, previous, foreground)",
        ),
        (
            SetMetric,
            "pooled",
            "self, *, described",
            "takes 'described' by keyword only; write def pooled(self, described)",
        ),
        (SetMetric, "__call__", "self, generated", "does not take 'true'"),
    ],
)
def test_method_with_other_parameters_is_refused(interface: type, name: str, signature: str, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        type("Mine", (interface,), {name: method(signature)})
    assert str(caught.value).startswith(f"Mine.{name} {message}")


@pytest.mark.parametrize(
    ("interface", "name", "signature"),
    [
        (Conditioner, "build", "self, *, channels, stem_features, time_scale, covariates"),
        (Conditioner, "build", "self, channels, stem_features, time_scale, covariates"),
        (Conditioner, "build", "self, *, covariates, channels, stem_features, time_scale, verbose=False"),
        (Conditioner, "build", "self, *, channels, **rest"),
        (Denoiser, "forward", "self, z_t, log_snr, conditioning"),
        (Denoiser, "forward", "self, z_t, log_snr, conditioning, scale=1.0, *, verbose=False"),
        (Denoiser, "forward", "self, *arguments"),
        (Denoiser, "forward", "self, z_t, /, log_snr, *rest"),
        (Dataset, "subjects", "self, bad=None"),
        (Sampler, "sample", "self, predict, z, generator, **options"),
    ],
)
def test_method_with_the_same_or_more_parameters_is_accepted(interface: type, name: str, signature: str) -> None:
    function = method(signature)
    assert getattr(type("Mine", (interface,), {name: function}), name) is function


def test_other_ways_to_define_a_method() -> None:
    class Still(Denoiser):
        @torch.no_grad()
        def forward(self, z_t: torch.Tensor, log_snr: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
            return z_t

    class Static(Sampler):
        @staticmethod
        def step(z_t: Any, x: Any, t: Any, s: Any, generator: Any) -> Any:
            return x

    class Named(Metric):
        definition = "a plain attribute will do for a property"

    class Claiming(Dataset):
        @staticmethod
        def claims(path: Path) -> bool:
            return False

    assert [cls.__name__ for cls in (Still, Static, Named, Claiming)] == ["Still", "Static", "Named", "Claiming"]


def test_invalid_method_of_a_mixin_is_refused() -> None:
    class Mixin:
        def subjects(self) -> Sequence[Any]:
            return []

    with pytest.raises(TypeError, match=r"Mixed\.subjects does not take 'bad'"):

        class Mixed(Mixin, Dataset):
            pass


@pytest.mark.parametrize("value", [property(lambda self: 3), 3, None])
def test_attribute_instead_of_a_method_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Mine\.step must be a method: def step\(self, z_t, x, t, s, generator\)"):
        type("Mine", (Sampler,), {"step": value})
