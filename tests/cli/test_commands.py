"""The command line as a process: training, generation and evaluation on files, and the messages of mistakes."""

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.files import ball, write_image
from helpers.processes import Longigen

SMALL = [
    "--set", "conditioner.dim=16", "--set", "conditioner.heads=2", "--set", "conditioner.depth=1",
    "--set", "denoiser.width=8", "--set", "denoiser.multipliers=1,2", "--set", "denoiser.heads=2",
    "--set", "sampler.steps=2", "--set", "validate_every=2", "--set", "sample_every=2", "--set", "checkpoint_every=2",
    "--set", "score_every=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(longigen: Longigen, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run trained on the balls of `manifest`."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    result = longigen("train", "--data", manifest, "--conditioner", "sadm", "--denoiser", "unet3d", *SMALL,
                      "--steps", 2, "--out", folder)  # fmt: skip
    assert "training 2/2" in result.stderr
    assert f"longigen evaluate {folder}" in result.stderr
    return folder


def test_folds_and_order_reach_the_run_and_its_files(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    out, tested = tmp_path / "made", []
    for fold in range(2):
        run = tmp_path / f"fold-{fold}"
        longigen("train", "--data", manifest, *SMALL, "--set", "folds=2", "--fold", fold, "--steps", 1,
                 "--set", "model.order=direct", "--out", run)  # fmt: skip
        tested += json.loads((run / "run.json").read_text())["split"]["test"]
    assert sorted(tested) == [f"s{number}" for number in range(8)]
    config = json.loads((run / "model" / "config.json").read_text())
    assert (config["data"]["split"]["folds"], config["data"]["split"]["fold"]) == (2, 1)
    assert config["model"]["order"] == "direct"
    longigen("generate", run, "--times", "+1,+2", "--subject", tested[-1], "--out", out)
    longigen("generate", run, "--times", "+2", "--subject", tested[-1], "--order", "autoregressive", "--out", out / "b")
    sidecars = sorted(out.glob(f"sub-{tested[-1]}/ses-*/anat/*.json"))
    found = {path.name: json.loads(path.read_text()) for path in sidecars}
    assert [(side["order"], side["generated_before"]) for side in found.values()] == [("direct", [])] * 2
    (other,) = (out / "b").glob("sub-*/ses-*/anat/*.json")
    assert json.loads(other.read_text())["order"] == "autoregressive"
    evaluated = longigen("evaluate", run, "--setting", "full", "--json")
    assert json.loads(evaluated.stdout)["generation"]["order"] == "direct"


def test_generate_writes_nifti_with_sidecars(longigen: Longigen, run: Path, manifest: Path, tmp_path: Path) -> None:
    longigen("generate", run, "--out", tmp_path, "--samples", 2, "--setting", "single", "--layout", "flat")
    split = json.loads((run / "run.json").read_text())["split"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".visits.lock", "contact-sheet.png", "data.json", *sorted(split["test"]), "visits.csv"]
    subject = split["test"][0]
    source = nibabel.load(manifest.parent / f"{subject}_0.nii.gz")
    paths = sorted((tmp_path / subject).glob("*.nii.gz"))
    assert len(paths) == 3 * (2 + 2)  # two samples, mean and std
    for time in ("1.1", "2.2", "3.3"):
        stem = f"{subject}_time-{time}_setting-single"
        ends = ("sample-0", "sample-1", "mean", "std")
        one, two, mean, std = (nibabel.load(tmp_path / subject / f"{stem}_{end}.nii.gz").get_fdata() for end in ends)
        np.testing.assert_allclose(mean, (one + two) / 2, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(std, np.abs(one - two) / np.sqrt(2), rtol=1e-5, atol=1e-3)
        assert std.max() > 0
        content = json.loads((tmp_path / subject / f"{stem}_std.json").read_text())
        assert (content["samples"], content["statistic"]) == (
            2,
            "standard deviation of the samples, divisor samples - 1",
        )
        assert content["sample_files"] == [f"{stem}_sample-{k}.nii.gz" for k in range(2)]
        assert "sample" not in content
    for path in paths:
        image = nibabel.load(path)
        np.testing.assert_array_equal(image.affine, source.affine)
        assert image.shape == source.shape
        assert image.header["descrip"].item().startswith(b"synthetic")
        data, known = image.get_fdata(), source.get_fdata()
        assert np.isfinite(data).all()
        assert known.min() - 1 <= data.min() or path.name.endswith("_std.nii.gz")
        assert data.max() <= known.max() + 1
        sidecar = json.loads(path.with_suffix("").with_suffix(".json").read_text())
        assert sidecar["synthetic"] is True
        assert sidecar["subject"] == subject
        assert [visit["time"] for visit in sidecar["history"]] == [0.0]
        assert (sidecar["detail"], sidecar["reference"]) == (True, sidecar["history"][0])
        assert len(sidecar["model"]["weights_sha256"]) == 64
    again, chosen = tmp_path / "again", ("--setting", "single", "--subject", subject, "--layout", "flat")
    longigen("generate", run, "--out", tmp_path / "bare", *chosen, "--no-detail")
    bare = tmp_path / "bare" / subject / f"{subject}_time-1.1_setting-single_sample-0.json"
    assert json.loads(bare.read_text())["detail"] is False
    longigen("generate", run, "--out", again, *chosen, "--batch-size", 1)
    refused = longigen("generate", run, "--out", again, *chosen, "--seed", 3, status=2)
    assert_one_sentence(refused, "is there already, generated with seed 0", "--overwrite")
    for path in sorted((again / subject).glob("*.nii.gz")):
        one, two = (nibabel.load(p).get_fdata() for p in (path, tmp_path / subject / path.name))
        np.testing.assert_allclose(one, two, atol=0.05)
    longigen("generate", run, "--out", again, *chosen, "--seed", 3, "--overwrite")
    assert {json.loads(path.read_text())["seed"] for path in again.glob("*/*.json")} == {3}


def test_generate_forecasts_and_explains(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    subject = json.loads((run / "run.json").read_text())["split"]["test"][0]
    longigen(
        "generate", run, "--out", tmp_path, "--times", "+1,6.5", "--subject", subject, "--explain", "--layout", "flat"
    )
    stems = [f"{subject}_time-{t}_setting-full_sample-0" for t in ("4.3", "6.5")]
    names = sorted(path.name for path in (tmp_path / subject).glob("*.nii.gz"))
    assert names == sorted(f"{stem}{end}.nii.gz" for stem in stems for end in ("", "_explain"))
    image, shares = (nibabel.load(tmp_path / subject / f"{stems[1]}{end}.nii.gz") for end in ("", "_explain"))
    np.testing.assert_array_equal(shares.affine, image.affine)
    assert shares.shape == (*image.shape, 5)
    np.testing.assert_allclose(shares.get_fdata().sum(axis=-1), 1, atol=1e-5)
    visits = json.loads((tmp_path / subject / f"{stems[1]}_explain.json").read_text())["visits"]
    assert [visit["origin"] for visit in visits] == ["given"] * 4 + ["generated"]
    assert [visit["time"] for visit in visits] == [0.0, 1.1, 2.2, 3.3, 4.3]
    assert sum(visit["mean_share_in_foreground"] for visit in visits) == pytest.approx(1)
    assert (tmp_path / subject / f"{stems[1]}_explain.png").read_bytes().startswith(b"\x89PNG")
    result = longigen("generate", run, "--out", tmp_path, "--times", "1.1", "--subject", subject, status=2)
    assert f"Time 1.1 cannot be generated for subject {subject}" in result.stderr
    assert "With --setting single only the first visit is given." in result.stderr


def test_evaluate_scores_samples_and_sets(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    chosen = ("psnr", "crps", "coverage", "spread-skill", "fid", "kid:seed=3")
    words = [word for name in chosen for word in ("--metric", name)]
    result = longigen(
        "evaluate", run, "--setting", "full", "--targets", "all", "--samples", 3, "--out", tmp_path, *words
    )
    for word in ("mean of 3", "crps ↓", "coverage → 0.50", "spread-skill → 1.00", "fid, N=6 ↓", "kid, N=6 ↓",
                 "fid: random resnet18, seed 0, stage 1 averaged, 3 planes", "jackknife"):  # fmt: skip
        assert word in result.stdout
    assert "Caution: fid of 6 visits in 64 dimensions" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 120
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["protocol"]["samples"] == 3
    rows = {row["method"]: row for row in summary["rows"]}
    blurred = ["copy-last blurred 0.5", "copy-last blurred 1"]
    assert list(rows) == ["copy-last", *blurred, "model", "model, mean of 3"]
    assert rows["copy-last"]["coverage"]["mean"] is None
    assert 0 <= rows["model, mean of 3"]["coverage"]["mean"] <= 1
    # The CRPS of a single sample is its absolute error.
    assert rows["model, mean of 3"]["crps"]["mean"] < rows["model"]["crps"]["mean"]
    assert rows["model"]["fid"]["mean"] > 0
    refused = longigen("evaluate", run, "--metric", "crps", status=2)
    assert "give --samples 2 or more" in refused.stderr


def test_evaluate_prints_copy_last(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    tmp_path, other = tmp_path / "scores", tmp_path / "other"
    result = longigen("evaluate", run, "--out", tmp_path)
    for word in ("copy-last", "model", "gain", "single", "missing", "full", "ssim", "psnr", "nrmse", "protocol"):
        assert word in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json", "strip.png", "subjects.csv", "summary.json", "table.txt",
    ]  # fmt: skip
    with (tmp_path / "subjects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 4  # two test subjects, three settings, the model and three copies
    by_hand = [float(row["psnr"]) for row in rows if row["setting"] == "full" and row["method"] == "copy-last"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    row = next(r for r in summary["rows"] if (r["setting"], r["method"]) == ("full", "copy-last"))
    assert row["psnr"]["mean"] == pytest.approx(np.mean(by_hand))
    assert (row["psnr"]["low"], row["psnr"]["high"]) == (None, None)  # two subjects have no interval
    machine = longigen("evaluate", run, "--setting", "full", "--metric", "psnr", "--json")
    parsed = json.loads(machine.stdout)
    assert parsed["protocol_hash"] != summary["protocol_hash"]  # other settings: another protocol
    assert parsed["protocol"]["space"] == "subject"
    shrunk = longigen(
        "evaluate", run, "--setting", "full", "--metric", "psnr", "--space", "model", "--format", "md", "--out", other
    ).stdout
    assert "target: last, on the model's grid" in shrunk
    assert "| setting | metric | copy-last |" in shrunk
    compared = longigen("compare", f"a={tmp_path}", f"b={tmp_path}", "--metric", "psnr", "--format", "csv").stdout
    lines = list(csv.DictReader(compared.splitlines()))
    assert [line["model"] for line in lines[-2:]] == ["a", "b"]
    assert float(lines[-1]["difference_mean"]) == 0
    refused = longigen("compare", tmp_path, other, status=2)
    assert_one_sentence(refused, "different protocols", "space (subject, and model)", "preprocessing shape")


def test_resume(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    result = longigen("train", "--resume", "--out", copy, "--steps", 3)
    assert "training 3/3" in result.stderr
    assert "training 1/3" not in result.stderr
    assert (copy / "checkpoints" / "step-0000003").is_dir()


def test_info_of_a_run(longigen: Longigen, run: Path) -> None:
    shown = json.loads(longigen("info", run, "--json").stdout)
    assert shown["conditioner"]["name"] == "sadm"
    assert "attention" not in longigen("info", "raw", "--json").stderr


def assert_one_sentence(result: object, *words: str) -> None:
    """Check that the error on stderr is one sentence with the given words."""
    text = result.stderr.strip()  # type: ignore[attr-defined]
    last = text.splitlines()[-1]
    assert last.startswith("longigen: "), text
    assert "Traceback" not in text
    for word in words:
        assert word in last, last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--conditioner", "sdam"], ["no conditioner 'sdam'", "Did you mean 'sadm'"]),
        (["--denoiser", "unet"], ["no denoiser 'unet'", "Did you mean 'unet3d'"]),
        (["--recipe", "sadm-tinny"], ["no recipe 'sadm-tinny'", "Did you mean 'sadm-tiny'"]),
        (["--set", "denoiser.widht=3"], ["no 'widht'", "Did you mean 'width'"]),
        (["--set", "colour=3"], ["there is no parameter of that name"]),
        (["--set", "lr=3"], ["Did you mean 'learning_rate'"]),
        (["--gpu"], ["has no option --gpu", "CUDA_VISIBLE_DEVICES"]),
        (["--learning-rate", "4"], ["has no option --learning-rate", "--set learning_rate=VALUE"]),
        (["--batch-size", "some"], ["batch_size must be a whole number of at least 1, got 'some'"]),
        (["--step", "4"], ["has no option --step", "Did you mean '--steps'"]),
        (["--set", "width"], ["KEY=VALUE"]),
        (["--set", "width=many"], ["width must be a whole number of at least 1, got 'many'"]),
        (["--set", "steps=3"], ["sampler.steps or training.steps"]),
        (["--data", "nowhere.csv"], ["nor a path named 'nowhere.csv'"]),
        (["--set", "subject_count=2"], ["2 subjects", "too few"]),
        (["--resume"], ["--resume", "--out"]),
        (["--size", "large"], ["The recipe 'sadm-tiny' has no size 'large'"]),
        (["--set", "fold=1"], ["There is no split.fold = 1"]),
        (["--set", "preprocess.extent=100,100,0", "--set", "preprocess.shape=64,64,8"], ["only one of the two"]),
        (["--set", "preprocess.shape=64,64,0", "--set", "fit=resize"], ["a size of 0 and an extent need fit=crop"]),
        (["--set", "pad=zero"], ["pad must be one of 'background', 'edge', got 'zero'"]),
        (["--set", "training.missing=none"], ["missing must be one of 'mixed', 'slots', 'absent'"]),
    ],
)
def test_mistakes_of_train(longigen: Longigen, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    assert_one_sentence(longigen("train", *arguments, status=2), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "RUN", "--metric", "SSIM"], ["no metric 'SSIM'", "Did you mean 'ssim'"]),
        (["generate", "PARENT/bals"], ["There is no model at", "Did you mean", "balls"]),
    ],
)
def test_mistakes_of_names(longigen: Longigen, run: Path, arguments: list[str], words: list[str]) -> None:
    given = [word.replace("RUN", str(run)).replace("PARENT", str(run.parent)) for word in arguments]
    assert_one_sentence(longigen(*given, status=2, HF_HUB_OFFLINE="1"), *words)


def table(folder: Path, text: str) -> Path:
    path = folder / "visits.csv"
    path.write_text(text)
    return path


def rows(folder: Path, subjects: int = 5, visits: int = 2) -> list[str]:
    lines = ["subject,time,path"]
    for subject in range(subjects):
        for visit in range(visits):
            image = ball((12, 12, 10), 0.4 + 0.05 * visit + 0.01 * subject)
            path = write_image(folder / f"s{subject}_{visit}.nii.gz", image)
            lines.append(f"s{subject},{visit},{path.name}")
    return lines


def test_bad_data_is_named_before_training(longigen: Longigen, tmp_path: Path) -> None:
    good = rows(tmp_path)
    truncated = tmp_path / "s1_1.nii.gz"
    whole = truncated.read_bytes()

    def refused(text: list[str], *words: str, out: str = "run") -> None:
        data = table(tmp_path, "\n".join(text) + "\n")
        assert_one_sentence(
            longigen("train", "--data", data, *SMALL, "--steps", 1, "--out", tmp_path / out, status=2), *words
        )
        assert not (tmp_path / out / "checkpoints").exists()

    truncated.write_bytes(whole[: len(whole) * 3 // 4])
    refused(good, "s1_1.nii.gz", "subject s1", "truncated")
    truncated.write_bytes(whole)
    refused([*good, "s9,0,s0_0.nii.gz"], "s9", "only one visit")
    refused([*good, "s0,1,s1_0.nii.gz"], "subject s0", "two visits at time 1")
    # The same options with good data train.
    data = table(tmp_path, "\n".join(good) + "\n")
    longigen("train", "--data", data, *SMALL, "--steps", 1, "--out", tmp_path / "good")


def test_folders_that_cannot_be_written(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for folder in (file, file / "inside", Path("/proc/longigen")):
        assert_one_sentence(longigen("generate", run, "--out", folder, status=2), str(folder), "cannot be written")
        assert_one_sentence(longigen("evaluate", run, "--out", folder, status=2), str(folder), "cannot be written")
        assert_one_sentence(longigen("train", "--out", folder, status=2), str(folder))
    assert_one_sentence(longigen("train", "--out", run, status=2), "not empty", "--resume")
    assert file.read_text() == "precious"
    assert (run / "model" / "model.safetensors").exists()


def test_mistakes_about_models(longigen: Longigen, run: Path, manifest: Path, tmp_path: Path) -> None:
    assert_one_sentence(longigen("generate", tmp_path, "--out", tmp_path / "o", status=2), "has no model")
    assert_one_sentence(longigen("generate", "./nowhere", "--out", tmp_path / "o", status=2), "no model at")
    assert_one_sentence(
        longigen("generate", run, "--out", tmp_path / "o", "--subject", "s99", status=2), "no subject 's99'"
    )
    assert_one_sentence(
        longigen("generate", run, "--out", tmp_path / "o", "--sampler", "dpm", status=2), "no sampler 'dpm'"
    )
    assert_one_sentence(
        longigen("evaluate", run, "--metric", "psnrr", status=2), "no metric 'psnrr'", "Did you mean 'psnr'"
    )
    assert_one_sentence(longigen("generate", run / "model", "--out", tmp_path / "o", status=2), "--data")
    frames = ["--data", manifest, "--set", "time_unit=frames"]
    assert_one_sentence(longigen("generate", run, "--out", tmp_path / "o", *frames, status=2), "years", "frames")
    assert_one_sentence(
        longigen("evaluate", run, "--data", "sim-brain", "--part", "test", status=2), "not the data that the model"
    )
    assert_one_sentence(longigen("info", "sdam", status=2), "nothing named 'sdam'", "Did you mean 'sadm'")
    assert_one_sentence(longigen("check", "unet4d", status=2), "no component 'unet4d'")


def test_debug_shows_the_traceback(longigen: Longigen) -> None:
    assert "Traceback" in longigen("--debug", "info", "sdam", status=1).stderr
