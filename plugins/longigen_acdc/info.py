"""``Info.cfg``: the ACDC challenge's information on a patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from longigen import BadData, Finding, parse_number, require_fetched

INFO = "Info.cfg"

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
"""The challenge's diagnoses: healthy, infarction, dilated and hypertrophic cardiomyopathy, abnormal right ventricle.

The index of a label is its code. The list is fixed, so that a model can be used with other folders of patients.
"""


@dataclass(frozen=True)
class Info:
    """The used content of a patient's ``Info.cfg``.

    Attributes:
        ed: the frame of end diastole, counted from 1.
        es: the frame of end systole, counted from 1.
        covariates: height in cm, weight in kg, and the index of the group in `GROUPS`. Missing and invalid ones are
            absent; early releases of the test patients had no group.
    """

    ed: int
    es: int
    covariates: Mapping[str, float]

    @classmethod
    def read(cls, path: Path, subject: str) -> Self:
        """Read an ``Info.cfg``, which has a line ``key: value`` for each entry.

        ``NbFrame`` is ignored, as the image's header has the number of frames.

        Raises:
            BadData: if the file does not exist or cannot be read, or ED or ES is missing or not a whole number.
        """
        require_fetched(path, subject)
        if path.exists() and not path.is_file():
            raise BadData(
                Finding("unreadable", str(path), "cannot be read (it is not a regular file)", "replace it", subject)
            )
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
    number = parse_number(values.get(key, ""))
    if number is not None and number.is_integer():
        return int(number)
    problem = f"has {key}: {values[key]!r}, which is not a whole number" if key in values else f"has no line '{key}:'"
    advice = "write the number of that frame, counted from 1"
    raise BadData(Finding("bad-info", str(path), problem, advice, subject))


def _positive(text: str) -> float | None:
    number = parse_number(text)
    return number if number is not None and number > 0 else None
