"""Compare samples generated one by one with samples in one batch: ``python benchmarks/samples.py [MODEL]``.

In one batch the conditioning of a visit is computed once for all samples of it, and the network is called once for all.
The last visit of one test subject is generated from all earlier ones, K samples of it, both ways in turn; printed are
the median seconds of each way and the gain. They are CPU seconds, and on a GPU seconds by the clock. The share of the
conditioner is that of its own time in that of a single sample. ``--out FOLDER`` writes ``results.json`` too.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from longigen.data.training_pairs import make_sequence
from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings, SubjectTask, predict_samples
from longigen.models.tasks import last_only
from longigen.utils.files import write_json


def seconds(device: torch.device) -> float:
    """Return CPU seconds of this process, or on a GPU the clock, once the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def generation(session: GenerationSession, task: SubjectTask, samples: int, steps: int, batch_size: int) -> float:
    """Return the seconds of generating samples of a task."""
    device, settings = session.model.device, GenerationSettings(steps=steps)
    start = seconds(device)
    for _ in predict_samples(session.model, [task], settings, samples=samples, batch_size=batch_size):
        pass
    return seconds(device) - start


@torch.no_grad()
def conditioning(session: GenerationSession, task: SubjectTask) -> float:
    """Return the seconds of the conditioner, for the last visit of a task."""
    model, (prepared, given) = session.model, task
    history = make_sequence(prepared, given.given, set(), model.statistics.covariates).to(model.device)
    target = torch.tensor([prepared.model_time(prepared.subject.times[given.targets[-1]])], device=model.device)
    start = seconds(model.device)
    model.conditioner(history, target)
    return seconds(model.device) - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="sadm-sim-brain", help="model or run")
    parser.add_argument("--samples", type=int, default=8, metavar="K", help="samples of the visit")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10], help="numbers of network evaluations")
    parser.add_argument("--repeat", type=int, default=5, help="times that each way is measured")
    parser.add_argument("--out", type=Path, help="folder for results.json")
    arguments = parser.parse_args()
    session = GenerationSession.open(arguments.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    session.model.to(device)
    task = session.tasks("full", seed=0, select=last_only)[0]
    rows = []
    print(f"{arguments.samples} samples on {device}\nsteps  one by one  in one batch   gain  conditioner", flush=True)
    for steps in arguments.steps:
        measured: dict[str, list[float]] = {"alone": [], "together": [], "conditioner": [], "one": []}
        generation(session, task, 1, steps, 1)  # the first call of a network is slower
        for _ in range(arguments.repeat):
            measured["alone"].append(generation(session, task, arguments.samples, steps, 1))
            measured["together"].append(generation(session, task, arguments.samples, steps, arguments.samples))
            measured["one"].append(generation(session, task, 1, steps, 1))
            measured["conditioner"].append(conditioning(session, task))
        alone, together, one, conditioner = (
            statistics.median(measured[name]) for name in ("alone", "together", "one", "conditioner")
        )
        print(
            f"{steps:>5}{alone:>10.2f} s{together:>12.2f} s{alone / together:>6.2f}×{conditioner / one:>12.0%}",
            flush=True,
        )
        rows.append({"steps": steps, "alone": alone, "together": together, "share_of_conditioner": conditioner / one})
    if arguments.out:
        result = {"model": arguments.model, "samples": arguments.samples, "device": str(device), "rows": rows}
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_json(result, arguments.out / "results.json")


if __name__ == "__main__":
    main()
