"""What several test files need."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import commandline
import hubserver
import nibabel
import numpy as np
import pytest
import torch

from longigen import Visit, Volume

torch.set_num_threads(1)  # tests run in two processes on two cores

SHARED = Path(__file__).parents[2] / "shared" / "data"


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


Longigen = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def longigen(tmp_path_factory: pytest.TempPathFactory) -> Longigen:
    """Return a function that runs the command line as a process, in an empty HOME.

    With an environment of its own the process starts from nothing, else as `commandline.run` does.
    """
    home = tmp_path_factory.mktemp("home")

    def run(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        every = {**os.environ, "HOME": str(home), "COLUMNS": "120", **environment}
        if environment:
            command = [sys.executable, "-m", "longigen_cli", *words]
            result = subprocess.run(
                command, capture_output=True, text=True, cwd=home, env=every, timeout=300, check=False
            )
        else:
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


NewMachine = Callable[..., hubserver.Machine]


@pytest.fixture
def machine(hub: hubserver.Hub, tmp_path_factory: pytest.TempPathFactory) -> NewMachine:
    """Return a function that gives a new machine with an empty cache, which finds the Hub of the test.

    `machine(token=hub.token)` has the token in its environment.
    """

    def new(token: str = "") -> hubserver.Machine:
        return hubserver.Machine(tmp_path_factory.mktemp("machine"), hub.endpoint, token)

    return new


def visit_of(
    load: Callable[[], Volume],
    *,
    time: float = 0.0,
    shape: tuple[int, int, int] = (2, 2, 2),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    source: str = "visit.nii",
    covariates: Mapping[str, float] | None = None,
) -> Visit:
    """Return a visit that no cache has seen."""
    return Visit(time, load, shape, spacing, source, uuid.uuid4().hex, covariates or {})


def write_image(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def ball(size: tuple[int, int, int], radius: float) -> np.ndarray:
    """Return a volume with a bright ball on a smooth background, 0 to about 1000."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    return (900 / (1 + np.exp(12 * (distance - radius))) + 40 * (axes[0] + 1)).astype(np.float32)


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
