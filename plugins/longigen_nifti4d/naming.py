"""Find the files of a pattern, and derive subject ids from their names."""

import re
from itertools import groupby
from pathlib import Path

from longigen import LongigenError

EXTENSIONS = (".nii.gz", ".nii")

_TOKENS = re.compile(r"\*\*/|\*|\?|\[!?[^!\]][^\]]*\]|.", re.DOTALL)
_WILDCARDS = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
_EXTENSION = re.compile(r"\.nii(\.gz|\.\*|\*)?$", re.IGNORECASE)


def is_nifti(path: Path) -> bool:
    """Return whether a file is NIfTI by its name; hidden files, such as ``._x.nii`` of macOS, are not images."""
    return path.name.lower().endswith(EXTENSIONS) and not path.name.startswith(".")


def find(folder: Path, pattern: str) -> list[Path]:
    """Return the NIfTI files in `folder` that match a pattern of `Path.glob`, sorted; extensions may be in capitals.

    Raises:
        LongigenError: if no file matches, or the pattern is invalid.
    """
    try:
        any_case = _EXTENSION.sub(lambda found: re.sub("[a-zA-Z]", _either_case, found[0]), pattern)
        paths = sorted(path for path in folder.glob(any_case) if is_nifti(path) and not path.is_dir())
    except (ValueError, NotImplementedError) as error:
        raise LongigenError(
            f"nifti4d: pattern '{pattern}' cannot be used ({error}); write one relative to the folder, such as "
            "'*.nii.gz' or '**/*_bold.nii.gz'."
        ) from None
    if not paths:
        raise LongigenError(
            f"{folder} has no NIfTI file that matches the pattern '{pattern}'; give another folder, or another pattern "
            "with --set pattern=."
        )
    return paths


def subject_id(path: Path, folder: Path, pattern: str) -> str:
    """Return the part of a file's path that matches the wildcards of `pattern`, else the path without its extension.

    The matches of several wildcards, and folders, are joined by ``_``, equal texts once: ``patient*/patient*_4d.nii``
    gives ``001``, and ``**/*_4d.nii`` gives ``patient001``.
    """
    name = path.relative_to(folder).as_posix()
    stem = stem_of(name)
    match = _expression(_EXTENSION.sub("", pattern)).fullmatch(stem)
    texts = "/".join(match.groups()).split("/") if match else []
    joined = "_".join(dict.fromkeys(text for text in texts if text))
    return _file_name(joined if joined not in ("", ".", "..") else stem)


def stem_of(name: str) -> str:
    """Return the name of a NIfTI file without its extension."""
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)


def _either_case(letter: re.Match[str]) -> str:
    return f"[{letter[0].lower()}{letter[0].upper()}]"


def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern of `Path.glob` as a regular expression, with one group for neighbouring wildcards."""
    parts = []
    for wild, tokens in groupby(_TOKENS.findall(pattern), key=lambda token: token in _WILDCARDS or len(token) > 1):
        if wild:
            parts.append(f"({''.join(_WILDCARDS.get(token) or _character_set(token) for token in tokens)})")
        else:
            parts.append(re.escape("".join(tokens)))
    return re.compile("".join(parts))


def _character_set(token: str) -> str:
    """Return ``[abc]`` or ``[!abc]`` as a regular expression."""
    inside = token[1:-1].replace("\\", r"\\").replace("[", r"\[")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _file_name(name: str) -> str:
    """Replace characters that a file name cannot have by ``_``."""
    return "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in name)
