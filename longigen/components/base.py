"""Base class of all components: the constructor's parameters are the checked configuration."""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from longigen.errors import LongigenError, did_you_mean


@dataclass(frozen=True)
class Parameter:
    """One configurable parameter: its name, its type and, unless it is required, its default."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def check(self, value: Any, owner: str) -> Any:
        """Return `value` converted to the annotated type: an int becomes a float, a list a tuple, as annotated.

        Raises:
            LongigenError: if it cannot be converted to that type.
        """
        try:
            return _convert(value, self.annotation)
        except (TypeError, ValueError):
            raise LongigenError(f"{owner}: {self.name} must be {_spell(self.annotation)}, got {value!r}.") from None


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the keyword parameters of a constructor or function.

    Raises:
        TypeError: if one is positional, variadic or has no annotation, so that it could not be checked or stored.
    """
    name = getattr(function, "__qualname__", str(function))
    is_class = inspect.isclass(function)
    code = function.__init__ if is_class else function
    hints = typing.get_type_hints(code)
    found = {}
    for parameter in list(inspect.signature(code).parameters.values())[is_class:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise TypeError(f"{name}: **{parameter.name} hides what can be configured; name every parameter")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{name}: parameter '{parameter.name}' must be keyword-only (put '*,' before it)")
        if parameter.name not in hints:
            raise TypeError(f"{name}: parameter '{parameter.name}' has no type annotation")
        found[parameter.name] = Parameter(parameter.name, hints[parameter.name], parameter.default)
    return found


def checked(known: Mapping[str, Parameter], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the full configuration: the defaults of the `known` parameters, updated with the checked `given` values.

    Raises:
        LongigenError: for an unknown or missing parameter, or a value of the wrong type.
    """
    for name in given:
        if name not in known:
            raise LongigenError(
                f"{owner} has no parameter '{name}'.{did_you_mean(name, known)} It takes: {', '.join(known) or 'none'}."
            )
    config = {}
    for name, parameter in known.items():
        if name in given:
            config[name] = parameter.check(given[name], owner)
        elif parameter.required:
            raise LongigenError(
                f"{owner} needs '{name}' ({_spell(parameter.annotation)}); give it, as in --set {name}=."
            )
        else:
            config[name] = parameter.default
    return config


class Component:
    """A component that is chosen by name: a conditioner, a denoiser, a sampler, a data set or a metric.

    Contract of every component:

    - Its constructor's parameters are keyword-only, annotated and explicit (no ``**kwargs``). They are its
      configuration, are checked against their annotations, and are stored as `config`, from which `from_config`
      creates the same component again. Values that are only known when a model is composed are passed to `build`.
    - Values of `config` are plain: None, bool, int, float, str, and tuples of those.
    - A class that breaks these rules raises a TypeError when it is defined, not when it is first used.
    """

    kind: ClassVar[str]
    config: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parameters(cls)

    @classmethod
    def interface(cls) -> "type[Component] | None":
        """Return the base class that defines the kind, such as `Conditioner` or `Denoiser`; None if there is none."""
        own = (base for base in cls.__mro__ if base.__module__.partition(".")[0] == "longigen" and "kind" in vars(base))
        return next((base for base in own if issubclass(base, Component)), None)

    def __init__(self) -> None:
        super().__init__()

    def __new__(cls, *args: Any, **given: Any) -> Self:
        if args:
            raise TypeError(f"{cls.__qualname__} takes keyword arguments only")
        component = super().__new__(cls)
        # Through __dict__, since torch's Module.__setattr__ must not run before Module.__init__.
        component.__dict__["config"] = checked(parameters(cls), given, cls.__qualname__)
        return component

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """Return the arguments of `__new__`, so that a component can be copied and pickled."""
        return (), self.config

    def __repr__(self) -> str:
        """Return the class name and the parameters that differ from their defaults."""
        known = parameters(type(self))
        given = [f"{name}={value!r}" for name, value in self.config.items() if value != known[name].default]
        return f"{type(self).__name__}({', '.join(given)})"

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Self:
        """Create the component from a mapping (of a recipe or a ``config.json``), converting values to their types."""
        return cls(**checked(parameters(cls), given, cls.__qualname__))


def _convert(value: Any, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _convert(value, option)
            except (TypeError, ValueError):
                continue
        raise TypeError
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if annotation in (None, types.NoneType):
        if value is None:
            return None
        raise TypeError
    if annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        number = float(value)  # text too, since YAML reads 1e-4 (without a dot) as text
        if not math.isfinite(number):  # JSON has no NaN and no infinity
            raise ValueError
        return number
    if annotation is int and isinstance(value, bool):
        raise TypeError
    if annotation is Path and isinstance(value, str | Path):
        return Path(value)
    if inspect.isclass(annotation) and isinstance(value, annotation):
        return value
    raise TypeError


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        import yaml

        try:
            value = [yaml.safe_load(part) for part in value.split(",")]
        except yaml.YAMLError:
            raise ValueError from None
    if not isinstance(value, list | tuple):
        value = [value]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise ValueError
    return tuple(_convert(item, kind) for item, kind in zip(value, arguments, strict=True))


def _spell(annotation: Any) -> str:
    """Return a type in words, for messages: ``one of 'x', 'v'``, ``3 × int``, ``float or None``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list of {_spell(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} × {_spell(arguments[0])}"
    return "None" if annotation in (None, types.NoneType) else getattr(annotation, "__name__", str(annotation))
