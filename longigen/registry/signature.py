"""Read the parameters of a component's constructor from its source, without importing it."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

from longigen.registry.packages import find_module


def read_signature(reference: str) -> dict[str, str]:
    """Return the parameters of a class by name, as text: ``float = 0.5; description from the docstring``.

    Args:
        reference: ``module:Class`` of an entry point. The constructor and the descriptions may be inherited from its
            base classes.

    Returns:
        An empty dict if the source cannot tell: for a class that is compiled, computed or without a constructor.
    """
    module, _, name = reference.partition(":")
    classes = list(_class_and_bases(module, name, depth=5))
    init = next((node for each in classes for node in each.body if _is_init(node)), None)
    if not isinstance(init, ast.FunctionDef):
        return {}
    descriptions: dict[str, str] = {}
    for each in reversed(classes):
        descriptions |= _parse_args_section(ast.get_docstring(each) or "")
    signature = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = ast.unparse(argument.annotation) if argument.annotation else "anything"
        text += f" = {ast.unparse(default)}" if default else ", required"
        signature[argument.arg] = f"{text}; {descriptions[argument.arg]}" if argument.arg in descriptions else text
    return signature


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _class_and_bases(module: str, name: str, depth: int) -> Iterator[ast.ClassDef]:
    """Yield the definition of a class that a module defines or imports, then those of its base classes."""
    spec = find_module(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not depth:
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # `find_import_problem` reports it
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node
            for base in node.bases:
                yield from _class_and_bases(module, ast.unparse(base), depth - 1)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    yield from _class_and_bases(origin, alias.name, depth - 1)


def _parse_args_section(docstring: str) -> dict[str, str]:
    """Return the description of each parameter in the section ``Args:`` of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE)
    descriptions: dict[str, list[str]] = {}
    for line in inspect.cleandoc(section[1]).splitlines() if section else ():
        start = re.match(r"(\w+): (.*)", line)
        if start:
            descriptions[start[1]] = [start[2]]
        elif descriptions and line.strip():
            descriptions[next(reversed(descriptions))].append(line.strip())
    return {name: " ".join(lines) for name, lines in descriptions.items()}
