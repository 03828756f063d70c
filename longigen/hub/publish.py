"""Publish a model or a segmenter on the Hugging Face Hub, or export a model for a package, without private values."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from longigen.components.base import Parameter, parameters
from longigen.components.privacy import accepts_path, is_path, public_values
from longigen.errors import LongigenError
from longigen.hub.description import description_of, read_description
from longigen.hub.manifest import (
    CARD,
    CONFIG,
    DESCRIPTIONS,
    FILES,
    METRICS,
    SEGMENTER,
    WEIGHTS,
    Manifest,
    build_manifest,
    manifest_to_dict,
)
from longigen.hub.model_config import is_codec, kinds_in
from longigen.hub.repository import HubRepository, hub_errors
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import HUB
from longigen.registry.registry import registry
from longigen.utils.files import atomic, write_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from longigen.hub.metrics_file import MetricsFile
    from longigen.hub.model_card import Card
    from longigen.hub.segmenter_card import SegmenterCard

HEADER = ("schema_version", "library_name", "longigen_version")
PUBLISHED_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": (),
    "statistics": (),
    "preprocess": (),
    "data": (
        "name",
        "simulated",
        "subjects",
        "visits",
        "fingerprint",
        "split",
        "parts",
        "intervals",
        "voxels",
        "outside",
    ),
    "training": (
        "recipe",
        "init",
        "components",
        "data",
        "withheld",
        "steps",
        "seconds",
        "device",
        "threads",
        "processes",
        "settings",
        "errors",
    ),
}
"""The published keys of each section of a configuration; () means all. `published_config` adds some more."""
PUBLISHED_TRAINING = ("data", "simulated", "fingerprint", "split", "settings", "dice")
"""The published keys of a segmenter's training."""


class LoadedModel(Protocol):
    """The attributes of a loaded model or segmenter that publishing uses."""

    @property
    def parameter_count(self) -> int: ...


Loader = Callable[[Path], LoadedModel]
"""Loads the model in a folder, strictly. It is passed in, since `longigen.models` imports this package."""


@dataclass(frozen=True)
class Release:
    """A published version of a model.

    Attributes:
        repository: ``org/name``.
        address: URL of the repository's page.
        commit: hash of the commit.
        commit_url: URL of the commit's page.
        tag: the version's tag.
        private: whether the repository is private.
    """

    repository: str
    address: str
    commit: str
    commit_url: str
    tag: str
    private: bool

    @property
    def name(self) -> str:
        """The name of this version for commands and functions that take a MODEL."""
        return f"{HUB}{self.repository}@{self.tag}"


@dataclass(frozen=True)
class Publication:
    """The files of a model or a segmenter in a temporary folder, ready for upload, and their destination.

    - ``config.json`` or ``segmenter.json`` without private values; it was loaded once, as a check;
    - ``model.safetensors``, unchanged;
    - ``README.md``, the model card (`longigen.hub.model_card`);
    - ``metrics.json``, if the weights of a model were evaluated.

    `covariates` and `regions` are names that the publisher's data gave.
    """

    folder: Path
    destination: HubRepository
    tag: str
    private: bool
    licence: str | None
    covariates: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    @property
    def files(self) -> Manifest:
        """The files that are uploaded, and no others."""
        return build_manifest(self.folder)

    def to_dict(self, release: Release) -> dict[str, Any]:
        """Return plain values for JSON: where the model was published, and size and hash of each file."""
        return {**asdict(release), "model": release.name, "files": manifest_to_dict(self.files)}

    @property
    def evaluated(self) -> bool:
        return (self.folder / METRICS).exists()

    @property
    def removed(self) -> tuple[str, ...]:
        """The files that are deleted from the repository: metrics of other weights."""
        return () if self.evaluated or METRICS not in self.destination.files else (METRICS,)

    def publish(self, message: str | None = None) -> Release:
        """Create the repository if needed, upload the files in one commit, and tag it.

        Args:
            message: the commit message; by default ``Version TAG``.

        Raises:
            LongigenError: if a step fails; the message tells what was published until then. The commit has all files
                or is not created.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api, hub = HfApi(token=self.token), self.destination
        so_far = "nothing was published"
        if not hub.exists:
            conflict = "exists, and the token may not see it; choose another name"
            with hub_errors(hub.repository, hub.endpoint, conflict=conflict):
                api.create_repo(hub.repository, private=self.private)
            so_far = "nothing was published, but an empty repository was created"
        operations = [
            *(CommitOperationAdd(name, str(self.folder / name)) for name in self.files),
            *(CommitOperationDelete(name) for name in self.removed),
        ]
        with hub_errors(hub.repository, hub.endpoint, so_far):
            commit = api.create_commit(
                hub.repository, operations, commit_message=message or f"Version {self.tag}", parent_commit=hub.head
            )
        so_far = f"the files are published, as commit {commit.oid}, but have no tag"
        with hub_errors(hub.repository, hub.endpoint, so_far):
            api.create_tag(hub.repository, tag=self.tag, revision=commit.oid)
        address = f"{hub.endpoint}/{hub.repository}"
        return Release(hub.repository, address, commit.oid, commit.commit_url, self.tag, self.private)


@contextmanager
def publication(
    source: str,
    repository: str,
    *,
    load: Loader,
    tag: str | None = None,
    private: bool | None = None,
    licence: str | None = None,
    notes: str = "",
    token: str | None = None,
) -> Iterator[Publication]:
    """Prepare a model or a segmenter for publication; the Hub is not changed, and the folder is deleted at the end.

    Args:
        source: name of the model; see `longigen.hub.resolve`.
        repository: ``org/name``.
        load: loads the model in a folder; it is called once, as a check.
        tag: tag of the version; by default v1, v2 … after the last one.
        private: whether to create a private repository, by default True; an existing repository must match it.
        licence: licence of the weights; see `longigen.hub.model_card`.
        notes: Markdown that is added to the card.
        token: Hub token; by default that of ``hf auth login`` or HF_TOKEN.

    Raises:
        LongigenError: if there is no such model, its metrics are of other weights, or it cannot be loaded without
            private values; also as `HubRepository.fetch` and `HubRepository.version`.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="longigen-push-") as temporary:
        folder = Path(temporary)
        model = _collect_files(source, folder, load)
        destination = _fetch_destination(repository, HfApi(token=token), private)
        _require_same_kind(model.described, destination)
        version = destination.version(tag)
        card = model.card(repository.partition("/")[2], f"{HUB}{repository}@{version}", licence, notes)
        (folder / CARD).write_text(card.text, encoding="utf-8")
        is_private = destination.private if destination.private is not None else private is not False
        covariates = tuple(model.config.get("statistics", {}).get("covariates", ()))
        regions = tuple(model.config.get("regions", ()))
        yield Publication(folder, destination, version, is_private, card.chosen_licence, covariates, regions, token)


def export(
    source: str, folder: Path, *, load: Loader, name: str, licence: str | None = None, notes: str = ""
) -> Manifest:
    """Write a model's files, as they would be published, into a folder of a package; return their manifest.

    The manifest is for the model's entry in the package's ``registry.yaml`` (`longigen.hub.zoo`).

    Args:
        source: name of the model; see `longigen.hub.resolve`.
        folder: the output folder; a model's files in it are replaced.
        load: loads the model in a folder; it is called once, as a check.
        name: name of the model in the ``registry.yaml``.
        licence: licence of the weights; see `longigen.hub.model_card`.
        notes: Markdown that is added to the card.

    Raises:
        LongigenError: as `publication`, apart from errors of the Hub.
    """
    with tempfile.TemporaryDirectory(prefix="longigen-export-") as temporary:
        model = _collect_files(source, Path(temporary), load)
        (Path(temporary) / CARD).write_text(model.card(name, name, licence, notes).text, encoding="utf-8")
        for file in FILES:
            (folder / file).unlink(missing_ok=True)
            if (Path(temporary) / file).exists():
                with atomic(folder / file) as part:
                    shutil.copyfile(Path(temporary) / file, part)
    return build_manifest(folder)


@dataclass(frozen=True)
class _PreparedModel:
    """What is known of the model or segmenter to publish, from which its card is written."""

    described: str
    config: Mapping[str, Any]
    parameters: int
    result: "MetricsFile | None"

    def card(self, name: str, full_name: str, licence: str | None, notes: str) -> "Card | SegmenterCard":
        from longigen.hub.model_card import Card
        from longigen.hub.segmenter_card import SegmenterCard

        if self.described == SEGMENTER:
            return SegmenterCard(name, full_name, self.config, self.parameters, licence, notes)
        return Card(name, full_name, self.config, self.parameters, self.result, licence, notes)


def _collect_files(source: str, folder: Path, load: Loader) -> _PreparedModel:
    """Copy the files, apart from the card, into a folder without private values, and load it as a check."""
    from longigen.hub.metrics_file import MetricsFile

    origin = ModelSource.parse(source, accepted=tuple(DESCRIPTIONS)).find()
    described = description_of(origin) or CONFIG
    if not (origin / WEIGHTS).exists():
        noun = DESCRIPTIONS[described]
        raise LongigenError(f"{origin} has a {described} but no {WEIGHTS}; copy the whole {noun} folder.")
    content = read_description(origin)
    config = published_segmenter(content) if described == SEGMENTER else published_config(content)
    shutil.copyfile(origin / WEIGHTS, folder / WEIGHTS)  # a copy, since training may replace the original meanwhile
    write_json(config, folder / described)
    _check_header_metadata(folder / WEIGHTS, origin / WEIGHTS)
    result = MetricsFile.read(origin, weights=folder / WEIGHTS)
    if result is not None:
        result.write(folder)
    try:
        model = load(folder)
    except LongigenError as error:
        raise LongigenError(str(error).replace(str(folder), str(origin))) from None
    return _PreparedModel(described, config, model.parameter_count, result)


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's configuration without private values.

    Only keys that longigen writes are included; of the data set its name, its counts, and parameters that can have
    neither a path nor free text as value. A component's parameter with a path as value is replaced by its default:
    such paths are of initial weights, which the model's weights replace.

    Raises:
        LongigenError: if a component has a required parameter that is a path.
    """
    content = {key: config[key] for key in HEADER if key in config}
    content |= {kind: _published_component(kind, config[kind]) for kind in kinds_in(config) if config.get(kind)}
    for section, keys in PUBLISHED_KEYS.items():
        if is_codec(config) and section not in config:
            continue
        values = config.get(section) or {}
        public = {key: values[key] for key in keys or values if key in values}
        content[section] = {key: value for key, value in public.items() if not is_path(value)}
    data, training = config.get("data") or {}, config.get("training") or {}
    known = _parameters("dataset", data.get("name"))
    if data.get("parameters"):
        content["data"]["parameters"] = public_values(known, data["parameters"])
    content["data"] |= _published_seen(data)
    if data.get("earlier"):
        keys = ("name", "split", "fingerprint", "parameters")  # the parameters are public since they were recorded
        content["data"]["earlier"] = [
            {key: each[key] for key in keys if key in each} | _published_seen(each) for each in data["earlier"]
        ]
    if training.get("recipe"):
        changes = training.get("changes") or {}
        content["training"]["changes"] = {key: value for key, value in changes.items() if not is_path(value)}
    if training.get("initialised"):
        starts = training["initialised"]
        content["training"]["initialised"] = {part: None if is_path(start) else start for part, start in starts.items()}
    return content


def published_segmenter(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``segmenter.json`` without private values, as `published_config` does of a model.

    Raises:
        LongigenError: if the component has a required parameter that is a path.
    """
    training = content.get("training") or {}
    return {
        **{key: content[key] for key in HEADER if key in content},
        "segmenter": _published_component("segmenter", content["segmenter"]),
        "regions": content["regions"],
        "spacing": content["spacing"],
        "training": {
            key: training[key] for key in PUBLISHED_TRAINING if key in training and not is_path(training[key])
        },
    }


def _published_seen(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hashes of the training visits' voxels; not those of ids, which can be guessed where ids are few."""
    visits = (data.get("seen") or {}).get("visits")
    return {} if visits is None else {"seen": {"visits": visits}}


def _published_component(kind: str, described: Mapping[str, Any]) -> dict[str, Any]:
    name, config = described.get("name"), dict(described.get("config") or {})
    known = _parameters(kind, name)
    for key, value in config.items():
        parameter = known.get(key)
        private = is_path(value) or (value is not None and parameter is not None and accepts_path(parameter.annotation))
        if private and (parameter is None or parameter.required):
            raise LongigenError(
                f"The {kind} '{name}' requires the path '{key}', which exists only on this machine, so this model "
                f"cannot be published; give the {kind} a default for it."
            )
        if private and parameter is not None:
            default = parameter.default
            config[key] = str(default) if isinstance(default, Path) else default
    identity = {key: described[key] for key in ("name", "distribution", "version") if key in described}
    return {**identity, "config": config}


def _parameters(kind: str, name: Any) -> Mapping[str, Parameter]:
    """Return the parameters of a component; empty if it is not installed."""
    return parameters(registry.load(kind, name)) if name in registry.entries(kind) else {}


def _check_header_metadata(weights: Path, origin: Path) -> None:
    """Refuse weights whose header has metadata that longigen did not write, since it may be private."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            metadata = set(file.metadata() or {}) - {"format"}
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{origin} is damaged ({error}); copy or download it again.") from None
    if metadata:
        raise LongigenError(
            f"{origin} has metadata in its header ('{min(metadata)}') that longigen did not write and that would be "
            "published; load the model and save it again with save_pretrained."
        )


def _require_same_kind(described: str, destination: HubRepository) -> None:
    """Refuse to publish a segmenter into the repository of a model, whose weights it would replace, or the reverse."""
    others = [word for name, word in DESCRIPTIONS.items() if name != described and name in destination.files]
    if others:
        raise LongigenError(
            f"{destination.repository} has a {others[0]}, whose weights a {DESCRIPTIONS[described]} would replace; "
            "choose another repository (nothing was published)."
        )


def _fetch_destination(repository: str, api: "HfApi", private: bool | None) -> HubRepository:
    """Return the repository as it is on the Hub.

    Raises:
        LongigenError: as `HubRepository.fetch`; also if it exists and is not `private` as requested.
    """
    destination = HubRepository.fetch(repository, api)
    if destination.private is not None and private is not None and destination.private != private:
        actual, option = ("private", "--public") if destination.private else ("public", "--private")
        raise LongigenError(
            f"{repository} exists and is {actual}, which push does not change; leave out {option}, or change it in the "
            f"settings at {destination.endpoint}/{repository} (nothing was published)."
        )
    return destination
