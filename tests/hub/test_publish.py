"""Tests of ``longigen push`` with the unmodified Hub client: what is uploaded, what is private, and errors."""

import getpass
import json
import os
import platform
import pty
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors import safe_open

import hubserver
from helpers import commandline
from helpers.files import ball, write_image
from helpers.processes import Longigen, NewMachine
from longigen import LongigenError, LongitudinalModel, ModelSummary, api
from longigen.models.open_codec import open_codec
from longigen.registry.registry import registry

SMALL = [
    "--set", "conditioner.dim=16", "--set", "conditioner.heads=2", "--set", "conditioner.depth=1",
    "--set", "denoiser.width=8", "--set", "denoiser.multipliers=1,2", "--set", "denoiser.heads=2",
    "--set", "score_every=0",
]  # fmt: skip
FILES = ["README.md", "config.json", "metrics.json", "model.safetensors"]
IDS = ["quaggamire", "zephyrine", "oxblood7", "wombatish", "kestrel9", "jacaranda"]
"""Subject ids that do not occur as words in a model card."""


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a CSV and a BIDS-like tree, both of six subjects with names."""
    folder = tmp_path_factory.mktemp("st-elsewhere")
    lines = ["subject,time,path,age"]
    for number, name in enumerate(IDS):
        rows = ["session_id\tage"]
        for visit in range(3):
            made = (1 + number / 100) * ball((9, 8, 10), 0.3 + 0.02 * number + 0.03 * (number % 3 + 1) * visit)
            path = write_image(folder / "tree" / f"sub-{name}" / f"ses-{visit}" / "anat"
                               / f"sub-{name}_ses-{visit}_acq-ward5_T1w.nii.gz", made)  # fmt: skip
            lines.append(f"{name},{visit * 1.5},{path.relative_to(folder)},{60 + visit}")
            rows.append(f"ses-{visit}\t{60 + visit * 1.5}")
        (folder / "tree" / f"sub-{name}" / f"sub-{name}_sessions.tsv").write_text("\n".join(rows) + "\n")
    (folder / "ward5.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(longigen: Longigen, private: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on the CSV, evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "ward5-secret"
    longigen("train", "--data", private / "ward5.csv", *SMALL, "--steps", 2, "--out", folder)
    result = longigen("evaluate", folder, "--setting", "full", "--metric", "psnr", "--metric", "ssim")
    assert f"Saved the scores to {folder / 'model' / 'metrics.json'}" in result.stderr
    return folder


@pytest.fixture
def here(hub: hubserver.Hub, monkeypatch: pytest.MonkeyPatch) -> hubserver.Hub:
    """Return the Hub, which this process uses too; tests of errors are faster without a process each."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def files_of(hub: hubserver.Hub, name: str, revision: str = "main") -> dict[str, bytes]:
    """Return the content of a repository's files."""
    found, repository = {}, hub.repositories[name]
    for path, entry in repository.resolve(revision).files.items():
        kept = hub.store.path(entry.pointer.sha256).read_bytes() if entry.pointer else repository.objects[entry.oid][1]
        found[path] = kept
    return {path: content for path, content in found.items() if path != ".gitattributes"}


def test_push_lists_uploads_and_tags(hub: hubserver.Hub, machine: NewMachine, run: Path) -> None:
    desk = machine(token=hub.token)
    result = desk.longigen("push", run, "lab/ward", "--yes")
    repository = hub.repositories["lab/ward"]
    commit = repository.resolve("v1")
    assert repository.private
    assert len(hub.requests("POST", "/api/models/lab/ward/commit/*")) == 1
    files = files_of(hub, "lab/ward", "v1")
    assert sorted(files) == FILES
    assert f"lab/ward at {hub.endpoint} (private, a new repository), as version v1" in result.stderr
    assert "covariates" not in result.stderr  # the conditioner uses none
    for name, content in files.items():
        assert re.search(rf"{re.escape(name)} +{len(content):,} bytes  sha256 [0-9a-f]{{64}}", result.stderr)
    assert result.stdout.splitlines() == [
        f"Published version v1 at {hub.endpoint}/lab/ward, commit {commit.oid}",
        "next: longigen pull hf-hub:lab/ward@v1",
    ]
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    again = json.loads(desk.longigen("push", run, "lab/ward", "--yes", "--json", "--message", "Again").stdout)
    assert (again["tag"], again["model"], again["private"]) == ("v2", "hf-hub:lab/ward@v2", True)
    assert again["commit"] == repository.tags["v2"] != repository.tags["v1"]
    assert repository.resolve("v2").title == "Again"
    assert sorted(again["files"]) == FILES
    assert repository.tags["v1"] == commit.oid  # an earlier version does not change


def test_evaluate_saves_only_publishable_metrics(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    kept = (run / "model" / "metrics.json").read_bytes()
    seen = longigen("evaluate", run, "--setting", "full", "--metric", "psnr", "--part", "train", "--out", tmp_path)
    assert "Saved the scores to" not in seen.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["data"]["unseen"] is False
    assert (run / "model" / "metrics.json").read_bytes() == kept
    model = longigen("evaluate", run / "model", "--data", json.loads((run / "run.json").read_text())["recipe"]["data"][
        "path"], "--setting", "full", "--metric", "psnr", "--metric", "ssim", "--out", tmp_path)  # fmt: skip
    assert "Saved the scores to" not in model.stderr
    assert (tmp_path / "metrics.json").read_bytes() == kept


def test_model_card(here: hubserver.Hub, run: Path) -> None:
    with api.publication(str(run), "lab/ward", licence="CC-BY-NC-4.0") as ready:
        text = (ready.folder / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.library_name == "longigen"
    assert card.data.license == "cc-by-nc-4.0"
    assert {"medical-imaging", "longitudinal", "3d", "diffusion", "sadm", "unet3d"} <= set(card.data.tags)
    assert card.data.base_model is None
    assert {(result.dataset_name, result.dataset_config) for result in card.data.eval_results} == {("csv", "full")}
    metrics = json.loads((run / "model" / "metrics.json").read_text())
    model, copied, blurred = metrics["rows"][3], metrics["rows"][0], metrics["rows"][2]
    assert [row["method"] for row in (copied, blurred, model)] == ["copy-last", "copy-last blurred 1", "model"]
    by_name = {result.metric_type: result for result in card.data.eval_results}
    assert by_name["psnr"].metric_value == pytest.approx(model["psnr"]["mean"], abs=1e-5)
    assert by_name["psnr"].metric_args["copy-last"] == pytest.approx(copied["psnr"]["mean"], abs=1e-5)
    args = by_name["psnr"].metric_args
    assert (args["space"], args["copy-last blurred 1"]) == ("subject", pytest.approx(blurred["psnr"]["mean"], abs=1e-5))
    assert f"Protocol `{metrics['protocol_hash']}`" in card.text
    assert "scored in the subjects' own space" in card.text
    assert "| setting | metric | copy-last | copy-last blurred 0.5 | copy-last blurred 1 | model | gain |" in card.text
    assert re.search(
        r"\| full \| psnr ↑ \|( \d+\.\d+ \|){4} [+-]\d+\.\d+ \|",
        card.text,  # one subject has no interval
    )
    for words in (
        "not a medical device",
        "synthetic",
        "trained on images of people",
        "1.5 to 3 years apart",
        "longigen pull hf-hub:lab/ward@v1",
        "longigen generate hf-hub:lab/ward@v1 --data PATH --out generated",
        "longigen train --recipe sadm-tiny --data csv:PATH --set conditioner.dim=16",
        "--set training.steps=2",
        "2 steps in",
        "CPU",
        "eprint = {2212.08228}",
        "6 subjects",
        "CC-BY-NC-4.0",
        "Means over subjects, n = 1",
    ):
        assert words in card.text, words


def test_covariates_that_a_model_uses_are_named(
    hub: hubserver.Hub, machine: NewMachine, longigen: Longigen, private: Path, tmp_path: Path
) -> None:
    options = ("--conditioner", "additive", "--set", "conditioner.covariates=age", "--set", "denoiser.width=8")
    longigen("train", "--data", private / "ward5.csv", *options, "--steps", 1, "--out", tmp_path / "run")
    result = machine(token=hub.token).longigen("push", tmp_path / "run", "lab/ages", "--yes")
    assert "The model card names these covariates of your data: age." in result.stderr
    assert "It uses the covariates age" in files_of(hub, "lab/ages")["README.md"].decode()


def test_notes_are_added_to_the_card(hub: hubserver.Hub, machine: NewMachine, run: Path, tmp_path: Path) -> None:
    desk, notes = machine(token=hub.token), tmp_path / "notes.md"
    notes.write_text("## Cross-validation\n\nFive folds: 20.1 dB.\n", "utf-8")
    failed = desk.longigen("push", run, "lab/noted", "--yes", "--notes", tmp_path / "none.md", status=2)
    assert "none.md cannot be read" in failed.stderr
    assert "lab/noted" not in hub.repositories
    desk.longigen("push", run, "lab/noted", "--yes", "--notes", notes)
    text = files_of(hub, "lab/noted", "v1")["README.md"].decode()
    assert text.index("## Metrics") < text.index("## Cross-validation\n\nFive folds: 20.1") < text.index("## Papers")
    assert "whether this one does was not tested, unless the publisher's notes say so." in text


def test_nothing_private_is_uploaded(
    here: hubserver.Hub, run: Path, private: Path, longigen: Longigen, tmp_path: Path
) -> None:
    tree = tmp_path / "tree-secret"
    longigen("train", "--data", private / "tree", "--set", "select=acq-ward5", "--init-conditioner", run,
             *SMALL, "--steps", 1, "--out", tree)  # fmt: skip
    longigen("evaluate", tree, "--setting", "full", "--metric", "psnr", "--out", tree / "scores")
    # Private values that a configuration, or a file in the folder, might have:
    config = json.loads((tree / "model" / "config.json").read_text())
    config["data"] |= {"path": str(private), "ids": IDS}
    config["training"]["changes"]["data.path"] = str(private / "tree")
    config["training"] |= {"author": getpass.getuser(), "device": str(private)}
    (tree / "model" / "config.json").write_text(json.dumps(config))
    (tree / "model" / "notes.txt").write_text(IDS[0])
    home = Path.home()
    secrets = [*IDS, "ward5", "secret", "st-elsewhere", str(private), str(tmp_path), str(run), str(home),
               "sub-q", "ses-0"]  # fmt: skip
    names = {getpass.getuser(), platform.node(), *map(os.environ.get, ("USER", "LOGNAME", "HOSTNAME"))} - {"", None}
    for source, name in ((run, "lab/table"), (tree, "lab/tree")):
        with api.publication(str(source), name) as ready:
            done = ready.publish()
        files = files_of(here, name)
        # The images of the tree are those that its conditioner was trained on, so it has no scores of unseen subjects.
        assert sorted(files) == [file for file in FILES if source == run or file != "metrics.json"]
        for file, content in files.items():
            for secret in secrets:
                assert secret.encode() not in content, (file, secret)
            # User names may have two letters, which occur in tensors by chance: check only the header of weights.
            words = content[: 8 + int.from_bytes(content[:8], "little")] if file.endswith(".safetensors") else content
            for user in names:
                assert not re.search(rb"\b" + re.escape(user).encode() + rb"\b", words), (file, user)
        with safe_open(source / "model" / "model.safetensors", framework="pt") as weights:
            assert set(weights.metadata()) == {"format"}
        commit = here.repositories[name].resolve(done.commit)
        assert not any(secret in f"{commit.title} {commit.message}" for secret in secrets)
    published = json.loads(files["config.json"])
    assert published["data"]["name"] == "bids"
    assert not {"author", "device"} & set(published["training"])
    assert published["training"]["initialised"] == {"conditioner": None}
    text = files["README.md"].decode()
    assert "--data bids:PATH --init-conditioner MODEL" in text
    assert "--set data.select=..." in text
    assert "conditioner of a model that is not published." in text
    assert "base_model" not in text


def test_pulled_model_generates_the_same_volumes(
    hub: hubserver.Hub, machine: NewMachine, longigen: Longigen, tmp_path: Path
) -> None:
    """The data set's parameters (here not the defaults) are part of the model."""
    folder = tmp_path / "run"
    longigen("train", "--set", "data.spacing=4", "--set", "data.subject_count=6", *SMALL, "--steps", 2, "--out", folder)
    subject = json.loads((folder / "run.json").read_text())["split"]["test"][0]
    asked = ("--subject", subject, "--setting", "single", "--steps", 2, "--layout", "flat")
    longigen("generate", folder, *asked, "--out", tmp_path / "made")
    words = ("--metric", "change-correlation", "--metric", "psnr")
    longigen("evaluate", folder, "--setting", "full", *words)
    result = machine(token=hub.token).longigen("push", folder, "lab/brains", "--yes", "--public")
    assert "No metrics" not in result.stderr
    assert "(PUBLIC, a new repository)" in result.stderr
    assert "Licence of the weights: Apache-2.0" in result.stderr
    assert not hub.repositories["lab/brains"].private
    laptop = machine()
    assert "longigen pull hf-hub:lab/brains@v1" in result.stdout
    pulled = laptop.longigen("pull", "hf-hub:lab/brains@v1").stdout
    assert "next: longigen generate hf-hub:lab/brains@v1" in pulled
    assert "sim-brain, simulated, full: psnr " in pulled  # not change-correlation, which is not defined for copy-last
    assert "apache-2.0" in pulled
    laptop.longigen("generate", "hf-hub:lab/brains@v1", *asked, "--out", laptop.home / "made", HF_HUB_OFFLINE="1")
    paths = sorted((tmp_path / "made" / subject).glob("*.nii.gz"))
    assert len(paths) > 1
    for path in paths:
        one, two = (nibabel.load(file) for file in (path, laptop.home / "made" / subject / path.name))
        np.testing.assert_array_equal(one.get_fdata(), two.get_fdata())
        np.testing.assert_array_equal(one.affine, two.affine)


def refused(run: Path, repository: str = "lab/ward", **given: object) -> str:
    with pytest.raises(LongigenError) as caught, api.publication(str(run), repository, **given) as ready:  # type: ignore[arg-type]
        ready.publish()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_missing_or_insufficient_token(here: hubserver.Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "may not write to stranger/ward" in refused(run, "stranger/ward")
    monkeypatch.setenv("HF_TOKEN", here.read_token)
    assert "use one with the role 'write'" in refused(run)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "refuses the token" in refused(run)
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no token" in refused(run)
    assert not here.repositories
    here.seed("lab/hidden", {"README.md": b"x"}, private=True)
    monkeypatch.setenv("HF_TOKEN", here.stranger_token)
    assert "may not write to lab/hidden" in refused(run, "lab/hidden")
    assert files_of(here, "lab/hidden") == {"README.md": b"x"}


def test_existing_repositories_and_tags(here: hubserver.Hub, run: Path) -> None:
    here.others |= {("datasets", "lab/scans"), ("spaces", "lab/demo")}
    assert "lab/scans is a dataset" in refused(run, "lab/scans")
    assert "lab/demo is a space" in refused(run, "lab/demo")
    here.seed("lab/ward", {"README.md": b"x", "metrics.json": b"{}", "kept.txt": b"y"})
    here.repositories["lab/ward"].tags |= {"v3": here.repositories["lab/ward"].resolve("main").oid}
    assert "already has a version 'v3'; give another --tag, or none for 'v4'" in refused(run, tag="v3")
    assert "already has a branch 'main'" in refused(run, tag="main")
    assert "is not a valid tag" in refused(run, tag="a b")
    assert "exists and is public, which push does not change; leave out --private" in refused(run, private=True)
    for name in ("ward", "lab/ward/x", "lab/wa rd", "hf-hub:lab/ward", ""):
        assert "The repository must be given as ORG/NAME" in refused(run, name)
    assert not here.requests("POST", "/api/models/*")
    with api.publication(str(run), "lab/ward", tag="1.0-beta") as ready:
        assert not ready.private
        here.seed("lab/ward", {"kept.txt": b"z"})
        with pytest.raises(LongigenError, match="changed by another commit meanwhile"):
            ready.publish()
    assert files_of(here, "lab/ward")["kept.txt"] == b"z"
    assert "1.0-beta" not in here.repositories["lab/ward"].tags


def test_failed_push_publishes_nothing(here: hubserver.Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here.seed("lab/ward", {"README.md": b"x"})
    here.faults.fail("*", 403, method="PUT", times=None)
    assert "The file storage of" in (message := refused(run))
    assert "answered with status 403" in message
    assert "(nothing was published)" in message
    here.faults.clear()
    here.faults.fail("*/commit/*", 500)
    assert "answered with status 500" in refused(run)
    assert files_of(here, "lab/ward") == {"README.md": b"x"}
    here.faults.fail("*/commit/*", 500)
    assert "but an empty repository was created" in refused(run, "lab/new")
    assert files_of(here, "lab/new") == {}
    here.faults.fail("*/tag/*", 500)
    assert "the files are published, as commit" in refused(run)
    assert not here.repositories["lab/ward"].tags
    commit = here.repositories["lab/ward"].resolve("main").oid
    with api.publication(str(run), "lab/ward") as ready:  # again: nothing to upload, only the tag
        assert (ready.publish().commit, here.repositories["lab/ward"].tags) == (commit, {"v1": commit})
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused(run)


def test_metrics_of_other_weights_are_not_published(here: hubserver.Hub, run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    metrics = again / "model" / "metrics.json"
    stale = json.loads(metrics.read_text())
    stale["model"]["weights_sha256"] = "0" * 64
    metrics.write_text(json.dumps(stale))
    assert (
        f"is of other weights than the model.safetensors beside it; evaluate again with 'longigen evaluate {again}'"
        in (refused(again))
    )
    metrics.write_text("{}")
    assert "was not written by 'longigen evaluate'" in refused(again)
    metrics.unlink()
    here.seed("lab/ward", {"metrics.json": b"of other weights", "kept.txt": b"y"})
    with api.publication(str(again), "lab/ward") as ready:
        assert ready.removed == ("metrics.json",)
        ready.publish()
    assert sorted(files_of(here, "lab/ward")) == ["README.md", "config.json", "kept.txt", "model.safetensors"]
    assert "It was not evaluated" in files_of(here, "lab/ward")["README.md"].decode()


def test_push_without_a_terminal_needs_yes(hub: hubserver.Hub, machine: NewMachine, run: Path) -> None:
    result = machine(token=hub.token).longigen("push", run, "lab/ward", status=2)
    assert (
        result.stderr == "longigen: There is no terminal to ask for confirmation, so nothing was published; add --yes "
        "to publish without it.\n"
    )
    assert not hub.requests()


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_push_asks_on_a_terminal(
    hub: hubserver.Hub, machine: NewMachine, run: Path, tmp_path: Path, answer: str, status: int
) -> None:
    ours, theirs = pty.openpty()
    desk, printed = machine(token=hub.token), [tmp_path / "stdout", tmp_path / "stderr"]
    streams = [Path(os.ttyname(theirs)), *printed]
    words = ["push", str(run), "lab/ward"]
    process = commandline.start(words, desk.home, desk.environment, streams, module="longigen_cli")
    os.write(ours, f"{answer}\n".encode())
    process.join(300)
    os.close(ours)
    os.close(theirs)
    stdout, stderr = (path.read_text() for path in printed)
    assert process.exitcode == status, stderr
    assert "Publish? [y/N]" in stderr
    assert ("lab/ward" in hub.repositories) == (status == 0)
    assert ("Nothing was published." in stderr) == (status == 1)
    assert ("longigen pull hf-hub:lab/ward@v1" in stdout) == (status == 0)


def test_push_to_hub_from_python(here: hubserver.Hub, run: Path) -> None:
    model = LongitudinalModel.from_pretrained(run)
    made = model.push_to_hub("owner/mine", tag="first", private=False, message="By hand")
    repository = here.repositories["owner/mine"]
    assert (made.name, repository.tags) == ("hf-hub:owner/mine@first", {"first": made.commit})
    assert (repository.private, repository.resolve("first").title) == (False, "By hand")
    assert sorted(files_of(here, "owner/mine")) == ["README.md", "config.json", "model.safetensors"]


def test_a_codec_is_published_as_a_model_is(here: hubserver.Hub, tmp_path: Path) -> None:
    """Its card and `longigen pull` say what it is for; what is downloaded is the same codec, and no model."""
    codec = registry.make("codec", "kl", {"halvings": 1, "code_channels": 2, "codec_width": 4}).compose(1)
    codec.measure([torch.rand(1, 1, 6, 7, 8) * 2 - 1])
    codec.training_record = {"training": {"steps": 2, "errors": {"rmse": 0.25}}, "data": {"name": "sim-heart"}}
    codec.save(tmp_path / "codec")
    with api.publication(str(tmp_path / "codec"), "lab/codec", licence="apache-2.0") as ready:
        ready.publish()
    files = files_of(here, "lab/codec")
    assert set(files) == {"config.json", "model.safetensors", "README.md"}
    text = files["README.md"].decode()
    assert "longigen train --codec hf-hub:lab/codec@v1" in text
    assert "A round trip changes validation images by 0.25" in text
    pulled = tmp_path / "pulled"
    pulled.mkdir()
    for name, content in files.items():
        (pulled / name).write_bytes(content)
    assert open_codec(str(pulled)).identity == codec.identity
    summary = ModelSummary.from_folder(pulled)
    assert (summary.is_codec, summary.parts) == (True, "codec kl")
    with pytest.raises(LongigenError, match="holds a codec and no model"):
        api.load(str(pulled))
