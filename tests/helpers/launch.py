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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def one(rank: int) -> tuple[int, str, str]:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
        words = [str(argument) for argument in arguments]
        environment = shared | {key: str(value) for key, value in place.items()}
        return commandline.run(words, folder, environment, timeout=300)

    with ThreadPoolExecutor(number) as pool:
        done = list(pool.map(one, range(number)))
    printed = "".join(stderr for _, _, stderr in done)
    assert {code for code, _, _ in done} == {status}, printed
    return printed


def torchrun(number: int, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a command by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
    words = [*command, *options, "-m", "longigen_cli", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
