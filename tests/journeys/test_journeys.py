"""The commands doctor, train, generate and evaluate, one after the other, on each kind of data."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.files import ball, write_image
from helpers.processes import Longigen

SMALL = ["--set", "denoiser.width=8", "--set", "denoiser.heads=2", "--set", "conditioner.dim=16", "--steps", 2]
REAL = {
    "acdc": ("acdc", ["frames=3"], "32,32,6", {"lost-zooms"}),
    "sunnybrook": ("sunnybrook", ["pattern=*_ED_ES.nii.gz"], "32,32,6", set()),
    "ms_bids": ("ms_bids", ["validation=0", "test=0"], "24,24,24", {"no-split"}),
}


def options(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.mark.parametrize("name", [*REAL, "sim-heart"])
def test_journey(name: str, request: pytest.FixtureRequest, longigen: Longigen, tmp_path: Path) -> None:
    if name in REAL:
        folder, changes, shape, expected = REAL[name]
        data: Path | str = request.getfixturevalue("shared") / folder
    else:
        data, changes, shape, expected = name, ["subject_count=5", "data.shape=24,24,6", "frames=3"], "24,24,6", set()
    data_changes = [change for change in changes if "=0" not in change]
    status = 1 if "no-split" in expected else 0
    report = json.loads(longigen("doctor", data, *options(*data_changes), "--json", status=status).stdout)
    assert {finding["kind"] for finding in report["findings"]} == expected

    run, generated, evaluation = tmp_path / "run", tmp_path / "generated", tmp_path / "evaluation"
    longigen("train", "--data", data, *options(*changes, f"preprocess.shape={shape}"), *SMALL, "--out", run)
    part = ["--part", "train"] if "no-split" in expected else []
    longigen("generate", run, "--setting", "single", *part, "--layout", "flat", "--out", generated)
    paths = sorted(generated.glob("*/*.nii.gz"))
    assert paths
    inputs = sources(data)
    for path in paths:
        image = nibabel.load(path)
        assert np.isfinite(np.asarray(image.dataobj)).all()  # type: ignore[attr-defined]
        assert bytes(image.header["descrip"]).startswith(b"synthetic")  # type: ignore[attr-defined]
        if path.parent.name in inputs:  # exactly in the subject's own space
            source = nibabel.load(inputs[path.parent.name])
            np.testing.assert_array_equal(image.affine, source.affine)  # type: ignore[attr-defined]
            assert image.shape == source.shape[:3]  # type: ignore[attr-defined]
    longigen("evaluate", run, "--setting", "full", *part, "--out", evaluation)
    assert "copy-last" in (evaluation / "table.txt").read_text()


def test_stacks_of_different_sizes_in_one_data_set(longigen: Longigen, tmp_path: Path) -> None:
    """Stacks of 3 to 6 slices, 19 × 20 or 20 × 19 in plane: trained together, each generated in its own size."""
    lines, shapes = ["subject,time,path"], {}
    for number in range(8):
        width, height = ((19, 20), (20, 19))[number % 2]
        shapes[f"s{number}"] = (width, height, 3 + number % 4)
        for visit in range(3):
            data = ball(shapes[f"s{number}"], 0.4 + 0.05 * visit + 0.01 * number) + 100
            path = write_image(tmp_path / f"s{number}_{visit}.nii.gz", data, np.diag([1.5, 1.5, 8, 1]))
            lines.append(f"s{number},{visit},{path.name}")
    table = tmp_path / "visits.csv"
    table.write_text("\n".join(lines) + "\n")
    run = tmp_path / "run"
    chosen = options("preprocess.extent=30,30,0", "pad=edge", "batch_size=4", "augment.shift=0.1", "workers=1")
    result = longigen("train", "--data", table, *chosen, *SMALL, "--out", run)
    assert "grid 30 × 30 × all mm" in result.stderr
    made = [tmp_path / f"made-{size}" for size in (1, 8)]
    for folder, size in zip(made, (1, 8), strict=True):
        chosen = ("--setting", "single", "--part", "all", "--layout", "flat")
        longigen("generate", run, *chosen, "--batch-size", size, "--out", folder)
    files = sorted(made[0].glob("*/*.nii.gz"))
    assert len(files) == 16
    for path in files:
        image, other = (nibabel.load(folder / path.relative_to(made[0])) for folder in made)
        assert image.shape == shapes[path.parent.name]  # type: ignore[attr-defined]
        # Whatever else is in its batch.
        np.testing.assert_allclose(np.asarray(image.dataobj), np.asarray(other.dataobj), atol=1e-3)  # type: ignore[attr-defined]
    longigen("evaluate", run, "--setting", "full", "--part", "all", "--out", tmp_path / "scores")
    assert (tmp_path / "scores" / "strip.png").stat().st_size > 10_000


def sources(data: Path | str) -> dict[str, Path]:
    """Return one image of each subject."""
    if isinstance(data, str):
        return {}
    images = {path.parent.name: path for path in data.glob("patient*/*_4d.nii.gz")}
    images |= {path.name.removesuffix("_ED_ES.nii.gz"): path for path in data.glob("*_ED_ES.nii.gz")}
    return images | {path.parents[2].name: path for path in data.glob("sub-*/ses-1/anat/*.nii.gz")}


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a manifest of seven subjects with three visits each, where three subjects have bad files."""
    lines = ["subject,time,path"]
    for subject in range(7):
        for visit in range(3):
            data = ball((10, 10, 10), 0.3 + 0.03 * subject + 0.1 * visit)
            path = write_image(tmp_path / f"s{subject}_{visit}.nii.gz", data)
            lines.append(f"s{subject},{visit},{path.name}")
            if (subject, visit) == (1, 1):
                path.write_bytes(path.read_bytes()[:-200])
            if (subject, visit) == (2, 0):
                data[0, 0, 0] = np.nan
                write_image(path, data)
            if subject == 3 and visit:
                path.unlink()
    (tmp_path / "visits.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "visits.csv"


def test_bad_files_stop_training_unless_they_are_skipped(damaged: Path, longigen: Longigen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = longigen("train", "--data", damaged, *SMALL, "--out", run, status=2).stderr
    assert "s3_1.nii.gz (subject s3) does not exist" in refused
    assert f"add --skip-bad; to list them all, run 'longigen doctor {damaged}'" in refused

    run = tmp_path / "skipped"
    printed = longigen("train", "--data", damaged, *SMALL, "--skip-bad", "--out", run).stderr
    assert "Skipped: " in printed
    assert "s1_1.nii.gz (subject s1) is truncated or damaged" in printed
    assert "s2_0.nii.gz (subject s2) has 1 NaN" in printed
    assert "s3_0.nii.gz (subject s3) has only one visit that can be used" in printed
    split = json.loads((run / "run.json").read_text())["split"]
    assert sorted(name for part in split.values() for name in part) == ["s0", "s1", "s2", "s4", "s5", "s6"]

    evaluated = longigen("evaluate", run, "--setting", "full")  # skips what the run skipped
    assert "subjects not used in training" in evaluated.stdout
    assert "Skipped: " in evaluated.stderr
    out = tmp_path / "generated"
    generated = longigen("generate", run, "--data", damaged, "--part", "all", "--skip-bad", "--out", out)
    assert "6 subjects" in generated.stderr


def test_a_harmful_setting_is_warned_of(manifest: Path, longigen: Longigen, tmp_path: Path) -> None:
    changes = options("normalise=visit")
    printed = longigen("train", "--data", manifest, *changes, *SMALL, "--out", tmp_path / "run").stderr
    assert "longigen: preprocess.normalise=visit scales each visit separately, which removes changes" in printed
    assert "Warning" not in printed
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["preprocess"]["normalise"] == "visit"
    assert next(iter(config["preprocess"])) == "orientation"
