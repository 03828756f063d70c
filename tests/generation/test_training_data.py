"""What a session does with the data of training: their settings on other data, and which subjects were trained on."""

import json
import re
import shlex
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from helpers.files import ball, write_image
from helpers.models import FIXTURE
from helpers.processes import Longigen
from helpers.trainings import SMALL
from longigen import LongigenError, LongigenWarning
from longigen.data.seen import TrainedOn
from longigen.data.split import Split, SplitSettings
from longigen.generation.session import GenerationSession
from longigen.hub.model_config import read_config
from longigen.hub.publish import published_config
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen_simbrain import SimBrain


def untrained(folder: Path, data: Path | str, *changes: str) -> Run:
    """Write a run with its initial weights."""
    experiment = Experiment.of(Recipe.resolve("sadm-tiny", data=str(data), changes=[*SMALL, *changes]))
    run = Run.create(folder)
    experiment.trainer(run).model.save_pretrained(run.model)
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


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV of eight subjects with four visits each, of which no two share an image."""
    folder = tmp_path_factory.mktemp("balls")
    lines = ["subject,time,path,age"]
    for subject in range(8):
        for visit in range(4):
            image = ball((10, 9, 8), 0.3 + 0.021 * subject + 0.02 * (subject % 3 + 1) * visit)
            path = write_image(folder / f"s{subject}_{visit}.nii.gz", image)
            lines.append(f"s{subject},{visit},{path.name},{60 + subject + visit}")
    (folder / "visits.csv").write_text("\n".join(lines) + "\n")
    return folder / "visits.csv"


@pytest.fixture
def table(manifest: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the rows of `manifest`, with some subjects renamed or left out."""

    def write(name: str, rename: Mapping[str, str | None]) -> Path:
        lines = []
        for line in manifest.read_text().splitlines():
            subject, time, path, age = line.split(",")
            subject = rename.get(subject, subject)
            lines += [] if subject is None else [f"{subject},{time},{manifest.parent / path},{age}"]
        (tmp_path / name).write_text("\n".join(["subject,time,path,age", *lines[1:]]) + "\n")
        return tmp_path / name

    return write


Table = Callable[..., Path]


def test_a_trained_subject_is_known_by_its_voxels(table: Table, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", table("some.csv", {"s7": None}), "preprocess.shape=8,8,8")
    parts = run.read()["split"]
    trained, tested = parts["train"][0], parts["test"][0]
    session, _ = opened(run.model, data=str(table("some.csv", {"s7": None})))
    assert (session.unseen, session.note, len(session.subjects)) == (True, "subjects not used in training", 1)
    more = table("more.csv", {trained: "renamed"})
    with pytest.raises(LongigenError, match=r"holds 6 subjects that it was trained on .*--part all"):
        GenerationSession.open(str(run.model), data=str(more))
    everyone, _ = opened(run.model, data=str(more), part="all")
    verdicts = everyone.unseen_by_subject
    assert verdicts["renamed"] is False
    assert {name for name, verdict in verdicts.items() if verdict} == {tested, "s7"}
    assert everyone.unseen is False
    assert everyone.note == "part 'all', 6 of them used in training"
    # A published model does not hold what ids can be guessed from, so it does not know of strangers.
    config = published_config(read_config(run.model))
    assert set(config["data"]["seen"]) == {"visits"}
    (known,) = TrainedOn.of(config["data"])
    verdicts = known.unseen(everyone.subjects, everyone.cohort)
    assert (verdicts["renamed"], verdicts["s7"]) == (False, None)


def test_a_visit_that_was_shared_is_unknown_and_most_of_them_are_a_copy(manifest: Path, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", manifest, "preprocess.shape=8,8,8")
    trained, tested = run.read()["split"]["train"][0], run.read()["split"]["test"][0]
    lines = ["subject,time,path"]
    for name, others in (("one", (0,)), ("copy", (1, 2, 3)), ("few", (1, 2))):
        images = [manifest.parent / f"{trained}_{visit}.nii.gz" for visit in others]
        images += [manifest.parent / f"{tested}_{visit}.nii.gz" for visit in range(3 if name == "one" else 0)]
        lines += [f"{name},{time},{path}" for time, path in enumerate(images)]
    (tmp_path / "other.csv").write_text("\n".join(lines) + "\n")
    session, _ = opened(run.model, data=str(tmp_path / "other.csv"), part="all")
    assert session.unseen_by_subject == {"one": None, "copy": False, "few": False}


def test_an_id_of_training_with_other_voxels_is_unknown(manifest: Path, table: Table, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", manifest, "preprocess.shape=8,8,8")
    trained, tested = run.read()["split"]["train"][0], run.read()["split"]["test"][0]
    other = table("other.csv", {f"s{number}": None for number in range(8)} | {tested: trained})
    session, _ = opened(run.model, data=str(other))
    assert (session.unseen, session.note) == (None, "it is not known whether training used them")


@pytest.mark.parametrize("name", ["sadm-sim-brain"])
def test_simulated_subjects_of_a_model_without_hashes(name: str) -> None:
    options = {"changes": ("subject_count=8",), "part": "all"}
    with pytest.raises(LongigenError, match=r"that it was trained on \(such as sim-"):
        GenerationSession.open(name, changes=("subject_count=8",))
    session, _ = opened(Path(name), **options)  # type: ignore[arg-type]
    assert (session.unseen, set(session.unseen_by_subject.values())) == (False, {True, False})
    config = session.model.provenance.data
    subjects = SimBrain(**config["parameters"]).subjects()
    split = Split.by_subject(subjects, SplitSettings(**config["split"]))
    used = {subject.id for subject in split.train + split.validation}
    assert {name for name, verdict in session.unseen_by_subject.items() if verdict is False} == used & {
        subject.id for subject in session.cohort.subjects
    }
    session, _ = opened(Path(name), changes=("subject_count=3", "seed=5"))
    assert session.unseen in (True, None)


def test_a_model_without_hashes_does_not_know_of_files(manifest: Path) -> None:
    session, _ = opened(FIXTURE, data=str(manifest))
    assert session.unseen is None


def test_subjects_of_the_model_that_a_training_starts_from_are_seen_too(
    manifest: Path, table: Table, tmp_path: Path
) -> None:
    first = untrained(tmp_path / "first", table("a.csv", {"s6": None, "s7": None}), "preprocess.shape=8,8,8")
    second = untrained(
        tmp_path / "second",
        table("b.csv", {f"s{number}": None for number in range(3)}),
        "preprocess.shape=8,8,8",
        f"training.init_denoiser={first.folder}",
    )
    used = {name for run in (first, second) for part in ("train", "validation") for name in run.read()["split"][part]}
    session, _ = opened(second.model, data=str(manifest), part="all")
    assert {name for name, verdict in session.unseen_by_subject.items() if verdict is False} == used


def test_a_continued_run_keeps_its_split(longigen: Longigen, table: Table, tmp_path: Path) -> None:
    data, run = table("visits.csv", {"s6": None, "s7": None}), tmp_path / "run"
    small = [word for change in SMALL for word in ("--set", change)]
    longigen("train", "--data", data, *small, "--steps", 1, "--out", run)
    split = json.loads((run / "run.json").read_text())["split"]
    table("visits.csv", {})
    resume = ("train", "--resume", "--out", run)
    refused = longigen(*resume, "--steps", 2, status=2).stderr.splitlines()[-1]
    assert "2 subjects that are not in the run's split (s6, s7); add --new-subjects train" in refused
    assert json.loads((run / "run.json").read_text())["split"] == split
    assert "left out: s6, s7" in longigen(*resume, "--steps", 2, "--new-subjects", "leave-out").stderr
    assert json.loads((run / "run.json").read_text())["split"] == split
    said = longigen("evaluate", run, "--setting", "full", "--metric", "psnr")
    assert "2 subjects of 'csv' are not in the run's split" in said.stderr
    assert f"{len(split['test'])} subjects (subjects not used in training)" in said.stdout
    assert "join the training part: s6, s7" in longigen(*resume, "--steps", 3, "--new-subjects", "train").stderr
    joined = json.loads((run / "run.json").read_text())["split"]
    assert joined == {**split, "train": [*split["train"], "s6", "s7"]}
    gone = split["train"][0]
    table("visits.csv", {gone: None})
    said = longigen(*resume, "--steps", 4).stderr
    assert f"1 subjects of the run are no longer in 'csv': {gone}." in said
    longigen("train", "--new-subjects", "train", "--out", tmp_path / "other", status=2)


@pytest.mark.parametrize(
    ("split", "part", "label"),
    [
        (("validation=0", "test=0"), "train", "fixed pairs of training subjects"),
        (("validation=0.2", "test=0"), "validation", "validation"),
    ],
)
def test_a_run_without_a_part_says_so(
    split: tuple[str, ...], part: str, label: str, longigen: Longigen, manifest: Path, tmp_path: Path
) -> None:
    small = [word for change in (*SMALL, *split, "validate_every=1") for word in ("--set", change)]
    said = longigen("train", "--data", manifest, *small, "--steps", 1, "--out", tmp_path / "run")
    assert re.search(rf"loss \d\.\d+  {label} \d", said.stderr)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert ("validation_loss" in json.loads(line)) is (part == "validation")
    assert f"scores of the {part} part are not of unseen subjects" in said.stderr
    command = shlex.split(said.stderr.splitlines()[-1].removeprefix("next: longigen "))
    scored = longigen(*command, "--setting", "full", "--metric", "psnr").stdout
    assert f"(part '{part}', {'8' if part == 'train' else '2'} of them used in training)" in scored
    assert not (tmp_path / "run" / "model" / "metrics.json").exists()
