"""Read the parameters of a component's constructor from its source, without importing it."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

from longigen.components.ranges import Range
from longigen.registry.packages import find_module

DEPTH = 5
"""How many imports and base classes are followed."""


def read_signature(reference: str) -> dict[str, str]:
    """Return the parameters of a class as text by name: ``float from 0 to 1 = 0.5; what the docstring says of it``.

    Args:
        reference: ``module:Class`` of an entry point. The constructor and the descriptions may be inherited from its
            base classes.

    Returns:
        An empty dict if the source cannot tell: for a class that is compiled, computed or without a constructor.
    """
    module, _, name = reference.partition(":")
    family = list(_family(module, name, DEPTH))
    inits = ((place, node) for place, each in family for node in each.body if _is_init(node))
    place, init = next(inits, ("", None))
    if not isinstance(init, ast.FunctionDef):
        return {}
    descriptions: dict[str, str] = {}
    for _, each in reversed(family):
        descriptions |= _parse_args_section(ast.get_docstring(each) or "")
    signature = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = _spelt(argument.annotation, place, DEPTH) if argument.annotation else "anything"
        text += f" = {ast.unparse(default)}" if default else ", required"
        signature[argument.arg] = f"{text}; {descriptions[argument.arg]}" if argument.arg in descriptions else text
    return signature


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _family(module: str, name: str, depth: int) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield a class, and then what it is derived from, each with the module that defines it."""
    for place, node in _definitions(module, name, depth):
        if isinstance(node, ast.ClassDef):
            yield place, node
            for base in node.bases:
                yield from _family(place, ast.unparse(base), depth - 1)


def _definitions(module: str, name: str, depth: int) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the class or the assignment by which a module knows a name, and the module that it is written in."""
    spec = find_module(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py") or not depth:
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # `find_import_problem` reports it
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield module, node
        if isinstance(node, ast.Assign) and name in [ast.unparse(target) for target in node.targets]:
            yield module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    yield from _definitions(origin, alias.name, depth - 1)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under an ``if``, as of TYPE_CHECKING."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements(node.body)


def _spelt(node: ast.expr, module: str, depth: int) -> str:
    """Say a type as it is written in a module, its ranges and tuples in words: ``3 × int at least 1 | None``."""
    if isinstance(node, ast.Name):
        return next(_aliases(module, node.id, depth), node.id)
    if isinstance(node, ast.BinOp):
        return " | ".join(_spelt(part, module, depth) for part in (node.left, node.right))
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Tuple):
        return ast.unparse(node)
    kind, parts = ast.unparse(node.value).rpartition(".")[2], node.slice.elts
    if kind == "Annotated":
        return " ".join([_spelt(parts[0], module, depth), *filter(None, map(_range, parts[1:]))])
    if kind != "tuple":
        return ast.unparse(node)
    spelt = [_spelt(part, module, depth) for part in parts]
    if spelt[1:] == ["..."]:
        return f"list of {spelt[0]}"
    return f"{len(spelt)} × {spelt[0]}" if len(set(spelt)) == 1 else f"({', '.join(spelt)})"


def _aliases(module: str, name: str, depth: int) -> Iterator[str]:
    """Yield the type that a name stands for in a module, if the name is assigned one there or where it comes from."""
    for place, node in _definitions(module, name, depth):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            yield _spelt(node.value, place, depth - 1)


def _range(node: ast.expr) -> str:
    """Say a range as a message does, as far as its source tells its ends; an empty string of anything else."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] != Range.__name__:
        return ""
    try:
        ends = [ast.literal_eval(end) for end in node.args]
        return str(Range(*ends, **{end.arg or "": ast.literal_eval(end.value) for end in node.keywords}))
    except (ValueError, TypeError):
        return ast.unparse(node)


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
