"""An assessment: what a model answered, scored by one protocol."""

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from longigen.component import checked, parameters
from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation import Protocol, Score, score, summarise
from longigen.files import atomic, read_json, write_json
from longigen.generation import Answer, GenerationSettings
from longigen.inquiry import Inquiry
from longigen.metric import Metric
from longigen.recipe import parse_change
from longigen.registry import registry
from longigen.setting import Setting, Targets, last_only
from longigen.split import fingerprint

SUMMARY, SCORES, DESCRIBED = "summary.json", "subjects.csv", "described.safetensors"
SHOWN = 4

Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Called with a name; what it gives is called with (done, total) while that lasts."""


def silent(name: str) -> AbstractContextManager[Callable[..., None]]:
    """Show no progress."""
    return nullcontext(lambda *_: None)


def load_metrics(chosen: Sequence[str] | None, say: Callable[[str], None], samples: int = 1) -> dict[str, Metric]:
    """Make metrics by name, by default all installed ones that belong to the default table.

    Args:
        chosen: names, or ``name:key=value,key=value`` with parameters.
        say: told of one that was not asked for, does not load and is left out.
        samples: of each visit; metrics of an ensemble need two.

    Raises:
        LongigenError: if one that was asked for is unknown, does not load or scores an ensemble where there is none.
    """
    if chosen:
        return {text.partition(":")[0]: _metric(text, samples) for text in chosen}
    made = {}
    for name in registry.entries("metric"):
        try:
            cls = registry.load("metric", name)
        except LongigenError as error:
            say(f"Left out: {error}")
            continue
        if cls.default and (samples > 1 or not cls.ensemble):
            made[name] = cls()
    return made


def _metric(text: str, samples: int) -> Metric:
    name, _, rest = text.partition(":")
    known = registry.entries("metric")
    if name not in known:
        raise LongigenError(f"There is no metric '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known)}.")
    cls = registry.load("metric", name)
    if cls.ensemble and samples < 2:
        raise LongigenError(
            f"The metric '{name}' scores several samples of each visit, and there is one; give --samples 2 or more "
            "to 'longigen evaluate', or leave it out."
        )
    allowed = parameters(cls)
    changes = [parse_change(change, {"metric": allowed}) for change in rest.split(",") if change]
    return cls(**checked(allowed, {key: value for _, key, value in changes}, f"The metric '{name}'"))


@dataclass(frozen=True)
class Assessment:
    """What a model answered, scored by one protocol.

    Attributes:
        protocol: what the numbers depend on beside the model.
        model: the model's provenance.
        generation: how it generated: network evaluations, guidance, seed.
        metrics: by name.
        scores: of every generated visit, by the model and by copy-last.
        shown: a few answers of the last setting, for a picture.
        seconds: per batch, the wall clock of generation over the visits that were generated in it.
    """

    protocol: Protocol
    model: dict[str, Any]
    generation: dict[str, Any]
    metrics: dict[str, Metric]
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
            generation: how to generate; its samples are numbered from 0.
            protocol: as `protocol_of`. The samples of a batch are in memory together.
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
                    batch, drawn = own[start : start + batch_size], []
                    for sample in range(protocol.samples):
                        began = time.perf_counter()
                        numbered = replace(generation, sample=sample)
                        drawn.append(list(inquiry.answers(batch, numbered, batch_size=batch_size)))
                        made = sum(len(answer.times) for answer in drawn[-1])
                        seconds.append((time.perf_counter() - began) / made)
                        update(start * protocol.samples + (sample + 1) * len(batch), len(own) * protocol.samples)
                    for samples in zip(*drawn, strict=True):
                        scores += score(samples, setting, metrics, targets=protocol.targets)
                        if setting == protocol.settings[-1] and len(shown) < SHOWN:
                            shown.append(samples[0])
        return cls(
            protocol,
            inquiry.provenance,
            how(inquiry, generation),
            metrics,
            gather_object(scores),
            shown,
            gather_object(seconds),
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The means with their intervals, and what they depend on, as plain values."""
        made = summarise(self.scores, self.metrics)
        rows = [{k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in row.items()} for row in made]
        key = _key(self.protocol, self.model, self.generation)
        return {**key, "protocol": self.protocol.to_dict(), "rows": rows}

    def write(self, folder: Path) -> None:
        """Write ``subjects.csv`` and then ``summary.json``, whose presence means that both are complete.

        What the metrics of a set need of each line goes to ``described.safetensors``, where there are such metrics.
        """
        from safetensors.torch import save_file

        for name in (SUMMARY, DESCRIBED):
            (folder / name).unlink(missing_ok=True)
        write_scores([score.to_row() for score in self.scores], folder / SCORES)
        described = {f"{line}/{name}": x for line, s in enumerate(self.scores) for name, x in s.described.items()}
        if described:
            with atomic(folder / DESCRIBED) as part:
                save_file(described, part)
        write_json(self.summary, folder / SUMMARY)


def protocol_of(
    inquiry: Inquiry,
    metrics: dict[str, Metric],
    settings: Sequence[Setting],
    targets: Targets,
    setting_seed: int,
    samples: int = 1,
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
        samples=samples,
    )


def how(inquiry: Inquiry, generation: GenerationSettings) -> dict[str, Any]:
    """Return what is written of how a model generated; `steps` are the network evaluations per visit."""
    walker = generation.sampler or inquiry.model.sampler
    steps = walker.steps if generation.steps is None else generation.steps
    guidance = inquiry.model.settings.guidance if generation.guidance is None else generation.guidance
    return {"steps": steps, "guidance": guidance, "seed": generation.seed}


def kept(folder: Path, inquiry: Inquiry, generation: GenerationSettings, protocol: Protocol) -> list[Score] | None:
    """Return the scores that `Assessment.write` left of this model, generation and protocol, or None."""
    if not (folder / SUMMARY).exists():
        return None
    wanted = _key(protocol, inquiry.provenance, how(inquiry, generation))
    found = read_json(folder / SUMMARY)
    if {key: found.get(key) for key in wanted} != wanted:
        return None
    described = _described(folder / DESCRIBED)
    with (folder / SCORES).open(newline="", encoding="utf-8") as file:
        return [Score.of_row(row, described.get(line)) for line, row in enumerate(csv.DictReader(file))]


def _described(path: Path) -> Mapping[int, dict[str, Tensor]]:
    """Return what metrics of a set kept, by line of the scores and by metric."""
    from safetensors.torch import load_file

    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in (load_file(path) if path.exists() else {}).items():
        line, _, name = key.partition("/")
        found.setdefault(int(line), {})[name] = tensor
    return found


def _key(protocol: Protocol, model: dict[str, Any], generation: dict[str, Any]) -> dict[str, Any]:
    """Return by what an assessment that was written is known."""
    return {"protocol_hash": protocol.hash, "model": model, "generation": generation}


def write_scores(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write scores as CSV, one generated visit a line."""
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
