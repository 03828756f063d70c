"""What several test files need."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import hubserver
from helpers import commandline
from helpers.files import SHARED, ball, write_image
from helpers.processes import Longigen, NewMachine
from helpers.sites import Site, clear_package_caches

torch.set_num_threads(1)  # tests run in two processes on two cores

LONGEST = (
    "data/test_cache.py::test_two_concurrent",
    "journeys/test_third_party.py",
    "registry/test_new_plugin.py",
    "testing/test_conformance.py::test_matrix",
    "hub/test_download.py",
    "hub/test_publish.py",
    "test_packaging.py",
    "training/test_processes.py",
    "evaluation/test_benchmark.py",
    "plugins/test_models.py",
)
"""The tests that take longest. They run first, so that what is left for two processes to share at the end is short."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first; the order is as it was otherwise."""
    items.sort(key=lambda item: not any(part in item.nodeid for part in LONGEST))


def pytest_collection_finish() -> None:
    """Leave what is imported by now out where Python looks for garbage: a million objects, a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data, or skip."""
    if not SHARED.exists():
        pytest.skip(f"the real data sets are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' cache of preprocessed visits out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGIGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LONGIGEN_CACHE_GB", "2")
        yield


@pytest.fixture(scope="session")
def longigen(tmp_path_factory: pytest.TempPathFactory) -> Longigen:
    """Return a function that runs the command line as a process, in an empty HOME; see `commandline.run`."""
    home = tmp_path_factory.mktemp("home")

    def run(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        every = {**os.environ, "HOME": str(home), "COLUMNS": "120", **environment}
        result = subprocess.CompletedProcess(words, *commandline.run(words, home, every, timeout=300))
        assert result.returncode == status, f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hubserver.Hub]:
    """Serve an empty Hub on loopback; what it serves and how to use it: see `hubserver`."""
    with hubserver.Hub(tmp_path_factory.mktemp("lfs")) as server:
        yield server
    assert not server.errors, "the server of the tests failed:\n" + "\n".join(server.errors)


@pytest.fixture
def machine(hub: hubserver.Hub, tmp_path_factory: pytest.TempPathFactory) -> NewMachine:
    """Return a function that gives a new machine with an empty cache, which finds the Hub of the test.

    `machine(token=hub.token)` has the token in its environment.
    """

    def new(token: str = "") -> hubserver.Machine:
        return hubserver.Machine(tmp_path_factory.mktemp("machine"), hub.endpoint, token)

    return new


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV of eight subjects, each with four visits of a ball that grows at the subject's own rate."""
    folder = tmp_path_factory.mktemp("balls")
    affine = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 3, 7], [0, 0, 0, 1]])  # LAS: the axes get flipped
    lines = ["subject,time,path,age"]
    for subject in range(8):
        for visit in range(4):
            radius = 0.3 + 0.02 * subject + 0.02 * (subject % 3 + 1) * visit
            path = write_image(folder / f"s{subject}_{visit}.nii.gz", ball((13, 12, 10), radius), affine)
            lines.append(f"s{subject},{visit * 1.1:.2f},{path.name},{60 + subject + visit}")
    table = folder / "visits.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]
    monkeypatch.undo()
    clear_package_caches()
