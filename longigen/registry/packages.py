"""Inspect installed packages without importing them: entry points, modules, and problems that an import would have."""

import ast
import functools
import re
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec, resolve_name
from pathlib import Path


@functools.cache
def installed_entry_points(group: str) -> tuple[tuple[EntryPoint, str, str], ...]:
    """Return the entry points of a group over all installed distributions, each with the name and version of its own.

    They are kept, since the distribution's metadata are parsed anew each time that they are asked for.
    """
    owners: dict[Distribution | None, tuple[str, str]] = {}
    found = []
    for point in _entry_points().get(group, ()):
        if point.dist not in owners:
            owners[point.dist] = distribution_of(point)
        found.append((point, *owners[point.dist]))
    return tuple(found)


@functools.cache
def _entry_points() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of longigen's groups, found at once: those of one take as long to find as all."""
    every = entry_points()
    return {group: tuple(every.select(group=group)) for group in every.groups if group.startswith("longigen.")}


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Return the name and version of the distribution that declares an entry point."""
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def extra_with(point: EntryPoint, package: str) -> str | None:
    """Return the smallest extra, such as ``longigen[monai]``, by which a distribution requires a package."""
    extras: dict[str, list[str]] = {}
    for requirement in (point.dist.requires or []) if point.dist else []:
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra *== *['\"]([^'\"]+)", requirement)
        if name and extra:
            extras.setdefault(extra[1], []).append(re.sub(r"[-_.]+", "_", name[0]).lower())
    matching = [extra for extra, packages in extras.items() if package.lower() in packages]
    smallest = min(matching, key=lambda extra: len(extras[extra]), default=None)
    return f"{distribution_of(point)[0]}[{smallest}]" if smallest else None


@functools.cache
def find_module(name: str) -> ModuleSpec | None:
    """Return the import spec of a module, or None, without running the module or its parent packages."""
    package, *rest = name.split(".")
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        # With the last part of the name only: for the full name, PathFinder needs the parent in `sys.modules`.
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


@dataclass(frozen=True)
class ImportProblem:
    """Why an import would fail, in words, and the missing package, if that is the reason."""

    text: str
    package: str = ""


def find_import_problem(module: str, attribute: str) -> ImportProblem | None:
    """Return why an attribute of a module cannot be imported, found without running code; None if nothing is found.

    Checks that the module and the attribute exist. In the module, and in the modules of its package that it imports at
    the top level, checks the syntax and that the imported packages are installed.
    """
    package = module.partition(".")[0]
    pending, seen = [module], set()
    while pending:
        name = pending.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        names = parse_module(name)
        if isinstance(names, str):
            return ImportProblem(names)
        if name == module and attribute and not names.defines(attribute.partition(".")[0]):
            return ImportProblem(f"'{module}' defines no '{attribute}'")
        pending.append(name.rpartition(".")[0])  # the parent package is run first
        for imported in names.imports:
            root = imported.partition(".")[0]
            if root == package:
                pending.append(imported)
            elif find_module(root) is None:
                return ImportProblem(f"it needs the package '{root}', which is not installed", root)
    return None


@dataclass(frozen=True)
class ModuleNames:
    """Names that a module's source may define (None: any name), and modules that it imports unconditionally."""

    names: frozenset[str] | None = None
    imports: tuple[str, ...] = ()

    def defines(self, name: str) -> bool:
        return self.names is None or name in self.names


@functools.cache
def parse_module(module: str) -> ModuleNames | str:
    """Parse a module's source; return its names and imports, or why it cannot be imported."""
    spec = find_module(module)
    if spec is None:
        return f"there is no module '{module}'"
    if spec.origin is None or not spec.origin.endswith(".py"):
        return ModuleNames()  # compiled, or a namespace package: there is no source to parse
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
    for node in tree.body:  # imports inside an `if` or a `try` may be optional
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError as error:
                return f"{Path(spec.origin).name} cannot be imported ({error})"
            imports.append(base)
            if base.partition(".")[0] == module.partition(".")[0]:
                submodules = [f"{base}.{alias.name}" for alias in node.names]
                imports += [name for name in submodules if find_module(name) is not None]
    return ModuleNames(None if {"*", "__getattr__"} & names else frozenset(names), tuple(imports))
