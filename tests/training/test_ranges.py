"""Every numeric parameter of the shipped components and settings has a range, and values outside are refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.ranges import numbers
from longigen import LongigenError, Preprocess, Statistics
from longigen.components.base import Parameter, checked, parameters
from longigen.models.predict import GenerationSettings
from longigen.registry.registry import KINDS, registry
from longigen.training.recipe import COMPONENT_SECTIONS, SETTINGS, Recipe
from longigen_continuous import ContinuousSampler

COMPONENTS = [(kind, name) for kind in KINDS for name in registry.entries(kind)]
OTHERS = {**SETTINGS, "statistics": Statistics, "generation": GenerationSettings}
SECTIONS = [(section, name) for section, kind in COMPONENT_SECTIONS.items() for name in registry.entries(kind)] + [
    (section, "") for section in SETTINGS
]


def assert_ranges(known: dict[str, Parameter]) -> None:
    """Check that every number declares a range that contains its default, and that values outside are refused."""
    for parameter in known.values():
        if not parameter.required:
            assert parameter.check(parameter.default, "X") == parameter.default
        for number in numbers(parameter.annotation):
            assert number.limits is not None, f"{parameter.name} declares no range"
            for value in number.outside:
                with pytest.raises(LongigenError) as caught:
                    checked({parameter.name: parameter}, {parameter.name: value}, "The part 'x'")
                sentence = str(caught.value)
                assert sentence.startswith(f"The part 'x': {parameter.name} must be "), sentence
                assert sentence.endswith(f", got {value!r}."), sentence
                assert "\n" not in sentence


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_components(kind: str, name: str) -> None:
    cls = registry.load(kind, name)
    known = parameters(cls)
    assert_ranges(known)
    assert_refused(known, lambda given: cls(**({"path": Path(".")} if "path" in known else {}), **given))


@pytest.mark.parametrize("section", OTHERS)
def test_settings(section: str) -> None:
    known = parameters(OTHERS[section])
    assert_ranges(known)
    assert_refused(known, lambda given: OTHERS[section](**given))


def test_the_preprocessing_of_a_model() -> None:
    known = parameters(Preprocess._from_values)
    assert_ranges(known)
    assert_refused(known, lambda given: Preprocess.from_config({"shape": [8, 8, 8], **given}))


@pytest.mark.parametrize(("section", "name"), SECTIONS)
def test_changes_of_a_recipe(section: str, name: str) -> None:
    if section in SETTINGS:
        known, label, recipe = parameters(SETTINGS[section]), f"Section '{section}'", "sadm-tiny"
    else:
        kind = COMPONENT_SECTIONS[section]
        known, label, recipe = parameters(registry.load(kind, name)), f"The {kind} '{name}'", "sadm-tiny"
    data = (
        {"data": f"{name}:."} if section == "data" and "path" in known else {"data": name} if section == "data" else {}
    )
    components = {section: name} if name and section != "data" else {}

    def resolve(given: dict[str, Any]) -> Recipe:
        changes = [f"{section}.{key}={as_yaml(value)}" for key, value in given.items()]
        return Recipe.resolve(recipe, components=components, changes=changes, **data)

    assert resolve({}).configs[section].keys() == known.keys()
    assert_refused(known, resolve, label)


def assert_refused(known: dict[str, Parameter], make: Callable[[dict[str, Any]], object], owner: str = "") -> None:
    """Check that every value outside of a range is refused in one sentence that names the parameter."""
    for parameter in known.values():
        for number in numbers(parameter.annotation):
            for value in number.outside:
                with pytest.raises(LongigenError, match=rf"{re.escape(owner)}.*\b{parameter.name} must be ") as caught:
                    make({parameter.name: value})
                assert "\n" not in str(caught.value)


def as_yaml(value: Any) -> str:
    """Write a number, or a tuple of numbers, as after --set."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(repr(value), repr(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["split.validation=0.5", "split.test=0.5"], "split.validation = 0.5 and split.test = 0.5 leave nothing to"),
        (["preprocess.lower=60", "preprocess.upper=40"], "must satisfy 0 ≤ lower < upper ≤ 100, got 60.0 and 40.0"),
        (["training.freeze=conditioner,denoiser"], "training.freeze names both parts"),
    ],
)
def test_inconsistent_values_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(LongigenError, match=re.escape(message)):
        Recipe.resolve("sadm-tiny", changes=changes)


def test_a_constructor_that_refuses_with_a_value_error_is_one_sentence() -> None:
    class Picky(ContinuousSampler):
        def __init__(self, *, mood: str = "good") -> None:
            super().__init__()
            if mood != "good":
                raise ValueError("no sampler works in this mood")

    registry.register("sampler", "picky")(Picky)
    try:
        recipe = Recipe.resolve("sadm-tiny", components={"sampler": "picky"}, changes=["mood=bad"])
        with pytest.raises(LongigenError, match=r"^The sampler 'picky': no sampler works in this mood\.$") as caught:
            recipe.component("sampler")
        assert isinstance(caught.value.__cause__, ValueError)
    finally:
        registry.unregister("sampler", "picky")
