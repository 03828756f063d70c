"""Models as folders."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from longigen import LongigenError, LongitudinalModel
from longigen.model import ModelSettings, Provenance, Statistics
from longigen.testing.case import after, history
from longigen_continuous import ContinuousSampler
from longigen_sadm import SADMConditioner
from longigen_unet3d import UNet3D


@pytest.fixture(scope="module")
def model() -> LongitudinalModel:
    torch.manual_seed(0)
    made = LongitudinalModel(
        SADMConditioner(dim=16, heads=2, depth=1, patch=(2, 2, 2)),
        UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2),
        ContinuousSampler(prediction="v", steps=2),
        settings=ModelSettings(guidance=0.3, p_uncond=0.2),
        statistics=Statistics(residual_std=0.2, time_scale=1.5, time_unit="days", covariates=("age",)),
        provenance=Provenance({"shape": [8, 8, 8]}, {"name": "sim-brain"}),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return made.eval()


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


def test_config_says_who_provides_what(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["schema_version"] == 1
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
        ({"sampler": {}}, "names no sampler"),
        ({"model": {"target": "nothing"}}, "target must be one of 'image', 'residual'"),
        ({"model": {"colour": 1}}, "has no parameter 'colour'"),
        ({"denoiser": {**config["denoiser"], "config": {"width": 16}}}, "does not fit"),
    ]:
        with pytest.raises(LongigenError, match=message):
            LongitudinalModel.from_pretrained(edited(folder, **changes))
        (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(LongigenError, match="is damaged"):
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
    with pytest.raises(LongigenError, match="holds no model"):
        LongitudinalModel.from_pretrained(tmp_path / "empty")


def test_an_unregistered_component_cannot_be_saved(tmp_path: Path) -> None:
    class Mine(UNet3D):
        pass

    model = LongitudinalModel(SADMConditioner(dim=8, heads=1, depth=1), Mine(width=8), ContinuousSampler())
    with pytest.raises(LongigenError, match="Mine is not registered as a denoiser"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


class Hub(SimpleHTTPRequestHandler):
    """The read side of a Hub with one repository: its description, and its files."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        paths = list(Path(self.directory).iterdir())
        if self.path.startswith("/api/models/lab/brains/tree/"):
            self.answer([{"type": "file", "oid": "0" * 40, "size": p.stat().st_size, "path": p.name} for p in paths])
        elif self.path.startswith("/api/models/lab/brains"):
            siblings = [{"rfilename": path.name} for path in paths]
            self.answer({"id": "lab/brains", "sha": self.commit, "private": False, "siblings": siblings})
        else:
            self.serve()

    def answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.serve()

    def serve(self) -> None:
        path = Path(self.directory) / self.path.rpartition("/")[2]
        if not self.path.startswith("/lab/brains/resolve/") or not path.exists():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{len(body)}-{path.name}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_model_comes_from_the_hub(hub: str, folder: Path, longigen, tmp_path: Path) -> None:
    """The unmodified client against a server on loopback, in a fresh cache."""
    environment = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    out = tmp_path / "out"
    config = json.loads((folder / "config.json").read_text())
    edited(
        folder,
        statistics={**config["statistics"], "time_unit": "years", "covariates": []},
        preprocess={"shape": [16, 16, 16], "spacing": [12.0, 12.0, 12.0]},
    )
    longigen("generate", "lab/brains", "--subject", "sim-0001", "--times", "+1", "--out", out, **environment)
    assert len(list(out.glob("sim-0001/*.nii.gz"))) == 1
    result = longigen("generate", "lab/minds", "--out", out, status=2, **environment)
    assert "lab/minds" in result.stderr
    assert "Traceback" not in result.stderr
