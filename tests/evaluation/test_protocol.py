"""The protocol: its hash, what it says in words, its parts and its differences from another."""

import json
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from longigen import LongigenError, Metric
from longigen.data.grid import Grid
from longigen.data.preprocess import Preprocess
from longigen.evaluation.comparison import Space
from longigen.evaluation.protocol import WORDS, Protocol, differences, part_of, protocol_hash

SHAPE = (2, 2, 2)


class Distance(Metric):
    """A metric with a definition that depends on a parameter."""

    def __init__(self, *, of: str = "generated") -> None:
        super().__init__()
        self.of = of

    @property
    def definition(self) -> str:
        return f"mean absolute error of {self.of}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        return 0.0


PROTOCOL = Protocol.describe(
    metrics={"error": Distance(), "previous": Distance(of="previous")},
    preprocess=Preprocess(Grid(SHAPE, None)),
    data="some",
    fingerprint="abc",
    part="test",
    subjects=4,
    settings=("single", "full"),
    targets="last",
    setting_seed=0,
)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "other"},
        {"fingerprint": "abd"},
        {"part": "all"},
        {"subjects": 5},
        {"settings": ("single",)},
        {"targets": "all"},
        {"setting_seed": 1},
        {"samples": 2},
        {"space": "model"},
        {"preprocess": {**PROTOCOL.preprocess, "upper": 99.0}},
        {"metrics": {"error": Distance().definition}},
        {"metrics": {**PROTOCOL.metrics, "error": "mean absolute error over the foreground"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_changes_with_anything_in_the_protocol(change: dict[str, Any]) -> None:
    assert set(change) <= set(vars(PROTOCOL))
    assert replace(PROTOCOL, **change).hash != PROTOCOL.hash


def test_the_hash_is_of_the_content_alone() -> None:
    assert replace(PROTOCOL, metrics=dict(reversed(list(PROTOCOL.metrics.items())))).hash == PROTOCOL.hash
    written = json.loads(json.dumps(PROTOCOL.to_dict()))
    assert written == PROTOCOL.to_dict()
    assert written["metrics"] == {
        "error": "mean absolute error of generated",
        "previous": "mean absolute error of previous",
    }
    assert written["foreground"] == "first visit > -0.95"
    assert set(vars(PROTOCOL)) - {"samples", "images", "regions", "masks"} < set(written)
    masked = replace(PROTOCOL, masks="0123456789abcdef")
    assert masked.to_dict()["masks"] == "0123456789abcdef"
    assert masked.hash != PROTOCOL.hash
    known = replace(PROTOCOL, images="0123456789abcdef")
    assert known.to_dict()["images"] == "0123456789abcdef"
    assert known.hash != PROTOCOL.hash


def test_on_the_models_grid_the_grid_is_a_part_of_the_protocol() -> None:
    """And it has the hash that it had before there was a choice of space."""

    def hashed(shape: tuple[int, int, int], space: Space) -> Protocol:
        rest = {name: value for name, value in vars(PROTOCOL).items() if name not in ("metrics", "preprocess", "space")}
        metrics = {"error": Distance(), "previous": Distance(of="previous")}
        return Protocol.describe(metrics=metrics, preprocess=Preprocess(Grid(shape, None)), space=space, **rest)

    assert hashed(SHAPE, "model").hash == "e9597111fcd7"
    assert "space" not in hashed(SHAPE, "model").to_dict()
    assert hashed((2, 2, 3), "model").hash != hashed(SHAPE, "model").hash
    assert hashed((2, 2, 3), "subject").hash == hashed(SHAPE, "subject").hash == PROTOCOL.hash
    with pytest.raises(LongigenError, match=r"no space 'subjekt' to score in\. Did you mean 'subject'"):
        hashed(SHAPE, "subjekt")  # type: ignore[arg-type]


def test_one_sample_is_not_a_part_of_the_protocol() -> None:
    assert "samples" not in PROTOCOL.to_dict()
    assert replace(PROTOCOL, samples=3).to_dict()["samples"] == 3


@pytest.mark.parametrize("space", ["subject", "model"])
def test_what_is_the_same_in_all_evaluations_is_said_and_has_the_hash_of_protocols_that_did_not_say_it(
    space: Space,
) -> None:
    said = replace(PROTOCOL, space=space).to_dict()
    assert set(said) <= set(WORDS)
    added = ("grid", "inverse", "scale", "given", "copies", "average")
    assert all(said[name] for name in added)
    assert set(said["given"]) == {"single", "missing", "full"}
    before = {name: value for name, value in said.items() if name not in added}
    assert protocol_hash(before) == protocol_hash(said) == replace(PROTOCOL, space=space).hash
    for name in added:
        assert protocol_hash({**said, name: "other words"}) != protocol_hash(said)
        (difference,) = differences(before, {**said, name: "other words"})
        assert difference == f"{WORDS[name]} (not recorded, and other words)"


def test_differences_are_said_entry_by_entry_in_words() -> None:
    one = replace(PROTOCOL, metrics={"a": "of all voxels " * 9 + "with a window of 11 voxels", "b": "b"}).to_dict()
    two = replace(
        PROTOCOL,
        subjects=5,
        settings=("full",),
        samples=2,
        preprocess={**PROTOCOL.preprocess, "upper": 99.0},
        metrics={"a": "of all voxels " * 9 + "with a window of 7 voxels"},
    ).to_dict()
    assert differences(one, one) == []
    assert differences(one, two) == [
        "number of samples of each visit (1, and 2)",
        "number of subjects (4, and 5)",
        "settings (single, full, and full)",
        "preprocessing upper (99.9, and 99.0)",
        "definition of a (… 11 voxels, and … 7 voxels)",
        "definition of b (b, and not recorded)",
    ]


def test_the_part_of_a_protocol_is_that_of_fewer_settings_and_metrics() -> None:
    whole = replace(PROTOCOL, settings=("missing", "full")).to_dict()
    assert part_of(whole, ["missing", "full"], list(PROTOCOL.metrics)) == whole
    alone = replace(PROTOCOL, settings=("full",), metrics={"error": PROTOCOL.metrics["error"]}).to_dict()
    other = {**whole, "setting_seed": 7}  # of the visits in the setting missing alone
    parts = [protocol_hash(part_of(each, ["full"], ["error"])) for each in (whole, other, alone)]
    assert len(set(parts)) == 1
    assert part_of(whole, ["missing"], ["error"]) != part_of(other, ["missing"], ["error"])
