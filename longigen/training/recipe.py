"""Recipes: named, complete choices of components and hyperparameters, and the user's changes to them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longigen.components.base import Parameter, checked, parameters
from longigen.components.changes import as_changes, parse_change
from longigen.components.privacy import private_keys, public_values
from longigen.data.augment import AugmentSettings
from longigen.data.open_dataset import find_dataset
from longigen.data.preprocess import PreprocessSettings
from longigen.data.split import SplitSettings
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.model_config import kinds_in
from longigen.models.settings import ModelSettings, Provenance
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.training.settings import TrainingSettings

if TYPE_CHECKING:
    from longigen.training.run_config import RunConfig

COMPONENT_SECTIONS = {
    "conditioner": "conditioner",
    "denoiser": "denoiser",
    "sampler": "sampler",
    "codec": "codec",
    "data": "dataset",
}
"""The sections of a recipe that choose a component, and the kind of component."""

DEFAULT_COMPONENTS = {"codec": "identity"}
"""The component of a section that a recipe may leave out, and that is then not written either."""

SETTINGS: Mapping[str, type[Any]] = {
    "model": ModelSettings,
    "preprocess": PreprocessSettings,
    "augment": AugmentSettings,
    "split": SplitSettings,
    "training": TrainingSettings,
}
"""The other sections of a recipe, and their settings classes."""

LOSS_SCALE = (("model", "target"), ("model", "residual_scale"))
"""The settings by which the loss is scaled: losses of models with other values cannot be compared."""

EARLIER_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"training": {"missing": "slots"}}
"""Values of settings that runs of earlier versions do not record and whose defaults are different now."""


@dataclass(frozen=True)
class Recipe:
    """A complete choice of components and hyperparameters.

    Attributes:
        names: the component's name of each section that chooses one: ``conditioner``, ``denoiser``, ``sampler``,
            ``codec`` and ``data``.
        configs: the checked configuration of each section: those above, and ``model``, ``preprocess``, ``augment``,
            ``split`` and ``training``.
        origin: the user's choice: the ``recipe`` of the catalog and its ``size`` if one was chosen, ``components`` and
            ``data`` instead of its own, and ``changes`` by ``section.key``, those of the size among them; empty if the
            recipe was not resolved from the catalog.
        overruled: values of the recipe's components and model settings that those of the model to fine-tune replace, in
            words.
    """

    names: Mapping[str, str]
    configs: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)
    overruled: Sequence[str] = field(default=(), compare=False)

    @classmethod
    def resolve(
        cls,
        name: str,
        *,
        components: Mapping[str, str | None] | None = None,
        data: str | None = None,
        changes: Sequence[str] = (),
        model: Mapping[str, Any] | None = None,
        size: str | None = None,
        config: "RunConfig | None" = None,
    ) -> "Recipe":
        """Return a recipe of the catalog with the user's changes.

        Args:
            name: name of a recipe in a ``registry.yaml``.
            components: names of components to use instead of the recipe's, by section; such a component has its own
                default configuration.
            data: a data set's name, a path that one recognises, or ``name:path``. The recipe's configuration of data
                applies only if this is the recipe's own data set, and so does its preprocessing, unless its grid
                follows the subjects (a size of 0 in ``preprocess.shape``) and so suits any data.
            changes: ``section.key=value``, or ``key=value`` if only one section has that key.
            model: configuration of a model to fine-tune (`longigen.hub.model_config`). Its components, settings,
                preprocessing and data set replace those of the recipe.
            size: name of one of the recipe's `sizes`, sets of changes that `changes` may change further.
            config: a file's components and values, which replace those of the recipe and of the model; what the other
                arguments say replaces them.

        Raises:
            LongigenError: if a name, size, key or value is unknown, of the wrong type, out of its range, or ambiguous.
        """
        content = dict(Catalog().recipe(name).content)
        sizes = _sizes(content.pop("sizes", None), owner=f"recipe '{name}'")
        if size is not None and size not in sizes:
            there_are = f"Its sizes: {', '.join(sizes)}." if sizes else "It has one size; leave --size out."
            raise LongigenError(f"The recipe '{name}' has no size '{size}'.{did_you_mean(size, sizes)} {there_are}")
        given = _sections(content, owner=f"recipe '{name}'")
        replaced = {section: chosen for section, chosen in (components or {}).items() if chosen}
        origin: dict[str, Any] = {"recipe": name, "components": {}, "data": None, "changes": {}}
        origin |= {} if config is None else config.origin
        wanted = given
        if model is not None:
            given = {**given, **_sections_of_model(model)}
        names = {section: _pop_name(section, given[section]) for section in COMPONENT_SECTIONS}
        stated: dict[str, Any] = {}
        if config is not None:
            stated = _stated(config, names, given, origin, keep_grid=model is not None)
        before = dict(names)
        origin["components"] = {**origin["components"], **replaced}
        if size is not None:
            origin["size"] = size
            changes = [*sizes[size], *changes]
        if model is not None:
            origin["init"] = True
        for section, chosen in replaced.items():
            _choose(names, given, section, chosen)
        if data is not None:
            origin["data"], settings = find_dataset(data)
            _choose_data(names, given, origin["data"], keep_grid=model is not None)
            given["data"] |= settings
        kept = {key: value for key, value in stated.items() if not _is_replaced(key.partition(".")[0], before, names)}
        changes = [*as_changes(kept), *changes]
        resolved = cls._checked(names, given, changes, {**origin, "changes": {}}, owner=f"recipe '{name}'")
        return resolved if model is None else replace(resolved, overruled=tuple(resolved._unlike(wanted)))

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], changes: Sequence[str] = (), origin: Mapping[str, Any] | None = None
    ) -> "Recipe":
        """Return the recipe that `to_dict` wrote, with changes.

        Args:
            content: what `to_dict` returned.
            changes: ``section.key=value``, or ``key=value`` if only one section has that key.
            origin: the user's choice before these changes, if known.
        """
        given = _sections(content, owner="run's recipe")
        for section, defaults in EARLIER_DEFAULTS.items():
            given[section] = {**defaults, **given[section]}
        names = {section: _pop_name(section, given[section]) for section in COMPONENT_SECTIONS}
        return cls._checked(names, given, changes, origin or {}, owner="run's recipe")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for JSON, by section; one with the default component is left out."""
        plain = {
            section: {key: _plain(value) for key, value in config.items()}
            for section, config in self.configs.items()
            if self.names.get(section, section) != DEFAULT_COMPONENTS.get(section)
        }
        return {
            section: {**({"name": self.names[section]} if section in self.names else {}), **config}
            for section, config in plain.items()
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """The user's choice as saved with a model: changes without paths and free text, and the names of the others."""
        changes: dict[str, Any] = {}
        private: list[str] = []
        for section, known in _parameters_by_section(self.names).items():
            changed = {key: self.configs[section][key] for key in known if f"{section}.{key}" in self._changes}
            changes |= {f"{section}.{key}": value for key, value in public_values(known, changed).items()}
            private += [f"{section}.{key}" for key in private_keys(known, changed)]
        return {**self.origin, "changes": changes, "withheld": private} if self.origin else {}

    @property
    def public(self) -> dict[str, Any]:
        """What `to_dict` returns, without paths and free text."""
        known = _parameters_by_section(self.names)
        return {
            section: {
                **({"name": self.names[section]} if section in self.names else {}),
                **public_values(known[section], config),
            }
            for section, config in self.configs.items()
        }

    @property
    def _changes(self) -> Mapping[str, Any]:
        return self.origin.get("changes", {})

    def component(self, section: str) -> Any:
        """Return the component that a section chooses, constructed with the section's configuration."""
        return registry.make(COMPONENT_SECTIONS[section], self.names[section], self.configs[section])

    def settings(self, section: str) -> Any:
        """Return the settings of a section that chooses no component, such as ``training``."""
        return SETTINGS[section](**self.configs[section])

    def _unlike(self, given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        """Yield, in words, each value that the model decides, differs from `given`, and the user did not change."""
        known = _parameters_by_section(self.names)
        for section in ("conditioner", "denoiser", "sampler", "model"):
            if given[section].get("name") != self.names.get(section):
                continue
            for key, parameter in known[section].items():
                value, other = self.configs[section][key], given[section].get(key, parameter.default)
                if f"{section}.{key}" not in self._changes and value != parameter.check(other):
                    scale = ", so losses cannot be compared" if (section, key) in LOSS_SCALE else ""
                    yield f"{section}.{key}={value} (recipe: {other}{scale})"

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
        known = _parameters_by_section(names)
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
            settings(**configs[section])  # raises an error for inconsistent values
        if origin:
            values = {f"{section}.{key}": _plain(configs[section][key]) for section, key in changed}
            origin = {**origin, "changes": {**origin.get("changes", {}), **values}}
        return cls(names, configs, origin)


def _stated(
    config: "RunConfig",
    names: dict[str, str],
    given: dict[str, dict[str, Any]],
    origin: dict[str, Any],
    *,
    keep_grid: bool,
) -> dict[str, Any]:
    """Return what a file says as changes of a recipe, by ``section.key``.

    First `names` and `given` become those of the file's origin, and of the components that it names, which `origin`
    then names too. Changes are those of the origin, and all values that these do not explain: those that a user wrote.

    Raises:
        LongigenError: if a component or a key is unknown, or a value is of the wrong type or out of range.
    """
    named = {section: config.recipe.get(section, {}).get("name") for section in COMPONENT_SECTIONS}
    for choice in ({**origin["components"], "data": origin["data"]}, named):
        for section in COMPONENT_SECTIONS:
            chosen = choice.get(section)
            if chosen is None or chosen == names[section]:
                continue
            if section == "data":
                origin["data"] = str(chosen)
                _choose_data(names, given, str(chosen), keep_grid=keep_grid)
            else:
                origin["components"] = {**origin["components"], section: str(chosen)}
                _choose(names, given, section, str(chosen))
    known = _parameters_by_section(names)
    found: dict[str, Any] = {}
    for full, value in origin["changes"].items():
        section, _, key = full.partition(".")
        if key in known.get(section, {}):
            found[full] = value
    for section, values in config.recipe.items():
        for key, value in values.items():
            if key == "name" and section in COMPONENT_SECTIONS:
                continue
            if key not in known[section]:
                raise LongigenError(
                    f"{config.path}: {section} has no '{key}'.{did_you_mean(str(key), known[section])} It has: "
                    f"{', '.join(known[section]) or 'nothing to set'}."
                )
            parameter, full = known[section][key], f"{section}.{key}"
            read = parameter.check(value, f"{config.path}, {section}")
            if full == "data.path":  # where the data are, as --data says it, and no change of a recipe
                given["data"]["path"] = value
                continue
            expected = found.get(full, given[section].get(key, parameter.default))
            if (parameter.required and expected is parameter.default) or read != parameter.check(expected):
                found[full] = value
    return found


def _choose(names: dict[str, str], given: dict[str, dict[str, Any]], section: str, chosen: str) -> None:
    """Let a section have another component, with its own defaults."""
    if chosen != names[section]:
        names[section], given[section] = chosen, {}


def _choose_data(names: dict[str, str], given: dict[str, dict[str, Any]], chosen: str, *, keep_grid: bool) -> None:
    """Let a recipe have another data set; a grid of a fixed size, unless it is kept, fits the recipe's data only."""
    if chosen != names["data"] and not keep_grid and 0 not in given["preprocess"].get("shape", ()):
        given["preprocess"] = {}
    _choose(names, given, "data", chosen)


def _is_replaced(section: str, before: Mapping[str, str], names: Mapping[str, str]) -> bool:
    return before.get(section) != names.get(section)


def _sections_of_model(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe that a model's configuration determines."""
    parts = {part: config[part] for part in kinds_in(config)}
    data = config.get("data", {})
    pipeline = dict(Provenance(config.get("preprocess", {}), data).explicit_preprocess)
    pipeline.pop("orientation", None)
    return {
        **{part: {"name": described["name"], **described.get("config", {})} for part, described in parts.items()},
        "model": dict(config.get("model", {})),
        "data": {"name": data.get("name", ""), **data.get("parameters", {})},
        "preprocess": pipeline,
    }


def _sections(content: Mapping[str, Any], owner: str) -> dict[str, dict[str, Any]]:
    """Return the sections of a recipe, refusing any other mapping as a misspelt section."""
    known = (*COMPONENT_SECTIONS, *SETTINGS)
    for key, value in content.items():
        if key in known and not isinstance(value or {}, Mapping):
            raise LongigenError(f"In the {owner}, '{key}' must hold keys and values, got {value!r}.")
        if key not in known and isinstance(value, Mapping):
            raise LongigenError(
                f"The {owner} has an unknown section '{key}'.{did_you_mean(key, known)} Sections: {', '.join(known)}."
            )
    return {section: dict(content.get(section) or {}) for section in known}


def _pop_name(section: str, content: dict[str, Any]) -> str:
    """Remove the name of the component from the content of its section and return it, or the default one."""
    return str(content.pop("name", DEFAULT_COMPONENTS.get(section, "")))


def _sizes(content: Any, owner: str) -> dict[str, list[str]]:
    """Return a recipe's sizes: by name, a list of changes ``section.key=value``."""
    sizes = {} if content is None else content
    if not isinstance(sizes, Mapping) or not all(
        isinstance(changes, list) and all(isinstance(change, str) for change in changes) for changes in sizes.values()
    ):
        raise LongigenError(f"In the {owner}, 'sizes' must map names to lists of changes section.key=value.")
    return {str(name): changes for name, changes in sizes.items()}


def _parameters_by_section(names: Mapping[str, str]) -> dict[str, dict[str, Parameter]]:
    """Return the parameters that can be set in each section of a recipe with these components."""
    known = {section: parameters(registry.load(kind, names[section])) for section, kind in COMPONENT_SECTIONS.items()}
    return known | {section: parameters(settings) for section, settings in SETTINGS.items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
