"""DICOM files to a folder tree of NIfTI, SUBJECT/TIME/SERIES.nii.gz, by dcm2niix."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from longigen.errors import LongigenError
from longigen.utils.files import atomic_folder, read_json, write_errors, write_json

PREAMBLE, MAGIC = 128, b"DICM"
"""The bytes before the mark of a DICOM file, and the mark."""

CONVERTED = "sourcedata"
"""The folder of converted scans in the prepared one; BIDS keeps what it does not describe under this name."""

SOURCE = "dicom.json"
"""A file in `CONVERTED` with the number of the DICOM files and their bytes, by which a change is known."""

ID = "id-"
"""Before the PatientID in the name of a subject's folder, since it may be empty."""


def is_dicom(path: Path) -> bool:
    """Return whether a file has the mark of a DICOM file."""
    try:
        with path.open("rb") as file:
            file.seek(PREAMBLE)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, in order, without hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def convert(raw: Path, out: Path) -> tuple[Path, list[str]]:
    """Convert the DICOM files below a folder by dcm2niix, unless that was done before.

    The subject is the PatientID, the visit the date and time of the study. Sidecars have no names and dates
    (``-ba y``).

    Args:
        raw: the folder.
        out: the prepared folder, which gets the converted scans in `CONVERTED`.

    Returns:
        The folder of converted scans, and what to tell the user.

    Raises:
        LongigenError: if dcm2niix is not installed or converts nothing, or the DICOM files were changed since.
    """
    folder, files = out / CONVERTED, [path for path in files_below(raw) if is_dicom(path)]
    source = {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    if (folder / SOURCE).is_file():
        known = read_json(folder / SOURCE)
        if known != source:
            raise LongigenError(
                f"{folder} was converted from {known['files']} DICOM files with {known['bytes']} bytes, and {raw} now "
                f"has {source['files']} with {source['bytes']}; prepare them in another folder."
            )
        return folder, [f"The DICOM files were converted before, into {folder}."]
    program = shutil.which("dcm2niix")
    if program is None:
        raise LongigenError(
            f"{raw} holds DICOM files, which dcm2niix converts, and it is not installed; install it with 'pip install "
            "dcm2niix', or from https://github.com/rordenlab/dcm2niix."
        )
    with atomic_folder(folder) as part:
        words = [program, "-z", "i", "-b", "y", "-ba", "y", "-i", "y", "-d", "9", "-f", f"{ID}%i/%t/%s_%d"]
        done = subprocess.run(
            [*words, "-o", str(part), str(raw)], capture_output=True, text=True, errors="replace", check=False
        )
        made = sorted(part.glob(f"{ID}*/*/*.nii.gz"))
        if not made:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no message"]
            raise LongigenError(
                f"dcm2niix converts none of the {len(files)} DICOM files of {raw} (exit status {done.returncode}: "
                f"{lines[-1].strip()[:200]}); look at them with another program."
            )
        if any(path.parents[1].name == ID for path in made):
            raise LongigenError(
                f"DICOM files of {raw} have no PatientID, so it is not known whose they are; convert each subject's "
                "with dcm2niix into SUBJECT/VISIT/, and give that folder."
            )
        with write_errors(part):
            for child in part.glob(f"{ID}*"):
                child.rename(child.with_name(child.name.removeprefix(ID)))
        write_json(source, part / SOURCE)
    notes = [f"dcm2niix converted {len(files)} DICOM files to {len(made)} images in {folder}."]
    if done.returncode:
        notes.append(f"dcm2niix ended with status {done.returncode}, so some of the DICOM files are not converted.")
    return folder, notes
