"""The three settings of generation: which visits are given and which are to be made."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longigen.randomness import derive_seed

Setting = Literal["single", "missing", "full"]
SETTINGS: tuple[Setting, ...] = ("single", "missing", "full")
Targets = Literal["last", "all"]


@dataclass(frozen=True)
class Task:
    """One question about one subject: the places of the visits that are given, and of those to be made from them.

    The ones to be made are made together, in order of time, each joining the history of the next.
    """

    given: tuple[int, ...]
    targets: tuple[int, ...]


def tasks(visits: int, setting: Setting, *, subject: str, seed: int = 0) -> list[Task]:
    """Return the tasks of a subject with `visits` visits.

    - ``single``: the first visit is given; all others are made.
    - ``missing``: the first is given, the last is to be made, and of those between a random half is missing (rounded
      up, so that there is one where there can be); the missing ones and the last are made. Seeded by seed and subject.
    - ``full``: each visit after the first is made from all the true ones before it, so there is a task for each.
    """
    if setting == "full":
        return [Task(tuple(range(target)), (target,)) for target in range(1, visits)]
    between = list(range(1, visits - 1))
    known: list[int] = []
    if setting == "missing":
        known = sorted(random.Random(derive_seed("missing", seed, subject)).sample(between, len(between) // 2))
    made = tuple(index for index in range(1, visits) if index not in known)
    return [Task((0, *known), made)]


def last_only(every: Sequence[Task], visits: int) -> list[Task]:
    """Return the tasks that make the last visit, which is the same target in all settings."""
    return [task for task in every if visits - 1 in task.targets]
