"""Make the published models that ship with the package: ``python benchmarks/models.py [NAME ...]``.

Each is trained by `longigen train` (what is trained already is not trained again, and what was interrupted goes on),
scored by `longigen evaluate` in all settings, and written to ``plugins/longigen_models/NAME`` with its card and its
metrics; ``registry.yaml`` gets its entry. Weights are kept in bf16 where that costs no quality: where no metric's mean
gets worse by more than a thousandth of its interval's width. Runs stay in ``--work``. Sizes are for two CPU cores, and
some 20 minutes each.
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
from results import HERE, MEASURES, SHORT
from safetensors.torch import load_file, save_file

import longigen
from longigen import LongitudinalModel
from longigen.hub.manifest import CONFIG, METRICS, WEIGHTS, to_plain
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
NEGLIGIBLE = 1e-3
"""Of the width of a mean's interval: a loss by which bf16 costs nothing."""


@dataclass(frozen=True)
class Recipe:
    """A model: what the index says of it, and the arguments of `longigen train`."""

    summary: str
    data: str
    recipe: str
    options: str


MODELS = {
    "sadm-sim-brain": Recipe(
        "SADM on simulated ageing brains at 4 mm, years ahead",
        "sim-brain, 200 simulated subjects at 4 mm",
        "sadm-tiny",
        f"{BRAIN} --steps 800",
    ),
    "additive-sim-brain": Recipe(
        "source and interval added to the first features, on simulated ageing brains at 4 mm, years ahead",
        "sim-brain, 200 simulated subjects at 4 mm",
        "dao-tiny",
        f"{BRAIN} --steps 800",
    ),
    "sadm-sim-heart": Recipe(
        "SADM on simulated beating hearts, from end-diastole to end-systole",
        "sim-heart, 150 simulated subjects, 6 frames",
        "sadm-tiny",
        f"--data sim-heart {MEASURES['sim-heart'].options}",
    ),
}


def run(*command: str) -> None:
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def trained(name: str, work: Path) -> Path:
    """Return the run of a model."""
    folder, wanted = work / name, MODELS[name]
    if not (folder / "run.json").exists():
        run("longigen", "train", "--recipe", wanted.recipe, *wanted.options.split(), "--out", str(folder))
    elif json.loads((folder / "run.json").read_text())["recipe"]["training"]["steps"] > _step(folder):
        run("longigen", "train", "--resume", "--out", str(folder))
    return folder


def _step(folder: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*[0-9]")), default=0)


def scored(model: Path, out: Path) -> MetricsFile:
    """Return the metrics of a model's folder, which are then beside its weights."""
    run("longigen", "evaluate", str(model), "--out", str(out))
    shutil.copyfile(out / METRICS, model / METRICS)
    result = MetricsFile.read(model)
    assert result is not None
    return result


def halved(model: Path, folder: Path) -> Path:
    """Write a model with its weights in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / CONFIG, folder / CONFIG)
    tensors = {n: t.bfloat16() if t.is_floating_point() else t for n, t in load_file(model / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def losses(full: MetricsFile, half: MetricsFile) -> Iterator[tuple[str, float]]:
    """Give, for every setting and metric, what bf16 costs in units of the interval's width."""
    for one, other in zip(full.gains(), half.gains(), strict=True):
        row, metric, _ = one
        before, after = row.values[metric], other[0].values[metric]
        sign = -1 if full.arrows[metric] == "↓" else 1
        if before.high > before.low:
            yield f"{row.setting} {metric}", sign * (before.mean - after.mean) / (before.high - before.low)


def entry(name: str, folder: Path, result: MetricsFile, manifest: Any) -> dict[str, Any]:
    """Return what the index says of a model."""
    metrics: dict[str, Any] = {"protocol": result.content["protocol_hash"]}
    for row, metric, copied in result.gains():
        if copied.subjects:
            value = row.values[metric]
            metrics.setdefault(row.setting, {})[metric] = [round(value.mean, 4), round(copied.mean, 4)]
    wanted = MODELS[name]
    return {
        "summary": wanted.summary,
        "source": f"package:longigen_models/{name}",
        "files": to_plain(manifest),
        "licence": "Apache-2.0",
        "data": wanted.data,
        "recipe": wanted.recipe,
        "parameters": longigen.load(f"local-dir:{folder}").parameter_count,
        "metrics": metrics,
    }


def index(entries: Mapping[str, Any]) -> None:
    """Put entries into the last section of ``registry.yaml``, ``models``; the others of it stay."""
    head, _, rest = REGISTRY.read_text(encoding="utf-8").partition("\nmodels:")
    known = yaml.safe_load("models:" + rest)["models"] or {}
    merged = {name: (known | entries)[name] for name in MODELS if name in known | entries}
    text = yaml.safe_dump({"models": merged}, sort_keys=False, width=1000, allow_unicode=True, default_flow_style=None)
    with atomic(REGISTRY) as part:
        part.write_text(f"{head}\n{text}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS), metavar="NAME", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--work", type=Path, default=Path("runs/models"), help="where the runs are")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in MODELS:
            parser.error(f"there is no model '{name}'; choose of {', '.join(MODELS)}")
    torch.set_grad_enabled(False)
    for name in arguments.names:
        folder = trained(name, arguments.work)
        full = scored(folder / "model", folder / "evaluation")
        half = halved(folder / "model", folder / "half")
        cost, where = max((cost, where) for where, cost in losses(full, scored(half, folder / "half-evaluation")))
        chosen = half if cost <= NEGLIGIBLE else folder / "model"
        print(f"{name}: bf16 costs at most {cost:+.1e} of an interval ({where}); kept: {chosen.name}")
        result = MetricsFile.read(chosen)
        assert result is not None
        manifest = export(str(chosen), FOLDER / name, load=loader(LongitudinalModel), name=name)
        index({name: entry(name, FOLDER / name, result, manifest)})


if __name__ == "__main__":
    main()
