"""Publications: a model as it is put on the Hub, with nothing private in it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from longigen.components.base import Parameter, parameters
from longigen.components.privacy import is_path, names_path, public_values
from longigen.errors import LongigenError
from longigen.hub.manifest import CARD, CONFIG, FILES, METRICS, WEIGHTS, Manifest, manifest_of, to_plain
from longigen.hub.model_config import COMPONENTS, read_config
from longigen.hub.repository import HubRepository, hub_errors
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import HUB
from longigen.registry.registry import registry
from longigen.utils.files import atomic, write_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from longigen.hub.metrics_file import MetricsFile
    from longigen.hub.model_card import Card

HEADER = ("schema_version", "library_name", "longigen_version")
PUBLISHED_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": (),
    "statistics": (),
    "preprocess": (),
    "data": ("name", "simulated", "subjects", "visits", "fingerprint", "split", "parts", "intervals"),
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
    ),
}
"""What is published of each section of a configuration; where none is listed, all. `published_config` adds to these."""


class LoadedModel(Protocol):
    """What publishing must know of a model that was loaded."""

    @property
    def parameter_count(self) -> int: ...


Loader = Callable[[Path], LoadedModel]
"""Loads the model in a folder, strictly; `longigen.models` has it, which stands above this module."""


@dataclass(frozen=True)
class Release:
    """A version, as it was published.

    Attributes:
        repository: ``org/name``.
        address: of the repository, for a browser.
        commit: its id.
        commit_url: its address.
        tag: the version.
        private: whether the repository is.
    """

    repository: str
    address: str
    commit: str
    commit_url: str
    tag: str
    private: bool

    @property
    def name(self) -> str:
        """By which everything that takes a MODEL finds exactly this version."""
        return f"{HUB}{self.repository}@{self.tag}"


@dataclass(frozen=True)
class Publication:
    """A model's files in a folder of their own, ready to go, and where they go.

    - ``config.json`` without what is private (`published_config`), from which the model was loaded once, as a check;
    - ``model.safetensors``, as it is;
    - ``README.md``, the `longigen.hub.model_card`;
    - ``metrics.json``, if the weights were evaluated.
    """

    folder: Path
    destination: HubRepository
    tag: str
    private: bool
    licence: str | None
    covariates: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)

    @property
    def files(self) -> Manifest:
        """What goes, and nothing else does."""
        return manifest_of(self.folder)

    def to_dict(self, release: Release) -> dict[str, Any]:
        """Return plain values: where the model was published, and what each of its files holds."""
        return {**asdict(release), "model": release.name, "files": to_plain(self.files)}

    @property
    def evaluated(self) -> bool:
        return (self.folder / METRICS).exists()

    @property
    def removed(self) -> tuple[str, ...]:
        """What is taken out of the repository: metrics that are of other weights."""
        return () if self.evaluated or METRICS not in self.destination.files else (METRICS,)

    def publish(self, message: str | None = None) -> Release:
        """Create the repository if need be, upload the files in one commit, and tag it.

        Args:
            message: of the commit; by default it names the tag.

        Raises:
            LongigenError: if any of it is refused or breaks off; it says what is there then. The commit is made whole
                or not at all.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        api, there = HfApi(token=self.token), self.destination
        so_far = "nothing was published"
        if not there.exists:
            hidden = "exists, and the token may not see it; take another name"
            with hub_errors(there.repository, there.endpoint, conflict=hidden):
                api.create_repo(there.repository, private=self.private)
            so_far = "nothing was published, but the repository is there now, and empty"
        operations = [
            *(CommitOperationAdd(name, str(self.folder / name)) for name in self.files),
            *(CommitOperationDelete(name) for name in self.removed),
        ]
        with hub_errors(there.repository, there.endpoint, so_far):
            commit = api.create_commit(
                there.repository, operations, commit_message=message or f"Version {self.tag}", parent_commit=there.head
            )
        so_far = f"the files are published, as commit {commit.oid}, but have no tag"
        with hub_errors(there.repository, there.endpoint, so_far):
            api.create_tag(there.repository, tag=self.tag, revision=commit.oid)
        address = f"{there.endpoint}/{there.repository}"
        return Release(there.repository, address, commit.oid, commit.commit_url, self.tag, self.private)


@contextmanager
def publication(
    source: str,
    repository: str,
    *,
    load: Loader,
    tag: str | None = None,
    private: bool | None = None,
    licence: str | None = None,
    token: str | None = None,
) -> Iterator[Publication]:
    """Give a model as it would be published; nothing is changed on the Hub, and the folder is gone afterwards.

    Args:
        source: what the model is called; see `longigen.hub.resolve`.
        repository: ``org/name``.
        load: loads the model in a folder; it is called once, as a check.
        tag: of the version; by default v1, v2 … after the last.
        private: of a repository that does not exist yet, True by default; of one that does, what it must be.
        licence: of the weights, as `longigen.hub.model_card`.
        token: of the Hub; by default the one that ``hf auth login`` or HF_TOKEN set.

    Raises:
        LongigenError: if there is no such model, its metrics are of other weights, it cannot be loaded without what is
            private, or as `HubRepository.of` and `HubRepository.version`.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="longigen-push-") as place:
        folder = Path(place)
        gathered = _gather(source, folder, load)
        destination = _destination(repository, HfApi(token=token), private)
        version = destination.version(tag)
        card = gathered.card(repository.partition("/")[2], f"{HUB}{repository}@{version}", licence)
        (folder / CARD).write_text(card.text, encoding="utf-8")
        hidden = destination.private if destination.private is not None else private is not False
        covariates = tuple(gathered.config["statistics"].get("covariates", ()))
        yield Publication(folder, destination, version, hidden, card.chosen_licence, covariates, token)


def export(source: str, folder: Path, *, load: Loader, name: str, licence: str | None = None) -> Manifest:
    """Write a model's files as they would be published, for a package to ship; return what a ``registry.yaml`` says of
    them (`longigen.hub.zoo`).

    Args:
        source: what the model is called; see `longigen.hub.resolve`.
        folder: to write; files of a model in it are replaced.
        load: loads the model in a folder; it is called once, as a check.
        name: by which the ``registry.yaml`` will name the model.
        licence: of the weights, as `longigen.hub.model_card`.

    Raises:
        LongigenError: as `publication`, but for what concerns the Hub.
    """
    with tempfile.TemporaryDirectory(prefix="longigen-export-") as place:
        gathered = _gather(source, Path(place), load)
        (Path(place) / CARD).write_text(gathered.card(name, name, licence).text, encoding="utf-8")
        for file in FILES:
            (folder / file).unlink(missing_ok=True)
            if (Path(place) / file).exists():
                with atomic(folder / file) as part:
                    shutil.copyfile(Path(place) / file, part)
    return manifest_of(folder)


@dataclass(frozen=True)
class _Gathered:
    """What is known of a model whose files, but for the card, were put into a folder."""

    config: Mapping[str, Any]
    parameters: int
    result: "MetricsFile | None"

    def card(self, name: str, called: str, licence: str | None) -> "Card":
        from longigen.hub.model_card import Card

        return Card(name, called, self.config, self.parameters, self.result, licence)


def _gather(source: str, folder: Path, load: Loader) -> _Gathered:
    """Put a model's files, but for the card, into a folder, and load it from there, as a check."""
    from longigen.hub.metrics_file import MetricsFile

    origin = ModelSource.of(source).find()
    if not (origin / WEIGHTS).exists():
        raise LongigenError(f"{origin} has a {CONFIG} but no {WEIGHTS}; copy the whole model folder.")
    config = published_config(read_config(origin))
    shutil.copyfile(origin / WEIGHTS, folder / WEIGHTS)  # what is shown is what goes, though training goes on
    write_json(config, folder / CONFIG)
    _refuse_notes(folder / WEIGHTS, origin / WEIGHTS)
    result = MetricsFile.read(origin, weights=folder / WEIGHTS)
    if result is not None:
        result.write(folder)
    try:
        model = load(folder)
    except LongigenError as error:
        raise LongigenError(str(error).replace(str(folder), str(origin))) from None
    return _Gathered(config, model.parameter_count, result)


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's configuration without what is private.

    What longigen writes is kept and anything else left out; of the data set its name, counts and those parameters that
    can hold neither path nor free text. A component's parameter that is a path becomes its default: paths say where
    something was to begin with, and the weights are beside the configuration.

    Raises:
        LongigenError: if a component cannot be made without a path.
    """
    content = {key: config[key] for key in HEADER if key in config}
    content |= {kind: _published_component(kind, config[kind]) for kind in COMPONENTS if config.get(kind)}
    for section, keys in PUBLISHED_KEYS.items():
        given = config.get(section) or {}
        kept = {key: given[key] for key in keys or given if key in given}
        content[section] = {key: value for key, value in kept.items() if not is_path(value)}
    data, training = config.get("data") or {}, config.get("training") or {}
    known = _parameters("dataset", data.get("name"))
    if data.get("parameters"):
        content["data"]["parameters"] = public_values(known, data["parameters"])
    if training.get("recipe"):
        changes = training.get("changes") or {}
        content["training"]["changes"] = {key: value for key, value in changes.items() if not is_path(value)}
    if training.get("initialised"):
        starts = training["initialised"]
        content["training"]["initialised"] = {part: None if is_path(start) else start for part, start in starts.items()}
    return content


def _published_component(kind: str, described: Mapping[str, Any]) -> dict[str, Any]:
    name, config = described.get("name"), dict(described.get("config") or {})
    known = _parameters(kind, name)
    for key, value in config.items():
        parameter = known.get(key)
        private = is_path(value) or (value is not None and parameter is not None and names_path(parameter.annotation))
        if private and (parameter is None or parameter.required):
            raise LongigenError(
                f"The {kind} '{name}' needs the path '{key}', which nobody else has, so this model cannot be "
                f"published; give the {kind} a default for it."
            )
        if private and parameter is not None:
            default = parameter.default
            config[key] = str(default) if isinstance(default, Path) else default
    kept = {key: described[key] for key in ("name", "distribution", "version") if key in described}
    return {**kept, "config": config}


def _parameters(kind: str, name: Any) -> Mapping[str, Parameter]:
    """Return what a component takes, nothing where it is not installed."""
    return parameters(registry.load(kind, name)) if name in registry.entries(kind) else {}


def _refuse_notes(weights: Path, origin: Path) -> None:
    """Refuse weights with text in their header that longigen did not write."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            notes = set(file.metadata() or {}) - {"format"}
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{origin} is damaged ({error}); copy or download it again.") from None
    if notes:
        raise LongigenError(
            f"{origin} has notes in its header ('{min(notes)}') that longigen did not write and that would be "
            "published; load the model and save it again with save_pretrained."
        )


def _destination(repository: str, api: "HfApi", private: bool | None) -> HubRepository:
    found = HubRepository.of(repository, api)
    if found.private is not None and private is not None and found.private != private:
        is_, wanted = ("private", "--public") if found.private else ("public", "--private")
        raise LongigenError(
            f"{repository} exists and is {is_}, which push does not change; leave out {wanted}, or change it in the "
            f"settings at {found.endpoint}/{repository} (nothing was published)."
        )
    return found
