"""Import packages that are optional: longigen does not require them."""

from importlib import import_module
from typing import Any

from longigen.errors import LongigenError


def optional_import(package: str, user: str, *, extra: str = "") -> Any:
    """Import an optional package.

    Args:
        package: its name, for pip and for Python.
        user: the command or option that needs it, for the message.
        extra: the extra of longigen that installs it, if one does.

    Raises:
        LongigenError: if the package is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        how = f"pip install 'longigen[{extra}]'" if extra else f"'pip install {package}'"
        raise LongigenError(f"{user} needs {package}; install it with {how}.") from error
