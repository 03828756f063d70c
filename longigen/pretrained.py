"""Models as folders: ``config.json`` and ``model.safetensors``, on disk and on the Hub."""

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import longigen
from longigen.component import Component, checked, parameters
from longigen.errors import LongigenError
from longigen.files import atomic, read_json, write_json
from longigen.registry import registry

if TYPE_CHECKING:
    from longigen.model import LongitudinalModel

SCHEMA_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
COMPONENTS = ("conditioner", "denoiser", "sampler")


def save(model: "LongitudinalModel", folder: Path) -> None:
    """Write a model into a folder, each file atomically, the configuration last.

    Raises:
        LongigenError: if a component is not registered (the model could not be loaded again), or the folder cannot be
            written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config = {
        "schema_version": SCHEMA_VERSION,
        "library_name": "longigen",
        "longigen_version": longigen.__version__,
        **{kind: describe(getattr(model, kind)) for kind in COMPONENTS},
        "model": asdict(model.settings),
        "statistics": asdict(model.statistics),
        "preprocess": dict(model.provenance.preprocess),
        "data": dict(model.provenance.data),
        "training": dict(model.provenance.training),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(folder / WEIGHTS) as part:
        try:
            save_file(tensors, part, metadata={"format": "pt"})
        except SafetensorError as error:  # how it says that a disk is full
            raise OSError(str(error)) from error
    write_json(config, folder / CONFIG)


def load(source: str, *, revision: str | None = None) -> "LongitudinalModel":
    """Load a model, strictly, from a folder (a model's or a run's) or from a repository of the Hub (``org/name``).

    Raises:
        LongigenError: if there is no such model, its configuration is not ours or is newer than this longigen, a
            component is not installed, or the weights do not fit the configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = locate(source, revision)
    model = _compose(_read_config(folder), folder)
    weights = folder / WEIGHTS
    if not weights.exists():
        raise LongigenError(f"{folder} has a {CONFIG} but no {WEIGHTS}; copy the whole model folder.")
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{weights} is damaged ({error}); copy or download it again.") from None
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split()[:40])
        raise LongigenError(f"{weights} does not fit the {CONFIG} beside it ({first}).") from None
    return model.eval()


def push(model: "LongitudinalModel", repository: str, *, private: bool) -> str:
    """Upload a model to the Hub in one commit, creating the repository if need be; return the commit's address."""
    from huggingface_hub import HfApi

    api = HfApi()
    name = api.create_repo(repository, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        return api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Add model", allow_patterns=[CONFIG, WEIGHTS]
        ).commit_url


def locate(source: str, revision: str | None = None) -> Path:
    """Return the folder of a model: itself, the ``model`` folder of a run, or the Hub's cache.

    Raises:
        LongigenError: if there is none.
    """
    path = Path(source)
    for folder in (path, path / "model"):
        if (folder / CONFIG).exists():
            return folder
    if path.exists():
        raise LongigenError(
            f"{path} holds no model ({CONFIG} is not there); give a folder that 'longigen train' wrote."
        )
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise LongigenError(
            f"There is no model at {path}; give a run's folder, a model's folder or org/name of the Hub."
        )
    return _download(source, revision)


def describe(component: Component) -> dict[str, Any]:
    """Return a component as it is written to ``config.json``: name, distribution, version, configuration."""
    name = registry.name_of(component)
    entry = registry.entry(component.kind, name)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    return {"name": name, "distribution": entry.distribution, "version": entry.version, "config": config}


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise LongigenError(
            f"There is no folder '{repository}', and the Hub gives no such model ({reason}); check its name."
        ) from None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    config = read_json(path)
    version = config.get("schema_version")
    if not isinstance(version, int) or config.get("library_name") != "longigen":
        raise LongigenError(f"{path} is not the configuration of a longigen model.")
    if version > SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {version}, which is newer than this longigen reads ({SCHEMA_VERSION}); "
            "upgrade longigen."
        )
    return config


def _compose(config: dict[str, Any], folder: Path) -> "LongitudinalModel":
    from longigen.model import LongitudinalModel, ModelSettings, Provenance, Statistics

    components = [_component(kind, config.get(kind) or {}, folder) for kind in COMPONENTS]
    return LongitudinalModel(
        *components,
        settings=ModelSettings(**checked(parameters(ModelSettings), config.get("model", {}), "model")),
        statistics=Statistics(**checked(parameters(Statistics), config.get("statistics", {}), "statistics")),
        provenance=Provenance(config.get("preprocess", {}), config.get("data", {}), config.get("training", {})),
    )


def _component(kind: str, described: dict[str, Any], folder: Path) -> Any:
    name = described.get("name")
    if not isinstance(name, str):
        raise LongigenError(f"{folder / CONFIG} names no {kind}.")
    if name not in registry.entries(kind):
        distribution, version = described.get("distribution", "an unknown package"), described.get("version", "")
        raise LongigenError(
            f"The model in {folder} needs the {kind} '{name}' of {distribution} {version}, which is not installed; "
            f"install it with 'pip install {distribution}'."
        )
    return registry.load(kind, name).from_config(described.get("config", {}))
