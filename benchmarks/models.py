"""Train the published models that ship with the package: ``python benchmarks/models.py [NAME ...]``.

Each model is trained by ``longigen train`` (finished runs are reused, interrupted ones are continued), scored by
``longigen evaluate`` in all settings, and written to ``plugins/longigen_models/NAME`` with its card and its metrics;
its entry in ``registry.yaml`` is updated. The weights of simulated data are saved in bf16 if no metric's mean gets
worse by more than a thousandth of the width of its interval. Runs are written to ``--work``. Each model takes about 20
minutes on two CPU cores. The models of real hearts need ``--acdc PATH --sunnybrook PATH``; ``benchmarks/heart.py``
writes the cross-validation that the card of heart-acdc has. ``--score`` only scores the published weights again;
results in ``--work`` of the same weights are kept.
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from heart import CHANGES, SIZE
from heart_notes import notes
from results import HERE, MEASURES, SHORT
from safetensors.torch import load_file, save_file

import longigen
from longigen import LongitudinalModel
from longigen.hub.manifest import CONFIG, METRICS, WEIGHTS, manifest_to_dict
from longigen.hub.metrics_file import MetricsFile
from longigen.hub.publish import export
from longigen.models.pretrained import loader
from longigen.utils.files import atomic

FOLDER = HERE.parent / "plugins" / "longigen_models"
REGISTRY = HERE.parent / "registry.yaml"
BRAIN = (
    f"--set data.spacing=4 --set subject_count=200 {SHORT} --set validate_every=250 --set sample_every=10000 "
    "--set checkpoint_every=250"
)
EARLIER = (
    "--set denoiser.amount=0 --set denoiser.similarity=2 --set denoiser.dropout=0.1 --set augment.rotate=0,0,30 "
    "--set augment.scale=0.2 --set augment.shift=0.05 --set augment.gamma=1.3 --set weight_decay=0.01"
)
"""Values of the recipe `heart` that heart-sunnybrook was trained with."""
NEGLIGIBLE = 1e-3
"""Largest loss of quality by bf16 that is accepted, as a fraction of the width of a mean's interval."""


@dataclass(frozen=True)
class ModelSpec:
    """A model: its description for ``registry.yaml``, and the recipe and options of ``longigen train``.

    Attributes:
        summary: one line.
        data: the training data, in words.
        recipe: the recipe.
        options: options of ``longigen train``; ``{acdc}`` and ``{sunnybrook}`` are the folders of these data.
        scored: options of ``longigen evaluate``; None if the model was trained on all subjects that there are.
        licence: licence of the weights.
        noted: whether the card has the notes of `heart_notes`.
    """

    summary: str
    data: str
    recipe: str
    options: str
    scored: str | None = ""
    licence: str = "Apache-2.0"
    noted: bool = False

    @property
    def needs_data(self) -> bool:
        return "{" in self.options


MODELS = {
    "sadm-sim-brain": ModelSpec(
        "SADM on simulated ageing brains at 4 mm, years ahead",
        "sim-brain, 200 simulated subjects at 4 mm",
        "sadm-tiny",
        f"{BRAIN} --steps 800",
    ),
    "additive-sim-brain": ModelSpec(
        "source and interval added to the first features, on simulated ageing brains at 4 mm, years ahead",
        "sim-brain, 200 simulated subjects at 4 mm",
        "dao-tiny",
        f"{BRAIN} --steps 800",
    ),
    "sadm-sim-heart": ModelSpec(
        "SADM on simulated beating hearts, from end-diastole to end-systole",
        "sim-heart, 150 simulated subjects, 6 frames",
        "sadm-tiny",
        f"--data sim-heart {MEASURES['sim-heart'].options}",
    ),
    "heart-sunnybrook": ModelSpec(
        "real hearts at their own voxels, from end diastole to end systole; scored on ACDC",
        "Sunnybrook Cardiac Data, 30 patients, end diastole and end systole",
        "heart",
        "--data nifti4d:{sunnybrook} --set data.pattern=*_ED_ES.nii.gz --set data.time_unit=cycle --set split.test=0 "
        f"--set split.validation=0.1 {EARLIER} --steps 1200",
        scored="--data acdc:{acdc} --set data.frames=6",
        noted=True,
    ),
    "heart-acdc": ModelSpec(
        "real hearts at their own voxels, any frame from end diastole to end systole",
        "ACDC, 55 patients of the challenge's training set, 6 frames; started from heart-sunnybrook",
        "heart",
        "--data acdc:{acdc} --set data.frames=6 --set split.test=0 --set split.validation=0.05 "
        f"--size {SIZE} --init heart-sunnybrook {' '.join(f'--set {change}' for change in CHANGES)}",
        scored=None,
        licence="CC-BY-NC-SA-4.0",
        noted=True,
    ),
}


def run(*command: str) -> None:
    """Print a command and run it."""
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def train(name: str, work: Path, paths: Mapping[str, Path | None]) -> Path:
    """Train a model unless it is trained already; return the folder of its run."""
    folder, spec = work / name, MODELS[name]
    if not (folder / "run.json").exists():
        options = spec.options.format(**paths).split()
        run("longigen", "train", "--recipe", spec.recipe, *options, "--out", str(folder))
    elif json.loads((folder / "run.json").read_text())["recipe"]["training"]["steps"] > _step(folder):
        run("longigen", "train", "--resume", "--out", str(folder))
    return folder


def _step(folder: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*[0-9]")), default=0)


def score(model: Path, out: Path, options: str) -> MetricsFile:
    """Evaluate a model unless that was done, copy its metrics beside its weights, and return them."""
    if MetricsFile.read(out, weights=model / WEIGHTS) is None:
        run("longigen", "evaluate", str(model), *options.split(), "--out", str(out))
    shutil.copyfile(out / METRICS, model / METRICS)
    return read_metrics(model)


def read_metrics(model: Path) -> MetricsFile:
    """Return the metrics beside a model's weights."""
    metrics = MetricsFile.read(model)
    if metrics is None:
        raise FileNotFoundError(model / METRICS)
    return metrics


def write_bf16(model: Path, folder: Path) -> Path:
    """Write a model with its weights in bf16; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / CONFIG, folder / CONFIG)
    tensors = {n: t.bfloat16() if t.is_floating_point() else t for n, t in load_file(model / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def losses(full: MetricsFile, half: MetricsFile) -> Iterator[tuple[str, float]]:
    """Yield the loss of quality by bf16 for every setting and metric, as a fraction of the interval's width."""
    for (row, metric, _), (half_row, _, _) in zip(full.gains(), half.gains(), strict=True):
        before, after = row.values[metric], half_row.values[metric]
        sign = -1 if full.arrows[metric] == "↓" else 1
        if before.high > before.low:
            yield f"{row.setting} {metric}", sign * (before.mean - after.mean) / (before.high - before.low)


def entry(name: str, folder: Path, manifest: Any) -> dict[str, Any]:
    """Return the entry of a published model in ``registry.yaml``."""
    spec, result = MODELS[name], MetricsFile.read(folder)
    metrics: dict[str, Any] = {}
    if result is not None:
        metrics["protocol"] = result.content["protocol_hash"]
        for row, metric, copy_last in result.gains():
            if copy_last.subjects:
                value = row.values[metric]
                metrics.setdefault(row.setting, {})[metric] = [round(value.mean, 4), round(copy_last.mean, 4)]
    return {
        "summary": spec.summary,
        "source": f"package:longigen_models/{name}",
        "files": manifest_to_dict(manifest),
        "licence": spec.licence,
        "data": spec.data,
        "recipe": spec.recipe,
        "parameters": longigen.load(f"local-dir:{folder}").parameter_count,
        **({"metrics": metrics} if metrics else {}),
    }


def update_registry(entries: Mapping[str, Any]) -> None:
    """Add or replace entries of the section ``models``, the last one of ``registry.yaml``."""
    head, _, rest = REGISTRY.read_text(encoding="utf-8").partition("\nmodels:")
    known = yaml.safe_load("models:" + rest)["models"] or {}
    merged = {name: (known | entries)[name] for name in MODELS if name in known | entries}
    text = yaml.safe_dump({"models": merged}, sort_keys=False, width=1000, allow_unicode=True, default_flow_style=None)
    with atomic(REGISTRY) as part:
        part.write_text(f"{head}\n{text}", encoding="utf-8")


def smaller(name: str, folder: Path, options: str) -> Path:
    """Score a run's model with its weights as they are and in bf16; return the folder of the one to publish."""
    full = score(folder / "model", folder / "evaluation", options)
    half = write_bf16(folder / "model", folder / "half")
    cost, where = max((cost, where) for where, cost in losses(full, score(half, folder / "half-evaluation", options)))
    chosen = half if cost <= NEGLIGIBLE else folder / "model"
    print(f"{name}: bf16 costs at most {cost:+.1e} of an interval ({where}); published: {chosen.name}")
    return chosen


def scored_again(name: str, work: Path, options: str) -> Path:
    """Copy a published model and score it; return the folder of the copy."""
    folder = work / f"{name}-published"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, WEIGHTS):
        shutil.copyfile(FOLDER / name / file, folder / file)
    score(folder, work / f"{name}-evaluation", options)
    return folder


def publish(name: str, work: Path, paths: Mapping[str, Any], score_only: bool) -> None:
    """Train and score a model, or only score it again, and write its folder and its entry."""
    spec = MODELS[name]
    options = None if spec.scored is None else spec.scored.format(**paths)
    if score_only:
        chosen = FOLDER / name if options is None else scored_again(name, work, options)
    else:
        folder = train(name, work, paths)
        chosen = folder / "model"
        if options is not None and spec.noted:
            score(chosen, folder / "evaluation", options)
        elif options is not None:
            chosen = smaller(name, folder, options)
    added = notes(name, str(chosen), **paths) if spec.noted else ""
    licence = spec.licence if spec.noted else None
    load = loader(LongitudinalModel)
    manifest = export(str(chosen), FOLDER / name, load=load, name=name, licence=licence, notes=added)
    update_registry({name: entry(name, FOLDER / name, manifest)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(MODELS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models, by default those with data: {names}")
    parser.add_argument("--work", type=Path, default=Path("runs/models"), help="folder of the runs")
    parser.add_argument("--acdc", type=Path, help="folder of the ACDC patients")
    parser.add_argument("--sunnybrook", type=Path, help="folder of the Sunnybrook series, NAME_ED_ES.nii.gz")
    parser.add_argument("--score", action="store_true", help="only score the published weights again")
    arguments = parser.parse_args()
    paths = {"acdc": arguments.acdc, "sunnybrook": arguments.sunnybrook}
    complete = all(paths.values())
    for name in arguments.names:
        if name not in MODELS:
            parser.error(f"there is no model '{name}'; choose one of {names}")
        if MODELS[name].needs_data and not complete:
            parser.error(f"{name} needs --acdc PATH and --sunnybrook PATH")
    torch.set_grad_enabled(False)
    for name in arguments.names or [name for name in MODELS if complete or not MODELS[name].needs_data]:
        publish(name, arguments.work, paths, arguments.score)


if __name__ == "__main__":
    main()
