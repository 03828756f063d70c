"""A configuration of a training in a file: the tree that ``run.json`` holds, or a part of it, in YAML or JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from longigen.errors import LongigenError, did_you_mean
from longigen.training.recipe import COMPONENT_SECTIONS, EARLIER_DEFAULTS, SETTINGS, Recipe
from longigen.utils.files import read_text, reason, user_path

KEYS = ("recipe", "origin", "split", "schedule", "micro_batch")
"""The keys of ``run.json``."""
SECTIONS = (*COMPONENT_SECTIONS, *SETTINGS)
ORIGIN: Mapping[str, tuple[type, ...]] = {
    "recipe": (str,),
    "components": (dict,),
    "data": (str, type(None)),
    "changes": (dict,),
    "size": (str,),
    "init": (bool,),
}
"""The keys of an origin (`Recipe.origin`), and the types of their values."""


@dataclass(frozen=True)
class RunConfig:
    """What a file says of a training; what it leaves out is as the recipe has it.

    Attributes:
        path: the file.
        recipe: values by section and key, with the ``name`` of a component.
        origin: which recipe of the catalog they are of, and how it was changed; see `Recipe.origin`.
        split: the subjects' ids by part, if the file is that of a run.
        note: what of the file is not used, in a sentence; None if all is.
    """

    path: Path
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, list[str]] | None = None
    note: str | None = None

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file; its names of components and keys of their sections are checked by `Recipe.resolve`.

        Raises:
            LongigenError: if it cannot be read, has an unknown key, or a value of the wrong kind.
        """
        path = user_path(path)
        try:
            content = yaml.load(read_text(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise LongigenError(f"{path} cannot be read ({reason(error)}); --config takes YAML or JSON.") from None
        content = {} if content is None else content
        if not isinstance(content, dict):
            raise LongigenError(f"{path} must hold keys and values, such as 'recipe:', as a run.json does.")
        for key in content:
            if key in SECTIONS and not (key == "split" and _is_split(content[key])):
                raise LongigenError(f"{path}: the section '{key}' belongs under 'recipe:', as in a run.json.")
            _require_known(key, KEYS, f"{path}: there is no '{key}'.", "keys")
        recipe, origin, split = (content.get(key) or {} for key in ("recipe", "origin", "split"))
        for key, value in (("recipe", recipe), ("origin", origin)):
            if not isinstance(value, dict):
                raise LongigenError(f"{path}: '{key}' must hold keys and values, got {value!r}.")
        for section, values in recipe.items():
            _require_known(section, SECTIONS, f"{path}: recipe has no section '{section}'.", "sections")
            if not isinstance(values or {}, dict):
                raise LongigenError(f"{path}: the section '{section}' must hold keys and values, got {values!r}.")
        for key, value in origin.items():
            _require_known(key, tuple(ORIGIN), f"{path}: origin has no '{key}'.", "keys")
            if not isinstance(value, ORIGIN[key]):
                raise LongigenError(f"{path}: origin.{key} cannot be {value!r}; leave it as it was written.")
        given = {section: dict(values or {}) for section, values in recipe.items()}
        if split:  # a run of an earlier version does not record all settings
            given = {
                section: {**EARLIER_DEFAULTS.get(section, {}), **given.get(section, {})}
                for section in dict.fromkeys([*given, *EARLIER_DEFAULTS])
            }
        return cls(path, given, origin, split or None, _note(content))

    def split_for(self, recipe: Recipe) -> Mapping[str, list[str]] | None:
        """Return the split of the run whose file this is, if a recipe has its data and settings of the split."""
        now = json.loads(json.dumps(recipe.to_dict()))
        same = all(now[section] == {**now[section], **self.recipe.get(section, {})} for section in ("data", "split"))
        return self.split if same else None


def config_text(recipe: Recipe) -> str:
    """Return a recipe as YAML that `RunConfig.read` reads, and that gives the same recipe and origin again."""
    content = {"origin": dict(recipe.origin), "recipe": recipe.to_dict()}
    plain = json.loads(json.dumps(content))  # lists for tuples
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes a list in one line."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _is_split(value: Any) -> bool:
    """Return whether this is a split as a run records it, and no settings of one."""
    return isinstance(value, dict) and all(
        isinstance(ids, list) and all(isinstance(name, str) for name in ids) for ids in value.values()
    )


def _require_known(key: Any, known: tuple[str, ...], problem: str, kind: str) -> None:
    if key not in known:
        raise LongigenError(f"{problem}{did_you_mean(str(key), known)} Its {kind}: {', '.join(known)}.")


def _note(content: Mapping[str, Any]) -> str | None:
    """Return in a sentence what a run did on the way and a repetition does not."""
    if not content.get("schedule"):
        return None
    steps = [str(change["steps"]) for change in content["schedule"] if isinstance(change, dict) and "steps" in change]
    return (
        f"The number of steps was changed while the run was trained ({', then '.join(steps)}); all steps follow the "
        "last now."
    )
