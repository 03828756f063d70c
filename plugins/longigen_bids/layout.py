"""The images of a BIDS data set: ``sub-*/ses-*/<datatype>/sub-*_ses-*[_<entity>-<label>…]_<suffix>.nii[.gz]``.

File names are parsed here and not by pybids or bids2table. If a label is not alphanumeric, as in ``sub-002_S_0295``,
pybids silently reads another subject's name (``002``) and bids2table silently leaves the file out.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longigen import LongigenError, did_you_mean

LABEL_SUFFIXES = ("mask", "defacemask", "dseg", "probseg")
"""Suffixes of label images, which are used only if the user chooses them."""


@dataclass(frozen=True)
class Image:
    """An image in the folder of a session.

    Attributes:
        path: path of the image.
        subject: the subject of the folder, ``sub-…``.
        session: the session of the folder, ``ses-…``; empty outside of sessions.
        entities: entities in the name, other than ``sub`` and ``ses``.
        suffix: suffix of the name, such as ``T1w``.
        misnamed: whether the name has another subject or session than the folder.
    """

    path: Path
    subject: str
    session: str
    entities: Mapping[str, str]
    suffix: str
    misnamed: bool

    def has(self, entity: str, label: str) -> bool:
        """Return whether an entity has a label (``01`` equals ``1``), or for an empty label, whether it is absent."""
        value = self.entities.get(entity, "")
        return value == label or (value.isdecimal() and label.isdecimal() and int(value) == int(label))


@dataclass(frozen=True)
class Listing:
    """The images and subjects of a data set.

    Attributes:
        images: images in the folders of the chosen data type, in order of subject and session.
        datatypes: number of folders in sessions, by name.
        outside: number of images of the chosen data type in a subject's folder, outside any session.
        subjects: all subjects, with or without images.
    """

    images: Sequence[Image]
    datatypes: Counter[str]
    outside: int
    subjects: Sequence[str]


def list_images(root: Path, datatype: str) -> Listing:
    """List the images of a data type by their file names."""
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


def list_outside(root: Path, datatype: str) -> Sequence[Image]:
    """List the images of a data type that lie in a subject's folder, outside any session."""
    listed = []
    for subject in _folders(root, "sub-"):
        folder = root / subject / datatype
        listed += [image for name in _niftis(folder) if (image := _parse(folder / name, subject)) is not None]
    return listed


def choose_suffix(images: Sequence[Image], suffix: str | None, where: str) -> str:
    """Return the chosen suffix, or the only one.

    Raises:
        LongigenError: if no image has the suffix, or if none was chosen and there is not exactly one.
    """
    known = Counter(image.suffix for image in images)
    existing = "Suffixes: " + spell(known) + "."
    if suffix is not None:
        if suffix not in known:
            raise LongigenError(f"{where} holds no image '{suffix}'.{did_you_mean(suffix, known)} {existing}")
        return suffix
    candidates = [name for name in known if name not in LABEL_SUFFIXES]
    if len(candidates) != 1:
        what = "images of several kinds" if candidates else "label images only"
        raise LongigenError(f"{where} holds {what}; choose one with --set suffix=. {existing}")
    return candidates[0]


def select(images: Sequence[Image], entities: Sequence[str], where: str) -> Sequence[Image]:
    """Return the images with all `entities`, each given as ``entity-label``, or ``entity-`` for images without it.

    A ``run-`` also selects the image without one of a session in which no image has one, since BIDS lets a single run
    have no number.

    Raises:
        LongigenError: if an entity has another form, or no image is left.
    """
    for item in entities:
        entity, dash, label = item.partition("-")
        if not entity or not dash:
            raise LongigenError(
                f"select takes ENTITY-LABEL as in the files' names, such as space-MNI152NLin2009cAsym or run-1, "
                f"or ENTITY- for images without it; got '{item}'."
            )
        numbered = {(image.subject, image.session) for image in images if entity in image.entities}
        single = entity == "run" and any(image.has(entity, label) for image in images)
        selected = [
            image
            for image in images
            if image.has(entity, label) or (single and (image.subject, image.session) not in numbered)
        ]
        if not selected:
            labels = Counter(f"{entity}-{image.entities.get(entity, '')}" for image in images)
            others = sorted({name for image in images for name in image.entities})
            raise LongigenError(
                f"{where} holds no {images[0].suffix} image with {item}.{did_you_mean(item, labels)} "
                f"Labels: {spell(labels)}; entities: {', '.join(others) or 'none'}."
            )
        images = selected
    return images


def distinguishing_entities(images: Sequence[Image]) -> Sequence[str]:
    """Return what differs between the names of images, as ``entity-label``, or ``entity-`` where one has none."""
    entities = sorted({name for image in images for name in image.entities})
    labels = {name: sorted({image.entities.get(name, "") for image in images}) for name in entities}
    return [f"{name}-{label}" for name, values in labels.items() if len(values) > 1 for label in values]


def distinguishing_advice(images: Sequence[Image]) -> str:
    """Return advice on how to select one of several images of a session by their entities."""
    choices = distinguishing_entities(images)
    return f"choose with --set select={' or '.join(choices)}" if choices else "keep one of them"


def spell(counts: Mapping[str, int]) -> str:
    """Return names with their counts, the most frequent first: ``T1w (4), FLAIR (2)``."""
    return ", ".join(f"{name} ({number})" for name, number in sorted(counts.items(), key=lambda c: (-c[1], c[0])))


def _parse(path: Path, subject: str, session: str = "") -> Image | None:
    """Return the image of a path, or None if the name does not follow BIDS."""
    stem = stem_of(path)
    beginning = f"{subject}_{session}_" if session else f"{subject}_"
    named = stem.startswith(beginning)
    *parts, suffix = (stem.removeprefix(beginning) if named else stem).split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    if "-" in suffix or not suffix or (named and len(entities) < len(parts)):
        return None
    return Image(path, subject, session, entities, suffix, misnamed=not named)


def stem_of(path: Path) -> str:
    """Return the name of an image without its extension, which may be in capitals."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _folders(path: Path, prefix: str = "") -> Sequence[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir())


def _niftis(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        names: Iterable[str] = sorted(os.listdir(folder))
        yield from (name for name in names if name.lower().endswith((".nii", ".nii.gz")) and not name.startswith("."))
