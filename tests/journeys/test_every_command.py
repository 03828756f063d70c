"""Every command once, on a small model: what `make test-lowest` runs, besides downloads, with the lowest versions."""

import json
from pathlib import Path

import pytest

import longigen as package
from helpers.models import FIXTURE
from helpers.processes import Longigen, NewMachine
from hubserver import Hub
from longigen.registry.registry import KINDS, registry
from longigen_cli.main import app

SMALL = [
    "--set", "conditioner.dim=16", "--set", "conditioner.heads=2", "--set", "conditioner.depth=1",
    "--set", "denoiser.width=8", "--set", "denoiser.multipliers=1,2", "--set", "denoiser.heads=2",
    "--set", "sampler.steps=2", "--set", "validate_every=2", "--set", "sample_every=2", "--set", "checkpoint_every=2",
]  # fmt: skip
COMMANDS = [command.name for command in app.registered_commands]
INSTALLED = [
    (kind, name) for kind in KINDS for name, claims in registry.entries(kind).items() if claims[0].problem() is None
]
"""Every component whose packages are all there."""


@pytest.fixture(scope="module")
def run(longigen: Longigen, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two steps on the manifest's balls."""
    folder = tmp_path_factory.mktemp("every-command") / "run"
    said = longigen("train", "--data", manifest, *SMALL, "--steps", 2, "--out", folder).stderr
    assert "training 2/2" in said
    return folder


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)


@pytest.mark.parametrize(("kind", "name"), INSTALLED)
def test_every_component_can_be_imported(kind: str, name: str) -> None:
    assert registry.load(kind, name).kind == kind


@pytest.mark.parametrize("command", COMMANDS)
def test_help(longigen: Longigen, command: str) -> None:
    assert f"longigen {command} [OPTIONS]" in longigen(command, "--help").stdout


def test_what_there_is(longigen: Longigen) -> None:
    found = json.loads(longigen("list", "--json").stdout)
    shown = {(section.removesuffix("s"), row["name"]) for section, rows in found.items() for row in rows}
    assert shown >= set(INSTALLED)
    assert json.loads(longigen("info", "sadm", "--json").stdout)["conditioner"]["summary"]


def test_generate(longigen: Longigen, run: Path, tmp_path: Path) -> None:
    subject = json.loads((run / "run.json").read_text())["split"]["test"][0]
    longigen("generate", run, "--times", "+1", "--subject", subject, "--explain", "--out", tmp_path)
    assert len(list(tmp_path.glob(f"sub-{subject}/ses-*/*/*.nii.gz"))) == 2


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "unipc", "euler"])
def test_generate_with_another_sampler(longigen: Longigen, run: Path, tmp_path: Path, sampler: str) -> None:
    subject = json.loads((run / "run.json").read_text())["split"]["test"][0]
    longigen(
        "generate", run, "--times", "+1", "--subject", subject, "--sampler", sampler, "--steps", 2, "--out", tmp_path
    )
    assert len(list(tmp_path.glob(f"sub-{subject}/ses-*/anat/*.nii.gz"))) == 1


@pytest.fixture(scope="module")
def segmenter(longigen: Longigen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a segmenter of two steps on simulated hearts."""
    folder = tmp_path_factory.mktemp("segmenter") / "segmenter"
    changes = ["subject_count=5", "data.shape=16,16,6", "frames=2", "steps=2", "width=4", "levels=2"]
    words = [word for change in changes for word in ("--set", change)]
    said = longigen("train-segmenter", "--data", "sim-heart", *words, "--out", folder).stderr
    assert "left ventricle: Dice 0." in said
    return folder


def test_train_codec(longigen: Longigen, tmp_path: Path) -> None:
    changes = ["subject_count=5", "data.shape=16,16,6", "frames=2", "steps=2", "codec_width=4", "patch=8,8,4"]
    words = [word for change in changes for word in ("--set", change)]
    said = longigen("train-codec", "--data", "sim-heart", *words, "--out", tmp_path / "codec").stderr
    assert "round trip: root mean square error" in said
    assert f"next: longigen train --codec {tmp_path / 'codec'}" in " ".join(said.split())
    said = longigen("generate", tmp_path / "codec", "--out", tmp_path / "made", status=2).stderr
    assert "holds a codec and no model" in said


def test_evaluate(longigen: Longigen, run: Path, segmenter: Path, tmp_path: Path) -> None:
    names = [word for kind, name in INSTALLED if kind == "metric" for word in ("--metric", name)]
    words = ["--setting", "full", "--samples", 2, "--segmenter", segmenter, *names, "--out", tmp_path]
    result = longigen("evaluate", run, *words)
    assert "copy-last" in result.stdout
    assert "ejection-fraction-error-left-ventricle" in result.stdout
    assert "The data set has no label maps" in result.stderr
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")


def test_bench(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    words = ["bench", "sadm-ablation", "--data", manifest, "--row", "linear", "--steps", 1, "--setting", "full"]
    assert "copy-last" in longigen(*words, "--out", tmp_path / "bench").stdout


def test_doctor(longigen: Longigen) -> None:
    assert "nothing is wrong" in longigen("doctor", "sim-heart", "--set", "subject_count=5").stdout


def test_check(longigen: Longigen) -> None:
    assert "FAIL" not in longigen("check", "psnr").stdout


def test_new_plugin(longigen: Longigen, tmp_path: Path) -> None:
    longigen("new-plugin", "mine", "--kind", "metric", "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "pyproject.toml").exists()


def test_a_model_that_ships(longigen: Longigen, tmp_path: Path) -> None:
    assert "verified" in longigen("pull", "sadm-sim-brain").stdout
    words = ["generate", "sadm-sim-brain", "--subject", "sim-0001", "--times", "+1", "--out", tmp_path]
    longigen(*words, "--part", "all")
    assert len(list(tmp_path.glob("sub-sim0001/ses-*/anat/*.nii.gz"))) == 1


def test_a_model_goes_to_the_hub_and_comes_back(hub: Hub, machine: NewMachine, run: Path) -> None:
    said = machine(token=hub.token).longigen("push", run, "lab/balls", "--public", "--yes").stdout
    assert said.splitlines()[-1] == "next: longigen pull hf-hub:lab/balls@v1"
    desk = machine()
    desk.longigen("pull", "hf-hub:lab/balls@v1")
    assert json.loads(desk.longigen("info", "hf-hub:lab/balls@v1", "--json", HF_HUB_OFFLINE="1").stdout)["parameters"]


def test_a_model_of_an_older_longigen(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", {name: (FIXTURE / name).read_bytes() for name in ("config.json", "model.safetensors")})
    desk = machine()
    desk.longigen("pull", "lab/brain")
    out = desk.home / "out"
    desk.longigen("generate", "lab/brain", "--subject", "sim-0001", "--times", "+1", "--out", out)
    assert len(list(out.glob("sub-sim0001/ses-*/anat/*.nii.gz"))) == 1
