"""Tests of Conditioning: routes, null, drop, concatenation."""

import pytest
import torch
from torch import Tensor

from longigen import Conditioning, Routes

ROUTES = ("concat", "stem", "embedding", "tokens")


def every(batch: int = 3, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return Conditioning(noise(2, 3, 4, 5), noise(6, 3, 4, 5), noise(7), noise(8, 9))


def test_routes_count_channels() -> None:
    assert every().routes == Routes(concat=2, stem=6, embedding=7, tokens=9)
    assert Conditioning().routes == Routes()
    assert Conditioning(tokens=torch.zeros(1, 8, 9)).routes == Routes(tokens=9)


def test_null_has_same_routes_and_is_zero() -> None:
    conditioning = every()
    null = conditioning.null()
    assert null.routes == conditioning.routes
    for route in ROUTES:
        assert getattr(null, route).shape == getattr(conditioning, route).shape
        assert not getattr(null, route).any()
        assert getattr(conditioning, route).any()
    assert Conditioning(embedding=torch.ones(1, 2)).null().concat is None


@pytest.mark.parametrize("dropped", [[True, False, True], [False] * 3, [True] * 3])
def test_drop_replaces_selected_samples_by_null(dropped: list[bool]) -> None:
    conditioning, null = every(), every().null()
    result = conditioning.drop(torch.tensor(dropped))
    for route in ROUTES:
        for index, gone in enumerate(dropped):
            source = null if gone else conditioning
            assert torch.equal(getattr(result, route)[index], getattr(source, route)[index])
    assert Conditioning().drop(torch.tensor(dropped)) == Conditioning()


def test_drop_removes_nan() -> None:
    conditioning = Conditioning(embedding=torch.full((2, 3), torch.nan))
    embedding = conditioning.drop(torch.tensor([True, False])).embedding
    assert embedding is not None
    assert embedding.isnan().any(dim=1).tolist() == [False, True]


def test_cat_batch_keeps_order() -> None:
    first, second = every(2, seed=1), every(3, seed=2)
    both = first.cat_batch(second)
    assert both.routes == first.routes
    for route in ROUTES:
        assert torch.equal(getattr(both, route)[:2], getattr(first, route))
        assert torch.equal(getattr(both, route)[2:], getattr(second, route))


def test_with_concat_appends_channels() -> None:
    conditioning, volume = every(), torch.ones(3, 1, 3, 4, 5)
    more = conditioning.with_concat(volume)
    assert more.routes == Routes(concat=3, stem=6, embedding=7, tokens=9)
    assert more.concat is not None
    assert conditioning.concat is not None
    assert torch.equal(more.concat[:, :2], conditioning.concat)
    assert torch.equal(more.concat[:, 2:], volume)
    assert more.tokens is conditioning.tokens
    alone = Conditioning().with_concat(volume)
    assert alone.concat is volume


def test_require_base_returns_base_and_gap_or_raises() -> None:
    base, gap = torch.zeros(3, 1, 3, 4, 5), torch.ones(3)
    both = Conditioning(base=base, gap=gap).require_base()
    assert both[0] is base
    assert both[1] is gap
    for incomplete in (Conditioning(), Conditioning(base=base), Conditioning(gap=gap)):
        with pytest.raises(ValueError, match="must set needs_base"):
            incomplete.require_base()
