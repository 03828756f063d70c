"""Citations: references as a ``registry.yaml`` gives them, for pages and for BibTeX."""

import re
from collections.abc import Iterator, Sequence

ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})", re.IGNORECASE)
LINK = r"[arXiv \1](https://arxiv.org/abs/\1)"


def linked(reference: str) -> str:
    """Return a reference in Markdown, its arXiv numbers as links."""
    return ARXIV.sub(LINK, reference)


def bibtex(references: Sequence[str]) -> Iterator[str]:
    """Give the lines of an entry for each arXiv number, with nothing in it but what the references say.

    Authors and title are not taken apart, which would be guessing: they are the entry's note. Of several references to
    one number the longest is taken.
    """
    notes: dict[str, str] = {}
    for reference in references:
        for part in reference.split(";"):
            for number in ARXIV.findall(part):
                note = ARXIV.split(part)[0].strip(" ,;").replace("&", "\\&")
                notes[number] = max(notes.get(number, ""), note, key=len)
    for number, note in notes.items():
        yield f"@misc{{arXiv:{number},"
        yield f"  note = {{{note}}},"
        yield f"  eprint = {{{number}}},"
        yield "  archivePrefix = {arXiv},"
        yield f"  url = {{https://arxiv.org/abs/{number}}}"
        yield "}"
