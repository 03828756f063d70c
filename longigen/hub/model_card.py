"""Write the model card: the Markdown page and metadata of a published model."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from longigen.hub.citation import bibtex, markdown_links
from longigen.hub.metrics_file import MODEL, MetricsFile
from longigen.hub.model_config import CODEC, grid_text, is_codec, kinds_in
from longigen.hub.zoo import HUB
from longigen.registry.catalog import Catalog, Description
from longigen.utils.intervals import LEAST

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData


TASK = "image-to-image"
"""The Hub's task for a model that generates images of a subject from other images of it."""

UNSEEN = {
    True: "that were not used in training",
    False: "some of which were used in training",
    None: "of which it is not known whether they were used in training",
}
"""What is said of the scored subjects, by ``unseen`` in ``metrics.json``."""
MIN_SUBJECTS = 10
"""With fewer test subjects, the card warns that the intervals are unreliable."""

TAGS = ("medical-imaging", "longitudinal", "3d", "image-generation", "synthetic")


@dataclass(frozen=True)
class Card:
    """The model card of one model: a Markdown page with the Hub's metadata.

    Unknown facts are left out or called unknown. Components, recipe and data set are described by the installed
    ``registry.yaml`` files.

    Attributes:
        name: the model's name, the title of the page.
        full_name: the name of this version for commands that take a MODEL, such as ``hf-hub:org/name@v1``.
        config: the published configuration (`longigen.hub.publish`).
        parameters: number of trainable parameters.
        result: the results of its evaluation, or None.
        licence: licence of the weights. By default it is the ``model_licence`` of the data set's entry in its
            ``registry.yaml``; it is not stated if there is none, or if the weights started from another model.
        notes: Markdown that the publisher adds, with headings of the second level.
    """

    name: str
    full_name: str
    config: Mapping[str, Any]
    parameters: int
    result: "MetricsFile | None" = None
    licence: str | None = None
    notes: str = ""
    catalog: Catalog = field(default_factory=Catalog)

    @property
    def text(self) -> str:
        """The text of the page: metadata and Markdown."""
        return str(self.card)

    @property
    def card(self) -> "ModelCard":
        from huggingface_hub import ModelCard

        sections = (self._head, self._use, self._intended, self._model, self._data, self._training, self._metrics)
        notes = [self.notes.strip()] if self.notes.strip() else []
        parts = ["\n".join(section()) for section in sections]
        body = "\n\n".join([*parts, *notes, *("\n".join(section()) for section in (self._citation, self._licence))])
        return ModelCard(f"---\n{self.metadata.to_yaml()}\n---\n\n{body}\n")

    @property
    def metadata(self) -> "ModelCardData":
        from huggingface_hub import ModelCardData

        bases = sorted({name for source in self._starts.values() if (name := _repository(source))})
        return ModelCardData(
            license=self.chosen_licence.lower() if self.chosen_licence else None,
            library_name="longigen",
            pipeline_tag=TASK,
            tags=self.tags,
            base_model=bases or None,
            model_name=self.name if self.result else None,
            eval_results=list(self._eval_results()) or None,
        )

    @property
    def tags(self) -> list[str]:
        """The Hub's tags: general ones, those of the registry's entries, and the components' names."""
        entries = [self._entry(kind) for kind in (*kinds_in(self.config), "data")]
        words = [str(tag) for entry in entries if entry for tag in entry.content.get("tags", [])]
        return list(dict.fromkeys(["longigen", *TAGS, *words, *(self._name(kind) for kind in kinds_in(self.config))]))

    @property
    def chosen_licence(self) -> str | None:
        """The licence of the weights: the given one, or that of models trained on the data set; None if not stated."""
        entry = self._entry("data")
        default = entry.content.get("model_licence") if entry and not self._starts else None
        return self.licence or (str(default) if default else None)

    def _head(self) -> Iterator[str]:
        data, recipe = self.config.get("data", {}), self._recipe
        if is_codec(self.config):
            yield f"# {self.name}"
            yield ""
            yield (
                f"An encoding of 3D images for longigen models: codec `{self._name(CODEC)}`, "
                f"{count_text(self.parameters)} parameters, trained on `{data.get('name', 'unnamed data')}`"
                f"{' (simulated)' if self._simulated else ''}. Models are trained on its codes; it generates nothing."
            )
            errors = self.config.get("training", {}).get("errors", {})
            if "rmse" in errors:
                yield ""
                yield f"A round trip changes validation images by {errors['rmse']:.3g} (root mean square of -1 to 1)."
            return
        codec = f" on the codes of `{self._name(CODEC)}`," if CODEC in self.config else ""
        yield f"# {self.name}"
        yield ""
        yield (
            "Generates missing and future visits of a subject as 3D volumes, from the existing visits. "
            f"A longigen model: conditioner `{self._name('conditioner')}`, denoiser `{self._name('denoiser')}`, "
            f"sampler `{self._name('sampler')}`,{codec} {count_text(self.parameters)} parameters, trained on "
            f"`{data.get('name', 'unnamed data')}`{' (simulated)' if self._simulated else ''}."
        )
        if recipe is not None:
            yield ""
            yield f"Recipe `{recipe.name}`: {recipe.summary}."

    def _use(self) -> Iterator[str]:
        data = self.config.get("data", {})
        given = "" if self._needs_no_path else " --data PATH"
        yield "## Usage"
        yield ""
        others = sorted(
            {self._part(kind).get("distribution", "longigen") for kind in kinds_in(self.config)} - {"longigen"}
        )
        if others:
            yield f"It needs longigen and {', '.join(f'`{name}`' for name in others)}."
            yield ""
        if is_codec(self.config):
            train = f"longigen train --codec {self.full_name} --data PATH"
            yield from ("```", f"longigen pull {self.full_name}", train, "```")
            return
        command = f"longigen generate {self.full_name}{given} --out generated"
        yield from ("```", f"longigen pull {self.full_name}", command, "```")
        yield ""
        if self._needs_no_path:
            yield (
                f"This generates visits of subjects of `{data.get('name')}` that were not used in training; for your "
                "own data add `--data PATH`. In Python:"
            )
        else:
            yield "`PATH` is your data; `longigen doctor PATH` checks whether it can be used. In Python:"
        yield ""
        yield "```python"
        yield "from longigen import LongitudinalModel"
        yield ""
        yield f'model = LongitudinalModel.from_pretrained("{self.full_name}")'
        yield "```"

    def _intended(self) -> Iterator[str]:
        statistics, preprocess = self.config.get("statistics", {}), self.config.get("preprocess", {})
        unit = statistics.get("time_unit", "")
        yield "## Intended use and limits"
        yield ""
        yield "- For research on methods. It is not a medical device: do not base decisions about a person on it."
        yield (
            "- Every generated volume is synthetic. The header of each file and its JSON sidecar state this; keep them "
            "together."
        )
        if self._simulated and self._starts:
            yield "- It was fine-tuned on simulated data, starting from a pretrained model: see Training."
        elif self._simulated:
            yield "- It was trained on simulated images. Its performance on real scans is unknown."
        else:
            unless = ", unless the publisher's notes say so" if self.notes.strip() else ""
            yield (
                "- It was trained on images of people. Generative models can reproduce training images; whether this "
                f"one does was not tested{unless}."
            )
        intervals = self.config.get("data", {}).get("intervals")
        if intervals:
            low, high = (f"{interval:g}" for interval in intervals)
            span = low if low == high else f"{low} to {high}"
            yield f"- The training visits are {span} {_unit_text(unit)} apart; for other intervals it extrapolates."
        if preprocess.get("shape"):
            size = grid_text(preprocess)
            covers = f"covers {size} in voxels" if preprocess.get("extent") else f"has {size} voxels"
            by = "of each visit" if preprocess.get("normalise") == "visit" else "of the subject's first visit"
            yield (
                f"- Its grid {covers} of {self._voxels}, with axes in RAS order. Intensities are scaled by the range "
                f"{by}. The visits of a subject must be registered to each other."
            )
        if statistics.get("covariates"):
            yield f"- It uses the covariates {', '.join(statistics['covariates'])}; each may be missing."

    @property
    def _voxels(self) -> str:
        """The size of the grid's voxels, in words."""
        preprocess, recorded = self.config["preprocess"], self.config.get("data", {}).get("voxels")
        if preprocess.get("spacing"):
            return _size_text(preprocess["spacing"])
        if not recorded or preprocess.get("fit", "crop") == "resize":
            return "the subject's own voxel size"
        smallest, median, largest = recorded
        if all(preprocess["shape"]):
            return f"{_size_text(median)}, to which a subject of other voxels is resampled"
        trained = _size_text(smallest) + ("" if smallest == largest else f" to {_size_text(largest)}")
        return f"the subject's own voxel size, in training {trained}"

    def _model(self) -> Iterator[str]:
        yield "## Model"
        yield ""
        rows = []
        for kind in kinds_in(self.config):
            part, entry = self._part(kind), self._entry(kind)
            config = ", ".join(f"{key} {value_text(value)}" for key, value in part.get("config", {}).items())
            package = f"{part.get('distribution', '')} {part.get('version', '')}".strip()
            rows.append([f"{kind} `{self._name(kind)}`", entry.summary if entry else "", config, package])
        yield from markdown_table(["component", "description", "configuration", "package"], rows)
        settings = self.config.get("model", {})
        if settings:
            yield ""
            yield f"Model settings: {', '.join(f'{key} {value_text(value)}' for key, value in settings.items())}."

    def _data(self) -> Iterator[str]:
        data, entry = self.config.get("data", {}), self._entry("data")
        yield "## Training data"
        yield ""
        yield f"`{data.get('name', 'unnamed')}`" + (f": {entry.summary}." if entry else ".")
        yield ""
        if data.get("subjects"):
            parts = data.get("parts", {})
            divided = ", ".join(f"{parts[part]} {label}" for part, label in PART_LABELS.items() if parts.get(part))
            yield (
                f"- {data['subjects']} subjects" + (f" ({divided})" if divided else "") + f", {data['visits']} visits."
            )
        if data.get("parameters"):
            yield f"- Parameters: {', '.join(f'{k} {value_text(v)}' for k, v in data['parameters'].items())}."
        if entry:
            for label, key in (("Source", "source"), ("Licence", "licence")):
                if entry.content.get(key):
                    yield f"- {label}: {entry.content[key]}."

    def _training(self) -> Iterator[str]:
        training = self.config.get("training", {})
        yield "## Training"
        yield ""
        if self.command:
            yield from ("```", self.command, "```", "")
        if self.command and "..." in shlex.split(self.command)[-1]:
            yield from ("`...` replaces text that may contain names or paths, which is not published.", "")
        for source in dict.fromkeys(self._starts.values()):
            parts = " and ".join(part for part, start in self._starts.items() if start == source)
            repository = _repository(source)
            link = f"[{source}](https://hf.co/{repository})" if repository else f"`{source}`" if source else None
            yield f"Initialised from another model: {parts} of {link or 'a model that is not published'}."
            yield "This page does not describe the training data of that model."
        if teacher := training.get("teacher"):
            name, steps = teacher.get("name"), self.config["sampler"]["config"].get("steps")
            yield (
                f"Distilled from {f'`{name}`' if name else 'a model that is not published'} (SHA-256 of its weights "
                f"{teacher.get('weights_sha256', 'unknown')}) into {steps} network evaluations."
            )
        if "steps" not in training:
            yield "The details of training were not recorded."
            return
        threads = f", {training['threads']} thread{'s' * (training['threads'] > 1)}" if training.get("threads") else ""
        duration = f" in {_duration_text(training['seconds'])}" if "seconds" in training else ""
        number = f"{training['processes']} × " if training.get("processes", 1) > 1 else ""
        yield (
            f"{training['steps']:,} steps{duration} on {number}{training.get('device', 'unknown hardware')}{threads}, "
            f"with longigen {self.config.get('longigen_version', '')}. The weights are a moving average over the steps."
        )

    @property
    def command(self) -> str | None:
        """The training command, with `...` for values that are not published; None if it was not recorded."""
        training = self.config.get("training", {})
        if not training.get("recipe"):
            return None
        words = ["longigen", "train", "--recipe", training["recipe"]]
        for section, name in training.get("components", {}).items():
            words += [f"--{section}", name]
        name = str(self.config.get("data", {}).get("name"))
        if not self._needs_no_path:
            words += ["--data", f"{name}:PATH"]
        elif training.get("data"):
            words += ["--data", name]
        if training.get("init"):
            words += ["--init", next(iter(self._starts.values()), None) or "MODEL"]
        for part, source in self._starts.items() if not training.get("init") else ():
            words += [f"--init-{part}", source or "MODEL"]
        has_option = {"data.path", *(f"training.init_{part}" for part in self._starts)}
        for key, value in training.get("changes", {}).items():
            words += ["--set", f"{key}={_set_value(value)}"]
        for key in training.get("withheld", []):
            words += [] if key in has_option else ["--set", f"{key}=..."]
        return shlex.join(words)

    def _metrics(self) -> Iterator[str]:
        yield "## Metrics"
        yield ""
        if is_codec(self.config):
            yield "`longigen evaluate` shows the round trip of the codec as a column beside a model's scores."
            return
        if self.result is None:
            yield f"It was not evaluated before publication; `longigen evaluate {self.full_name}` does so."
            return
        content = self.result.content
        data, protocol, generation = (content[key] for key in ("data", "protocol", "generation"))
        unseen = UNSEEN[data["unseen"]]
        simulated = " (simulated)" if data["simulated"] else ""
        steps = f"{generation['steps']} network evaluation{'s' * (generation['steps'] > 1)} per visit"
        yield (
            f"`{data['name']}`{simulated}: {data['subjects']} subjects {unseen}; target: "
            f"{'the last visit' if protocol['targets'] == 'last' else 'every visit'}; {steps}; scored "
            f"{self.result.place}. Protocol "
            f"`{content['protocol_hash']}` (`metrics.json` defines the metrics): do not compare these values with "
            "those of another protocol. copy-last repeats the last given visit"
            f"{', blurred by a Gaussian of so many voxels where it says so' if self.result.copies[1:] else ''}."
        )
        yield ""
        rows, last = [], ""
        for row, name, _ in self.result.gains():
            label = row.label
            cells = [
                *(value.cell() for value in self.result.copied(row.setting, name).values()),
                row.values[name].cell(),
                row.gains[name].cell(signed=True),
            ]
            rows.append([label if label != last else "", f"{name} {self.result.arrows[name]}".strip(), *cells])
            last = label
        yield from markdown_table(["setting", "metric", *self.result.copies, "model", "gain"], rows)
        yield ""
        counted = f"n = {data['subjects']}"
        yield f"Means over subjects, {counted} [95 % interval]; gain: model minus copy-last, paired by subject."
        yield ""
        yield from (f"- {verdict}: {', '.join(names)}." for verdict, names in self.result.verdict().items())
        if LEAST <= data["subjects"] < MIN_SUBJECTS:
            yield f"- The intervals are unreliable, because there are only {data['subjects']} subjects."

    def _eval_results(self) -> Iterator["EvalResult"]:
        from huggingface_hub import EvalResult

        if self.result is None:
            return
        content = self.result.content
        data = content["data"]
        for row, name, _ in self.result.gains():
            if row.method == MODEL:
                yield EvalResult(
                    task_type=TASK,
                    dataset_type=data["name"],
                    dataset_name=f"{data['name']} (simulated)" if data["simulated"] else data["name"],
                    dataset_config=row.setting,
                    dataset_split=content["protocol"]["part"],
                    metric_type=name,
                    metric_value=round(row.values[name].mean, 6),
                    metric_args={
                        "protocol": content["protocol_hash"],
                        "space": content["protocol"].get("space", "model"),
                        **{
                            copy: round(value.mean, 6)
                            for copy, value in self.result.copied(row.setting, name).items()
                            if value.subjects
                        },
                    },
                )

    def _citation(self) -> Iterator[str]:
        recipe = self._recipe
        entries = [*([recipe] if recipe else []), *(self._entry(kind) for kind in kinds_in(self.config))]
        papers = list(dict.fromkeys(str(e.content["paper"]) for e in entries if e and e.content.get("paper")))
        yield "## Papers to cite"
        yield ""
        if not papers:
            yield "The registry has no papers for these components."
            return
        yield from (f"- {markdown_links(paper)}" for paper in papers)
        lines = list(bibtex(papers))
        if lines:
            yield from ("", "```bibtex", *lines, "```")

    def _licence(self) -> Iterator[str]:
        yield "## Licence"
        yield ""
        if self.chosen_licence:
            yield f"Weights: {self.chosen_licence}. Code and data have their own licences."
        else:
            yield "The licence of the weights is not stated. Ask the publisher before using or distributing them."

    @property
    def _starts(self) -> Mapping[str, str | None]:
        """The public name of the model from which each part was initialised; None if that is not published."""
        return self.config.get("training", {}).get("initialised", {})

    @property
    def _simulated(self) -> bool:
        return bool(self.config.get("data", {}).get("simulated"))

    @cached_property
    def _needs_no_path(self) -> bool:
        """Whether the data set needs no path, so that everyone who installs its package has it."""
        from longigen.components.base import parameters
        from longigen.registry.registry import registry

        name = self.config.get("data", {}).get("name")
        if name not in registry.entries("dataset"):
            return False
        return not any(parameter.required for parameter in parameters(registry.load("dataset", name)).values())

    @property
    def _recipe(self) -> Description | None:
        name = self.config.get("training", {}).get("recipe")
        return self.catalog.describe("recipes", name) if name else None

    def _part(self, kind: str) -> Mapping[str, Any]:
        return self.config.get(kind, {})

    def _name(self, kind: str) -> str:
        return str(self._part(kind).get("name", "unknown"))

    def _entry(self, kind: str) -> Description | None:
        section = "datasets" if kind == "data" else f"{kind}s"
        return self.catalog.describe(section, self._name(kind))


PART_LABELS = {"train": "for training", "validation": "for validation", "test": "for testing"}


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


def value_text(value: Any) -> str:
    """Return a parameter's value as text for a reader."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(value_text, value))})" if value else "none"
    if value is None or isinstance(value, bool):
        return "yes" if value else "none" if value is None else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _set_value(value: Any) -> str:
    """Return a parameter's value in the syntax of ``--set``."""
    if isinstance(value, list | tuple):
        return ",".join(map(_set_value, value)) or "[]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _repository(source: str | None) -> str | None:
    """Return the repository in the name of a model on the Hub; None for another name."""
    name = (source or "").removeprefix(HUB).partition("@")[0]
    return name if "/" in name else None


def count_text(number: int) -> str:
    """Return a number of parameters as text."""
    return f"{number / 1e6:.2f} million" if number >= 10_000 else f"{number:,}"


def _duration_text(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _size_text(size: Sequence[float]) -> str:
    return f"{' × '.join(f'{step:g}' for step in size)} mm"


def _unit_text(unit: str) -> str:
    return "of a cycle" if unit == "cycle" else unit
