"""The models that ship with the package, used on a new machine without a network."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from helpers.processes import Longigen
from longigen.hub.metrics_file import MetricsFile
from longigen.hub.model_config import read_config
from longigen.hub.zoo import PACKAGE, ZooModel, zoo_model
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry

SHIPPED = [
    name
    for name, entries in Catalog().sections["models"].items()
    if entries[0].distribution == "longigen" and ZooModel.from_entry(entries[0]).source.startswith(PACKAGE)
]
MAX_BYTES = 8_000_000
"""Largest size of a model that ships with the package."""


def test_there_are_models_of_both_systems_and_of_both_organs() -> None:
    assert {"sadm-sim-brain", "additive-sim-brain", "sadm-sim-heart", "heart-acdc", "heart-sunnybrook"} <= set(SHIPPED)


def cine(path: Path) -> Path:
    """Write a short-axis series of two frames, of a ring that becomes smaller."""
    x, y = np.meshgrid(np.arange(110) - 54.5, np.arange(96) - 47.5, indexing="ij")
    frames = [np.repeat(np.exp(-(((np.hypot(x, y) - radius) / 4) ** 2))[..., None], 5, axis=2) for radius in (20, 15)]
    image = nibabel.Nifti1Image(np.stack(frames, axis=-1).astype(np.float32), np.diag([1.5, 1.5, 8, 1]))  # type: ignore[attr-defined]
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)  # type: ignore[attr-defined]
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_they_are_small_and_say_what_they_are_for(name: str) -> None:
    model = zoo_model(name)
    assert model.size <= MAX_BYTES
    card = (model.folder() / "README.md").read_text(encoding="utf-8")
    assert "copy-last" in card
    assert f"longigen generate {name}" in card
    if name.startswith("heart"):
        for heading in ("## Frames of your own heart", "## Data and citation", "## Nearest training images"):
            assert heading in card


def test_weights_of_real_hearts_have_the_licence_of_their_data() -> None:
    assert zoo_model("heart-acdc").licence == "CC-BY-NC-SA-4.0"
    folder = zoo_model("heart-acdc").folder()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-nc-sa-4.0" in card
    assert "## Cross-validation" in card  # they were trained on all patients, so they have no scores of their own
    assert not (folder / "metrics.json").exists()


@pytest.mark.parametrize("name", [name for name in SHIPPED if zoo_model(name).metrics])
def test_they_report_copy_last(name: str) -> None:
    model = zoo_model(name)
    result = MetricsFile.read(model.folder())
    assert result is not None  # of these weights
    assert result.content["protocol_hash"] == model.protocol
    results = {(row.setting, name): (row.values[name], copied) for row, name, copied in result.gains()}
    for setting, table in model.metrics.items():
        for metric, (mean, last) in table.items():
            value, copied = results[setting, metric]
            assert (mean, last) == (round(value.mean, 4), round(copied.mean, 4))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("sadm-sim-brain", "heart-acdc") else [pytest.mark.slow])
        for name in SHIPPED
    ],
)
def test_pull_and_generate_on_a_new_machine(name: str, longigen: Longigen, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "huggingface")}
    pulled = longigen("pull", name, **offline)
    assert pulled.stdout.splitlines()[-1] == f"next: longigen generate {name}"
    data, out = read_config(zoo_model(name).folder())["data"], tmp_path / "generated"
    if data["simulated"]:
        subject = registry.load("dataset", data["name"])(**data["parameters"]).subjects()[0].id
        options = ("--part", "all", "--subject", subject)
    else:
        subject, options = "cine", ("--data", cine(tmp_path / "cine.nii.gz"), "--times", "0.5,1")
    made = longigen("generate", name, *options, "--setting", "single", "--out", out, **offline)
    assert ("read as 0 at the first image and 1 at the last" in made.stderr) is not data["simulated"]
    generated = sorted(out.glob("sub-*/ses-*/anat/*.nii.gz"))
    assert generated
    for path in generated:
        image = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        assert image.std() > 0
        assert np.isfinite(image).all()
