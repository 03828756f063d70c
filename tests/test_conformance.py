"""The conformance suite over everything that is installed, and every composition of what the project ships."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from longigen.model import ModelSettings
from longigen.registry import KINDS, registry
from longigen.testing import CHECKS, Case, run_check, two_steps_and_a_visit
from longigen.testing.composition import PARTS

EVERY = [(kind, name, label) for kind in KINDS for name in registry.entries(kind) for label in CHECKS[kind]]
MATRIX = list(itertools.product(*(registry.entries(part) for part in PARTS)))
COMPOSES = "composes with every installed part"  # what the matrix below runs, at smaller sizes

SMALL: dict[str, dict[str, Any]] = {
    "sadm": {"dim": 16, "heads": 2},
    "unet3d": {"width": 8, "heads": 2, "blocks": 1},
    "sim-brain": {"subject_count": 3},
}


@pytest.fixture
def config(manifest: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    name = request.getfixturevalue("name")
    return {"path": str(manifest)} if name == "csv" else SMALL.get(name, {})


@pytest.mark.parametrize(("kind", "name", "label"), [case for case in EVERY if case[2] != COMPOSES])
def test_conformance(kind: str, name: str, label: str, config: dict[str, Any]) -> None:
    run_check(kind, label, name, config)


@pytest.mark.parametrize("target", ["image", "residual"])
@pytest.mark.parametrize(PARTS, MATRIX)
def test_matrix(conditioner: str, denoiser: str, sampler: str, target: Any) -> None:
    names = {"conditioner": conditioner, "denoiser": denoiser, "sampler": sampler}
    cases = {part: Case(part, name, SMALL.get(name, {})) for part, name in names.items()}
    two_steps_and_a_visit(cases, ModelSettings(target=target))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "label"), [case for case in EVERY if case[2] == COMPOSES])
def test_composition(kind: str, name: str, label: str) -> None:
    run_check(kind, label, name)
