"""Explanations: attention rollout against closed forms, and the history of each explained visit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.files import ball, visit_of
from longigen import LongigenError, LongitudinalModel, Subject, VisitSequence, Volume
from longigen.data.grid import Grid
from longigen.data.preprocess import Preprocess
from longigen.generation.explanation import explanations
from longigen.models.predict import GenerationSettings, predict_batch
from longigen.models.tasks import Task
from longigen.registry.registry import registry
from longigen_sadm import SADMConditioner
from longigen_sadm.rollout import rollout, shares
from longigen_sadm.temporal import TemporalAttention, visibility

# The rollout.


def level(*places: list[list[float]], grid: tuple[int, int, int]) -> Tensor:
    """Return the attention of a level (1, w, h, d, S, S) from the matrices of its places."""
    return torch.tensor(places).reshape(1, *grid, len(places[0]), len(places[0]))


FIRST = [[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.6, 0.2]]
OTHER = [[1.0, 0, 0], [0.8, 0.2, 0], [0.7, 0.1, 0.2]]
COARSE = [[1.0, 0, 0], [0.4, 0.6, 0], [0.1, 0.5, 0.4]]


def test_rollout_of_two_levels_by_hand():
    # Three fine places in a row, of which the first two are merged, and the third with its own copy.
    fine = level(FIRST, OTHER, FIRST, grid=(3, 1, 1))
    coarse = level(COARSE, OTHER, grid=(2, 1, 1))
    # ½(A + I): COARSE's last row is (.05, .25, .7), OTHER's (.35, .05, .6).
    # FIRST: rows (1, 0, 0), (.25, .75, 0), (.1, .3, .6). OTHER: (1, 0, 0), (.4, .6, 0), (.35, .05, .6).
    expected = [
        [0.05 + 0.25 * 0.25 + 0.7 * 0.1, 0.25 * 0.75 + 0.7 * 0.3],
        [0.05 + 0.25 * 0.4 + 0.7 * 0.35, 0.25 * 0.6 + 0.7 * 0.05],
        [0.35 + 0.05 * 0.25 + 0.6 * 0.1, 0.05 * 0.75 + 0.6 * 0.3],
    ]
    torch.testing.assert_close(rollout([fine, coarse])[0, :, 0, 0], torch.tensor(expected))


def test_shares_are_relative_to_indifferent_attention():
    visible = torch.ones(1, 3, 3).tril().bool()
    # Of two levels, ½(A + I) of indifferent attention is (1, 0, 0), (1/4, 3/4, 0), (1/6, 1/6, 2/3).
    expected = torch.tensor([1 / 6 + 1 / 24 + 1 / 9, 1 / 8 + 1 / 9])
    fine, coarse = level(FIRST, grid=(1, 1, 1)), level(COARSE, grid=(1, 1, 1))
    ratio = torch.tensor([0.1825, 0.3975]) / expected
    torch.testing.assert_close(shares([fine, coarse], visible).flatten(), ratio / ratio.sum())
    indifferent = (visible / visible.sum(dim=-1, keepdim=True))[:, None, None, None].expand(1, 4, 2, 1, 3, 3)
    torch.testing.assert_close(shares([indifferent, indifferent[:, :2, :1]], visible), torch.full((1, 4, 2, 1, 2), 0.5))
    # Of one level, it is the attention itself.
    torch.testing.assert_close(shares([fine], visible).flatten(), torch.tensor([0.25, 0.75]))


# The attention weights, and the shares of `sadm`.


def sadm(**config: object) -> SADMConditioner:
    torch.manual_seed(0)
    conditioner = SADMConditioner(**{"patch": (4, 4, 2), "dim": 24, "heads": 2, "features": 4} | config)
    conditioner.build(channels=1, stem_features=0, time_scale=1.0, covariates=())
    return conditioner.eval()


def visits(times: tuple[float, ...] = (0.0, 1.0, 2.5, 4.0)) -> VisitSequence:
    images = torch.rand(1, len(times), 1, 10, 9, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = torch.ones(1, len(times), dtype=torch.bool)
    return VisitSequence(images, torch.tensor([times]), seen, seen)


def test_weights_are_those_of_the_block():
    torch.manual_seed(0)
    attention = TemporalAttention(24, 1, 2.0, 0.0).eval()
    tokens = torch.randn(2, 3, 1, 2, 4, 24)
    seen = visibility(torch.tensor([[0.0, 1, 2]] * 2), torch.tensor([[True] * 3, [True, False, True]]),
                      torch.tensor([3.0, 1.5]), bidirectional=False)  # fmt: skip
    weights = attention.weights(tokens, seen)
    assert (weights[~seen[:, None, None, None].expand_as(weights)] == 0).all()
    block = attention.block
    inner = block.norm1(tokens)
    by_hand = tokens + block.attn.proj(weights @ block.attn.qkv(inner)[..., 48:])
    torch.testing.assert_close(by_hand + block.mlp(block.norm2(by_hand)), attention(tokens, seen))


def test_explain_changes_neither_output_nor_weights():
    conditioner, history, time = sadm(), visits(), torch.tensor([5.0])
    state = {name: tensor.clone() for name, tensor in conditioner.state_dict().items()}
    before = conditioner(history, time).concat
    conditioner.explain(history, time)
    assert torch.equal(conditioner(history, time).concat, before)
    assert list(conditioner.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in conditioner.state_dict().items())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_visible_visits_have_a_share(bidirectional):
    conditioner = sadm(bidirectional=bidirectional, depth=3)
    history = visits()
    explained = conditioner.explain(history, torch.tensor([2.5]))
    assert explained.shape == (1, 4, 10, 9, 5)
    assert explained.flatten(2).amax(dim=2).gt(0).tolist() == [[True, True, False, bidirectional]]
    torch.testing.assert_close(explained.sum(dim=1), torch.ones(1, 10, 9, 5))
    hidden = replace(history, valid=torch.tensor([[True, False, True, True]]), observed=history.observed & False)
    assert not conditioner.explain(hidden, torch.tensor([2.5]))[:, 1].any()
    if not bidirectional:
        assert not conditioner.explain(history, torch.tensor([-1.0])).any()


def test_shares_follow_the_voxels():
    # A change of one visit's image in some patches changes the shares in these patches only.
    conditioner, history = sadm(depth=1, heads=1, dim=12), visits((0.0, 1.0))
    attention = conditioner.temporal[0].block.attn
    with torch.no_grad():
        attention.qkv.weight[:24].zero_()
        attention.qkv.bias[:12].fill_(1.0)
        attention.qkv.weight[12:24].copy_(10 * torch.randn(12, 12, generator=torch.Generator().manual_seed(3)))
    before = conditioner.explain(history, torch.tensor([2.0]))
    images = history.images.clone()
    images[0, 1, 0, 4:8, :4, 2:4] += 3.0
    change = (conditioner.explain(replace(history, images=images), torch.tensor([2.0])) - before).abs()
    assert change[0, :, 4:8, :4, 2:4].min() > 0.01
    change[0, :, 4:8, :4, 2:4] = 0
    assert change.max() < 1e-6


# The history that is explained.


@pytest.fixture(scope="module")
def subject() -> Subject:
    affine = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -15], [0, 0, 3, 7], [0, 0, 0, 1]])
    return Subject("s", tuple(
        visit_of(lambda k=k: Volume(ball((12, 10, 8), 0.4 + 0.1 * k), affine), time=0.3 * k, shape=(12, 10, 8))
        for k in range(4)
    ))  # fmt: skip


@pytest.mark.parametrize("order", ["autoregressive", "direct"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_history_is_that_of_generation(subject, bidirectional, order):
    parts = sadm(bidirectional=bidirectional).config, {"width": 8, "multipliers": (1,), "heads": 2, "blocks": 1}
    torch.manual_seed(0)
    model = LongitudinalModel(
        SADMConditioner(**parts[0]), registry.load("denoiser", "unet3d")(**parts[1]),
        registry.load("sampler", "continuous")(steps=1),
    ).eval()  # fmt: skip
    calls: list[tuple[VisitSequence, Tensor]] = []
    hook = model.conditioner.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    prepared = Preprocess(Grid((10, 12, 9))).subject(subject)
    settings = GenerationSettings(order=order)
    generated = predict_batch(model, [(prepared, Task((0, 2), (1, 3)))], settings=settings)[0]
    hook.remove()
    explained = list(explanations(model, generated, order))
    assert [item.time for item in explained] == [0.3, pytest.approx(0.9)]
    given = ("given", "given")
    first = {"direct": given, "autoregressive": (*given, "missing")}[order] if bidirectional else ("given",)
    second = {"direct": given, "autoregressive": ("given", "generated", "given")}[order]
    assert [item.origins for item in explained] == [first, second]
    for item, (history, time) in zip(explained, calls, strict=True):
        places = [history.times[0].tolist().index(np.float32(t)) for t in item.times]
        torch.testing.assert_close(item.images, history.images[0, places])
        torch.testing.assert_close(item.shares, model.conditioner.explain(history, time)[0, places])
        assert sum(item.means) == pytest.approx(1)
    # On the grid of the first visit, whose first axis is flipped and larger than the model's grid.
    volume = explained[1].volume
    assert volume.data.shape == (12, 10, 8, len(second))
    np.testing.assert_array_equal(volume.affine, subject.visits[0].load().affine)
    np.testing.assert_array_equal(volume.data[1:11, :, :, 0], explained[1].shares[0].flip(0)[:, 1:11, 1:9].numpy())
    assert not volume.data[[0, 11]].any()


def test_a_conditioner_without_explain_is_refused():
    model = SimpleNamespace(conditioner=registry.load("conditioner", "source")())
    with pytest.raises(LongigenError, match="'source' cannot explain which visits it used; leave --explain out"):
        next(explanations(model, None))  # type: ignore[arg-type]
