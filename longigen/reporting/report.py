"""The report: one HTML page, complete in itself, of runs, results and generated visits."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from longigen._version import __version__
from longigen.errors import LongigenError
from longigen.generation.strip import Panel, Strip
from longigen.generation.trajectory import Trajectory, TrajectoryFiles, find_trajectories
from longigen.hub.manifest import METRICS
from longigen.hub.metrics_file import COPIES, MODEL, MetricsFile, ResultRow
from longigen.reporting.charts import (
    MOST_REGIONS,
    calibration,
    gains_of_subjects,
    similarity_by_visit,
    training_curves,
    volumes_of_regions,
)
from longigen.reporting.results import Result
from longigen.reporting.sources import KnownSubjects, Sources
from longigen.reporting.training import Training
from longigen.reporting.viewer import render, viewer_parts
from longigen.reporting.volumes import Scene
from longigen.utils.files import atomic
from longigen.utils.intervals import INTERVAL, Summary
from longigen.utils.progress import Progress, silent

MOST_STRIPS = 60
"""The largest number of subjects with pictures."""
VIEWER_CHARACTERS, SCENE_CHARACTERS = 16_000_000, 5_000_000
"""How long the volumes of the viewer may be in the page, of all subjects and of one."""
PICTURE_SIDE = 112
"""The longest side of a plane's picture, in pixels: nine beside each other fit into the page."""
PICTURE_COLOURS = 128
"""The number of colours of a picture in the page, which takes a third of the space of all colours."""
NO_VOLUMES = (
    "Trajectories of regional volumes are left out: no result has volumes of several visits; 'longigen evaluate "
    "--segmenter SEGMENTER --targets all --out FOLDER' writes them."
)


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        path: path of the HTML file.
        subjects: number of subjects with pictures.
        left_out: what the page does not show and why, one sentence each.
    """

    path: Path
    subjects: int
    left_out: Sequence[str]


class _Gain(NamedTuple):
    """By how much a metric of a subject's generated visits, or of one channel of them, exceeds copy-last's."""

    metric: str
    value: float


@dataclass(frozen=True)
class _Shown:
    """A trajectory, of which the page keeps the pictures and the volumes for the viewer."""

    title: str
    strip: Strip
    scene: Scene
    rank: float | None


def write_report(sources: Sources, subjects: KnownSubjects, path: Path, *, progress: Progress = silent) -> Report:
    """Write the report of what some folders hold.

    Args:
        sources: the folders.
        subjects: the data set with the given and true visits.
        path: path of the HTML file.
        progress: progress bar of the subjects.

    Raises:
        LongigenError: if a file is damaged, the data set cannot be opened, or the page cannot be written.
    """
    trainings = [Training.read(folder) for folder in sources.runs]
    results = _with_metrics_of_runs([Result.read(folder) for folder in sources.results], trainings)
    left_out: list[str] = []
    shown, order = _subjects(sources, subjects, results, left_out, progress)
    scenes = _fitting([item.scene for item in shown])
    if not results:
        left_out.append("Scores are left out: no folder has any; 'longigen evaluate MODEL --out FOLDER' writes them.")
    if not trainings:
        left_out.append("Training curves are left out: none of the folders is a run.")
    if not shown:
        left_out.append("Pictures are left out: no folder has generated visits; 'longigen generate' writes them.")
    if not any(result.volume_settings for result in results):
        left_out.append(NO_VOLUMES)
    names = ", ".join(dict.fromkeys(folder.resolve().name for folder in sources.folders))
    page = render(
        "report.html",
        title=f"longigen report: {names}",
        version=__version__,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        left_out=left_out,
        results=[_result(result, left_out) for result in results],
        strips=[_strip(item) for item in shown],
        order=order,
        shown=_shown_in_viewer(len(scenes), len(shown)),
        trainings=[_training(training, left_out) for training in trainings],
        provenance=_provenance(sources, results),
        **viewer_parts(scenes),
    )
    with atomic(path) as part:
        part.write_text(page, encoding="utf-8")
    return Report(path, len(shown), left_out)


def _with_metrics_of_runs(results: list[Result], trainings: Sequence[Training]) -> list[Result]:
    """Add the scores beside a run's weights, unless they are among the results already."""
    known = {result.protocol_hash for result in results}
    for training in trainings:
        if (training.run.model / METRICS).is_file():
            found = Result.read(training.run.model)
            if found.protocol_hash not in known:
                results.append(found)
    return results


def _subjects(
    sources: Sources,
    subjects: KnownSubjects,
    results: Sequence[Result],
    left_out: list[str],
    progress: Progress,
) -> tuple[list[_Shown], str]:
    """Return the subjects to draw, the worst first, and a sentence on their order."""
    found: list[TrajectoryFiles] = []
    for folder in sources.generated:
        found += find_trajectories(folder)
    ranked = _gains(results, found)
    if ranked:
        found = sorted(found, key=lambda files: (files not in ranked, ranked[files].value if files in ranked else 0.0))
        metrics = dict.fromkeys(gain.metric for gain in ranked.values())
        order = f"The worst first, by the model's {' or '.join(metrics)} minus copy-last's."
        chosen = _ends_and_middle(found, MOST_STRIPS)
        if len(chosen) < len(found):
            order += (
                f" Of {len(found)} subjects the page shows {len(chosen)}: the worst, those about the median, the best."
            )
        found = chosen
    else:
        order = ""
    if not order and len(found) > MOST_STRIPS:
        left_out.append(f"Of {len(found)} subjects the page shows the first {MOST_STRIPS}; scores would say which.")
        found = found[:MOST_STRIPS]
    shown: list[_Shown] = []
    with progress("drawing") as update:
        for number, files in enumerate(found, 1):
            known, problem = subjects.of(files.folder)
            left_out += [problem] if problem and problem not in left_out else []
            trajectory = files.read(known.get(files.subject))
            left_out += trajectory.notes
            if known and files.subject not in known:
                left_out.append(f"The given and true visits of {files.subject} are not in the data.")
            shown.append(_drawn(trajectory, ranked.get(files), number))
            update(number, len(found))
    if not order and any(item.rank is not None for item in shown):
        shown.sort(key=lambda item: -(item.rank or 0.0))
        order = "The worst first, by the mean absolute difference from the true visit, inside the foreground."
    elif not order:
        order = "In the order of their names, since no true visits are known."
    return shown, order


def _drawn(trajectory: Trajectory, gain: _Gain | None, number: int) -> _Shown:
    setting = f", setting {trajectory.setting}" if trajectory.setting else ""
    error = trajectory.mean_error
    notes = [] if gain is None else [f"{gain.metric} minus copy-last's {gain.value:+.4f}"]
    notes += [] if error is None else [f"mean difference {error:.2%} of the range"]
    title = f"{trajectory.name}{setting}" + "".join(f" · {note}" for note in notes)
    scene = Scene.of_trajectory(trajectory, f"s{number}", largest=SCENE_CHARACTERS)
    return _Shown(title, Strip.of(trajectory, side=PICTURE_SIDE), scene, error if gain is None else gain.value)


def _gains(results: Sequence[Result], found: Sequence[TrajectoryFiles]) -> dict[TrajectoryFiles, _Gain]:
    """Return the gain over copy-last of each trajectory of which the same weights were scored, all by one metric."""
    gains: dict[TrajectoryFiles, _Gain] = {}
    named = ""
    for result in results:
        weights, metric = result.content.get("model", {}).get("weights_sha256"), result.ranking
        if metric is None or MODEL not in result.methods or named not in ("", metric):
            continue
        for setting in result.settings():
            for files in found:
                own = result.of_channel(metric, files.channel)
                of_subjects = {} if own is None else result.gains(setting, MODEL, own)
                if (
                    own is not None
                    and files.setting == setting
                    and files.subject in of_subjects
                    and files.sidecar.get("model", {}).get("weights_sha256") == weights
                ):
                    gains[files], named = _Gain(own, of_subjects[files.subject]), metric
    return gains


def _ends_and_middle(found: list[TrajectoryFiles], most: int) -> list[TrajectoryFiles]:
    if len(found) <= most:
        return found
    third, middle = most // 3, len(found) // 2
    return [*found[:third], *found[middle - third // 2 :][:third], *found[-(most - 2 * third) :]]


def _fitting(scenes: Sequence[Scene]) -> list[Scene]:
    """Return the scenes that fit into the page: the first, the middle and the last one, and then the first others."""
    count, room, kept = len(scenes), VIEWER_CHARACTERS, set()
    for place in dict.fromkeys((0, count // 2, count - 1, *range(count)) if count else ()):
        if scenes[place].size <= room:
            kept.add(place)
            room -= scenes[place].size
    return [scenes[place] for place in sorted(kept)]


def _shown_in_viewer(scenes: int, shown: int) -> str:
    if scenes == shown:
        return ""
    return (
        f"So that the page stays small, it has the volumes of {scenes} of the {shown} subjects above: of the first, "
        "the middle and the last one, and then of the first others; 'longigen view FOLDER' shows all."
    )


def _strip(item: _Shown) -> dict[str, Any]:
    panels = [{"title": panel.title, "uri": _picture(panel)} for panel in item.strip.panels]
    return {"title": item.title, "note": item.strip.scales, "panels": panels}


def _picture(panel: Panel) -> str:
    buffer = io.BytesIO()
    panel.picture.quantize(PICTURE_COLOURS).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _result(result: Result, left_out: list[str]) -> dict[str, Any]:
    charts = []
    similarity = similarity_by_visit(result)
    if similarity is not None:
        note = (
            "Mean over subjects with its 95 % interval, as in figure 5 of the SADM paper; copy-last repeats the last "
            "visit that was given in that setting."
        )
        charts.append({"title": "Similarity of each visit", "note": note, "uri": similarity})
    else:
        left_out.append(
            f"Similarity by visit is left out for {result.name}: it has no scores of several visits of a subject; "
            "'longigen evaluate --targets all --out FOLDER' writes them."
        )
    charts += _volumes(result, left_out)
    for setting in result.settings()[-1:]:
        for method in result.methods[:1]:
            uri = gains_of_subjects(result, setting, method)
            if uri is not None:
                note = "Below 0 the model is worse than repeating the last given visit."
                charts.append({"title": "Gain of each subject", "note": note, "uri": uri})
    for metric, arrow in result.arrows.items():
        target = arrow.removeprefix("→").strip()
        uri = calibration(result, metric, float(target)) if result.samples > 1 and arrow.startswith("→ ") else None
        if uri is not None:
            note = f"Of {result.samples} samples of each visit. {result.protocol['metrics'][metric]}."
            charts.append({"title": f"Calibration: {metric}", "note": note, "uri": uri})
    if result.samples < 2:
        left_out.append(
            f"Uncertainty and calibration are left out for {result.name}: it has one sample of each visit; "
            "'longigen evaluate --samples 8' draws several."
        )
    return {
        "title": result.title,
        "hash": result.protocol_hash,
        "note": f"Means over subjects [{INTERVAL}]; below each value the gain over copy-last, paired by subject, "
        "green if its interval is on the better side of 0, red if on the worse.",
        "verdict": MetricsFile(result.content).verdict() if "arrows" in result.content else {},
        "tables": [_table(result, setting) for setting in result.settings()],
        "charts": charts,
        "definitions": result.protocol["metrics"],
    }


def _volumes(result: Result, left_out: list[str]) -> list[dict[str, Any]]:
    """Return the charts of the volumes of regions by visit, one for each setting, if there are any."""
    note = (
        "Mean over subjects with its 95 % interval. True volumes are of the label maps, or where the data have none, "
        "of the segmenter's of the true images; the others are as the segmenter marks them."
    )
    number = len(result.regions)
    if result.volume_settings and number > MOST_REGIONS:
        left_out.append(f"Of {number} regions of {result.name}, volumes of the first {MOST_REGIONS} are drawn.")
    return [
        {"title": f"Volumes of regions, setting {setting}", "note": note, "uri": volumes_of_regions(result, setting)}
        for setting in result.volume_settings
    ]


def _table(result: Result, setting: str) -> dict[str, Any]:
    """Return the table of a setting: one line per metric, one column per method, with its gain below the value."""
    rows = result.of_setting(setting)
    lines = []
    for name in result.metrics:
        arrow = result.arrows.get(name, "")
        if any(name in row.values and row.values[name].subjects for row in rows):
            lines.append({"name": f"{name} {arrow}".rstrip(), "cells": [_cell(row, name, arrow) for row in rows]})
    heads = [{"name": row.method, "is_copy": row.method in COPIES} for row in rows]
    return {"setting": setting, "visits": max(row.visits for row in rows), "heads": heads, "lines": lines}


def _cell(row: ResultRow, metric: str, arrow: str) -> dict[str, Any]:
    value, gain = row.values.get(metric, Summary.from_dict(None)), row.gains.get(metric)
    if row.method in COPIES or gain is None or not gain.subjects:
        return {"value": value.cell(), "gain": "", "verdict": "", "is_copy": row.method in COPIES}
    better = {"↑": gain.low > 0, "↓": gain.high < 0}.get(arrow, False)
    worse = {"↑": gain.high < 0, "↓": gain.low > 0}.get(arrow, False)
    verdict = "better" if better else "worse" if worse else ""
    return {"value": value.cell(), "gain": gain.cell(signed=True), "verdict": verdict, "is_copy": False}


def _training(training: Training, left_out: list[str]) -> dict[str, Any]:
    name = training.run.folder.resolve().name
    if training.damaged:
        left_out.append(f"{training.damaged} lines of the training metrics of {name} are damaged and left out.")
    curves = training_curves(training)
    if curves is None:
        left_out.append(f"The training curves of {name} are left out: the run has no metrics yet.")
    sample = max((training.run.folder / "samples").glob("step-*.png"), default=None)
    encoded = None if sample is None else base64.b64encode(sample.read_bytes()).decode()
    return {
        "title": name,
        "facts": training.facts,
        "curves": curves,
        "sample": None if encoded is None else f"data:image/png;base64,{encoded}",
        "sample_note": ""
        if sample is None
        else f"A visit of a validation subject, generated at step {int(sample.stem[5:])}.",
    }


def _provenance(sources: Sources, results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what was made by what: names and values, in order."""

    def plain(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)

    facts: list[tuple[str, str]] = [("folders", ", ".join(folder.resolve().name for folder in sources.folders))]
    for result in results:
        kept: Mapping[str, Any] = {
            key: result.content[key] for key in ("model", "generation", "longigen") if key in result.content
        }
        protocol = {key: value for key, value in result.protocol.items() if key != "metrics"}
        for key, value in {**kept, "protocol": protocol}.items():
            facts.append((f"{result.name}: {key}", plain(value)))
    for folder in sources.generated:
        sidecar = find_trajectories(folder)[0].sidecar
        for key in ("model", "sampler", "sampler_config", "steps", "guidance", "order", "precision", "seed", "samples"):
            if key in sidecar:
                facts.append((f"{folder.name}: {key}", plain(sidecar[key])))
    return facts


def default_path(sources: Sources, folders: Sequence[Path | str]) -> Path:
    """Return where a report goes if the user names no file: ``report.html`` in the first folder.

    Raises:
        LongigenError: if that is a folder.
    """
    path = Path(folders[0]) / "report.html"
    if path.is_dir():
        raise LongigenError(f"{path} is a folder; name a file with --out.")
    return path
