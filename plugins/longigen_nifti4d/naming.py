"""Which files a pattern finds, and what their subjects are called."""

import re
from itertools import groupby
from pathlib import Path

from longigen import LongigenError

EXTENSIONS = (".nii.gz", ".nii")

_TOKENS = re.compile(r"\*\*/|\*|\?|\[!?[^!\]][^\]]*\]|.", re.DOTALL)
_WILDCARDS = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
_EXTENSION = re.compile(r"\.nii(\.gz|\.\*|\*)?$")


def is_nifti(path: Path) -> bool:
    """Say whether a file is NIfTI by its name; the hidden ones, such as ``._x.nii`` of macOS, are no images."""
    return path.name.endswith(EXTENSIONS) and not path.name.startswith(".")


def find(folder: Path, pattern: str) -> list[Path]:
    """Return the NIfTI files in `folder` that a pattern of `Path.glob` finds, sorted.

    Raises:
        LongigenError: if it finds none, or is no pattern.
    """
    try:
        found = sorted(path for path in folder.glob(pattern) if is_nifti(path) and path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise LongigenError(
            f"nifti4d: pattern '{pattern}' cannot be used ({error}); write one relative to the folder, such as "
            "'*.nii.gz' or '**/*_bold.nii.gz'."
        ) from None
    if not found:
        raise LongigenError(
            f"{folder} has no NIfTI file that the pattern '{pattern}' finds; give another folder, or another pattern "
            "with --set pattern=."
        )
    return found


def subject_id(path: Path, folder: Path, pattern: str) -> str:
    """Return what the wildcards of `pattern` stand for in a file's path, else the path without its extension.

    Folders, and what stands for several wildcards, are joined by ``_``, each text once: ``patient*/patient*_4d.nii``
    finds ``001``, and ``**/*_4d.nii`` finds ``patient001``.
    """
    name = path.relative_to(folder).as_posix()
    stem = name.removesuffix(next(extension for extension in EXTENSIONS if name.endswith(extension)))
    match = _expression(_EXTENSION.sub("", pattern)).fullmatch(stem)
    texts = "/".join(match.groups()).split("/") if match else []
    joined = "_".join(dict.fromkeys(text for text in texts if text))
    return _for_a_file(joined if joined not in ("", ".", "..") else stem)


def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern of `Path.glob` as a regular expression, neighbouring wildcards being one group."""
    parts = []
    for wild, tokens in groupby(_TOKENS.findall(pattern), key=lambda token: token in _WILDCARDS or len(token) > 1):
        if wild:
            parts.append(f"({''.join(_WILDCARDS.get(token) or _letters(token) for token in tokens)})")
        else:
            parts.append(re.escape("".join(tokens)))
    return re.compile("".join(parts))


def _letters(token: str) -> str:
    """Return ``[abc]`` or ``[!abc]`` as a regular expression."""
    inside = token[1:-1].replace("\\", r"\\").replace("[", r"\[")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _for_a_file(name: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in name)
