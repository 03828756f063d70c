"""Two contrasts per visit, one missing at some: doctor, train, generate, evaluate and report, from BIDS and CSV."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import longigen as public
from helpers.files import ball, write_image
from helpers.processes import Longigen
from longigen import LongigenError

SMALL = [
    *("conditioner.dim=16", "conditioner.heads=2", "conditioner.depth=1", "denoiser.width=8", "denoiser.heads=2"),
    *("denoiser.multipliers=1,2", "sampler.steps=2", "training.steps=3", "training.score_every=2"),
    *("training.track=none", "preprocess.shape=8,8,8", "preprocess.fit=resize"),
]
SUBJECTS, SIZE = 6, (12, 13, 10)
LACKING = {("T1w", 1, 1), ("FLAIR", 2, 0), ("FLAIR", 3, 0), ("FLAIR", 3, 1), ("FLAIR", 3, 2)}
"""Images that are not there, by contrast, subject and session; subject 3 never has a FLAIR."""


def options(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BIDS data set of growing balls: T1w, FLAIR (dark where the T1w is bright, in thicker slices), masks."""
    root = tmp_path_factory.mktemp("contrasts")
    (root / "dataset_description.json").write_text('{"Name": "balls", "BIDSVersion": "1.9.0"}', encoding="utf-8")
    for subject in range(SUBJECTS):
        rows = ["session_id\tage"]
        for session in range(3):
            stem = f"sub-{subject}_ses-{session}"
            place = root / f"sub-{subject}" / f"ses-{session}" / "anat"
            t1w = ball(SIZE, 0.4 + 0.03 * subject + 0.04 * session)
            images = {"T1w": (t1w, 2.0), "FLAIR": ((1000 - 0.8 * t1w).reshape(*SIZE[:2], 5, 2).mean(axis=3), 4.0)}
            for name, (values, step) in images.items():
                affine = np.diag([2.0, 2, step, 1])
                affine[2, 3] = (step - 2) / 2  # the middle of two slices
                if (name, subject, session) not in LACKING:
                    write_image(place / f"{stem}_{name}.nii.gz", values.astype(np.float32), affine)
            write_image(place / f"{stem}_label-ball_mask.nii.gz", (t1w > 500).astype(np.uint8))
            rows.append(f"ses-{session}\t{70 + session + 0.1 * subject:.1f}")
        (root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_two_contrasts_from_data_to_report(longigen: Longigen, data: Path, tmp_path: Path) -> None:
    run, out, scores = tmp_path / "run", tmp_path / "generated", tmp_path / "scores"
    found = json.loads(longigen("doctor", data, "--set", "suffix=T1w,FLAIR", "--json").stdout)
    kinds = {(finding["kind"], finding["subject"]) for finding in found["findings"]}
    assert {("missing-channel", "sub-1"), ("missing-channel", "sub-2"), ("no-channel", "sub-3")} <= kinds
    assert "channel-grid" in {kind for kind, _ in kinds}
    assert found["errors"] == 0

    said = longigen("train", "--data", data, *options("data.suffix=T1w,FLAIR", *SMALL), "--out", run).stderr
    assert "T1w is missing at 1 of 18 visits" in said
    assert "FLAIR is missing at 4 of 18 visits, among them all of 1 subjects, such as sub-3" in said
    statistics = json.loads((run / "model" / "config.json").read_text())["statistics"]
    assert statistics["channel_names"] == ["T1w", "FLAIR"]
    assert len(statistics["channel_stds"]) == 2

    refused = longigen("generate", run, "--set", "suffix=T1w", "--out", tmp_path / "no", status=2).stderr
    assert "was trained on the channels T1w,FLAIR and these data have one image per visit" in refused

    everybody = ["--part", "all", "--setting", "single"]
    longigen("generate", run, *everybody, "--samples", 2, "--out", out)
    with (out / "visits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    made = {(row["subject"], row["channel"]) for row in rows}
    assert made == {(f"sub-{n}", name) for n in range(SUBJECTS) for name in ("T1w", "FLAIR")} - {
        ("sub-2", "FLAIR"),  # not at the first visit, which alone is given
        ("sub-3", "FLAIR"),
    }
    for row in rows:
        path = out / row["path"]
        assert path.name.endswith(f"_{row['channel']}.nii.gz")
        image = nibabel.load(path)
        assert image.shape == ((12, 13, 5) if row["channel"] == "FLAIR" else SIZE)  # type: ignore[attr-defined]

    longigen(
        *("evaluate", run, "--part", "all", "--setting", "full", "--targets", "all", "--out", scores),
        *("--metric", "ssim", "--metric", "nrmse", "--metric", "dice"),
    )
    summary = json.loads((scores / "summary.json").read_text())
    assert list(summary["protocol"]["metrics"]) == ["ssim-T1w", "ssim-FLAIR", "nrmse-T1w", "nrmse-FLAIR", "dice-ball"]
    with (scores / "subjects.csv").open(newline="", encoding="utf-8") as file:
        scored = [row for row in csv.DictReader(file) if row["method"] == "copy-last"]
    assert {(r["subject"], r["visit"]) for r in scored if not r["ssim-T1w"]} == {("sub-1", "1")}
    assert {(r["subject"], r["visit"]) for r in scored if not r["ssim-FLAIR"]} == {
        *(("sub-2", "1"), ("sub-3", "1"), ("sub-3", "2")),
    }
    assert 0.5 < float(next(row["dice-ball"] for row in scored)) < 1
    page = tmp_path / "page.html"
    longigen("report", run, out, scores, "--data", data, "--set", "suffix=T1w,FLAIR", "--out", page)
    assert "sub-1 FLAIR" in page.read_text(encoding="utf-8")

    model = public.load(run)
    files = data / "sub-0"
    images = {
        "T1w": [files / f"ses-{n}" / "anat" / f"sub-0_ses-{n}_T1w.nii.gz" for n in range(2)],
        "FLAIR": [files / "ses-0" / "anat" / "sub-0_ses-0_FLAIR.nii.gz", None],
    }
    forecast = model.forecast(images, times=[70, 71], at="+1", progress=False)
    assert forecast.channels == ("T1w", "FLAIR")
    assert forecast.channel("FLAIR").visits[0].samples[0].data.shape == (12, 13, 5)
    with pytest.raises(LongigenError, match=r"has the channels T1w, FLAIR; choose one, such as forecast.channel"):
        _ = forecast.visits
    names = sorted(path.name for path in forecast.save(tmp_path / "flat", layout="flat"))
    assert names == [f"sub-0_ses-0_T1w_time-72_channel-{name}_sample-0.nii.gz" for name in ("FLAIR", "T1w")]
    with pytest.raises(LongigenError, match="trained on the channels T1w,FLAIR and these data have one image"):
        model.forecast(images["T1w"], times=[70, 71], at="+1", progress=False)


def test_two_columns_of_a_table_are_two_channels(longigen: Longigen, data: Path, tmp_path: Path) -> None:
    lines = ["subject,time,path_t1,path_flair"]
    for subject in range(SUBJECTS):
        for session in range(3):
            stem = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
            cells = [
                "" if (name, subject, session) in LACKING else f"{data}/{stem}_{name}.nii.gz"
                for name in ("T1w", "FLAIR")
            ]
            lines.append(",".join([f"s{subject}", str(session), *cells]))
    table = tmp_path / "visits.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan = longigen("plan", "--data", table, *options(*SMALL)).stdout
    assert "parameters" in plan
    table.write_text("\n".join([*lines, "s9,0,,"]) + "\n", encoding="utf-8")
    problem = longigen("train", "--data", table, *options(*SMALL), "--out", tmp_path / "run", status=2).stderr
    assert "line 20" in problem
    assert "has path_t1 '', which names no file, as no other column of an image does" in problem
