"""References as links and as BibTeX."""

from longigen.hub.citation import bibtex, markdown_links


def test_links_and_bibtex_of_references() -> None:
    papers = [
        "Doe & Roe, On Brains, IPMI 2023, arXiv 2212.08228, Section 3; Roe, arXiv:1234.56789",
        "Poe, arXiv 2212.08228",
    ]
    assert markdown_links(papers[1]) == "Poe, [arXiv 2212.08228](https://arxiv.org/abs/2212.08228)"
    lines = list(bibtex(papers))
    assert lines[:3] == [
        "@misc{arXiv:2212.08228,",
        r"  note = {Doe \& Roe, On Brains, IPMI 2023},",
        "  eprint = {2212.08228},",
    ]
    assert "  note = {Roe}," in lines
    assert list(bibtex(["Wang et al., IEEE TIP 2004"])) == []
