"""Models as folders: ``config.json`` and ``model.safetensors``, written and loaded strictly."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longigen._version import __version__
from longigen.components.base import Component, checked, parameters
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError
from longigen.hub.manifest import CONFIG, WEIGHTS
from longigen.hub.model_config import COMPONENTS, SCHEMA_VERSION, read_config, require_installed
from longigen.hub.resolve import ModelSource
from longigen.models.checkpoint import compose_checked
from longigen.models.settings import ModelSettings, Provenance
from longigen.registry.registry import registry
from longigen.utils.files import atomic, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M", bound="nn.Module")


def save(model: Any, folder: Path) -> None:
    """Write a `LongitudinalModel` into a folder, each file atomically, the configuration last.

    Raises:
        LongigenError: if a component is not registered (the model could not be loaded again), or the folder cannot be
            written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config = {
        "schema_version": SCHEMA_VERSION,
        "library_name": "longigen",
        "longigen_version": __version__,
        **{kind: describe(getattr(model, kind)) for kind in COMPONENTS},
        "model": asdict(model.settings),
        "statistics": asdict(model.statistics),
        "preprocess": dict(model.provenance.preprocess),
        "data": dict(model.provenance.data),
        "training": dict(model.provenance.training),
    }
    with atomic(folder / WEIGHTS) as part:
        try:
            save_file(_tensors(model), part, metadata={"format": "pt"})
        except SafetensorError as error:  # how it says that a disk is full
            raise OSError(str(error)) from error
    write_json(config, folder / CONFIG)


def weights_checksum(model: "nn.Module") -> str:
    """Return the SHA-256 that the file of a model's weights has, once it is saved."""
    from safetensors.torch import save as to_bytes

    return hashlib.sha256(to_bytes(_tensors(model), metadata={"format": "pt"})).hexdigest()


def _tensors(model: "nn.Module") -> "dict[str, Tensor]":
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def load(cls: Callable[..., M], source: str, *, revision: str | None = None, token: str | None = None) -> M:
    """Load a model, strictly, from anything that `longigen.hub.resolve` understands: a folder, a name, a repository.

    Nothing is allocated before the configuration is checked and the weights are known to fit it.

    Args:
        cls: makes the model of its three components: `LongitudinalModel`.
        source: the model's name, folder or repository.
        revision: of a repository.
        token: for a private repository.

    Raises:
        LongigenError: if there is no such model, its configuration is not longigen's or is newer than this version, a
            component is not installed, or the weights do not fit the configuration.
    """
    return load_folder(cls, ModelSource.of(source, revision, token=token).find())


def loader(cls: Callable[..., M]) -> Callable[[Path], M]:
    """Return a function that loads the model in a folder, for what must not know the class of models."""
    return lambda folder: load_folder(cls, folder)


def load_folder(cls: Callable[..., M], folder: Path) -> M:
    """Load the model in a folder; see `load`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    require_installed(config, folder)
    for kind in COMPONENTS:  # imported before the model is composed on torch's meta device, where an import may fail
        registry.load(kind, config[kind]["name"])
    model = compose_checked(lambda: _compose(cls, config), folder)
    weights = folder / WEIGHTS
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{weights} is damaged ({error}); copy or pull it again.") from None
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def describe(component: Component) -> dict[str, Any]:
    """Return a component as it is written to ``config.json``: name, distribution, version, configuration."""
    name = registry.name_of(component)
    entry = registry.entry(component.kind, name)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    return {"name": name, "distribution": entry.distribution, "version": entry.version, "config": config}


def _compose(cls: Callable[..., M], config: dict[str, Any]) -> M:
    """Compose the model of a configuration, its weights as they are initialised."""
    import torch

    def made(kind: str) -> Any:
        return registry.load(kind, config[kind]["name"]).from_config(config[kind].get("config", {}))

    with torch.device("cpu"):  # a sampler has no weights, and may compute its schedule when it is made
        sampler = made("sampler")
    return cls(
        made("conditioner"),
        made("denoiser"),
        sampler,
        settings=ModelSettings(**checked(parameters(ModelSettings), config.get("model", {}), "model")),
        statistics=Statistics(**checked(parameters(Statistics), config.get("statistics", {}), "statistics")),
        provenance=Provenance(config.get("preprocess", {}), config.get("data", {}), config.get("training", {})),
    )
