"""``Info.cfg``: what the challenge says of a patient."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from longigen import BadData, Finding

INFO = "Info.cfg"

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
"""The challenge's diagnoses: healthy, infarction, dilated and hypertrophic cardiomyopathy, abnormal right ventricle.

A label's place is its code. The list is fixed, whichever of them a folder holds, so that models travel.
"""


@dataclass(frozen=True)
class Info:
    """What is used of a patient's ``Info.cfg``.

    Attributes:
        ed: the frame of end diastole, counted from 1.
        es: the frame of end systole, counted from 1.
        covariates: height in cm, weight in kg, and the group's place in `GROUPS`. One that is missing, garbled or not
            in the list is absent, as if it had not been taken: the test patients were once shipped without their group.
    """

    ed: int
    es: int
    covariates: Mapping[str, float]

    @classmethod
    def read(cls, path: Path, subject: str) -> Self:
        """Read an ``Info.cfg``: a line ``key: value`` each.

        ``NbFrame`` is ignored: the image's header has the number of its frames.

        Raises:
            BadData: if it is not there, cannot be read, or ED or ES is missing or no whole number.
        """
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            advice = "copy it from the challenge's database, or remove the folder"
            raise BadData(Finding("missing-file", str(path), "does not exist", advice, subject)) from None
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise BadData(Finding("unreadable", str(path), problem, "replace it", subject)) from None
        pairs = (line.partition(":") for line in text.splitlines())
        values = {key.strip(): value.strip() for key, _, value in pairs}
        ed, es = (_frame(values, key, path, subject) for key in ("ED", "ES"))
        measures = {"height": _positive(values.get("Height", "")), "weight": _positive(values.get("Weight", ""))}
        covariates = {name: value for name, value in measures.items() if value is not None}
        if values.get("Group") in GROUPS:
            covariates["group"] = float(GROUPS.index(values["Group"]))
        return cls(ed, es, covariates)


def _frame(values: Mapping[str, str], key: str, path: Path, subject: str) -> int:
    try:
        return int(values[key])
    except KeyError:
        problem = f"has no line '{key}:'"
    except ValueError:
        problem = f"says {key}: {values[key]!r}, which is no whole number"
    advice = "write the number of that frame, counted from 1"
    raise BadData(Finding("bad-info", str(path), problem, advice, subject))


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
