"""Configurations: a model's ``config.json``, read, brought to today's schema, and checked before anything is made."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from longigen.components.base import Parameter
from longigen.components.ranges import Channels, GuidanceWeight, Probability, Scale, Voxels
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.manifest import CONFIG
from longigen.registry.registry import registry
from longigen.utils.files import read_json
from longigen.utils.time_units import TIME_UNITS

SCHEMA_VERSION = 3
"""What is written today; every version before is still read. 2 added ``training``, 3 renamed two of ``statistics``."""

COMPONENTS = ("conditioner", "denoiser", "sampler")
CONFIG_SECTIONS = (*COMPONENTS, "model", "statistics", "preprocess", "data", "training")
"""Of a configuration, what holds keys and values."""
KEYS = ("schema_version", "library_name", "longigen_version", *CONFIG_SECTIONS)
DESCRIBED = ("name", "distribution", "version", "config")
"""What is written of a component."""

MAX_BYTES = 2**20
"""A longer ``config.json`` is refused before it is read."""
MAX_VOXELS = 2**31

CHECKED: Mapping[str, tuple[Parameter, ...]] = {
    "statistics": (
        Parameter("channels", Channels),
        Parameter("residual_std", Scale),
        Parameter("time_scale", Scale),
    ),
    "model": (Parameter("p_uncond", Probability), Parameter("guidance", GuidanceWeight)),
    "preprocess": (Parameter("shape", tuple[Voxels, Voxels, Voxels]),),
}
"""By section, the values whose ranges are checked before a component is imported; the others when a model is made."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of the model in a folder, as today's schema has it.

    What can be checked without the components is checked; nothing is imported.

    Raises:
        LongigenError: if it cannot be read, is none of longigen's, is newer than this longigen, or holds what no
            configuration holds: an unknown or missing key, a value of another type or out of its range.
    """
    path = folder / CONFIG
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise LongigenError(f"{path} is longer than any configuration of a model ({MAX_BYTES} bytes), so it is none.")
    config = read_json(path)
    version = config.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or config.get("library_name") != "longigen":
        raise LongigenError(f"{path} is not the configuration of a longigen model.")
    if version > SCHEMA_VERSION:
        raise LongigenError(
            f"{path} has schema_version {version}, which is newer than this longigen reads ({SCHEMA_VERSION}); "
            "upgrade longigen."
        )
    if version < 1:
        raise LongigenError(f"{path} has schema_version {version}, and there was none before 1.")
    for old in range(version, SCHEMA_VERSION):
        config = {**MIGRATIONS[old](config), "schema_version": old + 1}
    _check(config, path)
    return config


def _with_training(config: dict[str, Any]) -> dict[str, Any]:
    return {"training": {}, **config}


def _with_field_terms(config: dict[str, Any]) -> dict[str, Any]:
    renamed = {"residual_still": "residual_noise_std", "residual_pace": "residual_std_per_gap"}
    statistics = config.get("statistics")
    if not isinstance(statistics, dict):
        return config  # refused by the checks that follow
    return {**config, "statistics": {renamed.get(name, name): value for name, value in statistics.items()}}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_training, 2: _with_field_terms}
"""By version, what makes of its configuration one of the next."""


def _check(config: Mapping[str, Any], path: Path) -> None:
    for key in config:
        if key not in KEYS:
            raise LongigenError(f"{path} has an unknown key '{key}'.{did_you_mean(key, KEYS)}")
    for section in CONFIG_SECTIONS:
        if not isinstance(config.get(section, {}), dict):
            raise LongigenError(f"{path}: '{section}' must hold keys and values, got {config[section]!r}.")
    for kind in COMPONENTS:
        _check_component(kind, config.get(kind, {}), path)
    given = {
        f"{section}.{parameter.name}": parameter.check(config[section][parameter.name], f"{path}: Section '{section}'")
        for section, parameters in CHECKED.items()
        for parameter in parameters
        if parameter.name in config.get(section, {})
    }
    unit = config.get("statistics", {}).get("time_unit", "years")
    if unit not in TIME_UNITS:
        raise LongigenError(f"{path}: statistics.time_unit must be one of {', '.join(TIME_UNITS)}, got {unit!r}.")
    shape = given.get("preprocess.shape", ())
    if math.prod(shape) > MAX_VOXELS:
        raise LongigenError(f"{path}: preprocess.shape {shape} has more voxels than any volume ({MAX_VOXELS}).")


def _check_component(kind: str, described: Mapping[str, Any], path: Path) -> None:
    for key in described:
        if key not in DESCRIBED:
            raise LongigenError(f"{path}: the {kind} has an unknown key '{key}'.{did_you_mean(key, DESCRIBED)}")
    name = described.get("name")
    if not isinstance(name, str) or not name:
        raise LongigenError(f"{path} names no {kind}.")
    if not isinstance(described.get("config", {}), dict):
        raise LongigenError(f"{path}: the config of the {kind} must hold keys and values, got {described['config']!r}.")


def require_installed(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration of a component that is not installed, saying which package to install.

    Raises:
        LongigenError: if so.
    """
    for kind in COMPONENTS:
        described = config[kind]
        if described["name"] not in registry.entries(kind):
            distribution, version = described.get("distribution", "an unknown package"), described.get("version", "")
            raise LongigenError(
                f"The model in {folder} needs the {kind} '{described['name']}' of {distribution} {version}, which is "
                f"not installed; install it with 'pip install {distribution}'."
            )
