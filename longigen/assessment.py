"""An assessment: what a model answered, scored by one protocol."""

import csv
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation import Protocol, Score, score, summarise
from longigen.files import atomic, read_json, write_json
from longigen.generation import Answer, GenerationSettings
from longigen.inquiry import Inquiry
from longigen.metric import Metric
from longigen.registry import registry
from longigen.setting import Setting, Targets, last_only
from longigen.split import fingerprint

SUMMARY, SCORES = "summary.json", "subjects.csv"
SHOWN = 4

Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Called with a name; what it gives is called with (done, total) while that lasts."""


def silent(name: str) -> AbstractContextManager[Callable[..., None]]:
    """Show no progress."""
    return nullcontext(lambda *_: None)


def load_metrics(chosen: Sequence[str] | None, say: Callable[[str], None]) -> dict[str, Metric]:
    """Make metrics by name, by default all that are installed.

    One that was not asked for and does not load is left out, and `say` is told.

    Raises:
        LongigenError: if one that was asked for is unknown or does not load.
    """
    known = registry.entries("metric")
    for name in chosen or []:
        if name not in known:
            raise LongigenError(
                f"There is no metric '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known)}."
            )
    made = {}
    for name in chosen or known:
        try:
            made[name] = registry.load("metric", name)()
        except LongigenError as error:
            if chosen:
                raise
            say(f"Left out: {error}")
    return made


@dataclass(frozen=True)
class Assessment:
    """What a model answered, scored by one protocol.

    Attributes:
        protocol: what the numbers depend on beside the model.
        model: the model's provenance.
        generation: how it generated: network evaluations, guidance, seed.
        scores: of every generated visit, by the model and by copy-last.
        shown: a few answers of the last setting, for a picture.
        seconds: per batch, the wall clock of generation over the visits that were generated in it.
    """

    protocol: Protocol
    model: dict[str, Any]
    generation: dict[str, Any]
    scores: list[Score]
    shown: list[Answer]
    seconds: list[float]

    @classmethod
    def of(
        cls,
        inquiry: Inquiry,
        generation: GenerationSettings,
        protocol: Protocol,
        metrics: dict[str, Metric],
        *,
        batch_size: int = 4,
        progress: Progress = silent,
    ) -> "Assessment":
        """Ask the protocol's questions and score the answers; several processes share the work and all get all scores.

        Args:
            inquiry: the model and its subjects; the model is moved to this process's device.
            generation: how to generate.
            protocol: as `protocol_of`.
            metrics: by name.
            batch_size: subjects that are generated together.
            progress: shows how far a setting is.
        """
        from accelerate import PartialState
        from accelerate.utils import gather_object

        state = PartialState()
        inquiry.model.to(state.device)
        select = last_only if protocol.targets == "last" else None
        scores, shown, seconds = [], [], []
        for setting in protocol.settings:
            questions = inquiry.questions(setting, seed=protocol.setting_seed, select=select)
            with state.split_between_processes(list(range(len(questions)))) as mine, progress(setting) as update:
                own = [questions[index] for index in mine]
                for start in range(0, len(own), batch_size):
                    began = time.perf_counter()
                    answers = list(inquiry.answers(own[start : start + batch_size], generation, batch_size=batch_size))
                    made = sum(len(answer.times) for answer in answers)
                    seconds.append((time.perf_counter() - began) / made)
                    for answer in answers:
                        scores += score(answer, setting, metrics, targets=protocol.targets)
                        if setting == protocol.settings[-1] and len(shown) < SHOWN:
                            shown.append(answer)
                    update(start + len(answers), len(own))
        return cls(
            protocol, inquiry.provenance, how(inquiry, generation), gather_object(scores), shown, gather_object(seconds)
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The means with their intervals, and what they depend on, as plain values."""
        rows = [{k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in r.items()} for r in summarise(self.scores)]
        key = _key(self.protocol, self.model, self.generation)
        return {**key, "protocol": self.protocol.to_dict(), "rows": rows}

    def write(self, folder: Path) -> None:
        """Write ``subjects.csv`` and then ``summary.json``, whose presence means that both are complete."""
        (folder / SUMMARY).unlink(missing_ok=True)
        write_scores([score.to_row() for score in self.scores], folder / SCORES)
        write_json(self.summary, folder / SUMMARY)


def protocol_of(
    inquiry: Inquiry, metrics: dict[str, Metric], settings: Sequence[Setting], targets: Targets, setting_seed: int
) -> Protocol:
    """Return the protocol of an inquiry's questions."""
    return Protocol.describe(
        metrics=metrics,
        preprocess=inquiry.cohort.pipeline,
        data=inquiry.cohort.name,
        fingerprint=fingerprint([prepared.subject for prepared in inquiry.subjects]),
        part=inquiry.part,
        subjects=len(inquiry.subjects),
        settings=tuple(settings),
        targets=targets,
        setting_seed=setting_seed,
    )


def how(inquiry: Inquiry, generation: GenerationSettings) -> dict[str, Any]:
    """Return what is written of how a model generated; `steps` are the network evaluations per visit."""
    walker = generation.sampler or inquiry.model.sampler
    steps = walker.steps if generation.steps is None else generation.steps
    guidance = inquiry.model.settings.guidance if generation.guidance is None else generation.guidance
    return {"steps": len(walker.timesteps(steps)) - 1, "guidance": guidance, "seed": generation.seed}


def kept(folder: Path, inquiry: Inquiry, generation: GenerationSettings, protocol: Protocol) -> list[Score] | None:
    """Return the scores that `Assessment.write` left of this model, generation and protocol, or None."""
    if not (folder / SUMMARY).exists():
        return None
    wanted = _key(protocol, inquiry.provenance, how(inquiry, generation))
    found = read_json(folder / SUMMARY)
    if {key: found.get(key) for key in wanted} != wanted:
        return None
    with (folder / SCORES).open(newline="", encoding="utf-8") as file:
        return [Score.of_row(row) for row in csv.DictReader(file)]


def _key(protocol: Protocol, model: dict[str, Any], generation: dict[str, Any]) -> dict[str, Any]:
    """Return by what an assessment that was written is known."""
    return {"protocol_hash": protocol.hash, "model": model, "generation": generation}


def write_scores(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write scores as CSV, one generated visit a line."""
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
