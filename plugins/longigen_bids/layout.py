"""The images of a BIDS data set: ``sub-*/ses-*/<datatype>/sub-*_ses-*[_<entity>-<label>…]_<suffix>.nii[.gz]``.

The names are taken apart here and not by pybids or bids2table: where a label is not alphanumeric, as in
``sub-002_S_0295``, pybids reads another subject's name (``002``) and bids2table leaves the file out, both silently.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longigen import LongigenError, did_you_mean

LABELLED = ("mask", "defacemask", "dseg", "probseg")
"""Suffixes of label images, which are only taken if asked for."""


@dataclass(frozen=True)
class Image:
    """An image in the folder of a session. `entities` are those beside ``sub`` and ``ses``.

    `misnamed`: it is named after another subject or session than those in whose folder it lies.
    """

    path: Path
    subject: str
    session: str
    entities: Mapping[str, str]
    suffix: str
    misnamed: bool

    def has(self, entity: str, label: str) -> bool:
        """Say whether an entity has a label, where ``01`` and ``1`` are the same; an empty label asks for none."""
        own = self.entities.get(entity, "")
        return own == label or (own.isdecimal() and label.isdecimal() and int(own) == int(label))


@dataclass(frozen=True)
class Listing:
    """What lies in a data set.

    Attributes:
        images: in the folders of the data type asked for, in order of subject and session.
        datatypes: the folders of sessions by name, with their number.
        outside: the number of images of the data type asked for that lie in a subject's folder, outside any session.
        subjects: with or without images.
    """

    images: Sequence[Image]
    datatypes: Counter[str]
    outside: int
    subjects: Sequence[str]


def list_images(root: Path, datatype: str) -> Listing:
    """List a data set by its names."""
    images, datatypes, outside, subjects = [], Counter[str](), 0, []
    for subject in _folders(root, "sub-"):
        subjects.append(subject)
        outside += sum(1 for _ in _niftis(root / subject / datatype))
        for session in _folders(root / subject, "ses-"):
            folders = _folders(root / subject / session)
            datatypes.update(folders)
            if datatype in folders:
                folder = root / subject / session / datatype
                parsed = (_parse(folder / name, subject, session) for name in _niftis(folder))
                images.extend(image for image in parsed if image is not None)
    return Listing(images, datatypes, outside, subjects)


def choose_suffix(images: Sequence[Image], suffix: str | None, where: str) -> str:
    """Return the suffix asked for, or the only one there is.

    Raises:
        LongigenError: if there is none, or are several; it names them with their numbers.
    """
    known = Counter(image.suffix for image in images)
    there = "There is: " + spell(known) + "."
    if suffix is not None:
        if suffix not in known:
            raise LongigenError(f"{where} holds no image '{suffix}'.{did_you_mean(suffix, known)} {there}")
        return suffix
    candidates = [name for name in known if name not in LABELLED]
    if len(candidates) != 1:
        what = "images of several kinds" if candidates else "label images only"
        raise LongigenError(f"{where} holds {what}; choose one with --set suffix=. {there}")
    return candidates[0]


def select(images: Sequence[Image], wanted: Sequence[str], where: str) -> Sequence[Image]:
    """Return the images that have all the entities `wanted`, each an ``entity-label``, or ``entity-`` for none.

    Raises:
        LongigenError: if one is written otherwise, or no image is left; it says which labels there are.
    """
    for item in wanted:
        entity, dash, label = item.partition("-")
        if not entity or not dash:
            raise LongigenError(
                f"select takes ENTITY-LABEL as in the files' names, such as space-MNI152NLin2009cAsym or run-1, "
                f"or ENTITY- for images without it; got '{item}'."
            )
        kept = [image for image in images if image.has(entity, label)]
        if not kept:
            labels = Counter(f"{entity}-{image.entities.get(entity, '')}" for image in images)
            others = sorted({name for image in images for name in image.entities})
            raise LongigenError(
                f"{where} holds no {images[0].suffix} image with {item}.{did_you_mean(item, labels)} "
                f"There is: {spell(labels)}; entities: {', '.join(others) or 'none'}."
            )
        images = kept
    return images


def told_apart(images: Sequence[Image]) -> str:
    """Say what to select by in order to be left with one of several images of a session."""
    entities = sorted({name for image in images for name in image.entities})
    labels = {name: sorted({image.entities.get(name, "") for image in images}) for name in entities}
    choices = [f"{name}-{label}" for name, found in labels.items() if len(found) > 1 for label in found]
    return f"choose with --set select={' or '.join(choices)}" if choices else "keep one of them"


def spell(counts: Mapping[str, int]) -> str:
    """Return names with their numbers, the most frequent first: ``T1w (4), FLAIR (2)``."""
    return ", ".join(f"{name} ({number})" for name, number in sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def _parse(path: Path, subject: str, session: str) -> Image | None:
    """Return an image, or None where the name is not one of BIDS."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    named = stem.startswith(f"{subject}_{session}_")
    *parts, suffix = (stem.removeprefix(f"{subject}_{session}_") if named else stem).split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    if "-" in suffix or not suffix or (named and len(entities) < len(parts)):
        return None
    return Image(path, subject, session, entities, suffix, misnamed=not named)


def _folders(path: Path, prefix: str = "") -> Sequence[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())


def _niftis(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        names: Iterable[str] = sorted(os.listdir(folder))
        yield from (name for name in names if name.endswith((".nii", ".nii.gz")) and not name.startswith("."))
