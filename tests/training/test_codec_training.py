"""Training a codec, and a model on its codes: scale and error are kept with the weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from longigen import LongigenError, LongitudinalModel, Preprocess, api
from longigen.models.network_codec import load_codec
from longigen.models.open_codec import codec_choice, open_codec
from longigen.training.codec_training import CodecSettings, Patches
from longigen_codecs import KLCodec

DATA = ["data.subject_count=5", "data.shape=16,16,8", "data.frames=2"]
CODEC = ["codec.halvings=1", "codec.code_channels=2", "codec.codec_width=8", "training.patch=12,12,8"]
MODEL = [
    *DATA,
    "training.steps=1",
    "training.score_every=0",
    "training.batch_size=1",
    "sampler.steps=1",
    "denoiser.width=8",
    "denoiser.multipliers=1,2",
    "denoiser.heads=2",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a codec of some steps on simulated hearts, with a discriminator."""
    folder = tmp_path_factory.mktemp("codec") / "codec"
    changes = [*DATA, *CODEC, "codec.adversarial=0.01", "training.steps=60", "training.learning_rate=4e-3"]
    api.train_codec("sim-heart", folder, changes=changes, progress=False)
    return folder


def test_it_learns_and_says_its_error(folder: Path) -> None:
    codec = load_codec(folder)
    errors = json.loads((folder / "config.json").read_text())["training"]["errors"]
    assert codec.error == pytest.approx(errors["rmse"])
    assert errors["rmse"] < 0.8 * errors["mean"]
    assert not any("stem" in name for name in codec.state_dict()), "the discriminator is no part of the codec"


def test_codes_have_a_standard_deviation_of_one() -> None:
    """The scale is 1 over the standard deviation of the codes that it is measured on (Rombach et al., Appendix G)."""
    torch.manual_seed(0)
    codec = KLCodec(halvings=1, code_channels=2, codec_width=4).compose(1)
    images = [torch.rand(1, 1, 8, 9, 10) * 2 - 1, torch.rand(1, 1, 6, 6, 6) * 2 - 1]
    assert codec.error is None
    codec.measure(images[:1])
    code = codec.encode(images[0])
    torch.testing.assert_close(code.std(correction=0), torch.tensor(1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(code.abs().max(), codec.limit)
    expected = (codec.round_trip(images[0]) - images[0]).square().mean().sqrt()
    assert codec.error == pytest.approx(float(expected), rel=1e-4)


def test_patches_are_multiples_of_the_factor() -> None:
    subjects = api.open_dataset("sim-heart", subject_count=3, shape=(16, 16, 6), frames=2).subjects()
    prepared = [Preprocess.from_config({"shape": [16, 16, 6]}).subject(subject) for subject in subjects]
    patches = Patches(prepared, CodecSettings(patch=(6, 9, 8)), factor=4)
    assert patches[0].shape == (1, 8, 12, 8)  # the axis of 6 voxels repeats its last
    assert torch.equal(patches[0][..., 6], patches[0][..., 5])
    assert torch.equal(patches[3], patches[3])


def test_a_model_keeps_its_codec(folder: Path, tmp_path: Path) -> None:
    """The folder of the codec is not needed any more by a run that goes on, nor by its exported model."""
    moved = tmp_path / "codec"
    shutil.copytree(folder, moved)
    given = load_codec(folder)
    run = api.train(
        "sim-heart",
        conditioner="source",
        denoiser="unet3d",
        sampler="ddpm",
        codec=moved,
        changes=MODEL,
        out=tmp_path / "run",
        progress=False,
    )
    shutil.rmtree(moved)
    model = LongitudinalModel.from_pretrained(run.model)
    assert model.codec.identity == given.identity
    (earlier,) = model.provenance.data["earlier"]
    assert earlier["seen"] == json.loads((folder / "config.json").read_text())["data"]["seen"]
    assert model.parameter_count < sum(parameter.numel() for parameter in model.parameters())
    assert open_codec(str(run.folder)).identity == given.identity
    with pytest.warns(match="now ends at step 2"):
        longer = api.train(out=run.folder, resume=True, changes=["training.steps=2"], progress=False)
    assert LongitudinalModel.from_pretrained(longer.model).codec.identity == given.identity


def test_mistakes_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LongigenError, match=r"neither a codec nor a folder named 'harr'. Did you mean 'haar'"):
        codec_choice("harr")
    with pytest.raises(LongigenError, match=r"There is no codec at .*nowhere"):
        codec_choice(str(tmp_path / "nowhere"))
    with pytest.raises(LongigenError, match="has no weights, so there is nothing to train"):
        api.train_codec("sim-heart", tmp_path / "codec", name="haar")
    with pytest.raises(LongigenError, match="train-codec"):
        api.train("sim-heart", codec="kl", changes=MODEL[:3], out=tmp_path / "run", progress=False)
    with pytest.raises(LongigenError, match="perceptual_file=FILE"):
        KLCodec(perceptual=1.0)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(LongigenError, match="copy both again"):
        codec_choice(str(tmp_path / "damaged"))
