"""Damaged files are refused in a sentence or read right: no traceback, no hang, no changed voxel that is not said.

What is drawn from a seed, and what each damage may come to, is in `damage`.
"""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from damage import fault, images, models, tables

KINDS = {"images": images.draw, "tables": tables.draw, "models": models.draw}


def faults(kind: str, count: int, seed: int, folder: Path) -> list[str]:
    """Read `count` damaged files; return what was wrong with the outcomes."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _import_slow_modules(folder)
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            damaged = KINDS[kind](np.random.default_rng([seed, number]), place)
            if problem := fault(damaged):
                found.append(f"{kind} {seed} {number}: {damaged.name}: {damaged.expected.name}, but it {problem}")
            shutil.rmtree(place)
    return found


def _import_slow_modules(folder: Path) -> None:
    """Read a whole image, so that imports do not count as time of the first damaged file."""
    whole = images.original(np.random.default_rng(0))
    images.read(whole.write(folder, whole.head, whole.body), whole.frame)


@pytest.mark.parametrize(("kind", "count"), [("images", 110), ("tables", 50), ("models", 40)])
def test_some(kind: str, count: int, tmp_path: Path) -> None:
    assert faults(kind, count, 0, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("kind", "count"), [("images", 1100), ("tables", 600), ("models", 400)])
def test_many(kind: str, count: int, seed: int, tmp_path: Path) -> None:
    assert faults(kind, count, seed, tmp_path) == []
