"""What is installed, found without importing it."""

import functools
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec


@functools.cache
def installed_entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group over all installed distributions."""
    return tuple(entry_points(group=group))


@functools.cache
def find_package(name: str) -> ModuleSpec | None:
    """Return where a top-level package lies, or None; nothing of it is run."""
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Return the name and version of the distribution that declares an entry point."""
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
