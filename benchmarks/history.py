"""Measure what corrupting or replacing given visits in training is worth: ``python benchmarks/history.py``.

In the order `autoregressive` each generated visit is the start of the next, so errors add up. Training can show such
errors: noise or blur on the given visits (``augment.history_noise``, ``augment.history_blur``), or the model's own
visits in their place (``training.own_visits``). One model of `raw` and `unet3d` is trained with each on simulated
hearts, and with none; all generate all frames from the first one, in both orders. Written to
``docs/results/history.txt``.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from longigen import api
from longigen.errors import LongigenWarning
from longigen.evaluation.evaluate import Evaluation
from longigen.utils.intervals import Summary

VARIANTS = {
    "none": (),
    "noise .05": ("augment.history_noise=0.05",),
    "blur .7": ("augment.history_blur=0.7",),
    "own visits .5": ("training.own_visits=0.5",),
}
COMMON = (
    "data.subject_count=150",
    "data.frames=6",
    "keep_background=false",
    "motion=true",
    "residual_scale=gap",
    "training.missing=mixed",
    "training.learning_rate=2e-3",
    "training.warmup=100",
    "training.validate_every=250",
    "training.sample_every=10000",
    "training.checkpoint_every=250",
)
ORDERS = ("autoregressive", "direct")
FILE = Path(__file__).parents[1] / "docs" / "results" / "history.txt"


def last(evaluation: Evaluation, method: str) -> Sequence[float]:
    """Return the PSNR of each subject's last visit."""
    return [score.values["psnr"] for score in evaluation.scores if score.method == method]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/history"), help="folder of the runs")
    parser.add_argument("--steps", type=int, default=250, help="training steps of each model")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", LongigenWarning)
    lines = []
    for name, changes in VARIANTS.items():
        folder = arguments.work / name.replace(" ", "-")
        if not (folder / "model" / "config.json").exists():
            steps = f"training.steps={arguments.steps}"
            api.train("sim-heart", conditioner="raw", changes=[*COMMON, *changes, steps], out=folder, progress=False)
        cells = []
        for order in ORDERS:
            evaluation = api.evaluate(folder, settings="single", order=order, metrics=["psnr"], progress=False)
            gains = [a - b for a, b in zip(last(evaluation, "model"), last(evaluation, "copy-last"), strict=True)]
            gain = Summary.of(gains)
            cells.append(f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
        lines.append(f"{name:<16}{cells[0]:>24}{cells[1]:>24}")
        print(lines[-1], flush=True)
    head = f"{'training shows':<16}{ORDERS[0]:>24}{ORDERS[1]:>24}"
    title = (
        f"PSNR of end systole from end diastole, gain over copy-last in dB [95 % interval], {len(gains)} simulated "
        f"hearts that training never saw; {arguments.steps} steps, seed 0"
    )
    FILE.write_text("\n".join(["$ python benchmarks/history.py", "", title, "", head, *lines]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
