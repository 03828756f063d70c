"""Warm start: initialise the conditioner or denoiser of a new model with the weights of another model."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from longigen.data.cohort import listed
from longigen.errors import LongigenError
from longigen.hub.model_config import CODEC, grid_text, parts_text, read_config, require_installed, require_model
from longigen.hub.resolve import ModelSource
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.settings import Provenance
from longigen.registry.registry import registry
from longigen.training.settings import ModelPart, TrainingSettings

MAX_LISTED = 12
"""The largest number of tensors that a message names; further ones are only counted."""


@dataclass(frozen=True)
class WarmStart:
    """A part of a new model, and the model whose weights initialise it.

    Both models must use the same component for the part. Tensors of equal name and shape are copied. Tensors of another
    shape (a first layer, if another conditioner emits other channels) and missing ones keep their initial values, and a
    message lists them. The statistics of the data (`longigen.data.statistics.Statistics`) are not copied, since they
    describe the new data.

    Attributes:
        part: ``conditioner`` or ``denoiser``.
        source: name, folder or repository of the other model; see `longigen.hub.resolve`.
    """

    part: ModelPart
    source: str

    @property
    def public_name(self) -> str | None:
        """The source's public name; see `public_name`."""
        return public_name(self.source)

    def check(self, name: str) -> None:
        """Check, before data are read, that the other model exists and uses the same component.

        Args:
            name: name of the new model's component.

        Raises:
            LongigenError: if there is no such model, or it uses another component.
        """
        self._check_same(read_config(ModelSource.parse(self.source).find())[self.part]["name"], name)

    def apply(self, model: LongitudinalModel) -> str | None:
        """Copy the other model's weights into `model`.

        Returns:
            One sentence on the tensors that were not copied, and on differences that do not show in shapes (attention
            heads, the typical gap that times are divided by); None if there are none of either.

        Raises:
            LongigenError: if there is no such model, it uses another component, a conditioner's time unit differs, or
                no tensor fits. `model` is not changed then.
        """
        other = LongitudinalModel.from_pretrained(self.source)
        old, new = getattr(other, self.part), getattr(model, self.part)
        if type(old) is not type(new):
            self._check_same(registry.name_of(old), registry.name_of(new))
        units = other.statistics.time_unit, model.statistics.time_unit
        if self.part == "conditioner" and units[0] != units[1]:  # a denoiser does not see times
            raise LongigenError(
                f"The conditioner of {self.source} was trained on times in {units[0]} and these data are in "
                f"{units[1]}; use a model that was trained on times in {units[1]}."
            )
        old_tensors, new_tensors = old.state_dict(), new.state_dict()
        shared = [name for name in new_tensors if name in old_tensors]
        fitting = {name: old_tensors[name] for name in shared if old_tensors[name].shape == new_tensors[name].shape}
        if new_tensors and not fitting:
            raise LongigenError(
                f"None of the {len(new_tensors)} tensors of this {self.part} has the name and shape of one of the "
                f"{len(old_tensors)} of {self.source}; give both the same configuration, or leave out "
                f"--init-{self.part}."
            )
        new.load_state_dict(fitting, strict=False)
        reshaped = [name for name in shared if name not in fitting]
        missing = [name for name in new_tensors if name not in old_tensors]
        unused = [name for name in old_tensors if name not in new_tensors]
        notes = [f"{len(fitting)} of {len(new_tensors)} tensors were copied"]
        initial = [
            f"{len(names)} {reason} ({listed(names, MAX_LISTED)})"
            for names, reason in ((reshaped, "of another shape there"), (missing, "missing there"))
            if names
        ]
        if initial:
            notes.append(f"initial values remain in {' and '.join(initial)}")
        if unused:
            notes.append(f"{len(unused)} of its tensors were not used ({listed(unused, MAX_LISTED)})")
        differences = [f"{name} {before}, now {now}" for name, before, now in self._differences(other, model)]
        if differences:
            notes.append(f"it was configured with {'; with '.join(differences)}")
        return f"The {self.part} of {self.source}: {'; '.join(notes)}." if len(notes) > 1 else None

    def _check_same(self, old: str, new: str) -> None:
        if old != new:
            raise LongigenError(
                f"The {self.part} of {self.source} is '{old}' and that of this model is '{new}', but weights can be "
                f"copied only between equal components; choose --{self.part} {old}, or another model."
            )

    def _differences(self, old: LongitudinalModel, new: LongitudinalModel) -> Iterator[tuple[str, Any, Any]]:
        """Yield name, old and new value of each difference in configuration, data statistics or preprocessing."""
        old_config, new_config = getattr(old, self.part).config, getattr(new, self.part).config
        pairs = {name: (old_config[name], new_config[name]) for name in new_config}
        if self.part == "conditioner":
            scales = old.statistics.time_scale, new.statistics.time_scale
            if not math.isclose(*scales, rel_tol=0.05):
                pairs["a typical gap of"] = (f"{scales[0]:.3g}", f"{scales[1]:.3g} {new.statistics.time_unit}")
            pairs["the covariates"] = (old.statistics.covariates, new.statistics.covariates)
            before, now = old.provenance.explicit_preprocess, new.provenance.explicit_preprocess
            pairs |= {f"preprocess.{name}": (before[name], now[name]) for name in now if name in before}
        else:
            pairs["target"] = (old.settings.target, new.settings.target)
            pairs["prediction"] = (old.prediction, new.prediction)
        pairs["the codec"] = (repr(old.codec), repr(new.codec))
        return ((name, *values) for name, values in pairs.items() if values[0] != values[1])


def public_name(source: str) -> str | None:
    """Return a model's public name: a repository with its revision, or a published model's name.

    None if the source is a folder, or no longer exists (a resumed run does not need it).
    """
    try:
        return ModelSource.parse(source).public_name
    except LongigenError:
        return None


def warm_starts(settings: TrainingSettings) -> tuple[WarmStart, ...]:
    """Return the parts that are initialised with another model's weights."""
    sources: dict[ModelPart, str | None] = {
        "conditioner": settings.init_conditioner,
        "denoiser": settings.init_denoiser,
    }
    return tuple(WarmStart(part, source) for part, source in sources.items() if source is not None)


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning of a whole model: its configuration, and the changes of a recipe that load its weights.

    Attributes:
        config: configuration of the model; its components, settings and grid replace those of the recipe.
        changes: changes ``key=value`` that initialise both parts with its weights.
        summary: one line for the user on the model's components, grid and how to change them.
    """

    config: Mapping[str, Any]
    changes: tuple[str, ...]
    summary: str

    @classmethod
    def of(cls, source: ModelSource) -> "FineTuning":
        """Return the fine-tuning of a model.

        Raises:
            LongigenError: if a component of the model is not installed.
        """
        folder = source.find()
        config = read_config(folder)
        require_model(config, folder)
        require_installed(config, folder)
        pipeline = Provenance(config.get("preprocess", {}), config.get("data", {})).explicit_preprocess
        grid = grid_text(pipeline) if "shape" in pipeline else "of the data"
        if pipeline.get("spacing"):
            grid += f" voxels of {' × '.join(f'{size:g}' for size in pipeline['spacing'])} mm"
        pinned = source.pinned_name(folder)
        initialised = (*get_args(ModelPart), *([CODEC] if CODEC in config else []))
        return cls(
            config,
            tuple(f"training.init_{part}={json.dumps(pinned)}" for part in initialised),
            f"Fine-tuning {pinned}: {parts_text(config)}, with its settings, grid ({grid}) and intensity scaling; "
            "--set changes any of them, as in --set preprocess.shape=64,80,64",
        )
