"""Base class of all components: the constructor's parameters are the checked configuration."""

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

LONGEST_VALUE = 160
"""Characters of a value that a message shows."""
LONGEST_LIST = 1_000
"""Characters of a list that is given as text; YAML takes quadratic time for some longer ones."""
WORDS = {False: ("no", "off"), True: ("yes", "on")}
"""Words that YAML reads as a boolean where they are meant as text, as in ``mixed_precision=no``."""


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
        """Return `value` converted to the annotated type: an int becomes a float, a list a tuple, as annotated.

        Args:
            value: the value as the user gave it.
            owner: name of the component or section that has the parameter, for the message.

        Raises:
            LongigenError: if it cannot be converted to that type, or is outside its `Range`.
        """
        try:
            return _convert(value, self.annotation)
        except (TypeError, ValueError, OverflowError):
            whose = f"{owner}: " if owner else ""
            raise LongigenError(
                f"{whose}{self.name} must be {_describe_type(self.annotation)}, got {shortened(value)}."
            ) from None


def parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the keyword parameters of a constructor or function.

    Raises:
        TypeError: if one is positional, variadic or has no annotation, or if a `Range` annotates a type other than int
            or float.
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
        if not all(kind in (int, float) for kind, _ in ranges(hints[parameter.name])):
            raise TypeError(
                f"{name}: the Range of '{parameter.name}' must be of int or float, as Annotated[int, Range(1)]"
            )
        found[parameter.name] = Parameter(parameter.name, hints[parameter.name], parameter.default)
    return found


def _check_annotations(owner: str, known: Mapping[str, Parameter]) -> None:
    """Refuse a parameter whose values cannot be checked or written to a configuration."""
    for name, parameter in known.items():
        if not _is_supported(parameter.annotation):
            raise TypeError(
                f"{owner}: parameter '{name}' is {_type_name(parameter.annotation)}, which a configuration cannot "
                "hold; use None, bool, int, float, str, Path, Literal, or unions and tuples of those, such as "
                "tuple[int, ...]"
            )


def checked(known: Mapping[str, Parameter], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the full configuration: the defaults of the `known` parameters, updated with the checked `given` values.

    Raises:
        LongigenError: for an unknown or missing parameter, or a value of the wrong type or out of range.
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
                f"{owner} needs '{name}' ({_describe_type(parameter.annotation)}); give it, as in --set {name}=."
            )
        else:
            config[name] = parameter.default
    return config


def shortened(value: Any) -> str:
    """Return a value as Python code, cut off where it is longer than a line of a message should be."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def ranges(annotation: Any) -> Iterator[tuple[Any, Range]]:
    """Yield each `Range` in an annotation, with the type that it annotates."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        yield from ((arguments[0], limits) for limits in arguments[1:] if isinstance(limits, Range))
    for part in arguments:
        yield from ranges(part)


class Settings:
    """Base class of settings (frozen dataclasses), which checks every value against its annotation.

    A subclass that compares values with each other does so in its ``__post_init__``, after calling this one.
    """

    label: ClassVar[str | None] = None
    """Name of these settings in messages, if they are created in Python; by default the class's name."""

    def __post_init__(self) -> None:
        owner = type(self).__qualname__ if self.label is None else self.label
        for name, value in checked(parameters(type(self)), vars(self), owner).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_config(cls, given: Mapping[str, Any], owner: str) -> Self:
        """Create the settings from a mapping in a file, converting values to their types.

        Args:
            given: values by name.
            owner: name of the section, for messages.

        Raises:
            LongigenError: for an unknown name or an invalid value.
        """
        return cls(**checked(parameters(cls), given, owner))


class Component:
    """A component that is chosen by name: a conditioner, denoiser, sampler, data set, metric or segmenter.

    Contract of every component:

    - Its constructor's parameters are keyword-only, annotated and explicit (no ``**kwargs``). They are its
      configuration, are checked against their annotations, and are stored as `config`, from which `from_config`
      creates the same component again. Values that are only known when a model is composed are passed to `build`.
    - A number's annotation has its range: ``Annotated[float, Range(0, 1)]``. Values outside are refused before the
      constructor runs, so the constructor only checks parameters against each other.
    - Values of `config` are None, bool, int, float, str, Path, and tuples of those. An annotation that allows anything
      else (``Any``, ``list[int]``) is refused.
    - A method that overrides one of the base class has the same parameters, in the same order; additional ones need
      defaults.
    - It draws random numbers only from the generators passed in, never from the global ones of torch, NumPy or Python,
      except for the initial weights in `build`.
    - A class that breaks these rules raises a TypeError when it is defined, not when it is first used.
    """

    kind: ClassVar[str]
    config: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = parameters(cls)
        _check_annotations(cls.__qualname__, known)
        for parameter in known.values():
            if not parameter.required:
                _check_default(parameter, cls.__qualname__)
        check_overrides(cls, [base for base in cls.__mro__[1:] if _is_interface(base)])

    @classmethod
    def interface(cls) -> "type[Component] | None":
        """Return the base class that defines the kind, such as `Conditioner` or `Denoiser`; None if there is none."""
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
        """Return the arguments of `__new__`, so that a component can be copied and pickled."""
        return (), self.config

    def __repr__(self) -> str:
        """Return the class name and the parameters that differ from their defaults."""
        known = parameters(type(self))
        given = [f"{name}={value!r}" for name, value in self.config.items() if value != known[name].default]
        return f"{type(self).__name__}({', '.join(given)})"

    @classmethod
    def from_config(cls, given: Mapping[str, Any], owner: str = "") -> Self:
        """Create the component from a mapping (of a recipe or a ``config.json``), converting values to their types.

        Args:
            given: values by name; the others have their defaults.
            owner: name of the component in messages; by default the class's name.

        Raises:
            LongigenError: for an unknown or missing parameter or an invalid value, also if the constructor raises a
                ValueError or ArithmeticError.
        """
        owner = owner or cls.__qualname__
        config = checked(parameters(cls), given, owner)
        try:
            return cls(**config)
        except (ValueError, ArithmeticError) as error:
            raise LongigenError(f"{owner}: {reason(error)}.") from error


def _is_interface(base: type) -> bool:
    """Return whether a class is a component class of longigen itself, and not of a plugin."""
    return issubclass(base, Component) and base.__module__.partition(".")[0] == "longigen"


def _check_default(parameter: Parameter, owner: str) -> None:
    try:
        converted = parameter.check(parameter.default, owner)
    except LongigenError as error:
        raise TypeError(f"the default of a parameter does not match its annotation: {error}") from None
    if converted != parameter.default:
        raise TypeError(f"{owner}: the default of '{parameter.name}', {parameter.default!r}, should be {converted!r}")


def _is_supported(annotation: Any) -> bool:
    """Return whether `_convert` can check values against a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_supported(arguments[0])
    if origin is Literal:
        return all(isinstance(value, bool | int | str | None) for value in arguments)
    if origin in (typing.Union, types.UnionType, tuple):
        return all(_is_supported(part) for part in arguments if part is not Ellipsis)
    return annotation in (None, types.NoneType, bool, int, float, str, Path)


def _type_name(annotation: Any) -> str:
    """Return a type as Python code: ``list[int]``, ``ndarray``."""
    if typing.get_origin(annotation) is Annotated:
        return _type_name(typing.get_args(annotation)[0])
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
        if isinstance(value, bool) and (words := set(WORDS[value]).intersection(arguments)):
            return words.pop()
        raise ValueError
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if annotation in (None, types.NoneType):
        if value is None:
            return None
        raise TypeError
    if annotation is float and isinstance(value, Real | str) and not isinstance(value, bool):
        number = float(value)  # text too, since YAML reads 1e-4 (without a dot) as text
        if not math.isfinite(number):  # JSON has no NaN and no infinity
            raise ValueError
        return number
    if annotation is int:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # NumPy integers too
    if annotation is Path and isinstance(value, str | Path):
        return Path(value)
    if inspect.isclass(annotation) and isinstance(value, annotation):
        return value
    raise TypeError


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        import yaml

        if len(value) > LONGEST_LIST:
            raise ValueError
        try:
            value = [yaml.safe_load(part) for part in value.split(",")]
        except (yaml.YAMLError, RecursionError):
            raise ValueError from None
    if not isinstance(value, list | tuple):
        value = [value]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise ValueError
    return tuple(_convert(item, kind) for item, kind in zip(value, arguments, strict=True))


def _describe_type(annotation: Any) -> str:
    """Return a type in words, for messages: ``one of 'x', 'v'``, ``3 × int``, ``a number from 0 to 1 or None``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _describe_number(annotation, "a whole number", "a number") or _describe_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe_type(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return f"a list of {_describe_number(arguments[0], 'whole numbers', 'numbers') or _describe_type(arguments[0])}"
    if origin is tuple and len(set(arguments)) == 1:
        numbers = _describe_number(arguments[0], "whole numbers", "numbers")
        return f"{len(arguments)} {numbers}" if numbers else f"{len(arguments)} × {_describe_type(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}: {', '.join(map(_describe_type, arguments))}"
    return "None" if annotation in (None, types.NoneType) else getattr(annotation, "__name__", str(annotation))


def _describe_number(annotation: Any, whole: str, other: str) -> str:
    """Return in words which numbers a type with a range allows; an empty string for any other type."""
    if typing.get_origin(annotation) is not Annotated:
        return ""
    return " and ".join(limits.of(whole if kind is int else other) for kind, limits in ranges(annotation))
