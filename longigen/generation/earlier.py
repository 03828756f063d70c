"""What an earlier `generate` left in a folder: visits that are whole and of the same settings stay."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longigen.data.dataset import Subject
from longigen.errors import LongigenError
from longigen.models.bids_layout import FIELDS
from longigen.models.channels import channel_tasks
from longigen.models.layout import Layout
from longigen.models.predict import SubjectTask
from longigen.models.visit_files import FILE, STATISTICS, sidecar_path
from longigen.utils.files import read_json

OF_ONE_FILE = ("sample", "statistic", "sample_files", FILE, *FIELDS)
"""Fields of a sidecar that follow from the file's name, its content or the other fields."""
FIRST_SAID = ("subject", "setting")
"""Fields of which a difference is said first, since others follow from it."""
LEFTOVER_SECONDS = 3600
"""A temporary file that is older is of a process that was killed."""


@dataclass(frozen=True)
class Expected:
    """The files of a task of `write_cohort`, and what their sidecars say if this call wrote them.

    Attributes:
        layout: the layout of the folder to write to, with the provenance of the visits.
        item: the subject and the task.
        times: times of the visits, in the data set's unit.
        samples: number of samples of each visit.
        explain: whether the visits have explanations.
    """

    layout: Layout
    item: SubjectTask
    times: Sequence[float]
    samples: int
    explain: bool

    @property
    def is_whole(self) -> bool:
        """Whether all files are there, whole and of this model, these settings and these inputs.

        Raises:
            LongigenError: if a file is of others; the message says what differs.
        """
        subject, samples = self.item[0].subject, self.samples
        if not self.layout.subject_folder(subject).is_dir():
            return False
        whole = True
        for time_ in self.times:
            parts = [part for part in channel_tasks(*self.item) if part.reaches(time_)]
            volumes = [list(self._volumes(part.prepared.subject, time_)) for part in parts]
            for number, (part, of_channel) in enumerate(zip(parts, volumes, strict=True)):
                reached = [each for each in self.times if part.reaches(each)]
                content = self.layout.record.provenance(part, reached, time_, samples)
                expected = json.loads(json.dumps(content))
                files = list(of_channel if number else self._with_explanations(of_channel))  # one is of all channels
                for folder in {path.parent for path in files}:
                    _remove_leftovers(folder)
                for path in files:
                    whole &= _is_whole(path, expected)
            for path in self.layout.volumes(subject, time_):
                if not any(path in of_channel for of_channel in volumes):
                    raise _other(path, self._of_other_samples(path))
        return whole

    def _of_other_samples(self, path: Path) -> str:
        """Return in a few words how many samples there are of the visit of a volume, which are not so many as asked."""
        sidecar = sidecar_path(path)  # missing if its process was killed
        found = read_json(sidecar).get("samples") if sidecar.exists() else "of another number"
        return _difference("samples", found, self.samples)

    def _volumes(self, subject: Subject, time_: float) -> Iterator[Path]:
        for kind in (*range(self.samples), *(STATISTICS if self.samples > 1 else ())):
            yield self.layout.volume(subject, time_, kind, self.samples)

    def _with_explanations(self, volumes: Sequence[Path]) -> Iterator[Path]:
        """Yield the volumes, and the explanation of each sample."""
        for number, path in enumerate(volumes):
            yield path
            if self.explain and number < self.samples:
                yield self.layout.explanation(path)


def _is_whole(path: Path, expected: Mapping[str, Any]) -> bool:
    sidecar = sidecar_path(path)
    if path.name.endswith("_explain.nii.gz"):  # written in this order, and the visit's own sidecar says of what
        return path.exists() and sidecar.exists() and sidecar.with_suffix(".png").exists()
    if not sidecar.exists():
        return False
    found = read_json(sidecar)
    if isinstance(grid := found.get("grid"), dict):
        grid.pop("voxels", None)  # known only with the volume; it follows from the rest
    for key in dict.fromkeys((*FIRST_SAID, *expected, *found)):
        if key not in OF_ONE_FILE and found.get(key) != expected.get(key):
            raise _other(path, _difference(key, found.get(key), expected.get(key)))
    return path.exists() and found.get(FILE, {}).get("bytes") == path.stat().st_size


def _difference(key: str, there: Any, asked: Any) -> str:
    """Return in a few words how a file was generated otherwise than it would be now."""
    if key == "given_voxels":
        return "from other images of the given visits" if there else "by a version that did not record its inputs"
    if isinstance(there, Mapping) and isinstance(asked, Mapping):
        inner = next(name for name in (*asked, *there) if there.get(name) != asked.get(name))
        return _difference(f"{key}.{inner}", there.get(inner), asked.get(inner))
    return f"with {key} {_short(there)} and not {_short(asked)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _other(path: Path, how: str) -> LongigenError:
    return LongigenError(
        f"{path} is there already, generated {how}; write to another folder, or replace all files of the visits with "
        "--overwrite (overwrite=True)."
    )


def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed processes."""
    for path in folder.glob(".part-*"):
        with suppress(OSError):  # finished or deleted meanwhile
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()
