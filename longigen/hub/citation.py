"""Format the papers of ``registry.yaml`` entries as Markdown links and as BibTeX."""

import re
from collections.abc import Iterator, Sequence

ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})", re.IGNORECASE)
LINK = r"[arXiv \1](https://arxiv.org/abs/\1)"


def markdown_links(reference: str) -> str:
    """Return a reference in Markdown, with its arXiv numbers as links."""
    return ARXIV.sub(LINK, reference)


def bibtex(references: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a BibTeX entry for each arXiv number in the references.

    Authors and title are not separated, which would need guessing; the whole reference is the entry's ``note``. If
    several references have the same number, the longest is used.
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
