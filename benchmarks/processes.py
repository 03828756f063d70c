"""Measure what a second process is worth: ``python benchmarks/processes.py [--tiny] [--out FOLDER]``.

Trains the recipe sadm-tiny and generates with the published model sadm-sim-brain, on simulated brains, in one process
and in two that torchrun starts, in turn, with one thread each. Without a core for each process the wall clock says
little, so the table also has the CPU seconds of the process that needs most: what the wall clock would say if each
process had a core to itself. Generation is measured again with more subjects, for the memory, and once more with all
of it done, for what a restart costs. On GPUs, ``--processes 1 2 4 8`` starts one process per GPU.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

WORKER = "--worker"
MODEL = "sadm-sim-brain"


def train(folder: Path, steps: int, batch_size: int) -> int:
    """Train and return the number of pairs; the first step is not timed, by `timed`."""
    from longigen.training.experiment import Experiment
    from longigen.training.recipe import Recipe
    from longigen.training.run import Run
    from longigen.utils.processes import processes

    changes = [f"training.steps={steps + 1}", f"batch_size={batch_size}", "validate_every=1000", "sample_every=1000"]
    experiment = Experiment.of(Recipe.resolve("sadm-tiny", data="sim-brain", changes=changes))
    experiment.read()
    run = Run.create(folder) if processes().is_main_process else Run(folder)
    trainer = experiment.trainer(run)
    batches = trainer._batches()
    trainer._train_mode()
    trainer._train_step(batches)
    with timed(folder):
        for _ in range(steps):
            trainer._train_step(batches)
    return steps * batch_size


def generate(folder: Path, subjects: int, batch_size: int) -> int:
    """Generate visits of simulated brains, and return their number."""
    from longigen.generation.session import GenerationSession
    from longigen.generation.writer import write_cohort
    from longigen.models.predict import GenerationSettings

    changes = [f"subject_count={subjects}"]
    session = GenerationSession.open(MODEL, data="sim-brain", changes=changes, part="all")
    with timed(folder):
        written = write_cohort(session, folder, GenerationSettings(), scenario="single", batch_size=batch_size)
    return len(written.files) + written.kept


class timed:  # noqa: N801
    """Write the wall-clock and CPU seconds of a block, from when all processes begin until all have ended it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        from longigen.utils.processes import processes

        processes().wait_for_everyone()
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        from longigen.utils.memory import peak_memory
        from longigen.utils.processes import gathered, processes

        cpu = time.process_time() - self.cpu
        processes().wait_for_everyone()
        wall = time.perf_counter() - self.wall
        memory = peak_memory(torch.device("cpu")) or 0
        seconds = gathered([(cpu, memory)])
        if processes().is_main_process:
            content = {"wall": wall, "cpu": [cpu for cpu, _ in seconds], "memory": [memory for _, memory in seconds]}
            (self.folder / "seconds.json").write_text(json.dumps(content))


def measure(number: int, work: str, folder: Path, size: int, batch_size: int) -> dict[str, Any]:
    """Return the seconds of a piece of work in a number of processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
    command = [sys.executable, *launcher, __file__, WORKER, work, str(folder), str(size), str(batch_size)]
    folder.mkdir(exist_ok=True)
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    content = json.loads((folder / "seconds.json").read_text())
    (folder / "seconds.json").unlink()
    return content


def main() -> None:
    if sys.argv[1:2] == [WORKER]:
        work, folder, size, batch_size = sys.argv[2:]
        torch.set_num_threads(1)
        {"train": train, "generate": generate}[work](Path(folder), int(size), int(batch_size))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--processes", type=int, nargs="+", default=(1, 2), help="numbers of processes, of which 1 is one"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn")
    parser.add_argument("--steps", type=int, default=6, help="training steps")
    parser.add_argument("--subjects", type=int, default=16, help="subjects to generate for")
    parser.add_argument("--tiny", action="store_true", help="rehearse it: one round, a few steps and subjects")
    parser.add_argument("--out", type=Path, help="folder for results.json and results.md")
    arguments = parser.parse_args()
    rounds, steps, subjects = (1, 1, 4) if arguments.tiny else (arguments.rounds, arguments.steps, arguments.subjects)
    largest = max(arguments.processes)
    # Two pairs for each process: on a CPU a batch of one takes as long as one of two, which is faster than im2col.
    sizes = {"train": (steps, 2 * largest), "generate": (subjects, max(1, subjects // (2 * largest)))}
    found: dict[str, dict[int, list[dict[str, Any]]]] = {work: {n: [] for n in arguments.processes} for work in sizes}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(rounds):
            for number in arguments.processes:
                for work, (size, batch_size) in sizes.items():
                    folder = Path(place) / f"{work}-{number}-{turn}"
                    found[work][number].append(measure(number, work, folder, size, batch_size))
        done = Path(place) / f"generate-{arguments.processes[0]}-0"
        size, batch_size = sizes["generate"]
        again = measure(1, "generate", done, size, batch_size)
        larger = measure(1, "generate", Path(place) / "larger", 3 * size, batch_size)
    report(found, again, larger, sizes, arguments.out)


def report(found: Any, again: Any, larger: Any, sizes: Any, out: Path | None) -> None:
    """Print the results, and write them if a folder is given."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    lines = [
        f"# Processes: {device}, torch {torch.__version__}, one thread each\n",
        "| work | processes | wall, s | CPU of busiest, s | of all, s | faster, wall | faster, busiest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    summary: dict[str, Any] = {"device": device, "torch": torch.__version__, "cores": os.cpu_count(), "rows": []}
    for work, by_number in found.items():
        base: dict[str, float] = {}
        for number, runs in by_number.items():
            row = {
                "wall": statistics.median(run["wall"] for run in runs),
                "busiest": statistics.median(max(run["cpu"]) for run in runs),
                "all": statistics.median(sum(run["cpu"]) for run in runs),
            }
            base = base or row
            gains = [base["wall"] / row["wall"], base["busiest"] / row["busiest"]]
            spread = [min(run["wall"] for run in runs), max(run["wall"] for run in runs)]
            lines.append(
                f"| {work} | {number} | {row['wall']:.1f} ({spread[0]:.1f} to {spread[1]:.1f}) "
                f"| {row['busiest']:.1f} | {row['all']:.1f} | {gains[0]:.2f} | {gains[1]:.2f} |"
            )
            summary["rows"].append({"work": work, "processes": number, **row, "gains": gains, "runs": runs})
    first = next(iter(found["generate"].values()))[0]
    subjects = sizes["generate"][0]
    memory = [max(run["memory"]) / 2**20 for run in (first, larger)]
    lines += [
        f"\n{sizes['train'][0]} training steps of {sizes['train'][1]} pairs (sadm-tiny, simulated brains); visits of "
        f"{subjects} subjects generated ({MODEL}, setting single). Load of the machine at the end: "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n",
        f"Memory of one process that generates: {memory[0]:.0f} MiB for {subjects} subjects, {memory[1]:.0f} MiB for "
        f"{3 * subjects} (the simulation keeps the last 64 subjects).\n"
        f"With everything written already it takes {sum(again['cpu']):.2f} CPU s, where generating "
        f"took {sum(first['cpu']):.1f}.",
    ]
    summary |= {"memory_mib": memory, "again": again, "sizes": {work: list(size) for work, size in sizes.items()}}
    print("\n".join(lines))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
        (out / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
