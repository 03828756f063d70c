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
    assert {"sadm-sim-brain", "additive-sim-brain", "sadm-sim-heart"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_they_are_small_and_report_copy_last(name: str) -> None:
    model = zoo_model(name)
    assert model.size <= MAX_BYTES
    result = MetricsFile.read(model.folder())
    assert result is not None  # of these weights
    assert result.content["protocol_hash"] == model.protocol
    results = {(row.setting, name): (row.values[name], copied) for row, name, copied in result.gains()}
    for setting, table in model.metrics.items():
        for metric, (mean, last) in table.items():
            value, copied = results[setting, metric]
            assert (mean, last) == (round(value.mean, 4), round(copied.mean, 4))
    card = (model.folder() / "README.md").read_text(encoding="utf-8")
    assert "copy-last" in card
    assert f"longigen generate {name}" in card


@pytest.mark.parametrize("name", SHIPPED)
def test_pull_and_generate_on_a_new_machine(name: str, longigen: Longigen, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "huggingface")}
    pulled = longigen("pull", name, **offline)
    assert pulled.stdout.splitlines()[-1] == f"next: longigen generate {name}"
    data = read_config(zoo_model(name).folder())["data"]
    subject = registry.load("dataset", data["name"])(**data["parameters"]).subjects()[0].id
    out = tmp_path / "generated"
    longigen("generate", name, "--part", "all", "--subject", subject, "--setting", "single", "--out", out, **offline)
    generated = sorted(out.glob(f"{subject}/*.nii.gz"))
    assert generated
    for path in generated:
        image = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        assert image.std() > 0
        assert np.isfinite(image).all()
