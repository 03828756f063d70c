"""What is installed, found without importing it."""

import ast
import functools
import re
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, resolve_name
from pathlib import Path


@functools.cache
def installed_entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group over all installed distributions."""
    return tuple(entry_points(group=group))


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Return the name and version of the distribution that declares an entry point."""
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def extra_with(point: EntryPoint, package: str) -> str | None:
    """Return the smallest extra by which an entry point's distribution asks for a package, as ``longigen[monai]``."""
    extras: dict[str, list[str]] = {}
    for requirement in (point.dist.requires or []) if point.dist else []:
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra *== *['\"]([^'\"]+)", requirement)
        if name and extra:
            extras.setdefault(extra[1], []).append(re.sub(r"[-_.]+", "_", name[0]).lower())
    found = [extra for extra, packages in extras.items() if package.lower() in packages]
    smallest = min(found, key=lambda extra: len(extras[extra]), default=None)
    return f"{distribution_of(point)[0]}[{smallest}]" if smallest else None


@functools.cache
def find_module(name: str) -> ModuleSpec | None:
    """Return where a module lies, or None; nothing of it is run, nor of the packages it is in."""
    package, *rest = name.split(".")
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        # By its last name alone: for the full one, PathFinder would ask for the package in `sys.modules`.
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


@dataclass(frozen=True)
class Problem:
    """Why an import would fail, in words, and the package that is missing, if that is why."""

    text: str
    package: str = ""


def problem_of(module: str, attribute: str) -> Problem | None:
    """Say what keeps an attribute of a module from being imported, as far as that can be seen without running anything.

    Looks for the module and the attribute; and for the syntax, and the packages imported at the top level, of the
    module and of all modules of its own package that it imports so.
    """
    package = module.partition(".")[0]
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        outline = outline_of(name)
        if isinstance(outline, str):
            return Problem(outline)
        if name == module and attribute and not outline.defines(attribute.partition(".")[0]):
            return Problem(f"'{module}' defines no '{attribute}'")
        waiting.append(name.rpartition(".")[0])  # what a module is in is run before it
        for imported in outline.imports:
            root = imported.partition(".")[0]
            if root == package:
                waiting.append(imported)
            elif find_module(root) is None:
                return Problem(f"it needs the package '{root}', which is not installed", root)
    return None


@dataclass(frozen=True)
class Outline:
    """What can be read off a module's source: names that may be defined in it, modules that it surely imports."""

    names: frozenset[str] | None = None
    imports: tuple[str, ...] = ()

    def defines(self, name: str) -> bool:
        return self.names is None or name in self.names


@functools.cache
def outline_of(module: str) -> Outline | str:
    """Return the outline of a module, or why it has none."""
    spec = find_module(module)
    if spec is None:
        return f"there is no module '{module}'"
    if spec.origin is None or not spec.origin.endswith(".py"):
        return Outline()  # compiled, or a namespace: only importing would tell
    try:
        tree = ast.parse(Path(spec.origin).read_bytes(), Path(spec.origin).name)
    except (SyntaxError, ValueError, OSError) as error:
        return f"{Path(spec.origin).name} cannot be read as Python ({error})"
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    imports: list[str] = []
    for node in tree.body:  # not those within an `if` or a `try`, which may do without
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError as error:
                return f"{Path(spec.origin).name} cannot be imported ({error})"
            imports.append(base)
            if base.partition(".")[0] == module.partition(".")[0]:
                inside = [f"{base}.{alias.name}" for alias in node.names]
                imports += [name for name in inside if find_module(name) is not None]
    return Outline(None if {"*", "__getattr__"} & names else frozenset(names), tuple(imports))
