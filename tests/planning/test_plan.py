"""A plan: what it says, what it assumes, and settings that make a training fit."""

import json
from pathlib import Path

import pytest

import longigen
from helpers.trainings import SMALL
from longigen import LongigenError, Plan
from longigen.planning.plan import duration

NETWORK = [change for change in SMALL if not change.startswith("conditioner.")]
FIXED = [*NETWORK, "preprocess.shape=16,12,8"]


@pytest.fixture(scope="module")
def measured() -> Plan:
    """Return a plan of a small model for this machine."""
    return longigen.plan("sadm-tiny", changes=FIXED, conditioner="source", visits=4, progress=False)


def test_a_step_and_a_visit_are_measured_on_this_machine(measured: Plan) -> None:
    content = json.loads(json.dumps(measured.to_dict()))
    assert content["parameters"]["trained"] == content["parameters"]["all"] > 0
    for work in (content["training"], content["generation"]):
        assert work["measured_seconds"] > 0
        assert work["predicted_peak"] == sum(work["memory"].values())
        # Of the process on a CPU, with Python and PyTorch, as the system counts a training's too.
        assert {work["predicted_peak"] > 2e8, (work["measured_peak"] or 3e8) > 2e8} == {True}
    assert content["training"]["memory"]["optimiser"] == 8 * content["parameters"]["trained"]
    assert content["disk"]["model"] == 4 * content["parameters"]["all"]
    assert content["disk"]["cache"] > 0
    assert content["seconds"]["training"] == pytest.approx(content["training"]["measured_seconds"] * 200)
    assert (content["fits"], content["proposal"], content["grid"]) == (True, None, [16, 12, 8])
    assert repr(measured).startswith("Plan(sadm-tiny on this CPU")


@pytest.mark.parametrize("width", [50, 100])
def test_a_plan_is_as_wide_as_asked(measured: Plan, width: int) -> None:
    lines = measured.table(width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("averaged weights (EMA)" in line for line in lines)
    assert lines[-1].startswith(("It fits", "of 1", "up to")) or "It fits on this CPU" in " ".join(lines)


def test_what_does_not_fit_gets_options_with_which_as_many_pairs_make_a_step() -> None:
    changes = [*FIXED, "training.batch_size=8"]
    roomy = longigen.plan("sadm-tiny", changes=changes, conditioner="source", device="NVIDIA H200", progress=False)
    assert roomy.fits
    gigabytes = 0.6 + 0.7 * roomy.training.peak / 1e9  # of which CUDA itself takes 0.6
    device = f"{gigabytes:.6f}GB,10TFLOP/s,100GB/s"
    plan = longigen.plan("sadm-tiny", changes=changes, conditioner="source", device=device, progress=False)
    assert not plan.fits
    assert plan.proposal is not None
    assert plan.proposal.changes[0].startswith("training.batch_size=")
    size, accumulated = (int(change.partition("=")[2]) for change in plan.proposal.changes[:2])
    assert size * accumulated == 8
    assert "--set training.batch_size=" in plan.table(80)


def test_recipes_are_planned_without_data_by_their_own_numbers() -> None:
    changes = [*NETWORK, "preprocess.shape=16,16,8"]
    plan = longigen.plan("sadm-acdc", changes=changes, conditioner="source", device="NVIDIA T4 16GB", progress=False)
    assert (plan.sizes.grid, plan.sizes.visits) == ((16, 16, 8), 12)
    assert "There are no data: 12 visits per subject are those of the recipe; --visits changes that." in plan.notes
    assert any("does not compute in bf16 at speed" in note for note in plan.notes)
    assert "path" not in plan.to_dict()["recipe"]["data"]


@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        ("sadm-acdcc", {}, "There is no recipe 'sadm-acdcc'. Did you mean 'sadm-acdc'?"),
        ("sadm-tiny", {"device": "GTX"}, "There is no device 'GTX'"),
        ("sadm-tiny", {"visits": 1}, "visits must be a whole number of at least 2, got 1"),
        ("sadm-tiny", {"data": "/nowhere"}, "There is neither a data set nor a path named '/nowhere'"),
        (
            "sadm-acdc",
            {"changes": ["preprocess.shape=0,0,0", "preprocess.fit=crop"]},
            "follows from the data set 'acdc'",
        ),
        (
            "heart",
            {"conditioner": "copy-last", "denoiser": "identity", "sampler": "regression"},
            "copy-last + identity + regression has no weights to train, so there is nothing to plan",
        ),
    ],
)
def test_mistakes_are_one_sentence(recipe: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(LongigenError) as error:
        longigen.plan(recipe, progress=False, **{"device": "NVIDIA H200", **options})  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_run_folder_that_is_not_empty_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LongigenError, match="is not empty; continue it with --resume, or give another --out"):
        longigen.plan("sadm-tiny", out=tmp_path, read=True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12.3 ms"), (5, "5.0 s"), (90, "1.5 min"), (7200, "2.0 h"), (259_200, "3.0 days")]
)
def test_durations_have_the_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
