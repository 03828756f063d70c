"""Figures of visits: what makes them quick changes no pixel."""

import io
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from longigen.models.figures import set_title


def picture(title: Callable[[object, str], object]) -> bytes:
    """Return a PNG of two images with titles, laid out as those of visits are."""
    figure = Figure(figsize=(3, 2), layout="constrained")
    figure.suptitle("subjects", fontsize=9)
    for axis, text in zip(figure.subplots(1, 2), ("given t=1", "true t=2"), strict=True):
        axis.set_axis_off()
        axis.imshow(np.eye(5), cmap="gray")
        title(axis, text)
    written = io.BytesIO()
    figure.savefig(written, dpi=50)
    return written.getvalue()


def test_a_title_is_where_matplotlib_puts_it() -> None:
    usual = picture(lambda axis, text: axis.set_title(text, fontsize=7))  # type: ignore[attr-defined]
    assert picture(set_title) == usual
    assert picture(lambda axis, text: None) != usual
