"""What a component's constructor takes, read off its source: nothing is imported."""

import ast
import inspect
import re
from importlib.util import resolve_name
from pathlib import Path

from longigen.installed import find_module


def signature_of(reference: str) -> dict[str, str]:
    """Return the parameters of a class as text by name: ``float = 0.5; what the docstring says of it``.

    Args:
        reference: ``module:Class`` of an entry point.

    Returns:
        Nothing where the source does not tell: a class that is compiled, computed or without a constructor.
    """
    module, _, name = reference.partition(":")
    found = _class(module, name, depth=5)
    init = next((node for node in found.body if _is_init(node)), None) if found else None
    if found is None or not isinstance(init, ast.FunctionDef):
        return {}
    told = _told(ast.get_docstring(found) or "")
    shown = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = ast.unparse(argument.annotation) if argument.annotation else "anything"
        text += f" = {ast.unparse(default)}" if default else ", required"
        shown[argument.arg] = f"{text}; {told[argument.arg]}" if argument.arg in told else text
    return shown


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _class(module: str, name: str, depth: int) -> ast.ClassDef | None:
    """Return a class by the module that defines it, or that imports it from where it is defined."""
    spec = find_module(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not depth:
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None  # which `problem_of` tells
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    return _class(origin, alias.name, depth - 1)
    return None


def _told(docstring: str) -> dict[str, str]:
    """Return what the section ``Args:`` of a docstring says of each parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE)
    told: dict[str, list[str]] = {}
    for line in inspect.cleandoc(section[1]).splitlines() if section else ():
        start = re.match(r"(\w+): (.*)", line)
        if start:
            told[start[1]] = [start[2]]
        elif told and line.strip():
            told[next(reversed(told))].append(line.strip())
    return {name: " ".join(lines) for name, lines in told.items()}
