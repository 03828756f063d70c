"""Strips: the given visits of a trajectory, a generated one, the true one and their differences, in three planes.

A contact sheet has one strip for each of several subjects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from longigen.generation.planes import (
    SIDE,
    Cut,
    Window,
    column,
    difference_colours,
    grey,
    side_by_side,
    spread_colours,
    stacked,
)
from longigen.generation.trajectory import FOREGROUND, GeneratedVisit, Trajectory
from longigen.utils.files import atomic
from longigen.utils.time_units import time_text

MOST_GIVEN, MOST_GENERATED, MOST_STRIPS = 2, 3, 8
"""The largest numbers of given and generated visits in a strip (the last ones), and of strips in a contact sheet."""
LEAST_LIMIT = 0.02
"""The end of the colour scale of differences is at least this part of the range from black to white."""


@dataclass(frozen=True)
class Panel:
    """One column of a strip: three planes of one volume, with a title."""

    title: str
    picture: Image.Image


@dataclass(frozen=True)
class Strip:
    """The panels of one trajectory.

    Attributes:
        subject: id of the subject, and its channel if there are several.
        panels: from left to right.
        window: intensities that are drawn black and white, in all panels but those of differences.
        limit: end of the colour scale of the differences, blue (-limit) to red (limit), and of standard deviations.
    """

    subject: str
    panels: Sequence[Panel]
    window: Window
    limit: float

    @property
    def scales(self) -> str:
        """The scales in words."""
        return (
            f"grey from {self.window.low:.4g} to {self.window.high:.4g}, differences from blue (-{self.limit:.3g}) to "
            f"red ({self.limit:.3g})"
        )

    @classmethod
    def of(cls, trajectory: Trajectory, *, side: int = SIDE) -> "Strip":
        """Draw the last given visits, the last generated ones, and of the very last one the true visit and differences.

        The planes cut where the last visit changes most: the true change if it is known, else the generated one.

        Args:
            trajectory: the visits of a subject.
            side: the longest side of a plane, in pixels.
        """
        last, window = trajectory.visits[-1], Window.of(trajectory.volumes)
        cut = cut_of(last, window)
        limit = difference_limit(last.shown_change, cut, window)
        affine, panels = trajectory.affine, []

        def add(title: str, colours: np.ndarray) -> None:
            panels.append(Panel(title, column(colours, cut, affine, side=side)))

        for time, volume in [pair for pair in trajectory.given if pair[0] < last.time][-MOST_GIVEN:]:
            add(f"given {time_text(time)}", grey(volume.data, window))
        for visit in trajectory.visits[-MOST_GENERATED:]:
            add(f"generated {time_text(visit.time)}", grey(visit.generated.data, window))
        if last.true is not None:
            add(f"true {time_text(last.time)}", grey(last.true.data, window))
        if last.true_change is not None:
            add("true - given", difference_colours(last.true_change, limit))
        elif last.change is not None:
            add("generated - given", difference_colours(last.change, limit))
        if last.error is not None:
            add("true - generated", difference_colours(last.error, limit))
        if last.std is not None and last.std.data.any():
            add(f"std, 0 to {limit:.3g}", spread_colours(last.std.data, limit))
        return cls(trajectory.name, panels, window, limit)

    @property
    def picture(self) -> Image.Image:
        """The panels beside each other, with their titles."""
        return side_by_side([panel.picture for panel in self.panels], [panel.title for panel in self.panels])


def cut_of(visit: GeneratedVisit, window: Window) -> Cut:
    """Return the planes where a visit changes most; where its foreground is largest if no other visit is known."""
    change = visit.shown_change
    return Cut.through(window.scaled(visit.generated.data) > FOREGROUND if change is None else np.abs(change))


def difference_limit(change: np.ndarray | None, cut: Cut, window: Window) -> float:
    """Return the end of the colour scale of differences: the 99.5th percentile of a change in the axial plane."""
    least = LEAST_LIMIT * (window.high - window.low)
    return least if change is None else max(least, float(np.percentile(np.abs(cut.plane(change, "axial")), 99.5)))


def write_contact_sheet(strips: Sequence[Strip], path: Path) -> None:
    """Write the strips of several subjects as one PNG, one below the other.

    Raises:
        LongigenError: if it cannot be written.
    """
    rows = [side_by_side([strip.picture], [f"{strip.subject}: {strip.scales}"]) for strip in strips]
    with atomic(path) as part:
        stacked(rows, gap=10).save(part, format="PNG")
