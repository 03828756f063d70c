"""Commands in several processes, as launchers start them."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers import commandline


def together(number: int, *arguments: object, folder: Path, status: int = 0) -> str:
    """Run a command in several processes, which find each other as torchrun's do, and return what they print to stderr.

    They are forked from one that has the imports done; see `commandline`. `torchrun` starts real ones.
    """
    words = [str(argument) for argument in arguments]
    with ThreadPoolExecutor(number) as pool:
        done = list(pool.map(lambda given: commandline.run(words, folder, given, timeout=300), _environments(number)))
    printed = "".join(stderr for _, _, stderr in done)
    assert {code for code, _, _ in done} == {status}, printed
    return printed


def scripts(number: int, text: str, *, folder: Path) -> list[tuple[int, str, str]]:
    """Run a Python script, which is written to a folder, in several processes, forked as those of `together` are.

    Returns:
        The exit status, stdout and stderr of each.
    """
    (folder / "script.py").write_text(text)

    def one(environment: dict[str, str]) -> tuple[int, str, str]:
        return commandline.run([], folder, environment, timeout=300, module="script")

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, _environments(number)))


def _environments(number: int) -> list[dict[str, str]]:
    """Return the variables that a launcher sets for each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(number)]


def torchrun(number: int, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a command by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
    words = [*command, *options, "-m", "longigen_cli", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
