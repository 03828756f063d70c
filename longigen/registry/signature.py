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
"""The largest number of imports and base classes that are followed."""


def read_signature(reference: str) -> dict[str, str]:
    """Return the parameters of a class by name, as text: ``float from 0 to 1 = 0.5; description in the docstring``.

    Args:
        reference: ``module:Class`` of an entry point. The constructor and the descriptions may be inherited from its
            base classes.

    Returns:
        An empty dict if the source cannot tell: for a class that is compiled, computed or without a constructor.
    """
    module, _, name = reference.partition(":")
    classes = list(_class_and_bases(module, name, DEPTH))
    inits = ((defined_in, node) for defined_in, each in classes for node in each.body if _is_init(node))
    defined_in, init = next(inits, ("", None))
    if not isinstance(init, ast.FunctionDef):
        return {}
    descriptions: dict[str, str] = {}
    for _, each in reversed(classes):
        descriptions |= _parse_args_section(ast.get_docstring(each) or "")
    signature = {}
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = _type_text(argument.annotation, defined_in, DEPTH) if argument.annotation else "anything"
        text += f" = {ast.unparse(default)}" if default else ", required"
        signature[argument.arg] = f"{text}; {descriptions[argument.arg]}" if argument.arg in descriptions else text
    return signature


def _is_init(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _class_and_bases(module: str, name: str, depth: int) -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield the definition of a class, then those of its base classes, each with the module that defines it."""
    for defined_in, node in _definitions(module, name, depth):
        if isinstance(node, ast.ClassDef):
            yield defined_in, node
            for base in node.bases:
                yield from _class_and_bases(defined_in, ast.unparse(base), depth - 1)


def _definitions(module: str, name: str, depth: int) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the class or assignment that defines a name in a module, following imports, and its module."""
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
    """Yield the statements of a module, including those under an ``if``, such as ``if TYPE_CHECKING``."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements(node.body)


def _type_text(node: ast.expr, module: str, depth: int) -> str:
    """Return a type as its source, with ranges and tuples in words: ``3 × int at least 1 | None``."""
    if isinstance(node, ast.Name):
        return next(_alias_texts(module, node.id, depth), node.id)
    if isinstance(node, ast.BinOp):
        return " | ".join(_type_text(part, module, depth) for part in (node.left, node.right))
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Tuple):
        return ast.unparse(node)
    kind, parts = ast.unparse(node.value).rpartition(".")[2], node.slice.elts
    if kind == "Annotated":
        return " ".join([_type_text(parts[0], module, depth), *filter(None, map(_range_text, parts[1:]))])
    if kind != "tuple":
        return ast.unparse(node)
    texts = [_type_text(part, module, depth) for part in parts]
    if texts[1:] == ["..."]:
        return f"list of {texts[0]}"
    return f"{len(texts)} × {texts[0]}" if len(set(texts)) == 1 else f"({', '.join(texts)})"


def _alias_texts(module: str, name: str, depth: int) -> Iterator[str]:
    """Yield the text of the type that a name is an alias of, if it is assigned one in the module or its imports."""
    for defined_in, node in _definitions(module, name, depth):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            yield _type_text(node.value, defined_in, depth - 1)


def _range_text(node: ast.expr) -> str:
    """Return a ``Range(…)`` in words if its limits are literals, else as source; an empty string for anything else."""
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
