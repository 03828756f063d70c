"""The conformance suite over everything that is installed, and every composition of what the project ships."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ball, write_image

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
    "sim-heart": {"subject_count": 3},
}


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
    return {"path": str(folders[name])} if name in folders else SMALL.get(name, {})


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
