"""Read a model's ``config.json``: migrate it to the current schema, and validate it without importing components."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from longigen.components.base import Parameter, shortened
from longigen.components.ranges import (
    MAX_GRID_VOXELS,
    Channels,
    GridSize,
    GuidanceWeight,
    Probability,
    Scale,
    VoxelSizes,
)
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.manifest import CONFIG, MAX_BYTES
from longigen.registry.registry import registry
from longigen.utils.files import read_json
from longigen.utils.time_units import TIME_UNITS

CONFIG_SCHEMA_VERSION = 3
"""The schema that is written; all earlier ones can be read. 2 added ``training``, 3 renamed two keys of
``statistics``."""

COMPONENTS = ("conditioner", "denoiser", "sampler")
"""The kinds of component that every model has."""
CODEC = "codec"
"""The kind that only the configuration of a model that works on codes has."""
CONFIG_SECTIONS = (*COMPONENTS, CODEC, "model", "statistics", "preprocess", "data", "training")
"""The keys of a configuration that have sections as values."""
CONFIG_KEYS = ("schema_version", "library_name", "longigen_version", *CONFIG_SECTIONS)
COMPONENT_KEYS = ("name", "distribution", "version", "config")
"""The keys of a component's section."""

CHECKED_PARAMETERS: Mapping[str, tuple[Parameter, ...]] = {
    "statistics": (
        Parameter("channels", Channels),
        Parameter("residual_std", Scale),
        Parameter("time_scale", Scale),
    ),
    "model": (Parameter("p_uncond", Probability), Parameter("guidance", GuidanceWeight)),
    "preprocess": (Parameter("shape", tuple[GridSize, GridSize, GridSize]),),
    "data": (
        Parameter("voxels", tuple[VoxelSizes, VoxelSizes, VoxelSizes]),
        Parameter("outside", Probability),
    ),
}
"""For each section, the values that are checked before components are imported; others are when a model is created."""

RECORDED: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "data": {
        **dict.fromkeys(("name", "fingerprint"), (str,)),
        **dict.fromkeys(("parameters", "split", "parts", "seen"), (dict,)),
        **dict.fromkeys(("subjects", "visits"), (int,)),
        "simulated": (bool,),
        "intervals": (list,),
        "earlier": (list,),
    },
    "training": {
        **dict.fromkeys(("recipe", "data"), (str, type(None))),
        **dict.fromkeys(("components", "changes", "initialised", "teacher", "settings", "errors"), (dict,)),
        **dict.fromkeys(("withheld", "schedule"), (list,)),
        **dict.fromkeys(("steps", "processes"), (int,)),
        "init": (bool,),
        "seconds": (float, int),
        "device": (str,),
        "threads": (int, type(None)),
    },
    **{kind: {"distribution": (str,), "version": (str,)} for kind in (*COMPONENTS, CODEC)},
}
"""For each section, the types of what is recorded for people and for later commands; other keys are not read."""
TYPE_WORDS = {str: "a text", dict: "an object", int: "a whole number", float: "a number", bool: "true or false"}
TYPE_WORDS |= {list: "a list", type(None): "null"}


def read_config(folder: Path) -> dict[str, Any]:
    """Read and validate the configuration of the model in a folder, migrated to the current schema.

    Components are not imported; their own parameters are checked when they are loaded.

    Raises:
        LongigenError: if the file cannot be read, is not the configuration of a longigen model, has a newer schema, or
            has an unknown or missing key, or a value of the wrong type or out of range.
    """
    path = folder / CONFIG
    config = read_json(path, MAX_BYTES[CONFIG])
    version = config.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or config.get("library_name") != "longigen":
        raise LongigenError(f"{path} is not the configuration of a longigen model.")
    if version > CONFIG_SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {version}, which is newer than this longigen reads ({CONFIG_SCHEMA_VERSION}); "
            "upgrade longigen."
        )
    if version < 1:
        raise LongigenError(f"{path} has schema_version {version}, but the first one is 1.")
    for old in range(version, CONFIG_SCHEMA_VERSION):
        config = {**MIGRATIONS[old](config), "schema_version": old + 1}
    _check(config, path)
    return config


def _add_training(config: dict[str, Any]) -> dict[str, Any]:
    return {"training": {}, **config}


def _rename_statistics(config: dict[str, Any]) -> dict[str, Any]:
    renamed = {"residual_still": "residual_noise_std", "residual_pace": "residual_std_per_gap"}
    statistics = config.get("statistics")
    if not isinstance(statistics, dict):
        return config  # `_check` refuses it
    return {**config, "statistics": {renamed.get(name, name): value for name, value in statistics.items()}}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _add_training, 2: _rename_statistics}
"""For each schema version, the function that converts a configuration to the next version."""


def _check(config: Mapping[str, Any], path: Path) -> None:
    for key in config:
        if key not in CONFIG_KEYS:
            raise LongigenError(f"{path} has an unknown key '{key}'.{did_you_mean(key, CONFIG_KEYS)}")
    for section in CONFIG_SECTIONS:
        if not isinstance(config.get(section, {}), dict):
            given = shortened(config[section])
            raise LongigenError(f"{path}: '{section}' must be an object of keys and values, got {given}.")
    for kind in kinds_in(config):
        _check_component(kind, config.get(kind, {}), path)
    given = {
        f"{section}.{parameter.name}": parameter.check(config[section][parameter.name], f"{path}: Section '{section}'")
        for section, parameters in CHECKED_PARAMETERS.items()
        for parameter in parameters
        if parameter.name in config.get(section, {})
    }
    for section, types in RECORDED.items():
        for key, kinds in types.items():
            _check_type(config.get(section, {}), key, kinds, f"{path}: {section}.{key}")
    intervals = config.get("data", {}).get("intervals", [0.0, 0.0])
    if len(intervals) != 2 or not all(_is(end, (int, float)) for end in intervals):
        raise LongigenError(f"{path}: data.intervals must be two numbers, got {shortened(intervals)}.")
    unit = config.get("statistics", {}).get("time_unit", "years")
    if unit not in TIME_UNITS:
        raise LongigenError(f"{path}: statistics.time_unit must be one of {', '.join(TIME_UNITS)}, got {unit!r}.")
    shape = given.get("preprocess.shape", ())
    if math.prod(size or 1 for size in shape) > MAX_GRID_VOXELS:
        raise LongigenError(f"{path}: preprocess.shape {shape} has more than {MAX_GRID_VOXELS:,} voxels.")


def _check_type(section: Mapping[str, Any], key: str, kinds: tuple[type, ...], place: str) -> None:
    if key in section and not _is(section[key], kinds):
        words = " or ".join(TYPE_WORDS[kind] for kind in kinds)
        raise LongigenError(f"{place} must be {words}, got {shortened(section[key])}.")


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    """Return whether a JSON value has one of some types, where true and false are no numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _check_component(kind: str, described: Mapping[str, Any], path: Path) -> None:
    for key in described:
        if key not in COMPONENT_KEYS:
            raise LongigenError(f"{path}: the {kind} has an unknown key '{key}'.{did_you_mean(key, COMPONENT_KEYS)}")
    name = described.get("name")
    if not isinstance(name, str) or not name:
        raise LongigenError(f"{path} has no name of a {kind}.")
    if not isinstance(described.get("config", {}), dict):
        given = shortened(described["config"])
        raise LongigenError(f"{path}: the config of the {kind} must be an object of keys and values, got {given}.")


def is_codec(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of a codec alone, as ``longigen train-codec`` writes it."""
    return CODEC in config and not any(kind in config for kind in COMPONENTS)


def kinds_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of component in a configuration: `COMPONENTS`, and `CODEC` if there is one, or that alone."""
    if is_codec(config):
        return (CODEC,)
    return (*COMPONENTS, CODEC) if CODEC in config else COMPONENTS


def require_model(config: Mapping[str, Any], folder: Path) -> None:
    """Raise a `LongigenError` if a configuration is that of a codec alone, with which nothing can be generated."""
    if is_codec(config):
        raise LongigenError(
            f"{folder} holds a codec and no model; train a model on its codes with 'longigen train --codec "
            f"{quote(str(folder))}'."
        )


def parts_text(config: Mapping[str, Any]) -> str:
    """Return the names of a model's components: ``sadm + unet3d + continuous``, and the codec's after ``on``.

    Of a codec alone it is ``codec kl``.
    """
    if is_codec(config):
        return f"codec {config[CODEC]['name']}"
    parts = " + ".join(config[kind]["name"] for kind in COMPONENTS)
    return f"{parts} on {config[CODEC]['name']} codes" if CODEC in config else parts


def grid_text(preprocess: Mapping[str, Any]) -> str:
    """Return the size of a model's grid in words, from its section ``preprocess``.

    Such as ``40 × 48 × 48``, ``100 × 100 × all`` where each subject has its own number of slices, or ``160 × 160 × all
    mm`` for a box in mm.
    """
    extent = preprocess.get("extent")
    sizes = " × ".join(f"{size:g}" if size else "all" for size in extent or preprocess["shape"])
    return f"{sizes} mm" if extent else sizes


def require_installed(config: Mapping[str, Any], folder: Path) -> None:
    """Check that the model's components are installed.

    Raises:
        LongigenError: naming the package to install, if one is not.
    """
    for kind in kinds_in(config):
        described = config[kind]
        if described["name"] not in registry.entries(kind):
            distribution, version = described.get("distribution", "an unknown package"), described.get("version", "")
            raise LongigenError(
                f"The model in {folder} needs the {kind} '{described['name']}' of {distribution} {version}, which is "
                f"not installed; install it with 'pip install {distribution}'."
            )
