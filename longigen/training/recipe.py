"""Recipes: a named, complete choice of components and hyperparameters, and the user's changes to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longigen.components.base import Parameter, checked, parameters
from longigen.components.changes import parse_change
from longigen.components.privacy import private_keys, public_values
from longigen.data.augment import AugmentSettings
from longigen.data.open_dataset import find_dataset
from longigen.data.preprocess import PreprocessSettings
from longigen.data.split import SplitSettings
from longigen.errors import LongigenError, did_you_mean
from longigen.models.settings import ModelSettings
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.training.settings import TrainingSettings

COMPONENT_SECTIONS = {"conditioner": "conditioner", "denoiser": "denoiser", "sampler": "sampler", "data": "dataset"}
"""The sections of a recipe that choose a component, and its kind."""

SETTINGS: Mapping[str, type[Any]] = {
    "model": ModelSettings,
    "preprocess": PreprocessSettings,
    "augment": AugmentSettings,
    "split": SplitSettings,
    "training": TrainingSettings,
}
"""The sections of a recipe that choose no component, and their settings."""


@dataclass(frozen=True)
class Recipe:
    """A complete choice: for each section its checked configuration, and the names of the components.

    Sections that choose a component are ``conditioner``, ``denoiser``, ``sampler`` and ``data``; the others are
    ``model``, ``preprocess``, ``augment``, ``split`` and ``training``. `origin` is what was asked for: the ``recipe``
    of the catalog, ``components`` and ``data`` chosen instead of its own, and ``changes`` by ``section.key``; empty
    where a recipe was made without.
    """

    names: Mapping[str, str]
    configs: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def resolve(
        cls,
        name: str,
        *,
        components: Mapping[str, str | None] | None = None,
        data: str | None = None,
        changes: Sequence[str] = (),
        model: Mapping[str, Any] | None = None,
    ) -> "Recipe":
        """Return a recipe of the catalog with the user's changes.

        Args:
            name: of a recipe in a ``registry.yaml``.
            components: by section, another component's name; its configuration starts from its own defaults.
            data: the name of a data set, a path that one of them claims, or ``name:path``. If it is the recipe's own
                data set, what the recipe says of it and of preprocessing holds; if it is another, that is dropped.
            changes: ``section.key=value``, or ``key=value`` where only one section has that key.
            model: the configuration of a model to go on from (`longigen.hub.model_config`). Its three parts, its
                settings and its preprocessing take the place of the recipe's, whatever the data, and so does its data
                set.

        Raises:
            LongigenError: for anything unknown, of the wrong type, out of its range, or ambiguous.
        """
        content = Catalog().recipe(name).content
        names, given = {}, _sections(content, owner=f"recipe '{name}'")
        asked = {section: chosen for section, chosen in (components or {}).items() if chosen}
        origin: dict[str, Any] = {"recipe": name, "components": asked, "data": None, "changes": {}}
        if model is not None:
            origin["init"] = True
            given |= _of_model(model)
        for section in COMPONENT_SECTIONS:
            names[section] = str(given[section].pop("name", ""))
            chosen = (components or {}).get(section)
            if chosen and chosen != names[section]:
                names[section], given[section] = chosen, {}
        if data is not None:
            chosen, config = find_dataset(data)
            origin["data"] = chosen
            if chosen == names["data"]:
                given["data"] |= config
            else:
                names["data"], given["data"] = chosen, config
                if model is None:
                    given["preprocess"] = {}  # a recipe's grid is of the recipe's data
        return cls._checked(names, given, changes, origin, owner=f"recipe '{name}'")

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], changes: Sequence[str] = (), origin: Mapping[str, Any] | None = None
    ) -> "Recipe":
        """Return what `to_dict` gave, with changes; `origin` is what was asked for before them, where that is known."""
        given = _sections(content, owner="run's recipe")
        names = {section: str(given[section].pop("name", "")) for section in COMPONENT_SECTIONS}
        return cls._checked(names, given, changes, origin or {}, owner="run's recipe")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, for JSON."""
        plain = {
            section: {key: _plain(value) for key, value in config.items()} for section, config in self.configs.items()
        }
        return {
            section: {**({"name": self.names[section]} if section in self.names else {}), **config}
            for section, config in plain.items()
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """What a model keeps of how it was asked for: of the changes the values that hold no path and no free text,
        and the names of the others.
        """
        changes: dict[str, Any] = {}
        left: list[str] = []
        for section, known in _known(self.names).items():
            given = {key: self.configs[section][key] for key in known if f"{section}.{key}" in self._changes}
            changes |= {f"{section}.{key}": value for key, value in public_values(known, given).items()}
            left += [f"{section}.{key}" for key in private_keys(known, given)]
        return {**self.origin, "changes": changes, "withheld": left} if self.origin else {}

    @property
    def _changes(self) -> Mapping[str, Any]:
        return self.origin.get("changes", {})

    def component(self, section: str) -> Any:
        """Make the component that a section chooses."""
        return registry.make(COMPONENT_SECTIONS[section], self.names[section], self.configs[section])

    def settings(self, section: str) -> Any:
        """Return the settings of one of the sections that choose no component."""
        return SETTINGS[section](**self.configs[section])

    @classmethod
    def _checked(
        cls,
        names: Mapping[str, str],
        given: dict[str, dict[str, Any]],
        changes: Sequence[str],
        origin: Mapping[str, Any],
        owner: str,
    ) -> "Recipe":
        for section in COMPONENT_SECTIONS:
            if not names[section]:
                raise LongigenError(f"The {owner} names no {section}; choose one with --{section}.")
        known = _known(names)
        labels = {section: f"The {kind} '{names[section]}'" for section, kind in COMPONENT_SECTIONS.items()}
        labels |= {section: f"Section '{section}'" for section in SETTINGS}
        changed = []
        for change in changes:
            section, key, value = parse_change(change, known)
            given[section][key] = value
            changed.append((section, key))
        path = known["data"].get("path")
        if path is not None and path.required and "path" not in given["data"]:
            raise LongigenError(f"The {labels['data'][4:]} needs the path of your data; give it with --data PATH.")
        configs = {section: checked(known[section], given[section], labels[section]) for section in known}
        for section, settings in SETTINGS.items():
            settings(**configs[section])  # refuses values that do not go together
        if origin:
            asked = {f"{section}.{key}": _plain(configs[section][key]) for section, key in changed}
            origin = {**origin, "changes": {**origin.get("changes", {}), **asked}}
        return cls(names, configs, origin)


def _of_model(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe that a model's configuration has something to say on."""
    parts = {part: config[part] for part in ("conditioner", "denoiser", "sampler")}
    known = config.get("data", {})
    pipeline = {key: value for key, value in config.get("preprocess", {}).items() if key != "orientation"}
    return {
        **{part: {"name": described["name"], **described.get("config", {})} for part, described in parts.items()},
        "model": dict(config.get("model", {})),
        "data": {"name": known.get("name", ""), **known.get("parameters", {})},
        "preprocess": pipeline,
    }


def _sections(content: Mapping[str, Any], owner: str) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe; what else it says is text for people, so any other mapping is misspelt."""
    known = (*COMPONENT_SECTIONS, *SETTINGS)
    for key, value in content.items():
        if key in known and not isinstance(value or {}, Mapping):
            raise LongigenError(f"The {owner}: '{key}' must hold keys and values, got {value!r}.")
        if key not in known and isinstance(value, Mapping):
            raise LongigenError(f"The {owner} has no section '{key}'.{did_you_mean(key, known)}")
    return {section: dict(content.get(section) or {}) for section in known}


def _known(names: Mapping[str, str]) -> dict[str, dict[str, Parameter]]:
    """Return what can be set, by section."""
    known = {section: parameters(registry.load(kind, names[section])) for section, kind in COMPONENT_SECTIONS.items()}
    return known | {section: parameters(settings) for section, settings in SETTINGS.items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
