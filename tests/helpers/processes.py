"""Types of the fixtures that run processes."""

import subprocess
from collections.abc import Callable

import hubserver

Longigen = Callable[..., subprocess.CompletedProcess[str]]

NewMachine = Callable[..., hubserver.Machine]
