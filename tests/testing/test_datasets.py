"""The checks of data sets: a good one passes, and each check catches one that breaks it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.conformance import assert_caught, assert_each_is_broken, broken_classes, problems
from longigen import Dataset, Finding, OnBad, Subject, Visit, Volume, refuse

SHAPE = (6, 7, 8)
CALLS = count()
"""What is counted over all objects of a class."""


def draw(seed: int, spacing: float = 2.0) -> Volume:
    data = np.random.default_rng(seed).random(SHAPE, dtype=np.float32)
    return Volume(data, np.diag([spacing, spacing, spacing, 1.0]))


class Good(Dataset):
    """Noise."""

    def __init__(self, *, subject_count: int = 3) -> None:
        super().__init__()
        self.subject_count = subject_count

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        return [self.made(f"s{index}", index) for index in range(self.subject_count)]

    def made(self, name: str, index: int) -> Subject:
        return Subject(name, tuple(self.visit(name, index, float(time)) for time in range(3)))

    def visit(self, name: str, index: int, time: float) -> Visit:
        return Visit(
            time=time,
            load=partial(draw, 10 * index + int(time)),
            shape=SHAPE,
            spacing=(2.0, 2.0, 2.0),
            source=f"{name} at {time:g}",
            identity=f"noise {index} {time:g}",
        )


class Reporting(Good):
    """It leaves a subject out and says so."""

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        if bad is not refuse:
            bad(Finding("broken", "s9", "is broken", "mend it"))
        return super().subjects(bad)


@pytest.mark.parametrize("cls", [Good, Reporting])
def test_a_good_one_passes(cls: type) -> None:
    assert problems("dataset", cls, {"subject_count": 2}) == {}


CONFIGURATION = "can be made again from its configuration"
SUBJECTS = "has subjects with ascending times"
VOLUMES = "loads volumes as it describes them"
AGAIN = "loads the same again"
REGIONS = "labels regions that it names"
GLOBAL = "leaves global random generators alone"
UNIT = "has times in a known unit"
VISITS = "knows its visits apart"
PROCESSES = "has visits that go to other processes"
BAD = "tells what is bad"
CLAIMS = "claims paths by name"

BROKEN, caught = broken_classes(globals())


@caught(CONFIGURATION=r"the configuration \{'subject_count': 4\} became \{'subject_count': 5\}")
class ChangingItsConfiguration(Good):
    def __init__(self, *, subject_count: int = 3) -> None:
        super().__init__(subject_count=subject_count)
        self.config["subject_count"] = subject_count + 1


class Listing(Good):
    """`Good` with other subjects, by `listed`."""

    def subjects(self, bad: OnBad = refuse) -> Any:
        return self.listed(list(super().subjects(bad)))

    def listed(self, subjects: list[Subject]) -> Any:
        raise NotImplementedError


@caught(SUBJECTS=r"subjects\(\) returns a generator, not a sequence", VOLUMES="not subscriptable",
        AGAIN="not subscriptable", REGIONS="not subscriptable", GLOBAL="not subscriptable",
        PROCESSES="not subscriptable")  # fmt: skip
class Generating(Listing):
    def listed(self, subjects: list[Subject]) -> Iterator[Subject]:
        yield from subjects


@caught(SUBJECTS="there are no subjects", AGAIN="out of range", GLOBAL="out of range", PROCESSES="out of range")
class Empty(Listing):
    def listed(self, subjects: list[Subject]) -> list[Subject]:
        return []


@caught(SUBJECTS="a subject's id occurs twice")
class SameId(Listing):
    def listed(self, subjects: list[Subject]) -> list[Subject]:
        return [replace(subject, id="s") for subject in subjects]


@caught(SUBJECTS="an id is empty or holds a slash")
class IdsThatArePaths(Listing):
    def listed(self, subjects: list[Subject]) -> list[Subject]:
        return [replace(subject, id=f"a/{subject.id}") for subject in subjects]


@caught(SUBJECTS="the order of the subjects is not fixed", VISITS="an identity changes though nothing else does",
        AGAIN="two loads differ", GLOBAL="the result is another each time")  # fmt: skip
class Rotating(Listing):
    def listed(self, subjects: list[Subject]) -> list[Subject]:
        first = next(CALLS) % len(subjects)
        return subjects[first:] + subjects[:first]


@caught(SUBJECTS="s1 has no visits")
class WithoutVisits(Good):
    def made(self, name: str, index: int) -> Subject:
        return replace(super().made(name, index), visits=()) if index == 1 else super().made(name, index)


@caught(SUBJECTS="times of s0 do not ascend")
class Descending(Good):
    def made(self, name: str, index: int) -> Subject:
        subject = super().made(name, index)
        return replace(subject, visits=subject.visits[::-1])


@caught(SUBJECTS="a time of s0 is not finite")
class InfiniteTimes(Good):
    def made(self, name: str, index: int) -> Subject:
        *visits, last = super().made(name, index).visits
        return Subject(name, (*visits, replace(last, time=float("inf"))))


class Describing(Good):
    """`Good` with other visits, by `described`."""

    def visit(self, name: str, index: int, time: float) -> Visit:
        return self.described(super().visit(name, index, time))

    def described(self, visit: Visit) -> Visit:
        raise NotImplementedError


def flat() -> Volume:
    return replace(draw(0), data=draw(0).data[0])


def with_nan() -> Volume:
    return replace(draw(0), data=draw(0).data * np.nan)


def with_half_an_affine() -> Volume:
    return replace(draw(0), affine=np.eye(3))


@caught(VOLUMES="s0 at 0 is 2D")
class Flat(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=flat)


@caught(VOLUMES="s0 at 0 is not finite")
class NotFinite(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=with_nan)


@caught(VOLUMES="s0 at 0 has no 4 × 4 affine")
class AffineOfThree(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=with_half_an_affine)


@caught(VOLUMES=r"s0 at 0 was said to be \(8, 7, 6\) in RAS order and is \(6, 7, 8\)")
class OtherShape(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, shape=(8, 7, 6))


@caught(VOLUMES=r"s0 at 0 was said to have voxels of \(1\.0, 1\.0, 1\.0\) mm and has \(2\.0, 2\.0, 2\.0\)")
class OtherSpacing(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, spacing=(1.0, 1.0, 1.0))


def counted() -> Volume:
    return draw(next(CALLS))


@caught(
    AGAIN="two loads differ", PROCESSES="a visit differs once it was pickled", GLOBAL="the result is another each time"
)
class LoadingAnotherEachTime(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=counted)


def from_numpy() -> Volume:
    np.random.seed(0)
    return draw(int(np.random.randint(100)))


def from_python() -> Volume:
    random.seed(0)
    return draw(random.randrange(100))


def from_torch() -> Volume:
    return draw(int(torch.randint(1000, ())))


@caught(GLOBAL=r"draws from NumPy's global generator \(numpy.random\)")
class SeedingNumPy(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=from_numpy)


@caught(GLOBAL=r"draws from Python's global generator \(random\)")
class SeedingPython(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=from_python)


@caught(GLOBAL="draws from torch's global generator", AGAIN="two loads differ", PROCESSES="once it was pickled")
class DrawingFromTorch(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=from_torch)


@caught(GLOBAL="draws from NumPy's global generator")
class MadeAtRandom(Describing):
    def __init__(self, *, subject_count: int = 3) -> None:
        super().__init__(subject_count=subject_count)
        self.shift = 1e-3 * float(np.random.rand())

    def described(self, visit: Visit) -> Visit:
        return replace(visit, time=visit.time + self.shift)


@caught(UNIT="time_unit is 'fortnights', none of years, months")
class OtherUnit(Good):
    time_unit = "fortnights"


@caught(VISITS="two visits have one identity")
class SameIdentity(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, identity="noise")


@caught(VISITS="an identity changes though nothing else does")
class NewIdentity(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, identity=f"{next(CALLS)}")


@caught(PROCESSES="a subject cannot be pickled .*lambda")
class LoadingByLambda(Describing):
    def described(self, visit: Visit) -> Visit:
        return replace(visit, load=lambda: draw(0))


@caught(BAD="bad is told of something else than a Finding")
class SayingText(Good):
    def subjects(self, bad: Any = refuse) -> Sequence[Subject]:
        if bad is not refuse:
            bad("s9 is broken")
        return super().subjects(bad)


@caught(CLAIMS=r"claims\(no-such-place\.unknown\) is True: it claims what it cannot know")
class ClaimingEverything(Good):
    @classmethod
    def claims(cls, path: Path) -> bool:
        return True


@caught(CLAIMS=r"claims opens what lies at the path \(.*No such file.*\); it may look at names only")
class Opening(Good):
    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.read_bytes().startswith(b"noise")


def mark() -> Volume:
    data = np.zeros(SHAPE, dtype=np.float32)
    data[2:4, 2:5, 3:6] = 7
    return Volume(data, draw(0).affine)


@caught(REGIONS=r"the label map of s0 at 0 has \[7\], which `regions` does not name")
class NamingNoRegion(Good):
    def visit(self, name: str, index: int, time: float) -> Visit:
        return replace(super().visit(name, index, time), labels=mark)


class NamingItsRegion(NamingNoRegion):
    @property
    def regions(self) -> dict[int, str]:
        return {7: "box"}


def test_a_named_region_is_right() -> None:
    assert problems("dataset", NamingItsRegion) == {}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_one_is_caught(cls: type) -> None:
    assert_caught("dataset", cls, BROKEN[cls])


def test_every_check_can_fail() -> None:
    assert_each_is_broken("dataset", BROKEN)
