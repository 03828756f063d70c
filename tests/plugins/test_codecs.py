"""The codecs of the project: Haar wavelets against closed forms, and what a model does on their codes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longigen import Batch, Codec, LongigenError, LongitudinalModel, ModelSettings, Preprocess, Statistics, api
from longigen.components.codec import IdentityCodec
from longigen.data.cache import VisitCache
from longigen.data.codes import Codes
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen.testing.composition import small_config
from longigen_codecs import HaarCodec, KLCodec
from longigen_codecs.perceptual import SliceDistance

SIZE = (9, 8, 7)
TINY = [
    "data.subject_count=5",
    "data.shape=16,16,6",
    "data.frames=3",
    "training.steps=2",
    "training.batch_size=1",
    "sampler.steps=2",
    "denoiser.width=8",
    "denoiser.multipliers=1,2",
    "denoiser.heads=2",
]


def composed(codec: Codec | None = None, *, denoiser: str = "unet3d", **settings: Any) -> LongitudinalModel:
    """Return a tiny model with random weights, with or without a codec."""
    names = {"conditioner": "source", "denoiser": denoiser, "sampler": "ddpm"}
    parts = [registry.make(kind, name, small_config(kind, name)) for kind, name in names.items()]
    torch.manual_seed(0)
    return LongitudinalModel(
        *parts, settings=ModelSettings(guidance=0.0, **settings), statistics=Statistics(), codec=codec
    ).eval()


def test_haar_is_the_wavelet_transform() -> None:
    """One level of a cube of 2 × 2 × 2 voxels: the sum and seven signed sums, over √8."""
    cube = torch.arange(8.0).reshape(1, 1, 2, 2, 2) / 8
    signs = torch.tensor([1.0, -1.0])
    expected = [
        (cube[0, 0] * a[:, None, None] * b[:, None] * c).sum() / 8**0.5
        for a in (torch.ones(2), signs)
        for b in (torch.ones(2), signs)
        for c in (torch.ones(2), signs)
    ]
    code = HaarCodec().compose(1).encode(cube)
    torch.testing.assert_close(code.flatten(), torch.stack(expected))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_haar_keeps_energy_and_inverts_itself(level: int) -> None:
    codec = HaarCodec(level=level).compose(2)
    noise = torch.randn(1, 2, 16, 8, 24, generator=torch.Generator().manual_seed(0))
    code = codec.encode(noise)
    assert code.shape == (1, 2 * 8**level, 16 // 2**level, 8 // 2**level, 24 // 2**level)
    torch.testing.assert_close(code.square().sum(), noise.square().sum())  # Parseval
    torch.testing.assert_close(codec.decode(code, (16, 8, 24)), noise, atol=1e-5, rtol=0)
    ones = codec.encode(torch.ones(1, 2, 16, 8, 24))
    torch.testing.assert_close(ones[:, :2], torch.full_like(ones[:, :2], codec.limit))
    assert not ones[:, 2:].abs().max() > 1e-5


def test_haar_of_finer_levels_keeps_places() -> None:
    """A detail of the first level is in the channels of the second, at the voxel that covers it."""
    image = torch.zeros(1, 1, 8, 8, 8)
    image[0, 0, 5, 2, 7] = 1.0
    code = HaarCodec(level=2).compose(1).encode(image)
    touched = code.abs().sum(dim=1)[0].nonzero().tolist()
    assert touched == [[1, 0, 1]]


def test_a_model_without_a_codec_has_the_identity() -> None:
    given, named = composed(), composed(IdentityCodec())
    visits = history(SIZE)
    images = [model.generate(visits, after(visits)[:, None], steps=2) for model in (given, named)]
    assert given.codec.trivial
    assert torch.equal(*images)
    assert given.state_dict().keys() == named.state_dict().keys()


@pytest.mark.parametrize("keep_background", [False, True])
def test_generation_is_on_codes_and_returns_images(keep_background: bool) -> None:
    """A network of zeros for the residual of codes is copy-last, to rounding, in images of odd sizes."""
    model = composed(HaarCodec(), target="residual", keep_background=keep_background)
    model.statistics = replace(model.statistics, residual_std=1e-9)
    visits = history(SIZE)
    visits = replace(visits, images=torch.where(visits.images < -0.5, -1.0, visits.images))
    time = after(visits)
    image = model.generate(visits, torch.stack([time, time + 1], dim=1), steps=2)
    last, _ = visits.last(before=time)
    assert image.shape == (2, 2, 1, *SIZE)
    for each in image.unbind(dim=1):
        torch.testing.assert_close(each, last, atol=1e-5, rtol=0)
    if keep_background:
        assert torch.equal(image[:, 1] == -1, last == -1)


def test_two_calls_are_one() -> None:
    """A visit that was generated and given back is the same history as one that joined it in one call."""
    model = composed(HaarCodec(), order="autoregressive")
    visits = history(SIZE, lengths=(2, 2))
    first, second = after(visits), after(visits) + 1
    both = model.generate(visits, torch.stack([first, second], dim=1), steps=2)
    one = model.generate(visits, first[:, None], steps=2)
    joined = replace(
        visits,
        images=torch.cat([visits.images, one], dim=1),
        times=torch.cat([visits.times, first[:, None]], dim=1),
        observed=torch.ones(2, 3, dtype=torch.bool),
        valid=torch.ones(2, 3, dtype=torch.bool),
    )
    torch.testing.assert_close(model.generate(joined, second[:, None], steps=2)[:, 0], both[:, 1], atol=1e-5, rtol=0)


def test_training_on_codes_is_training_on_images() -> None:
    """The loss of a batch of images is that of the batch of their codes, and the codec is not trained."""
    model = composed(HaarCodec())
    visits = history(SIZE)
    batch = Batch(visits, -visits.images[:, 0], after(visits))
    codes = Batch(model.coded(visits), model.codec.encode(batch.target), batch.target_time, coded=True)
    losses = [model.loss(each, torch.Generator().manual_seed(0)) for each in (batch, codes)]
    assert torch.equal(*losses)
    assert Batch.collate([codes, codes]).coded
    assert not model.train().codec.training


@pytest.mark.parametrize("denoiser", ["cine", "diffusemorph"])
def test_what_moves_voxels_is_refused(denoiser: str) -> None:
    with pytest.raises(LongigenError, match=r"moves the last visit voxel by voxel.*--codec identity"):
        composed(HaarCodec(), denoiser=denoiser)


def test_explanations_are_at_voxels_of_the_image() -> None:
    parts = [
        registry.make(kind, name, small_config(kind, name))
        for kind, name in {"conditioner": "sadm", "denoiser": "unet3d", "sampler": "ddpm"}.items()
    ]
    model = LongitudinalModel(*parts, statistics=Statistics(), codec=HaarCodec()).eval()
    visits = history(SIZE)
    shares = model.explain(visits, after(visits))
    assert shares.shape == (2, 3, *SIZE)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, *SIZE), atol=1e-4, rtol=0)
    assert torch.equal(shares[..., 0], shares[..., 1])  # of one voxel of the code


def test_visits_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGIGEN_CACHE", str(tmp_path))
    subject = api.open_dataset("sim-heart", subject_count=3, shape=(16, 16, 6), frames=2).subjects()[0]
    prepared = Preprocess.from_config({"shape": [16, 15, 6]}).subject(subject, VisitCache.default())
    codec = HaarCodec().compose(1)
    codes = Codes(codec)
    code = codes.visit(prepared, 0)
    torch.testing.assert_close(code, codec.encode(prepared.visit(0)[None])[0])

    def forbidden(image: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a visit was encoded twice")

    codes.codec.to_code = forbidden  # type: ignore[method-assign]
    assert torch.equal(codes.visit(prepared, 0), code)
    other = Codes(HaarCodec(level=2).compose(1))
    assert other.visit(prepared, 0).shape[0] == 64


def test_train_evaluate_and_load(tmp_path: Path) -> None:
    """A model on Haar codes from training to the table, whose ceiling is exact; its folder says which codec it has."""
    run = api.train(
        "sim-heart",
        conditioner="source",
        denoiser="unet3d",
        sampler="ddpm",
        codec="haar",
        changes=TINY,
        out=tmp_path / "run",
        progress=False,
    )
    config = json.loads((run.model / "config.json").read_text())
    assert config["codec"]["name"] == "haar"
    assert run.read()["recipe"]["codec"] == {"name": "haar", "level": 1}
    evaluation = api.evaluate(run, settings=["full"], progress=False)
    rows = {row.method: row for row in evaluation.rows}
    assert rows["true, coded"].values["ssim"].mean == pytest.approx(1, abs=1e-4)
    assert rows["true, coded"].values["psnr"].mean > 60
    assert "no model with it beats" in evaluation.table().replace("\n", " ")
    assert evaluation.model["codec"] == "haar"
    again = LongitudinalModel.from_pretrained(run.model)
    assert repr(again.codec) == "HaarCodec()"


def test_the_perceptual_distance_takes_weights_by_path(tmp_path: Path) -> None:
    """It is 0 of equal images, more of others, and trains the codec; a file that is not there is said."""
    timm = pytest.importorskip("timm")
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), file)
    images = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance = SliceDistance("resnet10t", file)
    assert distance(images, images).tolist() == [0.0, 0.0]
    assert bool((distance(images, -images) > 0).all())
    small = {"halvings": 1, "code_channels": 2, "codec_width": 4, "perceptual_network": "resnet10t"}
    codec = KLCodec.from_config({**small, "perceptual": 1.0, "perceptual_file": str(file)}).compose(1)
    tensors = set(codec.state_dict())
    codec.requires_grad_(True)
    codec.losses(images, torch.Generator().manual_seed(0), None)["perceptual"].sum().backward()
    assert all(parameter.grad is not None for parameter in codec.decoder.parameters())
    assert set(codec.state_dict()) == tensors, "the network of the distance is no part of the codec"
    with pytest.raises(LongigenError, match=r"nothing\.pth do not exist"):
        SliceDistance("resnet10t", tmp_path / "nothing.pth")


def test_monai_takes_a_users_own_weights(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    small = small_config("codec", "monai")
    torch.manual_seed(0)
    theirs = registry.make("codec", "monai", small).compose(1)
    torch.save({"state_dict": theirs.network.state_dict()}, tmp_path / "autoencoder.pt")
    ours = registry.make("codec", "monai", {**small, "weights_file": tmp_path / "autoencoder.pt"}).compose(1)
    ours.initialise()
    images = torch.rand(1, 1, 7, 8, 9) * 2 - 1
    assert torch.equal(ours.encode(images), theirs.encode(images))
    other = registry.make(
        "codec", "monai", {**small, "latent_channels": 3, "weights_file": tmp_path / "autoencoder.pt"}
    )
    with pytest.raises(LongigenError, match="do not fit MONAI's AutoencoderKL"):
        other.compose(1).initialise()
    with pytest.raises(LongigenError, match="train-codec"):
        theirs.initialise()
