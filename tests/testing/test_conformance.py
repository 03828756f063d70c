"""The conformance suite over everything that is installed, and every composition of what the project ships."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.conformance import COMPILES, COMPOSES, SLOW
from helpers.files import ball, write_image
from longigen.registry.registry import KINDS, registry
from longigen.testing import CHECKS, run_check
from longigen.testing.case import Case
from longigen.testing.composition import PARTS, composes_with_every_part, small_config

EVERY = [(kind, name, label) for kind in KINDS for name in registry.entries(kind) for label in CHECKS[kind]]

SMALL: dict[str, dict[str, Any]] = {
    "sim-brain": {"subject_count": 3},
    "sim-heart": {"subject_count": 3},
    "command": {
        "command": f"{sys.executable} {Path(__file__).parents[1] / 'helpers' / 'bright.py'} {{image}} {{labels}}"
    },
}


VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("conditioner", "sadm", {"bidirectional": True}),
    ("conditioner", "sadm", {"rates": 8.0, "missing": "mask"}),
    ("conditioner", "raw", {"rates": 8.0}),
    ("conditioner", "additive", {"covariates": ("age", "sex"), "visits": 2, "source": "last"}),
    ("sampler", "continuous", {"v": 1.0}),
    ("sampler", "regression", {"noise": True}),
    ("sampler", "transport", {"method": "adaptive"}),
    ("conditioner", "cronos", {"frames": 3}),
    ("conditioner", "cronos", {"time": "none"}),
    ("conditioner", "cronos", {"frames": 3, "time": "way"}),
]
"""What looks elsewhere, or draws something else, than by default."""


@pytest.fixture(scope="session")
def folders(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return something that each reader reads: two subjects of two visits."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("bids", "acdc", "nifti4d")}
    (made["bids"] / "dataset_description.json").write_text('{"Name": "balls", "BIDSVersion": "1.9.0"}')
    for subject in range(2):
        frames = [ball((9, 10, 8), 0.4 + 0.1 * subject + 0.1 * frame) for frame in range(3)]
        name = f"sub-{subject}"
        for session, frame in enumerate(frames):
            write_image(made["bids"] / name / f"ses-{session}" / "anat" / f"{name}_ses-{session}_T1w.nii.gz", frame)
        rows = "".join(f"ses-{session}\t{90 * session}\n" for session in range(3))
        (made["bids"] / name / f"{name}_sessions.tsv").write_text("session_id\tdays\n" + rows)
        patient = f"patient{subject:03d}"
        write_image(made["acdc"] / patient / f"{patient}_4d.nii.gz", np.stack(frames, axis=-1))
        (made["acdc"] / patient / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: NOR\nHeight: 170.0\nWeight: 70.0\n")
        write_image(made["nifti4d"] / f"cine{subject}.nii.gz", np.stack(frames, axis=-1))
    return {**made, "csv": manifest}


@pytest.fixture
def config(folders: dict[str, Path], request: pytest.FixtureRequest) -> dict[str, Any]:
    name = request.getfixturevalue("name")
    return (
        {"path": str(folders[name])}
        if name in folders
        else SMALL.get(name) or small_config(request.getfixturevalue("kind"), name)
    )


def skip_without_its_extra(kind: str, name: str) -> None:
    """Skip what needs packages that are optional and not installed; what does not load otherwise fails."""
    entry = registry.entry(kind, name)
    if entry.extra:
        pytest.skip(f"{kind} '{name}': {entry.problem()}")


def at_least(kind: str, name: str, label: str) -> Any:
    """Return a case, as a slow one if it compiles something else than the networks that are compiled most."""
    marks = [pytest.mark.slow] if label == COMPILES and name not in ("sadm", "additive", "unet3d") else []
    return pytest.param(kind, name, label, marks=marks)


@pytest.mark.parametrize(("kind", "name", "label"), [at_least(*case) for case in EVERY if case[2] != COMPOSES])
def test_conformance(kind: str, name: str, label: str, config: dict[str, Any]) -> None:
    skip_without_its_extra(kind, name)
    run_check(kind, label, name, config)


@pytest.mark.parametrize(("kind", "name", "changes"), VARIANTS, ids=str)
def test_variants(kind: str, name: str, changes: dict[str, Any]) -> None:
    for label in CHECKS[kind]:
        if label not in SLOW:
            run_check(kind, label, name, small_config(kind, name) | changes)


BASELINES = ("cronos", "linear", "raw", "source")
"""Conditioners whose compositions are left to the slow tests, for time; each is simpler than one of the others."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in BASELINES else [])
        for name in registry.entries("conditioner")
    ],
)
def test_matrix(name: str) -> None:
    """Every conditioner with every denoiser and every sampler, once, at small sizes."""
    composes_with_every_part(Case("conditioner", name, small_config("conditioner", name)))


@pytest.mark.parametrize("name", ["haar", pytest.param("kl", marks=pytest.mark.slow)])
def test_codecs_compose(name: str) -> None:
    """A codec with every conditioner, denoiser and sampler once or more."""
    run_check("codec", COMPOSES, name, small_config("codec", name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (*PARTS, "codec") for name in registry.entries(kind)]
)
def test_composition(kind: str, name: str) -> None:
    """What `longigen check` does, at the parts' own sizes."""
    run_check(kind, COMPOSES, name)
