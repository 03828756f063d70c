"""Masks of visits: those that come with the images, of SynthStrip or HD-BET, or the voxels other than 0."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from longigen.data.dataset import Subject, Visit
from longigen.data.grid import labels_on_grid_of
from longigen.data.volume import Volume, read_volume, write_volume
from longigen.errors import LongigenError
from longigen.models.bids_names import plain_stem, sidecar_of
from longigen.preparation.settings import MaskChoice, MaskMethod

PROGRAMS: dict[MaskMethod, tuple[str, str]] = {
    "synthstrip": ("mri_synthstrip", "https://surfer.nmr.mgh.harvard.edu/docs/synthstrip"),
    "hd-bet": ("hd-bet", "pip install hd-bet"),
}
"""The program of each method, and where it is from."""

BACKGROUND = 0.05
"""An image has a background of 0 if at least this share of its voxels is exactly 0."""

BESIDE = ("_brain_mask", "_bet_mask", "_mask")
"""Ends of the name of a mask beside an image whose name is not of BIDS."""


def choose_method(choice: MaskChoice, subjects: Sequence[Subject]) -> tuple[MaskMethod, str]:
    """Return where the masks of all subjects come from, and why, in a sentence.

    ``auto`` takes the first of these that there is: brain masks that come with the images of every visit; the voxels
    other than 0, if the sidecars say that the images are skull-stripped; SynthStrip; HD-BET; the voxels other than 0,
    if the first visit has a background of exactly 0.

    Args:
        choice: what the user chose.
        subjects: the subjects; the first visit that can be read is read if nothing else decides.

    Raises:
        LongigenError: if the choice is impossible: a visit has no mask, or a program is not installed.
    """
    visits = [(subject, visit) for subject in subjects for visit in subject.visits]
    if choice not in ("auto", "given"):
        if choice in PROGRAMS:
            _program(choice)
        return choice, "as asked for"
    without = [(subject, visit) for subject, visit in visits if given_mask(visit, subject.id) is None]
    if not without:
        return "given", "each visit has one"
    if choice == "given":
        subject, visit = without[0]
        raise LongigenError(
            f"{len(without)} of {len(visits)} visits have no brain mask, such as {visit.source} (subject "
            f"{subject.id}); put it beside the image or into derivatives/ as *_desc-brain_mask.nii.gz, "
            "or choose another --mask."
        )
    some = f"{len(visits) - len(without)} of {len(visits)} visits have a brain mask of their own, too few; "
    some = some if len(without) < len(visits) else ""
    if all(is_stripped(visit) for _, visit in visits):
        return "nonzero", f"{some}the sidecars say that the images are skull-stripped"
    for name, (program, _) in PROGRAMS.items():
        if shutil.which(program):
            return name, f"{some}{program} is installed"
    for subject, visit in visits:
        try:
            background = (visit.read(subject.id).data == 0).mean()
        except LongigenError:  # it is said when the subject's turn comes
            continue
        if background >= BACKGROUND:
            return "nonzero", f"{some}the background of {Path(visit.source).name} is exactly 0"
        break
    return "none", f"{some}there are no brain masks, no background of 0, and neither mri_synthstrip nor hd-bet"


def is_stripped(visit: Visit) -> bool:
    """Return whether the JSON sidecar of a visit's image says that it is skull-stripped."""
    return sidecar_of(visit.source).get("SkullStripped") is True


def mask_of(method: MaskMethod, visit: Visit, volume: Volume, subject: str) -> Volume | None:
    """Return the mask of a visit, 1 inside and 0 outside, on the grid of its volume; None without masks.

    Args:
        method: where it comes from.
        visit: the visit.
        volume: its volume, with the axes in RAS order.
        subject: id of the subject, for messages.

    Raises:
        LongigenError: if it cannot be read or made, or is empty.
    """
    if method == "none":
        return None
    if method == "nonzero":
        mask = _foreground(volume)
    elif method == "given":
        path = given_mask(visit, subject)
        if path is None:
            raise LongigenError(
                f"{visit.source} (subject {subject}) has no brain mask, and those of the others came with their "
                "images; put it beside the image as *_desc-brain_mask.nii.gz."
            )
        mask = read_volume(path, subject)
    else:
        mask = _segmented(method, volume, subject)
    if not (mask.data > 0).any():
        raise LongigenError(f"The mask of {visit.source} (subject {subject}) is empty; choose another --mask.")
    return labels_on_grid_of(Volume((mask.data > 0).astype(np.float32), mask.affine), volume)


def given_mask(visit: Visit, subject: str) -> Path | None:
    """Return the file of the brain mask that comes with a visit's image, or None.

    In BIDS it has the entities of the image but for ``desc``, ``desc-brain`` and the suffix ``mask``, and is beside the
    image or in ``derivatives/*``. Else it is beside the image, with one of `BESIDE` at the end of its name.

    Raises:
        LongigenError: if there are several.
    """
    image = Path(visit.source)
    stem = plain_stem(image.name)
    if not image.is_file() or stem is None:
        return None
    if not stem.startswith("sub-"):
        found = [path for end in BESIDE if (path := image.with_name(f"{stem}{end}.nii.gz")).is_file()]
        return found[0] if found else None
    parts = [part for part in stem.split("_")[:-1] if not part.startswith("desc-")]
    name = "_".join([*parts, "desc-brain", "mask.nii.gz"])
    root = next((folder.parent for folder in image.parents if folder.name.startswith("sub-")), image.parent)
    inside = image.parent.relative_to(root)
    places = [image.parent, *(pipeline / inside for pipeline in sorted(root.glob("derivatives/*")))]
    found = [path for place in places if (path := place / name).is_file()]
    if len(found) > 1:
        raise LongigenError(
            f"{image} (subject {subject}) has several brain masks, {found[0]} and {found[1]}; keep one of them."
        )
    return found[0] if found else None


def _foreground(volume: Volume) -> Volume:
    """Return the largest connected part of the voxels other than 0, with its holes filled."""
    from scipy.ndimage import binary_fill_holes, label

    labelled: Any = label(volume.data != 0)
    parts, number = labelled
    if number == 0:
        return Volume(np.zeros_like(volume.data), volume.affine)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return Volume(np.asarray(binary_fill_holes(parts == sizes.argmax()), dtype=np.float32), volume.affine)


def _program(method: MaskMethod) -> str:
    """Return the path of a method's program.

    Raises:
        LongigenError: if it is not installed.
    """
    name, source = PROGRAMS[method]
    path = shutil.which(name)
    if path is None:
        raise LongigenError(f"--mask {method} needs the program {name}, which is not found; install it ({source}).")
    return path


def _segmented(method: MaskMethod, volume: Volume, subject: str) -> Volume:
    """Return the brain mask that a program makes of a volume.

    Raises:
        LongigenError: if the program fails, with the last line that it prints.
    """
    program = _program(method)
    with TemporaryDirectory() as folder:
        image, mask = Path(folder, "image.nii.gz"), Path(folder, "mask.nii.gz")
        write_volume(volume, image, "input of brain extraction")
        words = [program, "-i", str(image), "-m", str(mask)]
        if method == "hd-bet":  # it names the mask after its output, and asks for a GPU unless told otherwise
            from torch import cuda

            device = "cuda" if cuda.is_available() else "cpu"
            output, mask = Path(folder, "out.nii.gz"), Path(folder, "out_bet.nii.gz")
            words = [program, "-i", str(image), "-o", str(output), "-device", device, "--save_bet_mask"]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not mask.is_file():
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise LongigenError(
                f"{Path(program).name} made no mask of a visit of {subject} (exit status {done.returncode}: "
                f"{lines[-1].strip()[:200]}); run it by hand on the image, or choose another --mask."
            )
        return read_volume(mask, subject)
