"""Initialisation: a part of a model that starts from another model's weights."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from longigen.errors import LongigenError
from longigen.hub.model_config import COMPONENTS, read_config, require_installed
from longigen.hub.resolve import ModelSource
from longigen.models.longitudinal import LongitudinalModel
from longigen.registry.registry import registry
from longigen.training.settings import ModelPart, TrainingSettings

LISTED = 12
"""Tensors that a message names before it only counts them."""


@dataclass(frozen=True)
class WarmStart:
    """A part of a new model, and the model whose weights it starts from.

    Both must be of one component. Tensors of equal name and shape are copied, whole; what differs in shape (a first
    layer, where another conditioner gives other channels) or is missing stays as it was initialised, and is told. What
    a model knows of its data (`longigen.models.longitudinal.Statistics`) is never taken: it is of the new data.

    Attributes:
        part: the part.
        source: what the other model is called; see `longigen.hub.resolve`.
    """

    part: ModelPart
    source: str

    @property
    def public_name(self) -> str | None:
        """What strangers may call the source: a repository, with its revision, or a published model's name.

        None of a folder, and of what is there no more: a run may go on without what it started from.
        """
        try:
            return ModelSource.of(self.source).public_name
        except LongigenError:
            return None

    def check(self, name: str) -> None:
        """Refuse what can be refused before data are read.

        Args:
            name: the name of the new model's component.

        Raises:
            LongigenError: if there is no such model, or its component is another one.
        """
        self._check_same(read_config(ModelSource.of(self.source).find())[self.part]["name"], name)

    def apply(self, model: LongitudinalModel) -> str | None:
        """Copy the other model's weights into `model`.

        Returns:
            In one sentence what was not taken, and in what the two differ that no tensor's shape tells (the heads of
            an attention, the gap that times are divided by); None if there is nothing of either.

        Raises:
            LongigenError: if there is no such model, its component is another one, a conditioner's time unit differs,
                or no tensor fits. `model` is then as it was.
        """
        other = LongitudinalModel.from_pretrained(self.source)
        old, new = getattr(other, self.part), getattr(model, self.part)
        if type(old) is not type(new):
            self._check_same(registry.name_of(old), registry.name_of(new))
        units = other.statistics.time_unit, model.statistics.time_unit
        if self.part == "conditioner" and units[0] != units[1]:  # a denoiser is told no time
            raise LongigenError(
                f"The conditioner of {self.source} was trained on times in {units[0]} and these data are in "
                f"{units[1]}; take one that was trained on {units[1]}."
            )
        given, wanted = old.state_dict(), new.state_dict()
        fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
        if wanted and not fitting:
            raise LongigenError(
                f"None of the {len(wanted)} tensors of this {self.part} is found, in its shape, among the "
                f"{len(given)} of {self.source}; give both the same configuration, or leave out --init-{self.part}."
            )
        new.load_state_dict(fitting, strict=False)
        misfits = [
            ("of another shape there", [name for name in wanted if name in given and name not in fitting]),
            ("missing there", [name for name in wanted if name not in given]),
        ]
        kept = [f"{len(names)} {why} ({_listed(names)})" for why, names in misfits if names]
        spare = [name for name in given if name not in wanted]
        parts = [f"{len(fitting)} of {len(wanted)} tensors were taken"]
        parts += [f"as initialised stay {' and '.join(kept)}"] if kept else []
        parts += [f"it has {len(spare)} that this one has not ({_listed(spare)})"] if spare else []
        differences = [f"{name} {there}, here {here}" for name, there, here in self._differences(other, model)]
        parts += [f"it was made with {'; with '.join(differences)}"] if differences else []
        return f"The {self.part} of {self.source}: {'; '.join(parts)}." if len(parts) > 1 else None

    def _check_same(self, old: str, new: str) -> None:
        if old != new:
            raise LongigenError(
                f"The {self.part} of {self.source} is '{old}' and this model's is '{new}'; weights can be taken from "
                f"the same component only, so choose --{self.part} {old}, or another model."
            )

    def _differences(self, old: LongitudinalModel, new: LongitudinalModel) -> Iterator[tuple[str, Any, Any]]:
        """Give the name and both values of what the part was made with, or for, and is not here."""
        there, here = getattr(old, self.part).config, getattr(new, self.part).config
        pairs = {name: (there[name], here[name]) for name in here}
        if self.part == "conditioner":
            scales = old.statistics.time_scale, new.statistics.time_scale
            if not math.isclose(*scales, rel_tol=0.05):
                pairs["a typical gap of"] = (f"{scales[0]:.3g}", f"{scales[1]:.3g} {new.statistics.time_unit}")
            pairs["the covariates"] = (old.statistics.covariates, new.statistics.covariates)
            before, now = old.provenance.preprocess, new.provenance.preprocess
            pairs |= {f"preprocess.{name}": (before[name], now[name]) for name in now if name in before}
        else:
            pairs["target"] = (old.settings.target, new.settings.target)
            pairs["prediction"] = (old.prediction, new.prediction)
        return ((name, *values) for name, values in pairs.items() if values[0] != values[1])


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def warm_starts(settings: TrainingSettings) -> tuple[WarmStart, ...]:
    """Return the parts that start from another model's weights."""
    sources: dict[ModelPart, str | None] = {
        "conditioner": settings.init_conditioner,
        "denoiser": settings.init_denoiser,
    }
    return tuple(WarmStart(part, source) for part, source in sources.items() if source is not None)


@dataclass(frozen=True)
class FineTuning:
    """What training takes of the model that it goes on from.

    Attributes:
        config: the model's configuration, whose parts, settings and grid take the place of the recipe's.
        changes: ``key=value``: both parts start from its weights.
        sentence: what is taken, for the user.
    """

    config: Mapping[str, Any]
    changes: tuple[str, ...]
    sentence: str


def base_of(source: ModelSource) -> FineTuning:
    """Return what training takes of a model that it goes on from.

    Raises:
        LongigenError: if a component of the model is not installed.
    """
    folder = source.find()
    config = read_config(folder)
    require_installed(config, folder)
    pipeline = config.get("preprocess", {})
    grid = " × ".join(map(str, pipeline["shape"])) if "shape" in pipeline else "of the data"
    pinned = source.pinned(folder)
    parts = " + ".join(config[kind]["name"] for kind in COMPONENTS)
    return FineTuning(
        config,
        tuple(f"training.init_{part}={json.dumps(pinned)}" for part in get_args(ModelPart)),
        f"From {pinned}: {parts}, with its settings, grid ({grid}) and intensities; --set changes any of them, as in "
        "--set preprocess.shape=64,80,64",
    )
