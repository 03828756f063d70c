"""Models saved as folders, and loaded again."""

import json
import sys
from pathlib import Path

import pytest
import torch

from helpers.processes import NewMachine
from helpers.sites import SCALE, Site
from hubserver import Hub
from longigen import LongigenError, LongitudinalModel
from longigen.data.statistics import Statistics
from longigen.hub.model_config import CONFIG_SCHEMA_VERSION
from longigen.models.settings import ModelSettings, Provenance
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen_continuous import ContinuousSampler
from longigen_sadm import SADMConditioner
from longigen_unet3d import UNet3D


@pytest.fixture(scope="module")
def model() -> LongitudinalModel:
    torch.manual_seed(0)
    model = LongitudinalModel(
        SADMConditioner(dim=16, heads=2, depth=1, patch=(2, 2, 2)),
        UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2),
        ContinuousSampler(prediction="v", steps=2),
        settings=ModelSettings(guidance=0.3, p_uncond=0.2),
        statistics=Statistics(residual_std=0.2, time_scale=1.5, time_unit="days", covariates=("age",)),
        provenance=Provenance({"shape": [8, 8, 8]}, {"name": "sim-brain"}),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture
def folder(model: LongitudinalModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(model: LongitudinalModel, folder: Path) -> None:
    again = LongitudinalModel.from_pretrained(folder)
    assert again.settings == model.settings
    assert again.statistics == model.statistics
    assert again.provenance == model.provenance
    for part in ("conditioner", "denoiser", "sampler"):
        assert getattr(again, part).config == getattr(model, part).config
    visits = history((6, 7, 5))
    times = after(visits)[:, None]
    assert torch.equal(model.generate(visits, times), again.generate(visits, times))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_config_names_the_distribution_of_each_component(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["schema_version"] == CONFIG_SCHEMA_VERSION
    assert config["conditioner"]["name"] == "sadm"
    assert config["conditioner"]["distribution"] == "longigen"
    assert config["conditioner"]["config"]["patch"] == [2, 2, 2]
    assert config["statistics"]["residual_std"] == 0.2


def edited(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_refusals(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    absent = {"name": "wonder", "distribution": "longigen-wonder", "version": "2.0", "config": {}}
    for changes, message in [
        ({"schema_version": 99}, "newer than this longigen reads"),
        ({"library_name": "other"}, "not the configuration of a longigen model"),
        (
            {"denoiser": absent},
            r"'wonder' of longigen-wonder 2\.0, which is not installed.*pip install longigen-wonder",
        ),
        ({"sampler": {}}, "has no name of a sampler"),
        ({"model": {"target": "nothing"}}, "target must be one of 'image', 'residual'"),
        ({"model": {"colour": 1}}, "has no parameter 'colour'"),
        ({"denoiser": {**config["denoiser"], "config": {"width": 16}}}, "does not fit"),
    ]:
        with pytest.raises(LongigenError, match=message):
            LongitudinalModel.from_pretrained(edited(folder, **changes))
        (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(LongigenError, match="is truncated"):
        LongitudinalModel.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(LongigenError, match=r"no model\.safetensors"):
        LongitudinalModel.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(LongigenError, match="cannot be read"):
        LongitudinalModel.from_pretrained(folder)
    with pytest.raises(LongigenError, match="There is no model at"):
        LongitudinalModel.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LongigenError, match="has no model"):
        LongitudinalModel.from_pretrained(tmp_path / "empty")


def test_a_plugin_is_imported_before_the_model_is_outlined(site: Site, tmp_path: Path) -> None:
    """Weights are compared with an outline on torch's meta device, where a module's own tables would be lost."""
    code = f"import torch\n{SCALE}\nTABLE = torch.arange(3)\n"
    site.install("tables", {"longigen.denoisers": {"tables": "tables:Scale"}}, {"tables/__init__.py": code})
    denoiser = registry.load("denoiser", "tables")()
    LongitudinalModel(SADMConditioner(dim=8, heads=1, depth=1), denoiser, ContinuousSampler()).save_pretrained(
        tmp_path / "model"
    )
    del sys.modules["tables"]
    LongitudinalModel.from_pretrained(tmp_path / "model")
    assert sys.modules["tables"].TABLE.tolist() == [0, 1, 2]


def test_an_unregistered_component_cannot_be_saved(tmp_path: Path) -> None:
    class Mine(UNet3D):
        pass

    model = LongitudinalModel(SADMConditioner(dim=8, heads=1, depth=1), Mine(width=8), ContinuousSampler())
    with pytest.raises(LongigenError, match="Mine is not registered as a denoiser"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_comes_from_the_hub(hub: Hub, machine: NewMachine, folder: Path) -> None:
    """The unmodified client against a server on loopback, in a fresh cache."""
    config = json.loads((folder / "config.json").read_text())
    edited(
        folder,
        statistics={**config["statistics"], "time_unit": "years", "covariates": []},
        preprocess={"shape": [16, 16, 16], "spacing": [12.0, 12.0, 12.0]},
    )
    hub.seed("lab/brains", {path.name: path.read_bytes() for path in folder.iterdir()})
    desk = machine()
    out = desk.home / "out"
    desk.longigen("generate", "lab/brains", "--subject", "sim-0001", "--times", "+1", "--out", out)
    assert len(list(out.glob("sub-sim0001/ses-*/anat/*.nii.gz"))) == 1
    result = desk.longigen("generate", "lab/minds", "--out", out, status=2)
    assert "lab/minds" in result.stderr
    assert "Traceback" not in result.stderr
