"""What a report is made of: the runs, results and generated visits in some folders, and the data set behind them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen.components.base import parameters
from longigen.components.changes import as_changes
from longigen.data.dataset import Subject
from longigen.data.issues import Finding
from longigen.data.open_dataset import find_dataset, open_dataset
from longigen.errors import LongigenError
from longigen.evaluation.results import TABLE_FILE
from longigen.generation.trajectory import is_generated
from longigen.hub.manifest import METRICS, RUN_FILE
from longigen.models.visit_index import DATA
from longigen.registry.registry import registry
from longigen.utils.files import read_json, user_path

log = logging.getLogger("longigen")


@dataclass(frozen=True)
class Sources:
    """Folders, by what they hold.

    Attributes:
        runs: those that training wrote.
        results: those that evaluations and benchmarks wrote.
        generated: those with generated visits.
    """

    runs: Sequence[Path]
    results: Sequence[Path]
    generated: Sequence[Path]

    @classmethod
    def find(cls, folders: Sequence[Path | str]) -> "Sources":
        """Return what the folders hold, or those in them where a folder itself holds nothing of the kind.

        Raises:
            LongigenError: if a folder does not exist, or holds nothing to report on.
        """
        runs: list[Path] = []
        results: list[Path] = []
        generated: list[Path] = []
        for folder in map(user_path, folders):
            if not folder.is_dir():
                problem = "is a file" if folder.exists() else "does not exist"
                raise LongigenError(f"{folder} {problem}; give the folder of a run, a result or generated visits.")
            inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
            for path in [folder] if _kind(folder) else inside:
                kind = _kind(path)
                if kind is not None:
                    {"run": runs, "result": results, "generated": generated}[kind].append(path)
            if not any(path == folder or path.parent == folder for path in (*runs, *results, *generated)):
                raise LongigenError(
                    f"{folder} holds no run, result or generated visits; give a folder that 'longigen train', "
                    "'evaluate', 'bench' or 'generate' wrote, or one with such folders in it."
                )
        return cls(runs, results, generated)

    @property
    def folders(self) -> list[Path]:
        """All folders."""
        return [*self.runs, *self.results, *self.generated]


def _kind(folder: Path) -> str | None:
    if (folder / RUN_FILE).is_file():
        return "run"
    if (folder / TABLE_FILE).is_file() or (folder / METRICS).is_file():
        return "result"
    return "generated" if is_generated(folder) else None


class KnownSubjects:
    """The subjects of the data set from which visits were generated, by id; read when first asked for.

    Args:
        data: a data set's name, a file or folder, or ``NAME:PATH``; by default the one that a run was trained on, or
            the one that the folder of generated visits names, if that needs no files.
        changes: parameters of the data set, as ``key=value``.
        runs: folders of runs.
    """

    def __init__(self, data: str | None, changes: Sequence[str], runs: Sequence[Path]) -> None:
        self._data = data
        self._changes = list(changes)
        self._runs = runs
        self._opened: dict[str, tuple[Mapping[str, Subject], str | None]] = {}
        if data is not None:
            find_dataset(data)  # a mistake is said before anything is read

    def of(self, folder: Path) -> tuple[Mapping[str, Subject], str | None]:
        """Return the subjects for a folder of generated visits, and if there are none, why, in a sentence.

        Raises:
            LongigenError: if the data set that the user chose cannot be opened.
        """
        key = str(self._recorded(folder))
        if key not in self._opened:
            self._opened[key] = self._open(folder)
        return self._opened[key]

    def _recorded(self, folder: Path) -> dict[str, Any]:
        path = folder / DATA
        return read_json(path) if path.is_file() else {}

    def _open(self, folder: Path) -> tuple[Mapping[str, Subject], str | None]:
        recorded = self._recorded(folder)
        name, settings = str(recorded.get("name")), dict(recorded.get("parameters", {}))
        if self._data is not None:
            chosen = find_dataset(self._data)[0]
            own = {key: value for key, value in settings.items() if key not in _required(chosen)}
            return self._read(self._data, own if chosen == name else {}), None
        of_run = next((run for run in self._of_runs if run["name"] == name), {})
        settings |= {key: value for key, value in of_run.items() if key != "name" and value is not None}
        problem = "the folder holds the generated ones alone"
        if recorded and all(key in settings for key in _required(name)):
            try:
                return self._read(name, settings), None
            except LongigenError as error:  # such as files that are elsewhere now
                problem = str(error).rstrip(".")
        return {}, f"The given and true visits of {folder.name} are not shown ({problem}); give their data with --data."

    def _read(self, data: str, settings: Mapping[str, Any]) -> dict[str, Subject]:
        dataset = open_dataset(data, [*as_changes(settings), *self._changes])[1]
        left_out: list[Finding] = []
        subjects = dataset.subjects(left_out.append)
        if left_out:
            log.info(f"{len(left_out)} visits or subjects of the data cannot be used, such as: {left_out[0]}")
        return {subject.id: subject for subject in subjects}

    @cached_property
    def _of_runs(self) -> list[dict[str, Any]]:
        return [dict(read_json(run / RUN_FILE)["recipe"]["data"]) for run in self._runs]


def _required(name: str) -> list[str]:
    if name not in registry.entries("dataset"):
        return ["path"]
    return [key for key, parameter in parameters(registry.load("dataset", name)).items() if parameter.required]
