"""Write the card of a published segmenter: the Markdown page and metadata of its repository."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longigen.hub.model_card import count_text, markdown_table, value_text
from longigen.registry.catalog import Catalog, Description

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

TASK = "image-segmentation"
"""The Hub's task for a model that marks regions in images."""
TAGS = ("longigen", "medical-imaging", "3d", "segmentation")


@dataclass(frozen=True)
class SegmenterCard:
    """The card of one segmenter: a Markdown page with the Hub's metadata. Unknown facts are called unknown.

    Attributes:
        name: the segmenter's name, the title of the page.
        full_name: the name of this version for ``--segmenter``, such as ``hf-hub:org/name@v1``.
        config: the published ``segmenter.json`` (`longigen.hub.publish`).
        parameters: number of parameters.
        licence: licence of the weights; by default the ``model_licence`` of the data set's entry in its
            ``registry.yaml``, or not stated.
        notes: Markdown that the publisher adds, with headings of the second level.
    """

    name: str
    full_name: str
    config: Mapping[str, Any]
    parameters: int
    licence: str | None = None
    notes: str = ""
    catalog: Catalog = field(default_factory=Catalog)

    @property
    def text(self) -> str:
        """The text of the page: metadata and Markdown."""
        sections = (self._head, self._use, self._limits, self._regions, self._training)
        notes = [self.notes.strip()] if self.notes.strip() else []
        body = ["\n".join(section()) for section in sections]
        return f"---\n{self.metadata.to_yaml()}\n---\n\n" + "\n\n".join([*body, *notes, *self._licence()]) + "\n"

    @property
    def metadata(self) -> "ModelCardData":
        from huggingface_hub import ModelCardData

        licence = self.chosen_licence
        return ModelCardData(
            license=licence.lower() if licence else None, library_name="longigen", pipeline_tag=TASK, tags=[*TAGS]
        )

    @property
    def chosen_licence(self) -> str | None:
        """The licence of the weights: the given one, or that of models trained on the data set; None if not stated."""
        default = self._data.content.get("model_licence") if self._data else None
        return self.licence or (str(default) if default else None)

    @property
    def _trained(self) -> Mapping[str, Any]:
        return self.config.get("training", {})

    @property
    def _data(self) -> Description | None:
        name = self._trained.get("data")
        return self.catalog.describe("datasets", str(name)) if name else None

    @property
    def _data_text(self) -> str:
        simulated = " (simulated)" if self._trained.get("simulated") else ""
        return f"`{self._trained.get('data', 'unknown data')}`{simulated}"

    def _head(self) -> Iterator[str]:
        regions = ", ".join(self.config["regions"])
        yield f"# {self.name}"
        yield ""
        yield (
            f"Marks regions in 3D images: {regions}. A longigen segmenter, `{self.config['segmenter']['name']}` with "
            f"{count_text(self.parameters)} parameters, trained on {self._data_text}. It measures these regions in "
            "visits that a longigen model generates."
        )

    def _use(self) -> Iterator[str]:
        component = self.config["segmenter"]
        yield "## Usage"
        yield ""
        if component.get("distribution", "longigen") != "longigen":
            yield f"It needs longigen and `{component['distribution']}`."
            yield ""
        evaluate = f"longigen evaluate MODEL --data PATH --segmenter {self.full_name}"
        yield from ("```", f"longigen pull {self.full_name}", evaluate, "```")

    def _limits(self) -> Iterator[str]:
        spacing = " × ".join(f"{step:.4g}" for step in self.config["spacing"])
        yield "## Intended use and limits"
        yield ""
        yield "- For research on methods. It is not a medical device: do not base decisions about a person on it."
        if self._trained.get("simulated"):
            yield "- It was trained on simulated images. Its performance on real scans is unknown."
        yield f"- Images with other voxels than {spacing} mm are resampled to these, label maps by nearest neighbour."

    def _regions(self) -> Iterator[str]:
        dice = self._trained.get("dice", {})
        yield "## Regions"
        yield ""
        rows = [
            [str(label), name, "unknown" if dice.get(name) is None else f"{dice[name]:.3f}"]
            for label, name in enumerate(self.config["regions"], start=1)
        ]
        yield from markdown_table(["label", "region", "Dice in validation"], rows)
        yield ""
        yield "The Dice is the mean over the labelled visits of the validation subjects; it chose the weights, too."

    def _training(self) -> Iterator[str]:
        component = self.config["segmenter"]
        yield "## Training"
        yield ""
        yield f"Data: {self._data_text}" + (f", {self._data.summary}." if self._data else ".")
        for label, values in (
            ("Component", component.get("config", {})),
            ("Settings", self._trained.get("settings", {})),
            ("Split", self._trained.get("split", {})),
        ):
            if values:
                yield f"{label}: {', '.join(f'{key} {value_text(value)}' for key, value in values.items())}."

    def _licence(self) -> Iterator[str]:
        yield "## Licence"
        if self.chosen_licence:
            yield f"Weights: {self.chosen_licence}. Code and data have their own licences."
        else:
            yield "The licence of the weights is not stated. Ask the publisher before using or distributing them."
