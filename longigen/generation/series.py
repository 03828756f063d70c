"""Series: the generated visits of a subject as one 4D NIfTI file, such as the frames of a heart, with their times."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from longigen.data.cohort import listed
from longigen.data.dataset import Subject
from longigen.data.grid import on_grid_of
from longigen.data.volume import Volume, write_volume
from longigen.generation.session import GenerationSession
from longigen.generation.trajectory import TrajectoryFiles, find_trajectories
from longigen.models.layout import Layout
from longigen.models.visit_files import STATISTICS, sidecar_path
from longigen.utils.files import read_json, write_json
from longigen.utils.time_units import SECONDS, time_text

EQUAL = 1e-4
"""Steps between frames that differ by a smaller share are the same, which a header's float32 cannot tell apart."""

log = logging.getLogger("longigen")


def write_all_series(session: GenerationSession, layout: Layout) -> None:
    """Write the generated visits of each of the session's subjects as 4D files; say what they leave out.

    Raises:
        LongigenError: if a file cannot be read or written.
    """
    subjects = {prepared.subject.id: prepared.subject for prepared in session.subjects}
    said: dict[str, list[str]] = {}
    for files in find_trajectories(layout.folder):
        if files.subject in subjects:
            for note in write_series(files, layout, files.of(subjects[files.subject])):
                said.setdefault(note, []).append(files.subject)
    for note, names in said.items():  # a subject with several channels or settings has several series
        log.info(f"{note}: {listed(list(dict.fromkeys(names)), limit=3)}")


def write_series(files: TrajectoryFiles, layout: Layout, subject: Subject) -> list[str]:
    """Write each sample of a subject's generated visits in one setting as a 4D NIfTI file (W, H, D, T).

    The frames are in order of time, on the grid of the first. The header's fourth ``pixdim`` is the time between them,
    in milliseconds or seconds if the unit of the times can be converted, or in that unit itself; 0 if the frames are
    not equally spaced. The JSON sidecar has ``times``, ``time_unit``, the file of each frame, and how they were made.
    What is there already, of the same frames, stays.

    Returns:
        What is to be said of it, without the subject.

    Raises:
        LongigenError: if a file cannot be read or written.
    """
    notes: list[str] = []
    rows = sorted((row for row in files.rows if row["sample"] not in STATISTICS), key=lambda row: float(row["time"]))
    for sample in sorted({int(row["sample"]) for row in rows}):
        notes += _write(files, [row for row in rows if int(row["sample"]) == sample], layout, subject)
    return list(dict.fromkeys(notes))


def _write(
    files: TrajectoryFiles, rows: Sequence[Mapping[str, str]], layout: Layout, subject: Subject
) -> Iterator[str]:
    """Write one sample of the visits as a 4D file; yield what is to be said of it."""
    times, sample = [float(row["time"]) for row in rows], int(rows[0]["sample"])
    if len(times) < 2:
        yield "No 4D file is written of a single generated visit"
        return
    step = _step(times)
    if step is None:
        yield "The frames are not equally spaced, so their times are in the JSON file alone and not in the header"
    path = layout.series(subject, files.setting, sample)
    frames = [{"file": Path(row["path"]).name, "sha256": row["sha256"]} for row in rows]
    if path.exists() and sidecar_path(path).exists() and read_json(sidecar_path(path)).get("frames") == frames:
        return
    volumes = [files.volume(row) for row in rows]
    if any(_differ(volume, volumes[0]) for volume in volumes):
        yield "Some visits have another grid than the first, onto which they are interpolated in the 4D file"
        volumes = [on_grid_of(volume, volumes[0], float(volume.data.min())) for volume in volumes]
    first = volumes[0]
    series = Volume(np.stack([volume.data for volume in volumes], axis=-1), first.affine, first.form)
    description = f"synthetic: longigen, {len(times)} times from {time_text(times[0])} {files.time_unit}"
    write_volume(series, path, description, _in_header(step or 0.0, files.time_unit))
    of_first = read_json(sidecar_path(layout.folder / rows[0]["path"]))
    content = {
        "synthetic": True,
        "subject": files.subject,
        **({"channel": files.channel} if files.channel else {}),
        "times": times,
        "time_unit": files.time_unit,
        "frames": frames,
        "sample": sample,
        **{key: of_first[key] for key in MADE if key in of_first},
    }
    write_json(content, sidecar_path(path))


MADE = ("simulated_history", "setting", "order", "seed", "sampler", "steps", "guidance", "precision", "model")
"""The fields of the visits' sidecars that all visits of a series share."""


def _step(times: Sequence[float]) -> float | None:
    """Return the time between frames; None if it is not the same for all."""
    steps = np.diff(times)
    equal = np.ptp(steps) <= EQUAL * steps.mean()
    return float(times[-1] - times[0]) / len(steps) if equal else None


def _in_header(step: float, unit: str) -> tuple[float, str]:
    """Return a time and its unit as a header has them."""
    if unit == "milliseconds":
        return step, "msec"
    return (step * SECONDS[unit], "sec") if unit in SECONDS else (step, "unknown")


def _differ(volume: Volume, other: Volume) -> bool:
    return volume.data.shape != other.data.shape or float(np.abs(volume.affine - other.affine).max()) > 1e-3
