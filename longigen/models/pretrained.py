"""Save and load models as folders with ``config.json`` and ``model.safetensors``."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longigen._version import __version__
from longigen.components.base import Component
from longigen.data.preprocess import Preprocess
from longigen.data.split import SplitSettings
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError
from longigen.hub.manifest import CONFIG, WEIGHTS, checksum
from longigen.hub.model_config import (
    CODEC,
    COMPONENTS,
    CONFIG_SCHEMA_VERSION,
    kinds_in,
    read_config,
    require_installed,
    require_model,
)
from longigen.hub.resolve import ModelSource
from longigen.models.checkpoint import compose_checked
from longigen.models.settings import ModelSettings, Provenance
from longigen.registry.registry import registry
from longigen.utils.files import atomic, reason, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from longigen.models.longitudinal import LongitudinalModel

M = TypeVar("M", bound="LongitudinalModel")


def save(model: Any, folder: Path) -> None:
    """Save a `LongitudinalModel` in a folder: each file is written atomically, the configuration last.

    Raises:
        LongigenError: if a component is not registered, so that the model could not be loaded again, or the folder
            cannot be written.
    """
    config = {
        "schema_version": CONFIG_SCHEMA_VERSION,
        "library_name": "longigen",
        "longigen_version": __version__,
        **described_parts(model),
        "model": asdict(model.settings),
        "statistics": model.statistics.record,
        "preprocess": dict(model.provenance.preprocess),
        "data": dict(model.provenance.data),
        "training": dict(model.provenance.training),
    }
    write_weights(model, folder / WEIGHTS)
    write_json(config, folder / CONFIG)


def write_weights(module: "nn.Module", path: Path) -> None:
    """Write the tensors of a module as safetensors, atomically.

    Raises:
        LongigenError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as part:
        try:
            save_file(_tensors(module), part, metadata={"format": "pt"})
        except SafetensorError as error:  # raised when the disk is full
            raise OSError(str(error)) from error


def weights_checksum(model: "nn.Module") -> str:
    """Return the SHA-256 that the weights file of a model will have when it is saved."""
    from safetensors.torch import save as to_bytes

    return hashlib.sha256(to_bytes(_tensors(model), metadata={"format": "pt"})).hexdigest()


def _tensors(model: "nn.Module") -> "dict[str, Tensor]":
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def load(
    cls: Callable[..., M],
    source: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    device: "torch.device | str | None" = None,
    dtype: "torch.dtype | None" = None,
) -> M:
    """Load a model from a folder, by the name of a published model, or from a Hub repository.

    Memory is allocated only after the configuration is checked and the weights are known to fit it.

    Args:
        cls: `LongitudinalModel`, or a function that composes the model of its three components.
        source: the model's name, folder or repository; see `longigen.hub.resolve`.
        revision: branch, tag or commit of a repository.
        token: access token for a private repository.
        device: device of the weights; CPU by default.
        dtype: type of the floating-point weights; float32 by default.

    Raises:
        LongigenError: if there is no such model, its configuration is not longigen's or is newer than this version, a
            component is not installed, or the weights do not fit the configuration.
    """
    return load_folder(cls, ModelSource.parse(source, revision, token=token).find(), device=device, dtype=dtype)


def loader(cls: Callable[..., M]) -> Callable[[Path], M]:
    """Return a function that loads the model in a folder, for callers that must not import `LongitudinalModel`."""
    return lambda folder: load_folder(cls, folder)


def load_folder(
    cls: Callable[..., M],
    folder: Path,
    *,
    device: "torch.device | str | None" = None,
    dtype: "torch.dtype | None" = None,
) -> M:
    """Load the model in a folder; see `load`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    require_model(config, folder)
    require_installed(config, folder)
    for kind in kinds_in(
        config
    ):  # imported before the model is composed on torch's meta device, where an import may fail
        registry.load(kind, config[kind]["name"])
    model = compose_checked(lambda: _compose(cls, config), folder)
    weights = folder / WEIGHTS
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise LongigenError(f"{weights} is damaged ({error}); copy or pull it again.") from None
    model.load_state_dict(tensors, strict=True)
    _require_numbers(model, weights)
    try:
        model = model.to(device=device, dtype=dtype).eval()
    except (RuntimeError, AssertionError, TypeError) as error:  # raised by torch for an unknown device or dtype
        raise LongigenError(
            f"The model cannot be moved to {device or dtype} ({reason(error)}); choose another."
        ) from error
    model.note_file(checksum(weights))
    return model


def _require_numbers(model: "nn.Module", path: Path) -> None:
    """Raise a `LongigenError` if a loaded tensor has NaN, or a weight is infinite, as a buffer may be."""
    import torch

    parameters = {name for name, _ in model.named_parameters()}
    bad = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
        and bool(torch.isnan(tensor).any() or (name in parameters and torch.isinf(tensor).any()))
    ]
    if bad:
        raise LongigenError(
            f"{path} has NaN or infinite weights in {len(bad)} tensors, such as '{bad[0]}', so everything that it "
            "generates would be NaN; get another copy, or train the model again with a lower training.learning_rate."
        )


def describe(component: Component) -> dict[str, Any]:
    """Return a component's entry in ``config.json``: its name, distribution, version and configuration."""
    name = registry.name_of(component)
    entry = registry.entry(component.kind, name)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    return {"name": name, "distribution": entry.distribution, "version": entry.version, "config": config}


def described_parts(model: Any) -> dict[str, dict[str, Any]]:
    """Return the entry in ``config.json`` of each component of a `LongitudinalModel`, by kind; see `describe`.

    A codec whose code is the image itself has none, as in models of earlier versions.
    """
    kinds = COMPONENTS if model.codec.trivial else (*COMPONENTS, CODEC)
    return {kind: describe(getattr(model, kind)) for kind in kinds}


def _compose(cls: Callable[..., M], config: dict[str, Any]) -> M:
    """Compose the model of a configuration, with newly initialised weights."""
    import torch

    def component(kind: str) -> Any:
        return registry.make(kind, config[kind]["name"], config[kind].get("config", {}))

    preprocess, data = config.get("preprocess", {}), config.get("data", {})
    if preprocess:
        Preprocess.checked_config(preprocess)  # now, where a message can name the file
    SplitSettings.from_config(data.get("split", {}), "Section 'data', split")
    with torch.device("cpu"):  # a sampler has no weights, and may compute its schedule in its constructor
        sampler = component("sampler")
    return cls(
        component("conditioner"),
        component("denoiser"),
        sampler,
        settings=ModelSettings.from_config(config.get("model", {}), "Section 'model'"),
        statistics=Statistics.from_config(config.get("statistics", {}), "Section 'statistics'"),
        provenance=Provenance(preprocess, data, config.get("training", {})),
        codec=component(CODEC) if CODEC in config else None,
    )
