"""The main job on a CUDA device, for each recipe of a size for two cores: train, resume, generate and evaluate."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from helpers.files import ROOT
from longigen import api
from longigen.models.longitudinal import LongitudinalModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RECIPES = [
    name
    for name in yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))["recipes"]
    if name in ("heart", "brain") or name.endswith("-tiny")
]
BRIEF = (
    "data.subject_count=8",
    "split.test=0.25",
    "training.steps=3",
    "training.validate_every=100",
    "training.sample_every=100",
    "training.checkpoint_every=2",
)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_resumes_generates_and_scores(recipe: str, precision: str, tmp_path: Path) -> None:
    changes = [*BRIEF, f"training.mixed_precision={precision}", *(["data.spacing=4"] if "brain" in recipe else [])]
    run = api.train(recipe=recipe, changes=changes, out=tmp_path / "run", progress=False)
    run = api.train(out=run.folder, resume=True, changes=["training.steps=4"], progress=False)
    model = LongitudinalModel.from_pretrained(str(run.folder))
    assert model.provenance.training["device"] == torch.cuda.get_device_name()
    evaluation = api.evaluate(run.folder, settings="single", steps=2, progress=False)
    assert evaluation.scores
    assert all(np.isfinite(score.values["psnr"]) for score in evaluation.scores)
