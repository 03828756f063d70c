"""Read sidecars: JSON files beside the images and tables of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longigen.data.issues import BadData, Finding
from longigen.data.pointers import require_fetched
from longigen.utils.files import MAX_TEXT_BYTES, parse_json, read_text, reason


def read_sidecar(path: Path, subject: str = "") -> Mapping[str, Any]:
    """Read a JSON object in UTF-8 of at most 16 MB; it is empty if the file does not exist.

    NaN and Infinity, which JSON does not have but many programs write, are read as such.

    Args:
        path: path of the file.
        subject: id of the subject, for messages.

    Raises:
        BadData: if the file was not fetched, cannot be read, is not a JSON object, or has two values of one key.
    """

    def bad(problem: str) -> BadData:
        return BadData(Finding("bad-json", str(path), problem, "correct or remove it", subject))

    require_fetched(path, subject)
    try:
        content = parse_json(read_text(path, MAX_TEXT_BYTES).removeprefix("\ufeff"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise bad(f"cannot be read as JSON ({reason(error)})") from None
    if not isinstance(content, dict):
        raise bad("is not a JSON object")
    return content
