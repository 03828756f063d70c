"""The model card: what is known of a published model, for those who find it on the Hub."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from longigen.hub.citation import bibtex, linked
from longigen.hub.metrics_file import MODEL, MetricsFile
from longigen.hub.model_config import COMPONENTS
from longigen.hub.zoo import HUB
from longigen.registry.catalog import Catalog, Description

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData


TASK = "image-to-image"
"""The Hub's task that fits: images of a subject in, an image of the same subject out."""

FEW = 10
"""Subjects below which a card warns of its own intervals."""

TAGS = ("medical-imaging", "longitudinal", "3d", "image-generation", "synthetic")


@dataclass(frozen=True)
class Card:
    """What is known of a model, as a page with metadata by which the Hub finds it.

    Nothing is made up: what is not known is left out, or said to be unknown. What is said of components, recipe and
    data set are the words of the installed ``registry.yaml`` files.

    Attributes:
        name: of the model, as its title.
        called: by which everything that takes a MODEL finds exactly this one, as ``hf-hub:org/name@v1``.
        config: of the model, as it is published (`longigen.hub.publish`).
        parameters: how many numbers were learnt.
        result: what its evaluation found, if it was evaluated.
        licence: of the weights; by default what the ``registry.yaml`` says of models trained on the data set
            (``model_licence``), and not stated where it says nothing or the weights started from another model's.
    """

    name: str
    called: str
    config: Mapping[str, Any]
    parameters: int
    result: "MetricsFile | None" = None
    licence: str | None = None
    catalog: Catalog = field(default_factory=Catalog)

    @property
    def text(self) -> str:
        """The page: metadata and Markdown."""
        return str(self.card)

    @property
    def card(self) -> "ModelCard":
        from huggingface_hub import ModelCard

        sections = (self._head, self._use, self._intended, self._model, self._data, self._training, self._metrics)
        body = "\n\n".join("\n".join(section()) for section in (*sections, self._citation, self._licence))
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
        """What the Hub's search finds it by: the field's words, those of the registry, the components' names."""
        described = [self._described(kind) for kind in (*COMPONENTS, "data")]
        words = [str(tag) for each in described if each for tag in each.content.get("tags", [])]
        return list(dict.fromkeys(["longigen", *TAGS, *words, *(self._name(kind) for kind in COMPONENTS)]))

    @property
    def chosen_licence(self) -> str | None:
        described = self._described("data")
        said = described.content.get("model_licence") if described and not self._starts else None
        return self.licence or (str(said) if said else None)

    def _head(self) -> Iterator[str]:
        data, recipe = self.config.get("data", {}), self._recipe
        yield f"# {self.name}"
        yield ""
        yield (
            "Generates the missing and the future visits of a subject as 3D volumes, from the visits that exist. "
            f"A model of longigen: conditioner `{self._name('conditioner')}`, denoiser `{self._name('denoiser')}`, "
            f"sampler `{self._name('sampler')}`, {_count(self.parameters)} parameters, trained on "
            f"`{data.get('name', 'data that are not named')}`{', which is simulated' if self._simulated else ''}."
        )
        if recipe is not None:
            yield ""
            yield f"Recipe `{recipe.name}`: {recipe.summary}."

    def _use(self) -> Iterator[str]:
        data = self.config.get("data", {})
        given = "" if self._needs_no_path else " --data PATH"
        yield "## How to use it"
        yield ""
        others = sorted({self._part(kind).get("distribution", "longigen") for kind in COMPONENTS} - {"longigen"})
        if others:
            yield f"It needs longigen and {', '.join(f'`{name}`' for name in others)}."
            yield ""
        yield from ("```", f"longigen pull {self.called}", f"longigen generate {self.called}{given} --out made", "```")
        yield ""
        if self._needs_no_path:
            made = f"This makes visits of subjects of `{data.get('name')}` that training never saw"
            yield f"{made}; for your own add `--data PATH`. In Python:"
        else:
            yield "`PATH` is your own data: `longigen doctor PATH` says whether they can be used. In Python:"
        yield ""
        yield "```python"
        yield "from longigen import LongitudinalModel"
        yield ""
        yield f'model = LongitudinalModel.from_pretrained("{self.called}")'
        yield "```"

    def _intended(self) -> Iterator[str]:
        statistics, preprocess = self.config.get("statistics", {}), self.config.get("preprocess", {})
        unit = statistics.get("time_unit", "")
        yield "## Intended use and limits"
        yield ""
        yield "- For research on methods. It is not a medical device: no decision about a person may rest on it."
        yield (
            "- Every volume it makes is synthetic. Files say so in their header and in the JSON beside them; keep that "
            "with them."
        )
        if self._simulated and self._starts:
            yield "- It was fine-tuned on simulated data. What it started from was trained before: see Training."
        elif self._simulated:
            yield (
                "- It was trained on simulated data: no person, no scanner. What it does with real scans is not known."
            )
        else:
            yield (
                "- It was trained on images of people. Models that generate can repeat what they were trained on; "
                "whether this one does was not tested."
            )
        intervals = self.config.get("data", {}).get("intervals")
        if intervals:
            yield (
                f"- The visits it was trained on are {intervals[0]:g} to {intervals[1]:g} {_times(unit)} apart. Beyond "
                "that it extrapolates."
            )
        if preprocess.get("shape"):
            spacing = preprocess.get("spacing")
            size = " × ".join(map(str, preprocess["shape"]))
            voxels = (
                f" of {' × '.join(f'{mm:g}' for mm in spacing)} mm" if spacing else ", of whatever size the data's are"
            )
            by = "by itself" if preprocess.get("normalise") == "visit" else "by the subject's first visit"
            yield (
                f"- It sees {size} voxels{voxels}, axes to RAS, each visit's intensities scaled {by}. Visits of a "
                "subject must be registered to each other."
            )
        if statistics.get("covariates"):
            yield f"- It takes the covariates {', '.join(statistics['covariates'])}; each may be missing."

    def _model(self) -> Iterator[str]:
        yield "## Model"
        yield ""
        rows = []
        for kind in COMPONENTS:
            part, described = self._part(kind), self._described(kind)
            chosen = ", ".join(f"{key} {_value(value)}" for key, value in part.get("config", {}).items())
            provider = f"{part.get('distribution', '')} {part.get('version', '')}".strip()
            rows.append([f"{kind} `{self._name(kind)}`", described.summary if described else "", chosen, provider])
        yield from _markdown(["part", "what it is", "configuration", "from"], rows)
        settings = self.config.get("model", {})
        if settings:
            yield ""
            yield f"Settings of the whole: {', '.join(f'{key} {_value(value)}' for key, value in settings.items())}."

    def _data(self) -> Iterator[str]:
        data, described = self.config.get("data", {}), self._described("data")
        yield "## Training data"
        yield ""
        yield f"`{data.get('name', 'not named')}`" + (f": {described.summary}." if described else ".")
        yield ""
        if data.get("subjects"):
            parts = data.get("parts", {})
            divided = ", ".join(f"{parts[part]} {verb}" for part, verb in PARTS.items() if parts.get(part))
            yield (
                f"- {data['subjects']} subjects" + (f" ({divided})" if divided else "") + f", {data['visits']} visits."
            )
        if data.get("parameters"):
            yield f"- Parameters: {', '.join(f'{k} {_value(v)}' for k, v in data['parameters'].items())}."
        if described:
            for label, key in (("Source", "source"), ("Licence", "licence")):
                if described.content.get(key):
                    yield f"- {label}: {described.content[key]}."

    def _training(self) -> Iterator[str]:
        told = self.config.get("training", {})
        yield "## Training"
        yield ""
        if self.command:
            yield from ("```", self.command, "```", "")
        if self.command and "..." in shlex.split(self.command)[-1]:
            yield from ("What stands as `...` is text that may hold names or paths, and is not published.", "")
        for source in dict.fromkeys(self._starts.values()):
            parts = " and ".join(part for part, of in self._starts.items() if of == source)
            repository = _repository(source)
            link = f"[{source}](https://hf.co/{repository})" if repository else f"`{source}`" if source else None
            yield f"Started from another model: its {parts}, of {link or 'weights that are not published'}."
            yield "What that was trained on is not told here."
        if "steps" not in told:
            yield "How it was trained was not recorded."
            return
        threads = f", {told['threads']} thread{'s' * (told['threads'] > 1)}" if told.get("threads") else ""
        took = f" in {_duration(told['seconds'])}" if "seconds" in told else ""
        number = f"{told['processes']} × " if told.get("processes", 1) > 1 else ""
        yield (
            f"{told['steps']:,} steps{took} on {number}{told.get('device', 'hardware not told')}{threads}, with "
            f"longigen {self.config.get('longigen_version', '')}. The weights are the moving average over the steps."
        )

    @property
    def command(self) -> str | None:
        """The command that trains it again, `...` for what is not told; None where it was not recorded."""
        told = self.config.get("training", {})
        if not told.get("recipe"):
            return None
        words = ["longigen", "train", "--recipe", told["recipe"]]
        for section, name in told.get("components", {}).items():
            words += [f"--{section}", name]
        name = str(self.config.get("data", {}).get("name"))
        if not self._needs_no_path:
            words += ["--data", f"{name}:PATH"]
        elif told.get("data"):
            words += ["--data", name]
        if told.get("init"):
            words += ["--init", next(iter(self._starts.values()), None) or "MODEL"]
        for part, source in self._starts.items() if not told.get("init") else ():
            words += [f"--init-{part}", source or "MODEL"]
        said = {"data.path", *(f"training.init_{part}" for part in self._starts)}
        for key, value in told.get("changes", {}).items():
            words += ["--set", f"{key}={_yaml(value)}"]
        for key in told.get("withheld", []):
            words += [] if key in said else ["--set", f"{key}=..."]
        return shlex.join(words)

    def _metrics(self) -> Iterator[str]:
        yield "## Metrics"
        yield ""
        if self.result is None:
            yield f"It was not evaluated before it was published. `longigen evaluate {self.called}` does."
            return
        content = self.result.content
        data, protocol, how = (content[key] for key in ("data", "protocol", "generation"))
        seen = "that training never saw" if data["unseen"] else "some of which training saw"
        simulated = ", simulated" if data["simulated"] else ""
        steps = f"{how['steps']} network evaluation{'s' * (how['steps'] > 1)} a visit"
        yield (
            f"`{data['name']}`{simulated}: {data['subjects']} subjects {seen}; target: "
            f"{'the last visit' if protocol['targets'] == 'last' else 'every visit'}; {steps}. Protocol "
            f"`{content['protocol_hash']}` (`metrics.json`, where each metric is defined): numbers of another "
            "protocol must not stand beside these. copy-last repeats the last visit that was given."
        )
        yield ""
        rows, last = [], ""
        for row, name, copied in self.result.gains():
            label = row.label
            cells = [copied.cell(), row.values[name].cell(), row.gains[name].cell(signed=True)]
            rows.append([label if label != last else "", f"{name} {self.result.arrows[name]}".strip(), *cells])
            last = label
        yield from _markdown(["setting", "metric", "copy-last", "model", "gain"], rows)
        yield ""
        yield "Means over subjects [95 % interval]; gain: model minus copy-last, subject by subject."
        yield ""
        yield from (f"- {word}: {', '.join(names)}." for word, names in self.result.verdict().items())
        if data["subjects"] < FEW:
            yield f"- {data['subjects']} subjects are few: intervals of so few say little."

    def _eval_results(self) -> Iterator["EvalResult"]:
        from huggingface_hub import EvalResult

        if self.result is None:
            return
        content = self.result.content
        data = content["data"]
        for row, name, copied in self.result.gains():
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
                        **({"copy-last": round(copied.mean, 6)} if copied.subjects else {}),
                    },
                )

    def _citation(self) -> Iterator[str]:
        recipe = self._recipe
        described = [*([recipe] if recipe else []), *(self._described(kind) for kind in COMPONENTS)]
        papers = list(dict.fromkeys(str(d.content["paper"]) for d in described if d and d.content.get("paper")))
        yield "## Papers to cite"
        yield ""
        if not papers:
            yield "The registry names none for these components."
            return
        yield from (f"- {linked(paper)}" for paper in papers)
        entries = list(bibtex(papers))
        if entries:
            yield from ("", "```bibtex", *entries, "```")

    def _licence(self) -> Iterator[str]:
        yield "## Licence"
        yield ""
        if self.chosen_licence:
            yield f"The weights: {self.chosen_licence}. Code and data have their own, as said above."
        else:
            yield "Of the weights it is not stated. Ask who published them before you use them or pass them on."

    @property
    def _starts(self) -> Mapping[str, str | None]:
        return self.config.get("training", {}).get("initialised", {})

    @property
    def _simulated(self) -> bool:
        return bool(self.config.get("data", {}).get("simulated"))

    @cached_property
    def _needs_no_path(self) -> bool:
        """Whether the data set is at hand for everyone who has its package."""
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

    def _described(self, kind: str) -> Description | None:
        section = "datasets" if kind == "data" else f"{kind}s"
        return self.catalog.describe(section, self._name(kind))


PARTS = {"train": "to train", "validation": "to validate", "test": "kept for testing"}


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


def _value(value: Any) -> str:
    """Return a value in words."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})" if value else "none"
    if value is None or isinstance(value, bool):
        return "yes" if value else "none" if value is None else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _yaml(value: Any) -> str:
    """Return a value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_yaml, value)) or "[]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _repository(source: str | None) -> str | None:
    """Return the repository of the Hub in what a model is called; None where it is no repository."""
    name = (source or "").removeprefix(HUB).partition("@")[0]
    return name if "/" in name else None


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} million" if number >= 10_000 else f"{number:,}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _times(unit: str) -> str:
    return "of a cycle" if unit == "cycle" else unit
