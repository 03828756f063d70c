"""Generation tasks: which visits of a subject are given and which are generated, in three scenarios.

The scenarios ``single``, ``missing`` and ``full`` are the settings of the SADM paper.
"""

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
    """The indices of a subject's given visits, and of the target visits to generate from them.

    The targets are generated in order of time; each generated visit joins the history of the next.
    """

    given: tuple[int, ...]
    targets: tuple[int, ...]

    def given_before(self, time: float, times: Sequence[float]) -> int:
        """Return the index of the last given visit before a time, of visits at `times`."""
        return max(index for index in self.given if times[index] < time)


def tasks(visits: int, scenario: Scenario, *, subject: str, seed: int = 0) -> list[Task]:
    """Return the tasks of a subject with `visits` visits.

    - ``single``: the first visit is given; all others are generated.
    - ``missing``: the first visit is given; a random half (rounded up) of the visits between the first and the last
      is missing; the missing visits and the last one are generated. The choice depends on seed and subject.
    - ``full``: each visit after the first is generated from all true visits before it, in a task of its own.
    """
    if scenario == "full":
        return [Task(tuple(range(target)), (target,)) for target in range(1, visits)]
    between = list(range(1, visits - 1))
    known: list[int] = []
    if scenario == "missing":
        known = sorted(random.Random(derive_seed("missing", seed, subject)).sample(between, len(between) // 2))
    targets = tuple(index for index in range(1, visits) if index not in known)
    return [Task((0, *known), targets)]


def last_only(candidates: Sequence[Task], visits: int) -> list[Task]:
    """Return the tasks with the last visit as a target, which is the same visit in all scenarios."""
    return [task for task in candidates if visits - 1 in task.targets]


def ordered(scenarios: Sequence[Scenario] | Scenario) -> list[Scenario]:
    """Return the chosen scenarios, or all three if none was chosen, without repetition and in standard order.

    Raises:
        LongigenError: if a name is not that of a scenario.
    """
    scenarios = [scenarios] if isinstance(scenarios, str) else scenarios
    for scenario in scenarios:
        if scenario not in SCENARIOS:
            raise LongigenError(
                f"There is no setting '{scenario}'.{did_you_mean(scenario, SCENARIOS)} Settings: "
                f"{', '.join(SCENARIOS)}."
            )
    return [scenario for scenario in SCENARIOS if scenario in (scenarios or SCENARIOS)]
