"""The label maps of a BIDS data set: ``*_dseg.nii.gz``, and ``*_mask.nii.gz`` with a ``label-``, by their entities."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from longigen import BadData, Finding, Volume, did_you_mean, read_volume
from longigen_bids.layout import Image, Listing, distinguishing_entities, list_outside, stem_of
from longigen_bids.tables import read_table

SEGMENTATION, MASK = "dseg", "mask"
NO_REGIONS = ("brain", "foreground")
"""Labels of ``desc-`` of a subject's masks, outside of its sessions, that show where all of its images are."""
OF_LABELS = ("desc", "seg", "label", "atlas", "res", "den")
"""Entities that tell what a file shows or how finely, and not of which image it is."""
SAME_SPACE = ("", "orig")
"""Labels of ``space-`` for the image's own space; the image's suffix is another one, as in ``space-T1w``."""

Sessions = Mapping[str, Mapping[str, Sequence[Image]]]
"""The images by subject and session."""


class LabelMaps:
    """The label maps that belong to the images of a data set, and the regions that they show.

    A file belongs to the image of its session with the same entities, but for those in `OF_LABELS`; ``run-1`` is
    ``run-01``. Its space must be the image's. An image has one ``dseg``, or else masks, one for each ``label-``.

    The names of a ``dseg``'s labels are the given ones, or those of the nearest ``*_dseg.tsv`` (columns ``index`` and
    ``name``), beside it or in a folder above it, whose entities it has. A mask's region is its ``label-``.

    Args:
        listings: the files of each folder with ``sub-*`` to look in.
        datatype: the folder in a session that contains the label maps.
        images: the images that are read.
        chosen: entities that a label map must have, as ``ENTITY-LABEL``, or its suffix; several labels of one entity
            are alternatives.
        regions: the region of each label of a ``dseg``, as the user named them; empty for those of the tables.
    """

    def __init__(
        self,
        listings: Mapping[Path, Listing],
        datatype: str,
        images: Sessions,
        chosen: Sequence[str] = (),
        regions: Mapping[int, str] | None = None,
    ) -> None:
        self.cautions: list[str] = []
        self.regions: Mapping[int, str] = {}
        self._files: Mapping[Path, tuple[Image, ...]] = {}
        self._numbers: Mapping[str, int] = {}
        root_of = {image.path: root for root, listing in listings.items() for image in listing.images}
        scans = {image.path for sessions in images.values() for each in sessions.values() for image in each}
        listed = [image for listing in listings.values() for image in listing.images if image.path not in scans]
        listed += [image for root in listings for image in list_outside(root, datatype)]
        maps = [each for each in listed if each.suffix == SEGMENTATION or (each.suffix == MASK and _label(each))]
        kept = [each for each in maps if _is_chosen(each, chosen)]
        if not kept and (chosen or regions):
            self._say_none(maps, chosen, listings)
        if not kept:
            return
        suffix = SEGMENTATION if any(each.suffix == SEGMENTATION for each in kept) else MASK
        unnamed = [
            each
            for each in listed
            if each.suffix == MASK
            and not _label(each)
            and (each.session or each.entities.get("desc") not in NO_REGIONS)
        ]
        self._say_left_out(unnamed, "a mask is one only if its name has a label-")
        others = [each for each in kept if each.suffix != suffix]
        self._say_left_out(others, f"there are {SEGMENTATION} files too; --set labels={MASK} chooses masks")
        self._files = self._by_image(images, [each for each in kept if each.suffix == suffix])
        used = [each for files in self._files.values() for each in files]
        if suffix == SEGMENTATION:
            self.regions = regions or self._names(used, root_of)
            return
        self.regions = dict(enumerate(sorted({_label(each) for each in used}), start=1))
        self._numbers = {name: number for number, name in self.regions.items()}
        if regions:
            self.cautions.append(
                "regions= is not used, since masks are the label maps, and their label- names a region."
            )

    def reader(self, image: Image, subject: str) -> Callable[[], Volume] | None:
        """Return what reads the label map of an image; None if it has none. It can be pickled."""
        files = self._files.get(image.path, ()) if self.regions else ()
        if not files:
            return None
        if files[0].suffix == SEGMENTATION:
            return partial(read_volume, files[0].path, subject)
        return partial(_read_masks, tuple((self._numbers[_label(file)], file.path) for file in files), subject)

    def _by_image(self, images: Sessions, maps: Sequence[Image]) -> dict[Path, tuple[Image, ...]]:
        """Return the label maps of each image by its path, and say which belong to none and which are ambiguous."""
        by_session: dict[tuple[str, str], list[Image]] = {}
        for each in maps:
            by_session.setdefault((each.subject, each.session), []).append(each)
        files: dict[Path, tuple[Image, ...]] = {}
        fitting: set[Path] = set()
        ambiguous: list[list[Image]] = []
        for subject, sessions in images.items():
            for session, of_session in sessions.items():
                for image in of_session:
                    own = [each for each in by_session.get((subject, session), ()) if _belongs(each, image)]
                    fitting.update(each.path for each in own)
                    labels = [_label(each) if each.suffix == MASK else "" for each in own]
                    if len(set(labels)) < len(labels):
                        ambiguous.append([each for each in own if labels.count(labels[own.index(each)]) > 1])
                    elif own:
                        files[image.path] = tuple(own)
        strangers = [each for each in maps if each.path not in fitting]
        self._say_left_out(strangers, "no image that is read has its session, entities and space")
        if ambiguous:
            first, others = ambiguous[0], len(ambiguous) - 1
            names = " and ".join(str(each.path) for each in first[:2])
            choices = distinguishing_entities(first)
            advice = f"choose with --set labels={' or '.join(choices)}" if choices else "choose with labels_from="
            self.cautions.append(
                f"An image has several label maps of one kind, {names}"
                f"{f' (and {others} more images)' if others else ''}, and none of them is used; {advice}."
            )
        return files

    def _names(self, maps: Sequence[Image], root_of: Mapping[Path, Path]) -> Mapping[int, str]:
        """Return the regions of the label maps by their tables; none, which is said, if they are not known."""
        names: dict[int, tuple[str, Path]] = {}
        tables = cache(_tables)
        found = (_table_of(each, root_of[each.path], tables) for each in maps)
        for table in dict.fromkeys(table for table in found if table is not None):
            try:
                read = read_table(table, "index")
            except BadData as error:
                self.cautions.append(f"{str(error).rstrip('.')}; the label maps are not used.")
                return {}
            if read.repeated:
                number = min(read.repeated)
                self.cautions.append(f"{table} has several rows of index {number}; the label maps are not used.")
                return {}
            for index, row in read.rows.items():
                name = row.get("name", "")
                if not name or not index.isdecimal() or not int(index):
                    continue
                first, where = names.setdefault(int(index), (name, table))
                if first != name:
                    self.cautions.append(
                        f"The label maps are not used, since their label {index} is '{first}' in {where} and '{name}' "
                        f"in {table}; name the regions with --set 'regions={first}={index}'."
                    )
                    return {}
        if maps and not names:
            self.cautions.append(
                f"The label maps, such as {maps[0].path}, are not used, since it is not known which regions they show "
                f"(there is no {SEGMENTATION}.tsv with the columns index and name); name them with --set "
                "'regions=ventricles=4+43'."
            )
        return {label: name for label, (name, _) in sorted(names.items())}

    def _say_left_out(self, files: Sequence[Image], reason: str) -> None:
        if files:
            number = len(files) - 1
            which = f" and {number} other{'s' * (number > 1)} are" if number else " is"
            self.cautions.append(f"{files[0].path}{which} not read as a label map, since {reason}.")

    def _say_none(self, maps: Sequence[Image], chosen: Sequence[str], roots: Iterable[Path]) -> None:
        if maps:
            known = sorted({item for each in maps for item in (each.suffix, *map("-".join, each.entities.items()))})
            guess = next((text for item in chosen if (text := did_you_mean(item, known))), "")
            self.cautions.append(f"No label map has {', '.join(chosen)}.{guess} Their names have: {', '.join(known)}.")
        else:
            where = " and ".join(map(str, roots))
            what = f"*_{SEGMENTATION}.nii.gz, or *_{MASK}.nii.gz with a label-"
            self.cautions.append(f"There is no label map ({what}) in {where}.")


def _label(image: Image) -> str:
    """Return the region that a mask shows; empty if its name does not say."""
    return image.entities.get("label", "")


def _is_chosen(image: Image, chosen: Sequence[str]) -> bool:
    """Return whether a name has one of the chosen labels of each entity, and one of the chosen suffixes."""
    fits: dict[str, bool] = {}
    for item in chosen:
        entity, dash, label = item.partition("-")
        key = entity if dash else "suffix"
        fits[key] = fits.get(key, False) or (image.has(entity, label) if dash else image.suffix == item)
    return all(fits.values())


def _belongs(labels: Image, image: Image) -> bool:
    """Return whether a label map has the space and the entities of an image."""
    here, there = (
        "" if space in (*SAME_SPACE, image.suffix) else space
        for space in (labels.entities.get("space", ""), image.entities.get("space", ""))
    )
    names = {*labels.entities, *image.entities} - {*OF_LABELS, "space"}
    alike = all(labels.has(name, image.entities.get(name, "")) for name in names)
    return alike and here == there and not labels.misnamed


def _table_of(labels: Image, root: Path, tables: Callable[[Path], Sequence[tuple[Sequence[str], Path]]]) -> Path | None:
    """Return the nearest table of a ``dseg``'s labels, with the most of its entities; None if there is none."""
    own = {*stem_of(labels.path).split("_")}
    for folder in labels.path.parents:
        fitting = [(len(parts), path) for parts, path in tables(folder) if {*parts} <= own]
        if fitting:
            return max(fitting)[1]
        if folder == root:
            break
    return None


def _tables(folder: Path) -> Sequence[tuple[Sequence[str], Path]]:
    """Return the tables of labels in a folder, each with the parts of its name."""
    return [(path.stem.split("_"), path) for path in sorted(folder.glob(f"*{SEGMENTATION}.tsv"))]


def _read_masks(masks: Sequence[tuple[int, Path]], subject: str) -> Volume:
    """Return the label map of masks, each with the number of its region.

    Raises:
        BadData: if a file cannot be read or is no mask, their grids differ, or they overlap.
    """

    def bad(path: Path, problem: str, advice: str) -> BadData:
        return BadData(Finding("bad-mask", str(path), problem, advice, subject))

    result: Volume | None = None
    for number, path in masks:
        mask = read_volume(path, subject)
        if not np.isin(mask.data, (0, 1)).all():
            raise bad(path, "has other values than 0 and 1, so it is no mask", "correct it")
        if result is None:
            result = Volume(np.zeros(mask.data.shape, dtype=np.float32), mask.affine)
        if mask.data.shape != result.data.shape or not np.allclose(mask.affine, result.affine, atol=1e-4):
            raise bad(path, f"has another grid than {masks[0][1].name}", "resample the masks to one grid")
        inside = mask.data > 0
        if result.data[inside].any():
            problem = "overlaps with another mask of the image, and a voxel can be of one region only"
            raise bad(path, problem, "choose some masks with --set labels=label-NAME")
        result.data[inside] = number
    assert result is not None, "there is at least one mask"
    return result
