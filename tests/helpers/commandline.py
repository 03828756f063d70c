"""The command line as a process, without its start: forked from one that has the imports done.

Importing torch and timm takes seconds, a hundred times over in the suite. A server process imports them once, and each
command runs in a process forked from it, with its own folder, environment and output. What an import reads from the
environment, such as huggingface_hub, needs a process of its own: see the fixture `longigen`.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

PRELOAD = [
    "accelerate.utils",
    "diffusers.optimization",
    "diffusers.training_utils",
    "diffusers.utils.torch_utils",
    "longigen.evaluation.evaluate",
    "longigen.training.experiment",
    "longigen_sadm",
    "longigen_unet3d",
    "matplotlib.figure",
    "nilearn.image",
    "torch.utils.tensorboard",
    "torchmetrics",
]


def run(arguments: list[str], folder: Path, environment: dict[str, str], timeout: float) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a command."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place) / name for name in ("stdout", "stderr")]
        process = context.Process(target=_main, args=(arguments, str(folder), environment, *map(str, streams)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        status = process.exitcode
        assert status is not None
        return status, *(path.read_text(encoding="utf-8") for path in streams)


def _main(arguments: list[str], folder: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["longigen", *arguments]
    from longigen_cli.main import main

    main()
