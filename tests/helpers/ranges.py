"""The numbers in a type, and values inside and outside of their ranges."""

import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from longigen import Range


@dataclass(frozen=True)
class Number:
    """A number somewhere in a parameter's type.

    Attributes:
        kind: int or float.
        limits: its range; None where it declares none.
        place: makes of a value of the number one of the parameter, as in a tuple whose other numbers are allowed.
        also: the ranges of a union's other options, which take some of the values outside of this one.
    """

    kind: type
    limits: Range | None
    place: Callable[[Any], Any] = lambda value: value
    also: tuple[Range, ...] = ()

    @property
    def outside(self) -> list[Any]:
        """Values that are refused: beyond each end, NaN, the infinities."""
        assert self.limits is not None
        ends = [(self.limits.low, -1), (self.limits.high, 1)]
        beyond = [self.kind(end + step) for end, step in ends if end is not None]
        beyond += [self.kind(end) for end in (self.limits.above, self.limits.below) if end is not None]
        taken = [value for value in beyond if any(value in limits for limits in self.also)]
        return [self.place(value) for value in (*beyond, math.nan, math.inf, -math.inf) if value not in taken]


def numbers(annotation: Any) -> Iterator[Number]:
    """Yield each number in a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield Number(arguments[0], next((each for each in arguments[1:] if isinstance(each, Range)), None))
    elif annotation in (int, float):
        yield Number(annotation, None)
    elif origin in (typing.Union, types.UnionType):
        for option in arguments:
            others = [each.limits for other in arguments if other is not option for each in numbers(other)]
            for each in numbers(option):
                yield replace(each, also=tuple(limits for limits in others if limits is not None))
    elif origin is tuple and arguments[1:] == (...,):
        for each in numbers(arguments[0]):
            yield replace(each, place=lambda value, each=each: (each.place(value),))
    elif origin is tuple:
        rest = [_allowed(part) for part in arguments]
        for index, part in enumerate(arguments):
            for each in numbers(part):
                yield replace(
                    each,
                    place=lambda value, each=each, index=index: (*rest[:index], each.place(value), *rest[index + 1 :]),
                )


def _allowed(annotation: Any) -> Any:
    """Return a value of a part of a tuple."""
    number = next(numbers(annotation), None)
    if number is None or number.limits is None:
        return annotation()
    limits = number.limits
    return number.kind(limits.low if limits.low is not None else (limits.above or 0) + 1)
