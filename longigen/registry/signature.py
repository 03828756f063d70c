"""What a component's constructor takes, read off its source: nothing is imported."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

from longigen.registry.packages import find_module


def signature_of(reference: str) -> dict[str, str]:
    """Return the parameters of a class as text by name: ``float = 0.5; what the docstring says of it``.

    Args:
        reference: ``module:Class`` of an entry point. The constructor, and what is said of a parameter, may be those of
            a class that it is derived from.

    Returns:
        Nothing where the source does not tell: a class that is compiled, computed or without a constructor.
    """
    module, _, name = reference.partition(":")
    family = list(_family(module, name, depth=5))
    init = next((node for each in family for node in each.body if _is_init(node)), None)
    if not isinstance(init, ast.FunctionDef):
        return {}
    told: dict[str, str] = {}
    for each in reversed(family):
        told |= _told(ast.get_docstring(each) or "")
    shown = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = ast.unparse(argument.annotation) if argument.annotation else "anything"
        text += f" = {ast.unparse(default)}" if default else ", required"
        shown[argument.arg] = f"{text}; {told[argument.arg]}" if argument.arg in told else text
    return shown


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _family(module: str, name: str, depth: int) -> Iterator[ast.ClassDef]:
    """Give a class, by the module that defines it or imports it, and then what it is derived from."""
    spec = find_module(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not depth:
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # which `problem_of` tells
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node
            for base in node.bases:
                yield from _family(module, ast.unparse(base), depth - 1)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    yield from _family(origin, alias.name, depth - 1)


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
