"""Reports and the viewer: what is in the pages, and that they are complete in themselves."""

import gzip
import json
import re
import threading
from base64 import b64decode
from dataclasses import dataclass
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from helpers.files import write_image
from helpers.models import FIXTURE
from helpers.processes import Longigen
from longigen import LongigenError, View, evaluate, generate, report, view
from longigen.hub.metrics_file import COPIES
from longigen.reporting.charts import training_curves
from longigen.reporting.results import Result
from longigen.reporting.server import ViewerServer
from longigen.reporting.training import Training
from longigen.reporting.viewer import viewer_page
from longigen.training.recipe import Recipe
from longigen.training.run import Run


@dataclass(frozen=True)
class Made:
    """A folder with generated visits and scores of the same model."""

    folder: Path
    manifest: Path
    page: str

    @property
    def generated(self) -> Path:
        return self.folder / "generated"

    @property
    def scores(self) -> Path:
        return self.folder / "scores"


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    quiet: dict[str, Any] = {"data": manifest, "progress": False}
    generate(FIXTURE, folder / "generated", setting="full", subjects=["s0", "s1", "s2"], **quiet)
    scored: dict[str, Any] = {"settings": ["single", "full"], "targets": "all", "metrics": ["ssim", "psnr", "coverage"]}
    evaluate(FIXTURE, out=folder / "scores", samples=2, part="all", **scored, **quiet)
    written = report(folder, folder / "report.html", **quiet)
    assert written.subjects == 3
    return Made(folder, manifest, written.path.read_text("utf-8"))


def scenes_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="scenes">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def volume_of(page: str, key: str) -> nibabel.Nifti1Image:
    found = re.search(rf'<script type="text/plain" id="volume-{re.escape(key)}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(b64decode(found[1])))


def test_the_page_is_complete_in_itself(made: Made) -> None:
    assert "connect-src 'none'" in made.page
    loaded = re.findall(r"""<(?:img|script|link|iframe)[^>]*?(?:src|href)=["']([^"']{0,30})""", made.page)
    assert loaded
    assert all(place.startswith("data:") for place in loaded)
    assert not re.search(r"@import|url\((?!data:)", made.page.partition("<body>")[0])
    assert "BSD 2-Clause License" in made.page
    assert "NiiVue 0.69.0" in made.page


def test_its_numbers_are_those_of_the_files(made: Made) -> None:
    result, text = Result.read(made.scores), unescape(made.page)
    assert f"<code>{result.protocol_hash}</code>" in made.page
    for row in result.rows:
        for name, value in row.values.items():
            assert value.cell() in text, (row.setting, row.method, name)
            if row.method not in COPIES and row.gains[name].subjects:
                assert row.gains[name].cell(signed=True) in text
    assert "copy-last blurred 1" in text
    for title in ("Similarity of each visit", "Gain of each subject", "Calibration: coverage"):
        assert f"<h3>{title}</h3>" in text
    visits = result.by_visit("single", "model", "ssim")
    assert sorted(visits) == [1, 2, 3]
    assert visits[2].subjects == 8
    assert "Training curves are left out: none of the folders is a run." in text


def test_training_curves_have_the_loss_by_noise_level_and_the_gain_over_copy_last(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write(Recipe.resolve("sadm-tiny"), {"train": ["a"], "validation": [], "test": []})
    for step in (10, 20):
        line = {"loss": 1.0, "loss_q0": 0.5, "loss_q3": 2.0, "gradient_norm": 1.0, "learning_rate": 1e-3}
        run.log({"step": step, **line, "training_subjects_loss": 0.9})
    run.log({"step": 30, "validation_ssim": 0.9, "validation_ssim_gain": -0.1, "validation_psnr_gain": 2.0})
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text('{"training": {"steps": 30}}')
    training = Training.read(tmp_path)
    drawn = training_curves(training)
    assert drawn is not None
    text = b64decode(drawn.partition("base64,")[2]).decode()
    titles = ("loss", "loss by noise level", "SSIM, gain over copy-last", "PSNR, gain over copy-last")
    for words in (*titles, "gradient norm", "learning rate", "least noise", "most noise", "training subjects loss"):
        assert f"<!-- {words} -->" in text
    for words in ("less noise", "loss q0", "validation ssim", "steps per second"):
        assert f"<!-- {words} -->" not in text
    assert training.facts["best validation"] == "at step 30"


def test_subjects_are_ranked_by_the_scores_of_the_same_weights(made: Made) -> None:
    gains = Result.read(made.scores).gains("full", "model", "ssim")
    expected = [subject for subject in gains if subject in ("s0", "s1", "s2")]
    assert [scene["title"] for scene in scenes_of(made.page)] == [f"{subject} (full)" for subject in expected]
    assert f"ssim minus copy-last's {gains[expected[0]]:+.4f}" in unescape(made.page)


def test_the_viewers_volumes_are_the_files_rounded(made: Made) -> None:
    scene = next(each for each in scenes_of(made.page) if each["title"] == "s1 (full)")
    assert [stop["label"] for stop in scene["stops"]] == [
        "given, 0 years", "generated, 1.1 years", "generated, 2.2 years", "generated, 3.3 years",
    ]  # fmt: skip
    last = scene["stops"][-1]
    assert [other["label"] for other in last["against"]] == ["true, 3.3 years", "last given, 2.2 years"]
    low, high = scene["window"]
    for key, path in (
        (last["key"], made.generated / "sub-s1/ses-3p3years/anat/sub-s1_ses-3p3years_desc-synthetic_T1w.nii.gz"),
        (last["against"][0]["key"], made.manifest.parent / "s1_3.nii.gz"),
    ):
        shown, own = volume_of(made.page, key), nibabel.as_closest_canonical(nibabel.load(path))
        offset = np.linalg.inv(own.affine) @ shown.affine
        start = np.rint(offset[:3, 3]).astype(int)
        np.testing.assert_allclose(offset[:3, :3], np.eye(3), atol=1e-6)
        box = tuple(slice(first, first + length) for first, length in zip(start, shown.shape, strict=True))
        clipped = np.clip(np.asarray(own.dataobj)[box], low, high)
        assert np.abs(shown.get_fdata() - clipped).max() <= (high - low) / 255 / 2 * 1.01


def test_other_images_are_not_taken_for_the_given_ones(made: Made, manifest: Path, tmp_path: Path) -> None:
    table = manifest.read_text().splitlines()
    for line in table[1:]:
        name = line.split(",")[2]
        image = nibabel.load(manifest.parent / name)
        write_image(tmp_path / name, np.asarray(image.dataobj) + 1, image.affine)
    (tmp_path / "visits.csv").write_text("\n".join(table))
    found = report(made.generated, tmp_path / "other.html", data=tmp_path / "visits.csv", progress=False)
    assert any("other images than the ones that were given" in sentence for sentence in found.left_out)
    alone = report(made.generated, tmp_path / "alone.html", progress=False)
    assert any("give their data with --data" in sentence for sentence in alone.left_out)
    assert scenes_of(alone.path.read_text("utf-8"))[0]["stops"][0]["against"] == []


def test_view_of_files_compares_them_on_the_first_grid(manifest: Path, tmp_path: Path) -> None:
    first, second = manifest.parent / "s0_0.nii.gz", manifest.parent / "s0_3.nii.gz"
    image = nibabel.load(first)
    wide = image.affine @ np.diag([2, 2, 2, 1])
    other = write_image(tmp_path / "wide.nii.gz", np.asarray(image.dataobj)[::2, ::2, ::2], wide)
    opened = view([first, second, other], progress=False)
    assert opened.notes == (
        ["wide.nii.gz have another grid than s0_0.nii.gz, onto which they are interpolated to be compared."]
    )
    stops = scenes_of(opened.save(tmp_path / "view.html").read_text("utf-8"))[0]["stops"]
    assert [stop["label"] for stop in stops] == ["s0_0.nii.gz", "s0_3.nii.gz", "wide.nii.gz"]
    assert (
        len({volume.shape for volume in (volume_of((tmp_path / "view.html").read_text(), s["key"]) for s in stops)})
        == 1
    )


def test_the_server_gives_the_page_and_its_volumes_to_this_machine_alone(made: Made) -> None:
    opened = View.open([made.generated], data=str(made.manifest))
    page = viewer_page(opened.scenes, opened.title, inside=False)
    with ViewerServer(page, opened.volumes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:

            def get(path: str, host: str | None = None) -> tuple[int, bytes]:
                connection = HTTPConnection("127.0.0.1", server.server_port, timeout=300)
                connection.request("GET", path, headers={} if host is None else {"Host": host})
                answer = connection.getresponse()
                return answer.status, answer.read()

            key = next(iter(opened.volumes))
            assert get("/") == (200, page.encode())
            assert get(f"/volumes/{key}") == (200, opened.volumes[key])
            assert get("/volumes/none")[0] == get("/etc/passwd")[0] == 404
            assert get("/", host="elsewhere.example")[0] == 403
            assert server.server_address[0] == "127.0.0.1"
        finally:
            server.shutdown()
    assert 'id="volume-' not in page


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (lambda folder: report(folder / "none"), "does not exist"),
        (lambda folder: report(folder), "holds no run, result or generated visits"),
        (lambda folder: view(folder), "holds no generated visits"),
        (lambda folder: view(folder / "none.nii.gz"), "does not exist"),
        (lambda folder: view(folder / "text.nii.gz"), "text.nii.gz"),
        (lambda folder: view(folder / "text.nii.gz", data="sim-brain"), "--data is for folders"),
    ],
)
def test_a_mistake_is_one_sentence(command: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("not an image")
    with pytest.raises(LongigenError, match=re.escape(words)):
        command(tmp_path)


def test_commands(longigen: Longigen, made: Made, tmp_path: Path) -> None:
    written = longigen("report", made.generated, "--data", made.manifest, "--out", tmp_path / "page.html")
    assert "pictures of 3 subjects" in written.stderr
    assert "Scores are left out" in written.stderr
    shown = longigen("view", made.generated, "--data", made.manifest, "--out", tmp_path / "view.html")
    assert "Wrote" in shown.stderr
    assert len(scenes_of((tmp_path / "view.html").read_text("utf-8"))) == 3
    failed = longigen("view", tmp_path / "none", status=2)
    assert failed.stderr.startswith("longigen: ")
    assert failed.stderr.count("\n") == 1
