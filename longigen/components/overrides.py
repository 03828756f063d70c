"""Check that the methods of a component have the parameters that its base class's methods have."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partialmethod
from inspect import Parameter, Signature
from typing import Any

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_overrides(cls: type, interfaces: Iterable[type]) -> None:
    """Compare a class's methods and properties with those of the same name in its base classes.

    A method must accept the parameters of the base class's method by the same names, positional ones in the same order.
    Additional parameters need defaults; ``*args`` and ``**kwargs`` may accept any.

    Args:
        cls: the class.
        interfaces: longigen's base classes of it, the nearest first.

    Raises:
        TypeError: if a method differs; the message names the parameter and shows the expected definition.
    """
    known: set[str] = set()
    for interface in interfaces:
        for name, promised in vars(interface).items():
            if name in known or (name.startswith("_") and name != "__call__"):
                continue
            known.add(name)
            given = inspect.getattr_static(cls, name)
            if given is promised:
                continue
            if isinstance(promised, property) and _is_method(given):
                raise TypeError(f"{cls.__qualname__}.{name} must be a property; write @property before it")
            if isinstance(promised, classmethod) and not isinstance(given, classmethod | staticmethod):
                raise TypeError(f"{cls.__qualname__}.{name} must be a class method; write @classmethod before it")
            if _is_method(promised):
                _check_method(cls, name, given, _signature(interface, name, promised))


def _is_method(attribute: object) -> bool:
    return inspect.isfunction(attribute) or isinstance(attribute, classmethod | staticmethod | partialmethod)


def _check_method(cls: type, name: str, given: Any, promised: Signature) -> None:
    if isinstance(given, property) or not callable(getattr(cls, name)):
        raise TypeError(f"{cls.__qualname__}.{name} must be a method: {_definition_line(name, promised)}")
    problems = _problems(_signature(cls, name, given).parameters, promised.parameters)
    if problems:
        raise TypeError(f"{cls.__qualname__}.{name} {' and '.join(problems)}; write {_definition_line(name, promised)}")


def _signature(cls: type, name: str, attribute: Any) -> Signature:
    """Return a method's signature without ``self``."""
    function: Callable[..., Any] = getattr(cls, name)
    signature = inspect.signature(function)
    if isinstance(attribute, classmethod | staticmethod) or not hasattr(attribute, "__get__"):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _problems(given: Mapping[str, Parameter], promised: Mapping[str, Parameter]) -> list[str]:
    """Return in words how a method's parameters differ from those of the base class's method."""
    kinds = {parameter.kind for parameter in given.values()}
    by_position = [name for name, parameter in promised.items() if parameter.kind in POSITIONAL]
    problems = []
    for name, parameter in promised.items():
        positional = name in by_position
        if name not in given:
            if (Parameter.VAR_POSITIONAL if positional else Parameter.VAR_KEYWORD) not in kinds:
                problems.append(f"does not take '{name}'")
        elif positional and given[name].kind is Parameter.KEYWORD_ONLY:
            problems.append(f"takes '{name}' by keyword only")
        elif not positional and given[name].kind is Parameter.POSITIONAL_ONLY:
            problems.append(f"takes '{name}' by position only")
        elif parameter.default is not Parameter.empty and given[name].default is Parameter.empty:
            problems.append(f"has no default for '{name}'")
    for name, parameter in given.items():
        if name not in promised and parameter.kind not in VARIADIC and parameter.default is Parameter.empty:
            problems.append(f"needs '{name}', which it is never given")
    order = [name for name, parameter in given.items() if parameter.kind in POSITIONAL][: len(by_position)]
    if not problems and Parameter.VAR_POSITIONAL not in kinds and order != by_position:
        problems.append(f"takes {', '.join(order)} in that order")
    return problems


def _definition_line(name: str, signature: Signature) -> str:
    """Return the line of a method's definition, without annotations: ``def step(self, z_t, x, t, s, generator)``."""
    words, keyword_only = ["self"], False
    for parameter in signature.parameters.values():
        if parameter.kind is Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            words.append("*")
        words.append(parameter.name if parameter.default is Parameter.empty else f"{parameter.name}=…")
    return f"def {name}({', '.join(words)})"
