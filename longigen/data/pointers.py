"""Recognise files whose content was not downloaded: links and pointer files of git-annex (DataLad) and Git LFS."""

import os
from pathlib import Path

from longigen.data.issues import BadData, Finding

ANNEX_POINTER, ANNEX_LINK, LFS_POINTER = b"/annex/objects/", b".git/annex/objects/", b"version https://git-lfs"
"""How the content of a pointer file starts: of git-annex in an unlocked checkout, of a link of git-annex where the file
system has no links (there it starts with ``../`` or nothing), and of Git LFS."""

MAX_POINTER_BYTES = 4096
"""A larger file is no pointer."""


def require_fetched(path: Path, subject: str = "") -> None:
    """Check that the content of a file is there; a path at which there is nothing passes.

    Raises:
        BadData: if the file is a broken link, or a pointer file of git-annex or Git LFS.
    """

    def refuse(problem: str, advice: str) -> BadData:
        return BadData(Finding("missing-file", str(path), problem, advice, subject))

    fetch = f"fetch it with `datalad get {path}` or `git annex get {path}`"
    if os.path.islink(path) and not os.path.exists(path):
        raise refuse("is a link to a file that does not exist", f"{fetch}, or correct the link")
    start = _start(path)
    if start.startswith(ANNEX_POINTER) or start.removeprefix(b"./").replace(b"../", b"").startswith(ANNEX_LINK):
        raise refuse("is a pointer of git-annex, whose content was not fetched", fetch)
    if start.startswith(LFS_POINTER):
        raise refuse(
            "is a pointer of Git LFS, whose content was not fetched", f"fetch it with `git lfs pull -I {path}`"
        )


def _start(path: Path) -> bytes:
    """Return the first bytes of a file that is as small as a pointer, else nothing."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_POINTER_BYTES:
            return b""
        with path.open("rb") as file:
            return file.read(256)
    except OSError:  # whoever reads the file says why it cannot be read
        return b""
