"""The three scenarios of generation (the SADM paper's settings): which visits are given, which are generated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longigen.errors import LongigenError, did_you_mean
from longigen.utils.randomness import derive_seed

Scenario = Literal["single", "missing", "full"]
SCENARIOS: tuple[Scenario, ...] = ("single", "missing", "full")
Targets = Literal["last", "all"]


@dataclass(frozen=True)
class Task:
    """What to generate for one subject: the indices of the given visits, and of the visits to generate from them.

    The targets are generated in order of time, each joining the history of the next.
    """

    given: tuple[int, ...]
    targets: tuple[int, ...]


def tasks(visits: int, scenario: Scenario, *, subject: str, seed: int = 0) -> list[Task]:
    """Return the tasks of a subject with `visits` visits.

    - ``single``: the first visit is given; all others are generated.
    - ``missing``: the first is given, the last is a target, and of those between a random half is missing (rounded
      up, so that there is one where there can be); the missing ones and the last are generated. Drawn by seed and
      subject.
    - ``full``: each visit after the first is generated from all the true ones before it, so there is a task for each.
    """
    if scenario == "full":
        return [Task(tuple(range(target)), (target,)) for target in range(1, visits)]
    between = list(range(1, visits - 1))
    known: list[int] = []
    if scenario == "missing":
        known = sorted(random.Random(derive_seed("missing", seed, subject)).sample(between, len(between) // 2))
    made = tuple(index for index in range(1, visits) if index not in known)
    return [Task((0, *known), made)]


def last_only(every: Sequence[Task], visits: int) -> list[Task]:
    """Return the tasks whose target is the last visit, which is the same target in all scenarios."""
    return [task for task in every if visits - 1 in task.targets]


def ordered(scenarios: Sequence[Scenario] | Scenario) -> list[Scenario]:
    """Return the scenarios that were chosen, all three where none was, each once and in their order.

    Raises:
        LongigenError: for an unknown one.
    """
    scenarios = [scenarios] if isinstance(scenarios, str) else scenarios
    for scenario in scenarios:
        if scenario not in SCENARIOS:
            raise LongigenError(
                f"There is no setting '{scenario}'.{did_you_mean(scenario, SCENARIOS)} There are: "
                f"{', '.join(SCENARIOS)}."
            )
    return [scenario for scenario in SCENARIOS if scenario in (scenarios or SCENARIOS)]
