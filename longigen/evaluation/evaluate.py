"""Evaluation: score the visits that a model generates by one protocol, beside the copy-last baseline."""

import csv
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from longigen.components.metric import Metric, RegionMetric, SetMetric
from longigen.data.split import fingerprint
from longigen.errors import LongigenWarning
from longigen.evaluation.comparison import Space
from longigen.evaluation.metrics import of_channel
from longigen.evaluation.protocol import Protocol
from longigen.evaluation.regions import Regions
from longigen.evaluation.result_table import ResultTable, Tabular
from longigen.evaluation.scoring import Score, score, summarise
from longigen.evaluation.tables import evaluation_table, row_records
from longigen.evaluation.volumes import VOLUMES
from longigen.generation.session import GenerationSession
from longigen.hub.metrics_file import COPIES, METRICS_SCHEMA_VERSION, PLACES, MetricsFile, ResultRow
from longigen.models.batch_size import BatchSize, Size
from longigen.models.figures import write_strip
from longigen.models.predict import Generated, GenerationSettings, coded, generation_metadata, recorded_generation
from longigen.models.tasks import Scenario, Targets
from longigen.models.visit_files import spread_caution
from longigen.utils.files import atomic, read_json, write_json
from longigen.utils.processes import gathered, processes
from longigen.utils.progress import Progress, silent

if TYPE_CHECKING:
    import pandas

SUMMARY, SCORES, FEATURES = "summary.json", "subjects.csv", "described.safetensors"
TABLE, STRIP = "table.txt", "strip.png"
RUN_COLUMNS = ("seed", "fold")
"""Columns of a benchmark's scores that say which run they are of."""
SHOWN = 4
"""The largest number of subjects in the figure."""


@dataclass(frozen=True)
class Evaluation(Tabular):
    """The scores of the visits that a model generated, by one protocol, beside copy-last and blurred copies.

    Attributes:
        protocol: protocol of the evaluation.
        model: the components' names, the version of longigen, the SHA-256 of the weights.
        generation: network evaluations per visit, guidance weight and seed.
        metrics: metrics by name.
        scores: scores of every generated visit, of the model and of the copies.
        shown: generated visits of a few subjects in the last scenario, for a figure.
        seconds: wall-clock seconds per generated visit and sample, of each batch of subjects.
        simulated: whether the data are simulated.
        unseen: whether no training used any of the subjects; None if that is not known.
        note: a few words on how the subjects were chosen.
        source: folder of the run or model that was evaluated.
        central: whether one network evaluation from noise is a draw; see `Sampler.central`.
        deterministic: whether all samples are one; see `Sampler.deterministic`.
        metrics_path: path of the ``metrics.json`` beside the weights, if these results were saved there.
        channels: names of the channels, of visits with several.
    """

    protocol: Protocol
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    scores: list[Score]
    shown: list[Generated]
    seconds: list[float]
    simulated: bool
    unseen: bool | None
    note: str
    source: str
    central: bool = False
    deterministic: bool = False
    metrics_path: Path | None = None
    channels: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        session: GenerationSession,
        generation: GenerationSettings,
        protocol: Protocol,
        metrics: Mapping[str, Metric],
        *,
        regions: Regions | None = None,
        batch_size: Size = 4,
        progress: Progress = silent,
    ) -> "Evaluation":
        """Generate the visits of a protocol and score them.

        Several processes share the work, and each returns all scores. All samples of a batch are in memory at once.

        Args:
            session: the model and its subjects; the model is moved to this process's device.
            generation: sampler, network evaluations, guidance weight and seed; samples are numbered from 0.
            protocol: protocol of the evaluation, see `protocol_of`.
            metrics: metrics by name.
            regions: the regions of the metrics that are of regions.
            batch_size: number of volumes generated in one batch: samples of subjects; see `BatchSize`.
            progress: progress bars, one per scenario.

        Raises:
            LongigenError: if too much of a subject lies outside of the model's grid.
        """
        session.check_box()
        state = processes()
        session.model.to(state.device)
        at_once = BatchSize(batch_size, session.model.device)
        subjects = at_once.size
        scores, shown, seconds = [], [], []
        for scenario in protocol.settings:
            tasks = protocol.tasks(session, scenario)
            # Whole batches are shared: a score does not depend, by rounding, on the number of processes.
            starts = list(range(0, len(tasks), subjects))
            with state.split_between_processes(starts) as mine, progress(scenario) as update:
                batches = [tasks[int(start) : int(start) + subjects] for start in mine]
                finished, total = 0, sum(map(len, batches)) * protocol.samples
                for batch in batches:
                    started = time.perf_counter()
                    made = session.generate(
                        batch,
                        generation,
                        samples=protocol.samples,
                        batch_size=at_once,
                        callback=lambda done, _, finished=finished, total=total: update(finished + done, total),
                    )
                    generated = list(made)
                    seconds.append((time.perf_counter() - started) / sum(len(item.times) for item in generated))
                    finished += len(generated)
                    for first in range(0, len(generated), protocol.samples):
                        samples = generated[first : first + protocol.samples]
                        scores += score(
                            samples,
                            scenario,
                            metrics,
                            targets=protocol.targets,
                            space=protocol.space,
                            regions=regions,
                            masked=protocol.masks is not None,
                            coded=None if session.model.codec.trivial else coded(session.model, samples[0]),
                        )
                        if scenario == protocol.settings[-1] and len(shown) < SHOWN:
                            shown.append(samples[0])
        return cls(
            protocol,
            session.provenance,
            generation_metadata(session.model, generation),
            metrics,
            gathered(scores),
            gathered(shown)[:SHOWN],
            gathered(seconds),
            session.cohort.dataset.simulated,
            session.unseen,
            session.note,
            session.source,
            generation.sampler_of(session.model).central,
            generation.sampler_of(session.model).deterministic,
            channels=session.cohort.channels,
        )

    @cached_property
    def rows(self) -> list[ResultRow]:
        """One row per scenario and method: means over subjects with 95 % intervals, and gains over copy-last."""
        return summarise(self.scores, self.metrics, self.protocol.averaging)

    @property
    def title(self) -> str:
        """One line on the data, its subjects, the scored visits and the space in which they are scored."""
        simulated = ", simulated" if self.simulated else ""
        protocol = self.protocol
        subjects = f"{protocol.subjects} subjects ({self.note})"
        return f"{protocol.data}{simulated}: {subjects}, target: {protocol.targets}, {PLACES[protocol.space]}"

    @property
    def blocks(self) -> list[ResultTable | str]:
        """A table of copy-last, the model and its paired gain, by scenario and metric."""
        title = f"{self.title}\nprotocol {self.protocol.hash}"
        protocol = self.protocol
        table = evaluation_table(self.rows, self.metrics, title, protocol.samples, protocol.averaging)
        return [table, *protocol.remarks]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The values of `rows`, one record per row and metric."""
        return row_records(self.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one row per generated visit and method, with a column per metric; needs the package pandas.

        Raises:
            LongigenError: if pandas is not installed.
        """
        from longigen.utils.optional import optional_import

        return optional_import("pandas", "Evaluation.to_pandas").DataFrame([score.to_row() for score in self.scores])

    @property
    def cautions(self) -> list[str]:
        """Warnings about the interpretation of the results, one sentence each."""
        fewest = min((row.visits for row in self.rows), default=0)
        samples, widest = self.protocol.samples, 0.0 if self.deterministic else math.inf
        cautions = [spread_caution(samples, self.generation["steps"], widest, central=self.central)]
        cautions += [metric.caution(fewest) for metric in self.metrics.values() if isinstance(metric, SetMetric)]
        return [*(caution for caution in cautions if caution), *self._of_channels]

    @property
    def _of_channels(self) -> list[str]:
        """What metrics of single channels leave out, and in which of them regions are marked, one sentence each."""
        said = []
        visits = {(score.setting, score.subject, score.visit) for score in self.scores}
        for channel in self.channels:
            own = of_channel(self.metrics, channel, first=False)
            without = visits - {(s.setting, s.subject, s.visit) for s in self.scores if own.keys() & s.values.keys()}
            if without:
                said.append(
                    f"{channel} is left out at {len(without)} of {len(visits)} scored visits, since the visit, or all "
                    "that were given before it, lack it."
                )
        if self.channels and any(isinstance(metric, RegionMetric) for metric in self.metrics.values()):
            said.append(f"Regions are scored in {self.channels[0]}, the first channel.")
        return said

    @property
    def summary(self) -> dict[str, Any]:
        """The means with their intervals, the protocol, the model and its generation settings, as plain values."""
        key = _key(self.protocol, self.model, self.generation)
        arrows = {name: metric.arrow(self.protocol.samples) for name, metric in self.metrics.items()}
        rows = [row.to_dict() for row in self.rows]
        return {**key, "protocol": self.protocol.to_dict(), "rows": rows, "arrows": arrows}

    @property
    def metrics_file(self) -> MetricsFile:
        """The results in the form that is published with the weights."""
        return MetricsFile(
            {
                "schema_version": METRICS_SCHEMA_VERSION,
                **self.summary,
                "data": {
                    "name": self.protocol.data,
                    "simulated": self.simulated,
                    "subjects": self.protocol.subjects,
                    "unseen": self.unseen,
                },
            }
        )

    def save(self, folder: Path | str) -> None:
        """Write what ``longigen evaluate --out`` writes: scores, summary, table, metrics and a figure.

        Another evaluation in the folder is replaced, with a `LongigenWarning`.

        Raises:
            LongigenError: if the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / SUMMARY).exists():
            key, earlier = _key(self.protocol, self.model, self.generation), read_json(folder / SUMMARY)
            if not _is_of(earlier, key):
                warnings.warn(f"Replaced another evaluation in {folder}.", LongigenWarning, stacklevel=2)
        self.write_scores(folder)
        self.metrics_file.write(folder)
        with atomic(folder / TABLE) as part:
            part.write_text(self.table() + "\n", "utf-8")
        simulated = ", simulated" if self.simulated else ""
        title = f"{self.protocol.data}{simulated}, setting {self.protocol.settings[-1]}"
        write_strip(self.shown, folder / STRIP, title=title)

    def write_scores(self, folder: Path) -> None:
        """Write ``subjects.csv`` and then ``summary.json``, whose presence means that both are complete.

        The features of set metrics (FID, KID), if there are any, go to ``described.safetensors``, and the volumes of
        regions to ``volumes.csv``.
        """
        from safetensors.torch import save_file

        for name in (SUMMARY, FEATURES, VOLUMES):
            (folder / name).unlink(missing_ok=True)
        write_csv([score.to_row() for score in self.scores], folder / SCORES)
        volumes = [row for score in self.scores for row in score.to_volume_rows()]
        if volumes:
            write_csv(volumes, folder / VOLUMES)
        features = {
            f"{line}/{name}": tensor for line, item in enumerate(self.scores) for name, tensor in item.features.items()
        }
        if features:
            with atomic(folder / FEATURES) as part:
                save_file(features, part)
        write_json(self.summary, folder / SUMMARY)

    def __repr__(self) -> str:
        """Return one line: the data, the number of subjects, the scenarios, the protocol's hash."""
        scenarios = ", ".join(self.protocol.settings)
        return f"Evaluation({self.protocol.data}, {self.protocol.subjects} subjects, {scenarios}, {self.protocol.hash})"


def protocol_of(
    session: GenerationSession,
    metrics: Mapping[str, Metric],
    scenarios: Sequence[Scenario],
    targets: Targets,
    setting_seed: int,
    samples: int = 1,
    space: Space = "subject",
    regions: Regions | None = None,
) -> Protocol:
    """Return the protocol of an evaluation of a session.

    Args:
        session: the model and its subjects.
        metrics: metrics by name.
        scenarios: which visits are given.
        targets: visits to score: each subject's ``last`` one, or ``all``.
        setting_seed: random seed of the choice of missing visits.
        samples: number of samples of each visit.
        space: where volumes are compared: ``subject`` or ``model``.
        regions: the regions that are scored.

    Raises:
        LongigenError: if there is no such space.
    """
    return Protocol.describe(
        metrics=metrics,
        preprocess=session.cohort.pipeline,
        data=session.cohort.name,
        fingerprint=fingerprint([prepared.subject for prepared in session.subjects]),
        part=session.part,
        subjects=len(session.subjects),
        settings=tuple(scenarios),
        targets=targets,
        setting_seed=setting_seed,
        samples=samples,
        space=space,
        images=session.cohort.images(session.subjects),
        regions=None
        if regions is None
        else regions.to_dict([] if session.cohort.dataset.simulated else session.subjects),
    )


def load_cached_scores(
    folder: Path, session: GenerationSession, generation: GenerationSettings, protocol: Protocol
) -> list[Score] | None:
    """Return the scores that `Evaluation.write_scores` wrote for this model, generation and protocol, or None.

    If they are of other images, a `LongigenWarning` says so.
    """
    if not (folder / SUMMARY).exists():
        return None
    key = _key(protocol, session.provenance, generation_metadata(session.model, generation))
    summary = read_json(folder / SUMMARY)
    scored = summary.get("protocol", {}).get("images")
    if scored != protocol.images:
        of_others = "of other images of these subjects" if scored else "by a version that did not record the images"
        warnings.warn(
            f"The scores in {folder} were taken {of_others}, so the visits are generated and scored again.",
            LongigenWarning,
            stacklevel=2,
        )
    if not _is_of(summary, key):
        return None
    scores = read_scores(folder)
    # Those of an earlier version may lack the blurred copies.
    return scores if {score.method for score in scores} >= {*COPIES} else None


def read_scores(folder: Path) -> list[Score]:
    """Return the scores that `Evaluation.write_scores` wrote into a folder."""
    features = _read_features(folder / FEATURES)
    return [replace(score, features=features.get(line, {})) for line, (_, score) in enumerate(read_rows(folder))]


def read_rows(folder: Path) -> list[tuple[str | None, Score]]:
    """Return the scores of the ``subjects.csv`` of an evaluation or a benchmark, without features, each with its seed.

    An evaluation's have no seed: None. Without the file there are none.
    """
    if not (folder / SCORES).is_file():
        return []
    with (folder / SCORES).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (row.get("seed"), Score.of_row({key: text for key, text in row.items() if key not in RUN_COLUMNS}))
        for row in rows
    ]


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as a CSV file, atomically; what a row lacks is an empty cell."""
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def _read_features(path: Path) -> Mapping[int, dict[str, Tensor]]:
    """Return the features of set metrics, by line of the scores and by name of the metric."""
    from safetensors.torch import load_file

    features: dict[int, dict[str, Tensor]] = {}
    for key, tensor in (load_file(path) if path.exists() else {}).items():
        line, _, name = key.partition("/")
        features.setdefault(int(line), {})[name] = tensor
    return features


def _key(protocol: Protocol, model: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``summary.json`` that identifies an evaluation: protocol, model and generation settings."""
    return {"protocol_hash": protocol.hash, "model": dict(model), "generation": dict(generation)}


def _is_of(summary: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Return whether the content of ``summary.json`` is of the evaluation that a `_key` identifies."""
    known = {**summary, "generation": recorded_generation(summary.get("generation", {}))}
    return {name: known.get(name) for name in key} == key
