"""Replacing given visits of training pairs by the model's own."""

from dataclasses import replace
from pathlib import Path

import torch

from helpers.trainings import lines, trainer, weights
from longigen import VisitSequence
from longigen.components.visit_sequence import Batch
from longigen.training.own_visits import with_own_visits


def pairs(shape: tuple[int, ...]) -> Batch:
    """Return three pairs: three given visits; two of which the middle one is a slot; one."""
    generator = torch.Generator().manual_seed(0)
    observed = torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    history = VisitSequence(
        images=torch.rand(3, 3, 1, *shape, generator=generator) - 0.5,
        times=torch.tensor([0.0, 1.0, 2.0]).expand(3, 3),
        observed=observed,
        valid=torch.ones(3, 3, dtype=torch.bool),
    )
    return Batch(history, torch.rand(3, 1, *shape, generator=generator), torch.tensor([3.0, 3.0, 3.0]))


def test_the_last_given_visit_is_what_the_model_generates(manifest: Path, tmp_path: Path) -> None:
    model = trainer(manifest, tmp_path / "run", "training.steps=1").model
    batch = pairs((13, 12, 10))
    replaced = with_own_visits(model, batch, share=1.0, precision="fp32", seed=5)
    assert replaced.target is batch.target
    before, after = batch.history, replaced.history
    torch.testing.assert_close(after.images[:, :2], before.images[:, :2], rtol=0, atol=0)
    torch.testing.assert_close(after.images[2], before.images[2], rtol=0, atol=0)
    assert torch.equal(after.observed, before.observed)
    rows = torch.tensor([0, 1])
    others = before.take(rows).hide(torch.tensor([2, 2]))
    made = model.generate(others, torch.tensor([[2.0], [2.0]]), seed=5, order="direct")
    torch.testing.assert_close(after.images[:2, 2], made[:, 0], rtol=0, atol=0)
    assert not torch.equal(after.images[:2, 2], before.images[:2, 2])


def test_visits_after_the_target_are_not_replaced(manifest: Path, tmp_path: Path) -> None:
    model = trainer(manifest, tmp_path / "run", "training.steps=1").model
    batch = replace(pairs((13, 12, 10)), target_time=torch.tensor([1.5, 1.5, 1.5]))
    replaced = with_own_visits(model, batch, share=1.0, precision="fp32", seed=5)
    changed = (replaced.history.images != batch.history.images).flatten(2).any(dim=2)
    assert changed.tolist() == [[False, True, False], [False, False, False], [False, False, False]]


def test_no_share_no_replacement(manifest: Path, tmp_path: Path) -> None:
    model = trainer(manifest, tmp_path / "run", "training.steps=1").model
    batch = pairs((13, 12, 10))
    assert with_own_visits(model, batch, share=0.0, precision="fp32", seed=5) is batch


def test_training_with_own_visits_resumes_exactly(manifest: Path, tmp_path: Path) -> None:
    changes = ("training.steps=4", "training.own_visits=1", "checkpoint_every=2")

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    trainer(manifest, tmp_path / "whole", *changes).fit()
    try:
        trainer(manifest, tmp_path / "broken", *changes).fit(stop)
    except KeyboardInterrupt:
        trainer(manifest, tmp_path / "broken", resume=True).fit()
    trainer(manifest, tmp_path / "plain", "training.steps=4", "checkpoint_every=2").fit()
    whole, broken, plain = (weights(tmp_path / name) for name in ("whole", "broken", "plain"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)
    assert lines(tmp_path / "whole")[-1]["step"] == 4
