"""What a session does with the data of training: their settings on other data, and which subjects were trained on."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from helpers.files import write_image
from helpers.trainings import SMALL
from longigen import LongigenWarning
from longigen.generation.session import GenerationSession
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run


def untrained(folder: Path, data: Path | str, *changes: str) -> Run:
    """Write a run with its initial weights."""
    experiment = Experiment.of(Recipe.resolve("sadm-tiny", data=str(data), changes=[*SMALL, *changes]))
    run = Run.create(folder)
    experiment.record(run)
    experiment.compose().save_pretrained(run.model)
    return run


def opened(model: Path, *, changes: tuple[str, ...] = (), **options: object) -> tuple[GenerationSession, list[str]]:
    """Open a session, and return it with what it said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = GenerationSession.open(str(model), changes=changes, **options)  # type: ignore[arg-type]
    return session, [str(each.message) for each in caught if issubclass(each.category, LongigenWarning)]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders of series, each with an image and a mask of every subject."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    draw = np.random.default_rng(0)
    for folder in folders:
        for subject in range(6):
            for kind in ("image", "mask"):
                data = draw.uniform(0, 100, (8, 8, 6, 3)).astype(np.float32)
                write_image(folder / f"{folder.name}{subject}_{kind}.nii.gz", data)
    return folders


def test_settings_of_training_hold_on_other_data(series: list[Path], tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", series[0], "data.pattern=*_image.nii.gz", "preprocess.shape=8,8,8")
    _, said = opened(run.folder, data=str(series[0]), part="all")
    assert not [text for text in said if "pattern" in text]
    session, said = opened(run.folder, data=str(series[1]))
    assert session.cohort.dataset.config["pattern"] == "*_image.nii.gz"
    assert len(session.subjects) == 6
    assert [text for text in said if "read with pattern=*_image.nii.gz, as in training" in text]
    _, said = opened(run.folder, data=str(series[1]), changes=("pattern=*_mask.nii.gz",))
    (text,) = [text for text in said if "pattern" in text]
    assert text == (
        "The data are read with pattern=*_mask.nii.gz, where the model was trained with pattern=*_image.nii.gz."
    )
    # Free text is not part of a model without its run.
    _, said = opened(run.model, data=str(series[1]), changes=("pattern=*_mask.nii.gz",))
    assert not [text for text in said if "pattern" in text]
    with pytest.warns(
        LongigenWarning, match=r"does not record how .* in pattern; the default holds, pattern=\*\.nii\*"
    ):
        GenerationSession.open(str(run.model), data=str(series[1]))


def test_settings_that_another_reader_does_not_have_are_said(
    series: list[Path], manifest: Path, tmp_path: Path
) -> None:
    changes = ("data.pattern=*_image.nii.gz", "data.time_unit=frames", "preprocess.shape=8,8,8")
    run = untrained(tmp_path / "run", series[0], *changes)
    _, said = opened(run.folder, data=str(manifest), changes=("time_unit=frames",))
    (text,) = [text for text in said if "pattern" in text]
    assert "read by 'csv' and those of training were by 'nifti4d'" in text
    assert text.endswith("pattern=*_image.nii.gz, time_unit=frames.")
