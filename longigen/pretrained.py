"""Models as folders: ``config.json`` and ``model.safetensors``, and with them, once they are there, ``README.md`` and
``metrics.json``; on disk and on the Hub.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import longigen
from longigen.component import Component, checked, parameters
from longigen.configuration import COMPONENTS, SCHEMA_VERSION, read_configuration, require_installed
from longigen.errors import LongigenError
from longigen.files import atomic, write_json
from longigen.manifest import CONFIG, WEIGHTS, checksum
from longigen.registry import registry
from longigen.source import Source
from longigen.weights import composed

if TYPE_CHECKING:
    from longigen.model import LongitudinalModel

__all__ = [
    "COMPONENTS",
    "CONFIG",
    "WEIGHTS",
    "checksum",
    "describe",
    "load",
    "locate",
    "save",
]


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
    """Load a model, strictly, from anything that `longigen.source` understands: a folder, a name, a repository.

    Nothing is allocated before the configuration is checked and the weights are known to fit it.

    Args:
        source: what the model is called.
        revision: of a repository.

    Raises:
        LongigenError: if there is no such model, its configuration is not ours or is newer than this longigen, a
            component is not installed, or the weights do not fit the configuration.
    """
    return load_folder(Source.of(source, revision).find())


def load_folder(folder: Path) -> "LongitudinalModel":
    """Load the model in a folder; see `load`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_configuration(folder)
    require_installed(config, folder)
    model = composed(lambda: _compose(config), folder)
    weights = folder / WEIGHTS
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{weights} is damaged ({error}); copy or pull it again.") from None
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def locate(source: str, revision: str | None = None) -> Path:
    """Return the folder of a model, verified; it is fetched if it is a repository's that was not pulled yet.

    Raises:
        LongigenError: if there is none.
    """
    return Source.of(source, revision).find()


def describe(component: Component) -> dict[str, Any]:
    """Return a component as it is written to ``config.json``: name, distribution, version, configuration."""
    name = registry.name_of(component)
    entry = registry.entry(component.kind, name)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    return {"name": name, "distribution": entry.distribution, "version": entry.version, "config": config}


def _compose(config: dict[str, Any]) -> "LongitudinalModel":
    """Compose the model of a configuration, its weights as they are initialised."""
    import torch

    from longigen.model import LongitudinalModel, ModelSettings, Provenance, Statistics

    def made(kind: str) -> Any:
        return registry.load(kind, config[kind]["name"]).from_config(config[kind].get("config", {}))

    with torch.device("cpu"):  # a sampler has no weights, and may compute its schedule when it is made
        sampler = made("sampler")
    return LongitudinalModel(
        made("conditioner"),
        made("denoiser"),
        sampler,
        settings=ModelSettings(**checked(parameters(ModelSettings), config.get("model", {}), "model")),
        statistics=Statistics(**checked(parameters(Statistics), config.get("statistics", {}), "statistics")),
        provenance=Provenance(config.get("preprocess", {}), config.get("data", {}), config.get("training", {})),
    )
