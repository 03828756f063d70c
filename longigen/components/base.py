"""What all components share: a constructor that is their configuration."""

import inspect
import math
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from longigen.components.overrides import check_overrides
from longigen.components.ranges import Range
from longigen.errors import LongigenError, did_you_mean
from longigen.utils.files import reason


@dataclass(frozen=True)
class Parameter:
    """One configurable parameter: its name, its type and, unless it is required, its default."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def check(self, value: Any, owner: str = "") -> Any:
        """Return `value` as the annotated type (an int where a float is asked, a list where a tuple is).

        Args:
            value: as a user gave it.
            owner: whose parameter it is, for the message.

        Raises:
            LongigenError: if it is not of that type, or outside of its `Range`.
        """
        try:
            return _convert(value, self.annotation)
        except (TypeError, ValueError, OverflowError):
            whose = f"{owner}: " if owner else ""
            raise LongigenError(f"{whose}{self.name} must be {_spell(self.annotation)}, got {value!r}.") from None


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the keyword parameters of a constructor or function.

    Raises:
        TypeError: if one is positional, variadic, lacks an annotation, or has one that values cannot be checked
            against: then it could not be written to a configuration; or if a `Range` stands at anything but a number.
    """
    name = getattr(function, "__qualname__", str(function))
    is_class = inspect.isclass(function)
    code = function.__init__ if is_class else function
    hints = typing.get_type_hints(code, include_extras=True)
    found = {}
    for parameter in list(inspect.signature(code).parameters.values())[is_class:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise TypeError(f"{name}: **{parameter.name} hides what can be configured; name every parameter")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{name}: parameter '{parameter.name}' must be keyword-only (put '*,' before it)")
        if parameter.name not in hints:
            raise TypeError(f"{name}: parameter '{parameter.name}' has no type annotation")
        if not _is_plain(hints[parameter.name]):
            raise TypeError(
                f"{name}: parameter '{parameter.name}' is {_written(hints[parameter.name])}, which a configuration "
                "cannot hold; use None, bool, int, float, str, Path, Literal, or unions and tuples of those, such as "
                "tuple[int, ...]"
            )
        if not all(kind in (int, float) for kind, _ in ranges(hints[parameter.name])):
            raise TypeError(
                f"{name}: the Range of '{parameter.name}' must be of int or float, as Annotated[int, Range(1)]"
            )
        found[parameter.name] = Parameter(parameter.name, hints[parameter.name], parameter.default)
    return found


def checked(known: Mapping[str, Parameter], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the full configuration: `given`, checked against `known`, over the defaults.

    Raises:
        LongigenError: for an unknown name, a missing one, or a value of the wrong type or outside of its range.
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


def ranges(annotation: Any) -> Iterator[tuple[Any, Range]]:
    """Yield each `Range` in a type, with the type that it is of."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        yield from ((arguments[0], limits) for limits in arguments[1:] if isinstance(limits, Range))
    for part in arguments:
        yield from ranges(part)


class Settings:
    """Base of the frozen dataclasses of settings: every value is checked against its annotation, however one is made.

    A subclass that checks values against each other does so in its own ``__post_init__``, after this one.
    """

    label: ClassVar[str | None] = None
    """What a message calls settings that are made in Python; by default their class."""

    def __post_init__(self) -> None:
        owner = type(self).__qualname__ if self.label is None else self.label
        for name, value in checked(parameters(type(self)), vars(self), owner).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_config(cls, given: Mapping[str, Any], owner: str) -> Self:
        """Make the settings from a mapping of a file, converting values to their types.

        Args:
            given: the values.
            owner: whose settings they are, for messages.

        Raises:
            LongigenError: for an unknown name, or a value that is not allowed.
        """
        return cls(**checked(parameters(cls), given, owner))


class Component:
    """A part that is chosen by name: a conditioner, a denoiser, a sampler, a data set or a metric.

    Contract of every component:

    - Its constructor's parameters are keyword-only, annotated and explicit (no ``**kwargs``). They are its
      configuration, are checked against their annotations, and are kept as `config`, from which the same component
      can be made again. What is only known when a model is composed comes later, to `build`.
    - A number says which values it may have: ``Annotated[float, Range(0, 1)]``. What lies outside is refused before the
      constructor runs, so the constructor checks only what its parameters must be to each other.
    - Values of `config` are plain: None, bool, int, float, str, Path, and tuples of those. An annotation that allows
      anything else (``Any``, ``list[int]``) is refused.
    - A method that overrides one of the interface takes the parameters that the interface names, in that order; more
      only with defaults.
    - It draws from the random generators that it is given, never from the global ones of torch, NumPy or Python; the
      weights that a network starts from, which `build` makes, are the one exception.
    - A class whose constructor or methods break these rules is refused when it is defined, not when it is first used.
    """

    kind: ClassVar[str]
    config: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for parameter in parameters(cls).values():
            if not parameter.required:
                _check_default(parameter, cls.__qualname__)
        check_overrides(cls, [base for base in cls.__mro__[1:] if _is_interface(base)])

    @classmethod
    def interface(cls) -> "type[Component] | None":
        """Return the contract that a class derives from: `Conditioner`, `Denoiser` …; None where it is none of them."""
        return next((base for base in cls.__mro__ if _is_interface(base) and "kind" in vars(base)), None)

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
        """Return what `__new__` needs, so that a component can be copied and pickled."""
        return (), self.config

    def __repr__(self) -> str:
        """Return the name of the class with the parameters that are not at their defaults."""
        known = parameters(type(self))
        given = [f"{name}={value!r}" for name, value in self.config.items() if value != known[name].default]
        return f"{type(self).__name__}({', '.join(given)})"

    @classmethod
    def from_config(cls, given: Mapping[str, Any], owner: str = "") -> Self:
        """Make the component from a mapping (of a recipe or a ``config.json``), converting values to their types.

        Args:
            given: the values; what is not given has its default.
            owner: what to call the component in a message; its class by default.

        Raises:
            LongigenError: for an unknown or missing name, or a value that is not allowed, also where the constructor
                refuses it with a ValueError of its own.
        """
        owner = owner or cls.__qualname__
        config = checked(parameters(cls), given, owner)
        try:
            return cls(**config)
        except (ValueError, ArithmeticError) as error:
            raise LongigenError(f"{owner}: {reason(error)}.") from error


def _is_interface(base: type) -> bool:
    """Say whether a class is one of longigen's own, and not a plugin's."""
    return issubclass(base, Component) and base.__module__.partition(".")[0] == "longigen"


def _check_default(parameter: Parameter, owner: str) -> None:
    try:
        converted = parameter.check(parameter.default, owner)
    except LongigenError as error:
        raise TypeError(f"the default of a parameter is not what its annotation allows: {error}") from None
    if converted != parameter.default:
        raise TypeError(f"{owner}: the default of '{parameter.name}', {parameter.default!r}, should be {converted!r}")


def _is_plain(annotation: Any) -> bool:
    """Say whether `_convert` can check values against a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_plain(arguments[0])
    if origin is Literal:
        return all(isinstance(value, bool | int | str | None) for value in arguments)
    if origin in (typing.Union, types.UnionType, tuple):
        return all(_is_plain(part) for part in arguments if part is not Ellipsis)
    return annotation in (None, types.NoneType, bool, int, float, str, Path)


def _written(annotation: Any) -> str:
    """Return a type as its author wrote it: ``list[int]``, ``ndarray``."""
    return annotation.__name__ if inspect.isclass(annotation) and not typing.get_args(annotation) else str(annotation)


def _convert(value: Any, annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        value = _convert(value, arguments[0])
        if not all(value in limits for limits in arguments[1:] if isinstance(limits, Range)):
            raise ValueError
        return value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _convert(value, option)
            except (TypeError, ValueError, OverflowError):
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
    if annotation is float and isinstance(value, Real | str) and not isinstance(value, bool):
        number = float(value)  # also of text, since YAML reads 1e-4, without a dot, as text
        if not math.isfinite(number):  # JSON has no NaN and no infinity
            raise ValueError
        return number
    if annotation is int:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # also of a number of numpy
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
    """Say a type as a user would: ``one of 'x', 'v'``, ``3 × int``, ``a number from 0 to 1 or None``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _spell_number(annotation, "a whole number", "a number") or _spell(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list of {_spell_number(arguments[0], 'whole numbers', 'numbers') or _spell(arguments[0])}"
    if origin is tuple and len(set(arguments)) == 1:
        numbers = _spell_number(arguments[0], "whole numbers", "numbers")
        return f"{len(arguments)} {numbers}" if numbers else f"{len(arguments)} × {_spell(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}: {', '.join(map(_spell, arguments))}"
    return "None" if annotation in (None, types.NoneType) else getattr(annotation, "__name__", str(annotation))


def _spell_number(annotation: Any, whole: str, other: str) -> str:
    """Say which numbers a type with a range allows; an empty string of any other type."""
    if typing.get_origin(annotation) is not Annotated:
        return ""
    return " and ".join(limits.of(whole if kind is int else other) for kind, limits in ranges(annotation))
