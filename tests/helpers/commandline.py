"""Commands as processes, without their start: forked from one that has the imports done.

Importing torch, torchmetrics and timm takes seconds, a hundred times over in the suite. A server process imports them
once, and each command runs in a process forked from it, with its own folder, environment and output. What
imports read from the environment is read anew: the folders in PYTHONPATH, and all that concerns the Hub. A test whose
subject is the start of a process, or what it imports, starts a new one.
"""

import gc
import importlib
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = [
    "accelerate.utils",
    "diffusers.models.embeddings",
    "diffusers.optimization",
    "diffusers.training_utils",
    "diffusers.utils.torch_utils",
    "longigen.evaluation.evaluate",
    "longigen.training.experiment",
    "longigen_baselines",
    "longigen_cli.main",
    "longigen_continuous",
    "longigen_metrics",
    "longigen_sadm",
    "longigen_simbrain",
    "longigen_unet3d",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "nilearn.image",
    "torch.utils.tensorboard",
    "torchmetrics",
]

READS_ENVIRONMENT = "huggingface_hub"
"""The package that keeps what it reads from the environment when it is imported. longigen imports it where it is used,
so that a command gets one that knows the command's environment. timm keeps the first one: what downloads timm's weights
needs a new process."""


def run(
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    timeout: float,
    *,
    module: str = "longigen_cli",
) -> tuple[int, str, str]:
    """Run a module, as ``python -m`` does, without input; return exit status, stdout and stderr.

    Args:
        arguments: `sys.argv[1:]`.
        folder: where it starts.
        environment: all of its variables.
        timeout: seconds after which it is killed.
        module: the command line, or another one.
    """
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(os.devnull), *(Path(place) / name for name in ("stdout", "stderr"))]
        process = start(arguments, folder, environment, streams, module=module)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        status = process.exitcode
        assert status is not None
        return status, *(path.read_text(encoding="utf-8") for path in streams[1:])


def start(
    arguments: list[str], folder: Path, environment: dict[str, str], streams: Sequence[Path], *, module: str
) -> BaseProcess:
    """Start a module as `run` does, with files as stdin, stdout and stderr; the caller waits for it, or kills it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    given = (module, arguments, str(folder), environment, *map(str, streams))
    process = context.Process(target=_main, args=given)
    process.start()
    return process


def _main(
    module: str, arguments: list[str], folder: str, environment: dict[str, str], stdin: str, stdout: str, stderr: str
) -> None:
    gc.freeze()  # what is imported: to look for garbage in it takes a third of a second
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has opened the null device
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:0] = [folder, *paths]
    sys.modules.pop("sitecustomize", None)  # of the server, where it has one
    with suppress(ImportError):
        importlib.import_module("sitecustomize")  # as Python does when it starts
    for name in [name for name in sys.modules if name.partition(".")[0] == READS_ENVIRONMENT]:
        del sys.modules[name]
    sys.argv = ["longigen", *arguments]
    runpy.run_module(module, run_name="__main__")
