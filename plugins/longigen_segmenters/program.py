"""A segmenter that is a program on this machine, such as SynthSeg or TotalSegmentator."""

import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nibabel

from longigen import LongigenError, Segmenter, Volume, read_volume

IMAGE, LABELS = "{image}", "{labels}"
LAST_WORDS = 300
"""Characters of what the program said that a message shows."""


class CommandSegmenter(Segmenter):
    """Runs a command on each image, which writes the label map.

    The command has ``{image}`` in the place of the image's path and ``{labels}`` in that of the label map's, as in
    ``mri_synthseg --i {image} --o {labels}``. Both are NIfTI files in a temporary folder. The command is split into
    words as a shell does, and run without a shell. What its labels mean is not known here: they are those of the data
    set, unless the user names them.

    Args:
        command: the command.

    Raises:
        LongigenError: if the command lacks ``{image}`` or ``{labels}``.
    """

    def __init__(self, *, command: str) -> None:
        super().__init__()
        self.command = command
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise LongigenError(f"The command '{command}' cannot be split into words ({error}); correct it.") from None
        missing = [place for place in (IMAGE, LABELS) if not any(place in word for word in words)]
        if missing:
            raise LongigenError(
                f"The command '{command}' lacks {' and '.join(missing)}; write it as PROGRAM --i {IMAGE} --o {LABELS}."
            )

    @property
    def regions(self) -> Mapping[int, str]:
        return {}

    @property
    def identity(self) -> str:
        return f"command {self.command}"

    def segment(self, image: Volume) -> Volume:
        with tempfile.TemporaryDirectory() as folder:
            files = {IMAGE: Path(folder) / "image.nii.gz", LABELS: Path(folder) / "labels.nii.gz"}
            nibabel.save(image.image, files[IMAGE])
            words = []
            for word in shlex.split(self.command):
                for place, path in files.items():
                    word = word.replace(place, str(path))
                words.append(word)
            self._run(words)
            if not files[LABELS].exists():
                raise LongigenError(f"The command '{self.command}' wrote no label map; it must write {LABELS}.")
            return read_volume(files[LABELS], "of the segmenter's")

    def _run(self, words: list[str]) -> None:
        try:
            subprocess.run(words, check=True, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise LongigenError(
                f"The command '{self.command}' cannot be started ({error.strerror}); check that {words[0]} is "
                "installed."
            ) from None
        except subprocess.CalledProcessError as error:
            said = " ".join((error.stderr or error.stdout or "nothing").split())[-LAST_WORDS:]
            raise LongigenError(
                f"The command '{self.command}' failed with status {error.returncode} and said: {said}"
            ) from None
