"""Protocol: everything that a score depends on besides the model, with its hash, its parts and its differences."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from longigen.components.metric import Metric
from longigen.components.visit_sequence import BACKGROUND
from longigen.data.intensity import FOREGROUND
from longigen.data.preprocess import Preprocess
from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation.comparison import Space
from longigen.evaluation.result_table import ResultTable
from longigen.hub.metrics_file import BLURRED, PLACES
from longigen.models.predict import SubjectTask
from longigen.models.tasks import Scenario, Targets, last_only
from longigen.utils.intervals import MEAN, Average

if TYPE_CHECKING:
    from longigen.generation.session import GenerationSession

SCALING = ("lower", "upper", "normalise")
"""The parts of the preprocessing on which scores in the subject's space depend."""

OWN_GRID = (
    "voxels of the last given visit, axes in RAS order; the true visit is interpolated to them only if its "
    "own are others"
)
OWN_VOXELS = (
    "generated visits as they are written for a user: the last given visit's own voxels, moved and "
    "changed as the model says, in the subject's intensities"
)

CONVENTIONS: Mapping[Space, Mapping[str, Any]] = {
    "subject": {
        "grid": OWN_GRID,
        "inverse": OWN_VOXELS,
        "scale": "linear: the percentiles lower and upper of preprocess become -1 and 1; not clipped",
    },
    "stored": {
        "grid": OWN_GRID,
        "inverse": OWN_VOXELS,
        "scale": "linear: 0 and 1 of the stored intensities become -1 and 1; not clipped",
    },
    "model": {
        "grid": "the model's, see preprocess; all visits are interpolated to it",
        "inverse": "none: what the model returns",
        "scale": "linear: the percentiles lower and upper of preprocess become -1 and 1; clipped",
    },
}
"""How volumes are brought to be compared, by the space of the comparison."""

SCORING: Mapping[str, Any] = {
    "given": {
        "single": "the first visit; the others are generated",
        "missing": "the first visit and a random half, rounded down, of those between first and last; the rest is "
        "generated",
        "full": "all true visits before the target",
    },
    "copies": "the last given visit; the same smoothed by Gaussians of "
    f"{' and '.join(f'{sigma:g}' for sigma in BLURRED.values())} voxels, not along axes of thick slices",
    "average": "over the visits of each subject, then over subjects",
}
"""How every evaluation scores, whatever the space."""

FIRST_WORDS = frozenset(
    [
        "55ab3028e174", "b059ad40e8a3", "1a40899ab645", "16823679e514", "8bf81942d642",
        "cda2cb63c2a2", "5dc20af72741", "e2b61e53652c", "b1d2e71f94ee",
    ]
)  # fmt: skip
"""Digests of the entries above as they were when protocols first had them. They held before, too."""

WORDS = {
    "data": "data set",
    "fingerprint": "subjects and times of their visits (fingerprint)",
    "images": "images (hash)",
    "part": "part of the split",
    "subjects": "number of subjects",
    "settings": "settings",
    "targets": "visits scored",
    "setting_seed": "seed of the choice of missing visits",
    "preprocess": "preprocessing",
    "metrics": "definition of",
    "samples": "number of samples of each visit",
    "space": "space",
    "foreground": "foreground",
    "data_range": "range of intensities",
    "regions": "regions",
    "masks": "label maps outside of which images are background (hash)",
    "grid": "grid",
    "inverse": "way back to the subject's intensities",
    "scale": "scale of intensities",
    "given": "visits given in setting",
    "copies": "copies of the last given visit",
    "average": "average",
}
"""What each entry of a protocol is, in words."""

LONGEST = 60
"""The number of characters of a value up to which a difference quotes it."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on besides the model: data, split, scenarios, preprocessing and metrics.

    Results of protocols with different `hash` must not be compared in one table.

    Attributes:
        data: name of the data set.
        fingerprint: fingerprint of the scored subjects and their visits.
        part: part of the split.
        subjects: number of subjects.
        settings: the scenarios, that is which visits are given.
        targets: visits to score: each subject's ``last`` one, or ``all``.
        setting_seed: random seed of the choice of missing visits.
        preprocess: configuration of the preprocessing pipeline; in the subject's space only the scaling of intensities,
            since the model's grid is then a property of the model; none where intensities are compared as stored.
        metrics: definition of each metric, by name.
        samples: number of samples of each visit.
        space: where volumes are compared: ``subject`` for the last given visit's own voxels, ``model`` for the model's
            grid, ``stored`` for its own voxels and intensities; see `Comparison.of`.
        images: hash of the scored subjects' images, see `Cohort.images`; None in protocols that do not cover them.
        regions: the regions that are scored and how, see `Regions.to_dict`; None if none are.
        masks: hash of the label maps, if all images are background where that of the subject's first visit is 0; None
            where whole images are compared.

    Raises:
        LongigenError: if there is no such space.
    """

    data: str
    fingerprint: str
    part: str
    subjects: int
    settings: tuple[str, ...]
    targets: Targets
    setting_seed: int
    preprocess: Mapping[str, Any]
    metrics: Mapping[str, str]
    samples: int = 1
    space: Space = "subject"
    images: str | None = None
    regions: Mapping[str, Any] | None = None
    masks: str | None = None

    def __post_init__(self) -> None:
        if self.space not in PLACES:
            raise LongigenError(
                f"There is no space '{self.space}' to score in.{did_you_mean(self.space, PLACES)} Choose one of: "
                f"{', '.join(PLACES)}."
            )

    @classmethod
    def describe(
        cls, *, metrics: Mapping[str, Metric], preprocess: Preprocess, space: Space = "subject", **rest: Any
    ) -> "Protocol":
        """Return the protocol with the definitions of the metrics and the configuration of the preprocessing."""
        definitions = {name: metric.definition for name, metric in metrics.items()}
        config = preprocess.config
        if space == "subject":
            config = {name: config[name] for name in SCALING}
        return cls(preprocess=config, metrics=definitions, space=space, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as plain values for JSON, with what is the same in all evaluations of this version."""
        content = {**vars(self), "foreground": f"first visit > {BACKGROUND + FOREGROUND:g}", "data_range": 2.0}
        if self.samples == 1:
            del content["samples"]  # so that the hash is that of protocols without several samples
        if self.space == "model":
            del content["space"]  # so that the hash is that of protocols from before there was a choice
        if self.images is None:
            del content["images"]  # so that the hash is that of protocols from before images were covered
        if self.regions is None:
            del content["regions"]  # so that the hash is that of protocols from before regions could be scored
        if self.masks is None:
            del content["masks"]  # so that the hash is that of protocols from before images could be masked
        return json.loads(json.dumps({**CONVENTIONS[self.space], **SCORING, **content}))

    @property
    def averaging(self) -> Average:
        """How subjects are averaged."""
        return MEAN

    @property
    def remarks(self) -> list[ResultTable | str]:
        """What stands below a table of results; nothing for a protocol of our own."""
        return []

    def tasks(self, session: "GenerationSession", setting: str) -> list[SubjectTask]:
        """Return the tasks of a setting for every subject of a session: which visits are given, and which generated."""
        select = last_only if self.targets == "last" else None
        return session.tasks(cast(Scenario, setting), seed=self.setting_seed, select=select)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify the protocol."""
        return protocol_hash(self.to_dict())


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that identify a protocol, from what `Protocol.to_dict` returned.

    They are the first of the SHA-256 of its JSON with sorted keys. Entries with their `FIRST_WORDS` are left out, since
    they held before they were written down: protocols from before keep their hash, and later words have another.
    """
    return _digest(_without_first_words(protocol))


def _without_first_words(protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in protocol.items() if _digest([name, value]) not in FIRST_WORDS}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def part_of(protocol: Mapping[str, Any], settings: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the protocol of some settings and metrics of a table alone, whose scores do not depend on the others.

    Without the setting ``missing`` no visit is chosen at random, and the seed of that choice is left out.

    Args:
        protocol: what `Protocol.to_dict` returned.
        settings: settings that the protocol has.
        metrics: names of metrics that it has.
    """
    part = {**protocol, "settings": [*settings], "metrics": {name: protocol["metrics"][name] for name in metrics}}
    if "missing" not in settings:
        part.pop("setting_seed", None)
    return part


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Return in what two protocols differ, entry by entry, in words.

    Args:
        one: what `Protocol.to_dict` returned.
        two: another.
    """
    first, second = ({"samples": 1, "space": "model", **_without_first_words(each)} for each in (one, two))
    return [f"{words} ({', and '.join(_quoted(*values))})" for words, *values in _unequal(first, second)]


def _unequal(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the words for an entry, or for an entry of an entry, and its two values where they differ."""
    for name in dict.fromkeys([*one, *two]):
        first, second, words = one.get(name), two.get(name), WORDS.get(name, name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            for key in dict.fromkeys([*first, *second]):
                if first.get(key) != second.get(key):
                    yield f"{words} {key}", first.get(key), second.get(key)
        elif first != second:
            yield words, first, second


def _quoted(one: Any, two: Any) -> tuple[str, str]:
    """Return two values as a difference quotes them: long texts from shortly before the first word that differs."""
    texts = [
        "not recorded" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for value in (one, two)
    ]
    if max(map(len, texts)) > LONGEST:
        same = next((place for place, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
        start = texts[0].rfind(" ", 0, same) + 1
        texts = [f"{'… ' * (start > 0)}{text[start:]}" for text in texts]
    first, second = (text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} …" for text in texts)
    return first, second
