"""Time a training step on a CPU with and without tuned malloc: ``python benchmarks/heap.py``.

Each setting of glibc's malloc is timed in a new process; `longigen.utils.memory.keep_freed_memory` tunes it.
"""

import argparse
import subprocess
import sys
import time

import torch

from longigen import Batch
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe
from longigen.utils.memory import keep_freed_memory


def seconds_per_step(size: tuple[int, int, int], steps: int) -> float:
    """Return the mean time of a training step of the recipe sadm-tiny at batch size 2, after two warm-up steps."""
    model = model_of(Recipe.resolve("sadm-tiny"))
    visits = history(size, lengths=(4, 3))
    batch = Batch(visits, visits.images[:, 0], after(visits))
    started = 0.0
    for step in range(steps + 2):
        if step == 2:
            started = time.perf_counter()
        model.loss(batch, torch.Generator().manual_seed(step)).backward()
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(56, 64, 56), help="size of the volumes in voxels")
    parser.add_argument("--steps", type=int, default=8, help="number of timed steps")
    parser.add_argument("--heap", choices=["default", "kept"], help="time only this setting, in this process")
    arguments = parser.parse_args()
    if arguments.heap is None:
        for heap in ("default", "kept"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--heap", heap], check=True)
        return
    if arguments.heap == "kept" and not keep_freed_memory():
        sys.exit("This system does not use glibc, so its malloc cannot be tuned.")
    seconds = seconds_per_step(tuple(arguments.size), arguments.steps)
    print(f"heap {arguments.heap:8s} {seconds:.2f} s per step, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
