"""Names of BIDS for subjects, visits and images, which have labels of letters and digits alone."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from longigen.utils.time_units import time_text

ANATOMICAL = frozenset(
    {"T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio", "UNIT1", "T1rho", "MTsat"}
    | {
        f"{name}map"
        for name in ("T1", "T2", "T2star", "R1", "R2", "R2star", "PD", "MTR", "MWF", "MTV", "Chi", "S0", "M0")
    }
)
"""The suffixes of volumes in ``anat`` that need no further entities (BIDS 1.11, `deriv.imaging` of its schema)."""
DEFAULT = "T1w"
"""The suffix of images whose contrast is not known."""
WORDS = {
    "T1w": ("t1", "t1w", "t1c", "t1ce", "mprage"),
    "T2w": ("t2", "t2w"),
    "FLAIR": ("flair",),
    "PDw": ("pd", "pdw"),
}
"""Words in the names of files by the suffix that they stand for."""
KEPT = ("acq", "ce", "rec", "space")
"""The entities of a given image that a generated one keeps, in the order of BIDS.

Not ``run``, which counts the samples, nor ``desc``, which says that it is synthetic, nor those that describe one file.
"""


def subject_labels(subjects: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a label for each subject, without ``sub-``; no two differ only in capitals, as some file systems need.

    It is the one in the name of the subject's file, or else the letters and digits of the id, without accents. An id
    that is a label keeps it; of several that would have the same label, the later ones get a number.

    Args:
        subjects: the id of each, and the file of its first visit.
    """
    wanted = {name: entity(source, "sub") or label(name.removeprefix("sub-")) or "subject" for name, source in subjects}
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(wanted, key=lambda name: (name != f"sub-{wanted[name]}", name != wanted[name], name)):
        number, chosen = 1, wanted[name]
        while chosen.lower() in taken:
            number += 1
            chosen = f"{wanted[name]}x{number}"
        taken.add(chosen.lower())
        labels[name] = chosen
    return labels


def label(text: str) -> str:
    """Return the letters and digits of a text, without accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z]", "", plain)


def time_label(time: float, unit: str) -> str:
    """Return a label of a time, such as ``3p5years`` (a point is ``p``, a minus ``m``); different times have others."""
    return time_text(time).replace("+", "").replace(".", "p").replace("-", "m") + unit


def entity(source: str, key: str) -> str | None:
    """Return the label of an entity in the name of a file, such as ``ses``; None if the name does not have it."""
    found = re.search(rf"(?:^|_){key}-([0-9A-Za-z]+)(?=_)", Path(source).name)
    return None if found is None else found[1]


def stated_suffix(source: str) -> str | None:
    """Return the BIDS suffix at the end of a file's name, such as ``FLAIR``; None if it has none of an image."""
    found = re.search(r"_([0-9A-Za-z]+)\.nii(\.gz)?(, frame \d+)?$", Path(source).name)
    return found[1] if found and found[1] in ANATOMICAL else None


def suffix_of_channel(name: str) -> str | None:
    """Return the suffix that the name of a channel is, or stands for, such as FLAIR for ``flair``; None if none."""
    known = {suffix.lower(): suffix for suffix in ANATOMICAL}
    return known.get(name.lower()) or guessed_suffix(name)


def guessed_suffix(source: str) -> str | None:
    """Return the suffix that a word in the name of a file stands for, such as T1w for ``IXI012-HH-1211-T1.nii.gz``."""
    words: Sequence[str] = re.split(r"[^0-9a-z]+", Path(source).name.lower())
    return next((suffix for suffix, known in WORDS.items() if set(known).intersection(words)), None)
