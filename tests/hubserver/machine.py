"""A machine that uses the Hub: an empty home, and processes that start in it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import commandline

FOREIGN = (
    "HF_",
    "HUGGING",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "TRANSFORMERS_",
)  # prefixes of what is not passed on


@dataclass
class Machine:
    """A machine with a cache of its own, whose processes find the Hub at an endpoint.

    Attributes:
        home: its HOME, where its processes start.
        endpoint: `HF_ENDPOINT`.
        token: `HF_TOKEN`, none if empty.
    """

    home: Path
    endpoint: str
    token: str = ""

    @property
    def cache(self) -> Path:
        """The cache of downloads."""
        return self.home / "huggingface" / "hub"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes: the tests' own, but for all that concerns the Hub and proxies."""
        own = {key: value for key, value in os.environ.items() if not key.upper().startswith(FOREIGN)}
        hub = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home / "huggingface"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        if self.token:
            hub["HF_TOKEN"] = self.token
        return {**own, **hub, "HOME": str(self.home), "COLUMNS": "120"}

    def start(self, *command: object, **environment: str) -> "subprocess.Popen[str]":
        """Start Python with arguments; the caller waits for it, or kills it."""
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.home,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, code: str, *arguments: object, status: int = 0, **environment: str) -> str:
        """Run code in a new process, with `sys.argv[1:]`, and return what it prints."""
        with self.start("-c", code, *arguments, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=300)
            except BaseException:
                process.kill()
                raise
        return _finished(process.args, process.returncode, stdout, stderr, status).stdout

    def longigen(self, *arguments: object, status: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line; see `commandline.run`."""
        words = [str(argument) for argument in arguments]
        every = {**self.environment, **environment}
        return _finished(words, *commandline.run(words, self.home, every, timeout=300), status)


def _finished(command: Any, found: int, stdout: str, stderr: str, status: int) -> "subprocess.CompletedProcess[str]":
    assert found == status, f"exit status {found}\n{stdout}\n{stderr}"
    return subprocess.CompletedProcess(command, found, stdout, stderr)
