"""Names of BIDS for subjects, visits and images, which have labels of letters and digits alone."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longigen.data.dataset import Visit
from longigen.data.issues import BadData
from longigen.data.sidecar import read_sidecar
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


def renamed(labels: Mapping[str, str]) -> str | None:
    """Return in a sentence which subjects have labels that are not their ids; None if all have theirs.

    Args:
        labels: the label of each id, see `subject_labels`.
    """
    changed = [name for name, text in labels.items() if name.removeprefix("sub-") != text]
    if not changed:
        return None
    return (
        f"BIDS allows letters and digits in names, so {len(changed)} of {len(labels)} subjects have other ones, such "
        f"as sub-{labels[changed[0]]} for '{changed[0]}'; participants.tsv lists both."
    )


def label(text: str) -> str:
    """Return the letters and digits of a text, without accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z]", "", plain)


def time_label(time: float, unit: str) -> str:
    """Return a label of a time, such as ``3p5years`` (a point is ``p``, a minus ``m``); different times have others."""
    return time_text(time).replace("+", "").replace(".", "p").replace("-", "m") + unit


def session_label(visits: Sequence[Visit], time: float, unit: str) -> str:
    """Return the label of a visit at a time: the subject's own in the name of its file, or one made of the time.

    The visits in one file, as the frames of a series, have no labels of their own.

    Args:
        visits: the visits that the subject has.
        time: the time, of one of them or another.
        unit: its unit.
    """
    labels = {visit.time: name for visit in visits if (name := entity(visit.source, "ses"))}
    own = labels.get(time)
    if own and list(labels.values()).count(own) == 1:
        return own
    made = time_label(time, unit)
    return f"t{made}" if made in labels.values() else made


def kept_entities(source: str) -> dict[str, str]:
    """Return the entities of a given image that one made of it keeps, each as ``_KEY-LABEL``, by their keys."""
    return {key: f"_{key}-{value}" for key in KEPT if (value := entity(source, key))}


def plain_stem(name: str) -> str | None:
    """Return the name of a NIfTI file without its ending; None for another name."""
    found = re.fullmatch(r"(.+)\.nii(\.gz)?", name)
    return None if found is None else found[1]


def sidecar_of(source: str) -> Mapping[str, Any]:
    """Return the JSON sidecar of a given image; empty if there is none."""
    try:
        return read_sidecar(Path(re.sub(r"\.nii(\.gz)?$", "", source) + ".json"))
    except BadData:  # the reader says it where the data need it
        return {}


def entity(source: str, key: str) -> str | None:
    """Return the label of an entity in the name of a file, such as ``ses``; None if the name does not have it."""
    found = re.search(rf"(?:^|_){key}-([0-9A-Za-z]+)(?=_)", Path(source).name)
    return None if found is None else found[1]


def stated_suffix(source: str) -> str | None:
    """Return the BIDS suffix at the end of a file's name, such as ``FLAIR``; None if it has none of an image."""
    found = re.search(r"_([0-9A-Za-z]+)\.nii(\.gz)?(, frame \d+)?$", Path(source).name)
    return found[1] if found and found[1] in ANATOMICAL else None


def suffix_of(source: str, channel: str = "") -> tuple[str, bool]:
    """Return the suffix of images made of a given one, and whether it was guessed, since its name has none.

    Args:
        source: the file of the given image.
        channel: the name of the channel that it is of, by which it is guessed before the words of the file's name.
    """
    stated = stated_suffix(source)
    named = suffix_of_channel(channel) if channel else None
    return stated or named or guessed_suffix(source) or DEFAULT, stated is None


def suffix_of_channel(name: str) -> str | None:
    """Return the suffix that the name of a channel is, or stands for, such as FLAIR for ``flair``; None if none."""
    known = {suffix.lower(): suffix for suffix in ANATOMICAL}
    return known.get(name.lower()) or guessed_suffix(name)


def guessed_suffix(source: str) -> str | None:
    """Return the suffix that a word in the name of a file stands for, such as T1w for ``IXI012-HH-1211-T1.nii.gz``."""
    words: Sequence[str] = re.split(r"[^0-9a-z]+", Path(source).name.lower())
    return next((suffix for suffix, known in WORDS.items() if set(known).intersection(words)), None)
