"""Test whether data loading keeps up with training: ``python benchmarks/loader.py``.

Writes simulated hearts as compressed NIfTI files, 12 visits of 128 x 128 x 32 voxels each, and times training pairs
that are decoded and preprocessed every time, and pairs that are read from the cache. For comparison it times a training
step of the recipe sadm-tiny on the longest history, on a GPU if there is one.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from longigen import Batch, Dataset, Volume
from longigen.data.cohort import Cohort
from longigen.data.preprocess import PreprocessSettings
from longigen.data.split import SplitSettings
from longigen.data.training_pairs import TrainingPairs
from longigen.data.volume import write_volume
from longigen.registry.registry import registry
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe


def write_hearts(folder: Path, subjects: int, shape: tuple[int, int, int]) -> Path:
    """Write simulated hearts with 12-bit intensities, like those of scanners; return the path of their manifest."""
    lines = ["subject,time,path"]
    for subject in registry.load("dataset", "sim-heart")(subject_count=subjects, shape=shape).subjects():
        for visit in subject.visits:
            volume = visit.load()
            path = folder / f"{subject.id}_{visit.time:.3f}.nii.gz"
            write_volume(Volume((volume.data / volume.data.max() * 4000).round(), volume.affine), path, "simulated")
            lines.append(f"{subject.id},{visit.time},{path.name}")
    (folder / "visits.csv").write_text("\n".join(lines))
    return folder / "visits.csv"


def pairs_of(data: Dataset) -> tuple[Cohort, TrainingPairs]:
    """Return a cohort with all subjects in the training part, and its training pairs."""
    cohort = Cohort("csv", data, PreprocessSettings(), SplitSettings(validation=0, test=0))
    return cohort, TrainingPairs(cohort.part("train"), length=10**6, seed=0, causal=True)


def seconds_per_pair(pairs: TrainingPairs, number: int, workers: int) -> float:
    """Return the mean time per pair, without the first ones, which the workers prepare in advance."""
    loader = DataLoader(
        pairs, batch_sampler=([k] for k in range(number + 2 * workers)), collate_fn=Batch.collate, num_workers=workers
    )
    started = 0.0
    for k, _ in enumerate(loader):
        if k == 2 * workers - 1 or (not workers and k == 0):
            started = time.perf_counter()
    return (time.perf_counter() - started) / number


def seconds_per_step(batch: Batch) -> float:
    """Return the shortest time of two training steps of the recipe sadm-tiny on a pair, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model_of(Recipe.resolve("sadm-tiny")).to(device)
    generator, times = torch.Generator(device).manual_seed(0), []
    for _ in range(3):
        started = time.perf_counter()
        model.loss(batch.to(device), generator).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=6, help="number of simulated subjects")
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 32), help="size of the volumes in voxels")
    parser.add_argument("--workers", type=int, default=2, help="number of data-loading processes")
    parser.add_argument("--pairs", type=int, default=60, help="number of timed pairs")
    parser.add_argument("--no-step", action="store_true", help="do not time the training step")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        manifest = write_hearts(Path(name), arguments.subjects, tuple(arguments.shape))
        data = registry.load("dataset", "csv")(path=manifest, time_unit="cycle")
        os.environ["LONGIGEN_CACHE"] = name
        os.environ["LONGIGEN_CACHE_GB"] = "0"
        _, plain = pairs_of(data)
        without = seconds_per_pair(plain, arguments.pairs // 4, arguments.workers)
        os.environ["LONGIGEN_CACHE_GB"] = "20"
        cohort, cached = pairs_of(data)
        started = time.perf_counter()
        cohort.read(cohort.part("train"))
        visits = sum(len(subject.visits) for subject in cohort.subjects)
        print(f"filling the cache        {visits / (time.perf_counter() - started):8.1f} visits/s")
        warm = seconds_per_pair(cached, arguments.pairs, arguments.workers)
        print(f"pairs from NIfTI         {1 / without:8.1f} pairs/s with {arguments.workers} workers")
        print(f"pairs from the cache     {1 / warm:8.1f} pairs/s with {arguments.workers} workers")
        if not arguments.no_step:
            longest = max((cached[k] for k in range(40)), key=lambda batch: batch.history.images.shape[1])
            step = seconds_per_step(longest)
            print(
                f"a training step          {1 / step:8.1f} pairs/s on {'a GPU' if torch.cuda.is_available() else 'CPU'}"
            )
            print(f"the loader is {step / warm:.1f} times as fast as training")


if __name__ == "__main__":
    main()
