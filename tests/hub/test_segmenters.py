"""Trained segmenters on the Hub: what is published, what a pull verifies, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants

import hubserver
from helpers.models import model_folder
from longigen import LongigenError, Volume, api
from longigen.hub.manifest import METRICS, SEGMENTER, WEIGHTS
from longigen.models.network_segmenter import NetworkSegmenter, load_segmenter
from longigen.models.open_segmenter import open_segmenter
from longigen.registry.registry import registry

REGIONS = ("right ventricle", "left ventricle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder as ``longigen train-segmenter`` writes it."""
    segmenter = registry.make("segmenter", "unet", {"width": 4, "levels": 2})
    assert isinstance(segmenter, NetworkSegmenter)
    segmenter.compose(REGIONS, (2.0, 2.0, 4.0))
    segmenter.training_record = {
        "data": "sim-heart",
        "simulated": True,
        "fingerprint": "0123",
        "split": {"test": 0.2},
        "settings": {"steps": 3},
        "dice": {"right ventricle": 0.5, "left ventricle": None},
        "host": "ward5-secret",
    }
    folder = tmp_path / "segmenter"
    folder.mkdir()
    segmenter.save(folder)
    return folder


@pytest.fixture
def here(hub: hubserver.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hubserver.Hub:
    """Return the Hub, which this process uses with an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def publish(folder: Path, repository: str) -> str:
    """Publish a folder; return the name of the version."""
    with api.publication(folder, repository, licence="CC-BY-4.0") as ready:
        assert ready.regions == REGIONS
        assert sorted(ready.files) == ["README.md", WEIGHTS, SEGMENTER]
        card = ModelCard((ready.folder / "README.md").read_text(encoding="utf-8"))
        assert (card.data.license, card.data.pipeline_tag) == ("cc-by-4.0", "image-segmentation")
        assert f"longigen evaluate MODEL --data PATH --segmenter hf-hub:{repository}@{ready.tag}" in card.text
        assert "| 1 | right ventricle | 0.500 |" in card.text
        assert "| 2 | left ventricle | unknown |" in card.text
        assert "It was trained on simulated images" in card.text
        return ready.publish().name


def test_a_published_segmenter_is_pulled_and_marks_the_same(here: hubserver.Hub, folder: Path) -> None:
    name = publish(folder, "lab/hearts")
    assert name == "hf-hub:lab/hearts@v1"
    pulled = api.pull(name, progress=False)
    assert (pulled.folder / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    published = json.loads((pulled.folder / SEGMENTER).read_text())
    assert published["training"]["data"] == "sim-heart"
    assert "ward5-secret" not in (pulled.folder / SEGMENTER).read_text()
    assert pulled.summary.regions == REGIONS
    assert pulled.summary.line.startswith("marks right ventricle, left ventricle, ")
    assert api.info(name)["regions"] == list(REGIONS)
    sent = len(here.requests("GET", "/lab/hearts/resolve/*"))
    opened, own = open_segmenter(name), load_segmenter(folder)
    assert len(here.requests("GET", "/lab/hearts/resolve/*")) == sent  # it was pulled already
    assert opened.identity == own.identity
    image = Volume(np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32), np.diag([2.0, 2.0, 4.0, 1.0]))
    assert np.array_equal(opened.segment(image).data, own.segment(image).data)
    assert opened.regions == {1: "right ventricle", 2: "left ventricle"}


def test_a_damaged_download_is_refused(here: hubserver.Hub, folder: Path) -> None:
    publish(folder, "lab/damaged")
    cached = api.pull("lab/damaged", progress=False).folder / WEIGHTS
    cached.resolve().write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(LongigenError, match=r"has the wrong content.*'longigen pull lab/damaged' downloads it"):
        open_segmenter("lab/damaged")


def test_models_and_segmenters_are_not_mistaken_for_each_other(
    here: hubserver.Hub, folder: Path, tmp_path: Path
) -> None:
    publish(folder, "lab/marks")
    sentence = r"'lab/marks' at .* has a segmenter and no model; give it to 'longigen evaluate MODEL --segmenter'"
    with pytest.raises(LongigenError, match=sentence):
        api.load("hf-hub:lab/marks")
    with pytest.raises(LongigenError, match=r"has a segmenter and no model; give it to 'longigen evaluate MODEL --seg"):
        api.load(folder)
    model = model_folder(tmp_path / "model")
    (model / METRICS).unlink()
    with (
        pytest.raises(LongigenError, match=r"lab/marks has a segmenter, whose weights a model would replace"),
        api.publication(model, "lab/marks"),
    ):
        raise AssertionError("it was not refused")
    with api.publication(model, "lab/brains") as ready:
        ready.publish()
    with pytest.raises(LongigenError, match=r"has a model and no segmenter; give it to 'longigen generate'"):
        open_segmenter("hf-hub:lab/brains")
    with pytest.raises(LongigenError, match=r"neither a segmenter nor a folder named 'heart'.*hf-hub:org/repo"):
        open_segmenter("heart")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema_version 2, newer than this longigen reads; upgrade longigen"),
        ({"library_name": "other"}, "is not of a longigen segmenter"),
        ({"regions": ["a", "a"]}, "'regions' must be a list of 1 to 1000 different names, got"),
        ({"regions": [f"r{number}" for number in range(900)]}, "does not fit the segmenter.json beside it"),
        ({"spacing": [1, 2]}, "spacing"),
        ({"segmenter": "unet"}, "'segmenter' must be an object with name and config"),
        (
            {"segmenter": {"name": "nnunet", "distribution": "marks", "config": {}}},
            "install it with 'pip install marks'",
        ),
    ],
)
def test_files_that_are_not_of_a_segmenter(folder: Path, changes: dict[str, object], words: str) -> None:
    path = folder / SEGMENTER
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(LongigenError) as caught:
        load_segmenter(folder)
    assert words in str(caught.value)


def test_a_folder_without_weights(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / WEIGHTS, tmp_path / WEIGHTS)
    with pytest.raises(LongigenError, match=rf"has a {SEGMENTER} but no {WEIGHTS}; copy the whole segmenter folder"):
        load_segmenter(folder)
