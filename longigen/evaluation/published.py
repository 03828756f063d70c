"""Published protocols: how other authors score, so that a row of ours can stand beside their numbers.

A ``registry.yaml`` describes each under ``protocols``: the data set and its parameters, which visits are given, the
metrics, how subjects are averaged, and the numbers that its papers print.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from longigen.components.metric import Metric
from longigen.data.cohort import require_pairs
from longigen.data.dataset import Subject
from longigen.data.split import fingerprint
from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation.protocol import Protocol
from longigen.evaluation.regions import labels_digest
from longigen.evaluation.result_table import ResultTable
from longigen.models.predict import SubjectTask
from longigen.models.tasks import Task
from longigen.registry.catalog import Catalog
from longigen.utils.intervals import AVERAGES, MEAN, Average
from longigen.utils.randomness import derive_seed

if TYPE_CHECKING:
    from longigen.generation.session import GenerationSession

KEYS = (
    *("summary", "paper", "source", "caution", "data", "parameters"),
    *("fold", "settings", "metrics", "masks", "average", "published"),
)
Given = Literal["first", "all", "random"]


@dataclass(frozen=True)
class PublishedSetting:
    """Which visits of a subject are given, and which one is generated and scored.

    Attributes:
        given: ``first``: the first visit, and the last one is the target; ``all``: all visits before the last one,
            which is the target; ``random``: see `gap`.
        gap: of ``random``: the target is any visit of `gap` + 2 or more, by chance; the `gap` visits before it are
            hidden, and each one before those is given with probability 1/2, at least one of them.
    """

    given: Given
    gap: int = 0

    def __post_init__(self) -> None:
        if self.given not in get_args(Given) or not isinstance(self.gap, int) or self.gap < 0:
            raise LongigenError(
                f"A setting of a published protocol has given ({', '.join(get_args(Given))}) and a gap of 0 or more "
                f"visits, got given={self.given!r}, gap={self.gap!r}."
            )

    def task(self, visits: int, *, subject: str, seed: int) -> Task:
        """Return the task of a subject with `visits` visits; what is random depends on subject, gap and seed.

        Raises:
            LongigenError: if the subject has too few visits.
        """
        last = visits - 1
        if last <= self.gap:
            raise LongigenError(
                f"Subject {subject} has {visits} visits, and a gap of {self.gap} needs {self.gap + 2}; leave it out."
            )
        if self.given != "random":
            return Task((0,) if self.given == "first" else tuple(range(last)), (last,))
        chance = random.Random(derive_seed("gap", seed, subject, self.gap))
        target = chance.randint(self.gap + 1, last)
        candidates = range(target - self.gap)
        given = tuple(visit for visit in candidates if chance.random() < 0.5)
        return Task(given or (chance.choice(candidates),), (target,))


@dataclass(frozen=True)
class PublishedProtocol(Protocol):
    """A protocol that others published, applied to some subjects; see `Protocol`.

    Attributes:
        name: name of the published protocol.
        given: `PublishedSetting` of each setting, as plain values.
        average: how subjects are averaged, one of `AVERAGES`.
    """

    name: str = ""
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    average: str = MEAN.name

    @property
    def averaging(self) -> Average:
        return AVERAGES[self.average]

    @property
    def remarks(self) -> list[ResultTable | str]:
        return [PublishedSpec.of(self.name).printed]

    def tasks(self, session: "GenerationSession", setting: str) -> list[SubjectTask]:
        require_pairs(session.subjects)
        chosen = PublishedSetting(**self.given[setting])
        return [
            (prepared, chosen.task(len(prepared.subject.visits), subject=prepared.subject.id, seed=self.setting_seed))
            for prepared in session.subjects
        ]


@dataclass(frozen=True)
class PublishedSpec:
    """A published protocol, as a ``registry.yaml`` describes it.

    Attributes:
        name: its name.
        source: where its definition is.
        caution: one sentence on what its numbers hide.
        data: name of the data set.
        parameters: parameters of the data set that belong to the protocol.
        settings: which visits are given, by name of the setting.
        metrics: names of metrics, as `load_metrics` takes them.
        average: how subjects are averaged, one of `AVERAGES`.
        fold: name of the data set's parameter that chooses one of the authors' folds; empty if they have none.
        masks: whether images are multiplied by the subject's label map, see `Protocol`.
        published: what papers print: rows with ``method``, ``source`` and a value of some metrics.
    """

    name: str
    source: str
    caution: str
    data: str
    parameters: Mapping[str, Any]
    settings: Mapping[str, PublishedSetting]
    metrics: tuple[str, ...]
    average: str
    fold: str
    masks: bool
    published: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, name: str) -> Self:
        """Return a protocol of the catalog.

        Raises:
            LongigenError: if there is none of that name, or its entry is invalid.
        """
        content = Catalog().protocol(name).content
        owner = f"The protocol '{name}'"
        for key in content:
            if key not in KEYS:
                raise LongigenError(f"{owner} has an unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
        settings, average = content.get("settings"), content.get("average", MEAN.name)
        known = {each.name for each in fields(PublishedSetting)}
        valid = isinstance(settings, Mapping) and all(
            isinstance(value, Mapping) and set(value) <= known for value in settings.values()
        )
        if not (valid and settings and content.get("data") and content.get("metrics") and average in AVERAGES):
            raise LongigenError(
                f"{owner} must name its data and its metrics, have settings such as 'dense: {{given: all}}', and an "
                f"average, one of {', '.join(AVERAGES)}; correct its registry.yaml."
            )
        return cls(
            name,
            *(str(content.get(key, "")) for key in ("source", "caution", "data")),
            parameters=dict(content.get("parameters") or {}),
            settings={str(key): PublishedSetting(**value) for key, value in settings.items()},
            metrics=tuple(map(str, content["metrics"])),
            average=average,
            fold=str(content.get("fold", "")),
            masks=bool(content.get("masks", False)),
            published=tuple(content.get("published") or ()),
        )

    def changes(self, chosen: Sequence[str], prefix: str = "", fold: int | None = None) -> list[str]:
        """Return the user's changes ``key=value`` with those of the protocol's data set added, each with a prefix.

        Args:
            chosen: the user's changes.
            prefix: stands before the name of each parameter of the data set.
            fold: one of the authors' folds, whose subjects are the validation part.

        Raises:
            LongigenError: if the user changes a parameter that belongs to the protocol, or its authors have no folds.
        """
        if fold is not None and not self.fold:
            raise LongigenError(f"The protocol '{self.name}' has no folds of its own; leave --fold out.")
        parameters = {**self.parameters, **({} if fold is None else {self.fold: fold})}
        for change in chosen:
            if change.partition("=")[0].strip().removeprefix("data.") in parameters:
                raise LongigenError(
                    f"The protocol '{self.name}' sets the data set's parameters itself, so --set {change} cannot be "
                    "given with it; leave it out."
                )
        return [*chosen, *(f"{prefix}{key}={value}" for key, value in parameters.items())]

    def require_alone(self, **options: Any) -> None:
        """Raise a `LongigenError` if the user gave an option that the protocol sets.

        Args:
            options: the value of each option, by its name on the command line, empty where it was not given.
        """
        for option, value in options.items():
            if value:
                raise LongigenError(f"--{option} is set by the protocol '{self.name}'; leave one of the two out.")

    def require_data(self, data: str) -> None:
        """Raise a `LongigenError` if `data` is not the name of the protocol's data set."""
        if data != self.data:
            raise LongigenError(
                f"The protocol '{self.name}' is of the data set '{self.data}', and the data are '{data}'; give --data "
                f"{self.data}:PATH."
            )

    def require_masks(self, subjects: Sequence[Subject]) -> None:
        """Raise a `LongigenError` if the protocol masks images by label maps that some subjects do not have.

        Args:
            subjects: the subjects that are to be scored.
        """
        without = [subject.id for subject in subjects if self.masks and subject.visits[0].labels is None]
        if without:
            raise LongigenError(
                f"The protocol '{self.name}' multiplies images by the label map of a subject's first visit, and "
                f"{len(without)} of {len(subjects)} subjects have none, such as {without[0]}; copy the label maps "
                "beside the images, or choose another protocol."
            )

    def protocol(
        self, session: "GenerationSession", metrics: Mapping[str, Metric], seed: int, samples: int = 1
    ) -> PublishedProtocol:
        """Return the protocol of an evaluation of a session, whose data set must be the protocol's.

        Args:
            session: the model and its subjects.
            metrics: the protocol's metrics by name.
            seed: random seed of the choice of given visits and targets.
            samples: number of samples of each visit.

        Raises:
            LongigenError: if a subject lacks a label map that the protocol needs.
        """
        self.require_masks([prepared.subject for prepared in session.subjects])
        return PublishedProtocol(
            data=session.cohort.name,
            fingerprint=fingerprint([prepared.subject for prepared in session.subjects]),
            part=session.part,
            subjects=len(session.subjects),
            settings=tuple(self.settings),
            targets="all",
            setting_seed=seed,
            preprocess={},
            metrics={name: metric.definition for name, metric in metrics.items()},
            samples=samples,
            space="stored",
            images=session.cohort.images(session.subjects),
            masks=labels_digest(session.subjects) if self.masks else None,
            name=self.name,
            given={name: dict(vars(setting)) for name, setting in self.settings.items()},
            average=self.average,
        )

    @property
    def printed(self) -> ResultTable | str:
        """The published numbers with their sources, and the caution."""
        names = dict.fromkeys(key for row in self.published for key in row if key not in ("method", "source"))
        lines = [[row["method"], *(str(row.get(key, "-")) for key in names), row["source"]] for row in self.published]
        notes = [f"protocol {self.name}: {self.source}", self.caution]
        return ResultTable(["published", *names, "source"], lines, notes=notes) if lines else "\n".join(notes)
