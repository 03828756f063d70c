"""Packages that longigen uses where they are installed and does not require."""

from importlib import import_module
from typing import Any

from longigen.errors import LongigenError


def optional_import(package: str, user: str) -> Any:
    """Import a package that is not among longigen's requirements.

    Args:
        package: its name, for pip and for Python.
        user: what needs it, for the message.

    Raises:
        LongigenError: if it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise LongigenError(f"{user} needs {package}; install it with 'pip install {package}'.") from error
