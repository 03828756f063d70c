"""The three planes of a volume as pictures: at the voxels' physical aspect, with orientation letters and scale bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from nibabel.affines import voxel_sizes
from PIL import Image, ImageDraw, ImageFont

from longigen.data.volume import Volume

PLANES = ("axial", "coronal", "sagittal")
"""The planes, in the order in which they are drawn, from top to bottom."""
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis of a volume in RAS order that a plane is perpendicular to."""
LETTERS = {"axial": "LRAP", "coronal": "LRSI", "sagittal": "PASI"}
"""What is at the left, the right, the top and the bottom of a plane: the subject's left is at the left."""
BARS = (1, 2, 5, 10, 20, 50, 100)
"""Lengths of a scale bar, in mm."""
LARGEST_BAR = 0.4
"""The largest part of a picture's width that a scale bar takes."""
SIDE = 150
"""The longest side of a plane's picture, in pixels, unless there are more voxels."""
TEXT, MARGIN = (255, 210, 90), 3
BELOW, ABOVE = np.array([0.25, 0.6, 1.0]), np.array([1.0, 0.35, 0.25])
"""The colours (red, green, blue) of the lowest and the highest difference."""


@dataclass(frozen=True)
class Window:
    """The intensities that are drawn black and white."""

    low: float
    high: float

    @classmethod
    def of(cls, volumes: Sequence[Volume]) -> "Window":
        """Return one window for several volumes: from their lowest value to their 99.8th percentile."""
        low = min(float(volume.data.min()) for volume in volumes)
        high = max(float(np.percentile(volume.data, 99.8)) for volume in volumes)
        return cls(low, high if high > low else low + 1.0)

    def scaled(self, data: np.ndarray) -> np.ndarray:
        """Return intensities as numbers from 0 (low) to 1 (high), clipped."""
        return np.clip((data - self.low) / (self.high - self.low), 0, 1)


@dataclass(frozen=True)
class Cut:
    """The place where three planes cut a volume with axes in RAS order: an index along each axis."""

    index: tuple[int, int, int]

    @classmethod
    def through(cls, weight: np.ndarray) -> "Cut":
        """Return the planes in which a weight (W, H, D) ≥ 0 is largest; those through the middle if it is 0."""
        if not weight.any():
            return cls((weight.shape[0] // 2, weight.shape[1] // 2, weight.shape[2] // 2))
        sums = (weight.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3))
        first, second, third = (int(np.argmax(of_axis)) for of_axis in sums)
        return cls((first, second, third))

    def plane(self, data: np.ndarray, name: str) -> np.ndarray:
        """Return one plane of a volume (W, H, D) as an image, upright: rows from top to bottom."""
        return np.rot90(np.take(data, self.index[AXES[name]], axis=AXES[name]))


def grey(data: np.ndarray, window: Window) -> np.ndarray:
    """Return the colours (…, 3), uint8, of intensities."""
    return np.repeat(np.rint(window.scaled(data) * 255).astype(np.uint8)[..., None], 3, axis=-1)


def difference_colours(data: np.ndarray, limit: float) -> np.ndarray:
    """Return the colours (…, 3), uint8, of differences, from blue (-limit) over black (0) to red (limit)."""
    part = np.clip(data / limit, -1, 1)[..., None]
    return np.rint(255 * np.where(part < 0, -part * BELOW, part * ABOVE)).astype(np.uint8)


def spread_colours(data: np.ndarray, limit: float) -> np.ndarray:
    """Return the colours (…, 3), uint8, of standard deviations, from black (0) to light yellow (limit)."""
    return _colours("magma")[np.rint(np.clip(data / limit, 0, 1) * 255).astype(np.uint8)]


@cache
def _colours(name: str) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps[name](np.arange(256), bytes=True)[:, :3]


def column(colours: np.ndarray, cut: Cut, affine: np.ndarray, *, side: int = SIDE) -> Image.Image:
    """Return the three planes of a volume as one picture, one below the other.

    Args:
        colours: colours (W, H, D, 3), uint8, of the voxels, axes in RAS order.
        cut: where the planes cut it.
        affine: affine (4, 4) of the volume; one millimetre is as long in all planes and directions.
        side: the longest side of a plane, in pixels.
    """
    steps = voxel_sizes(affine)
    size = np.array(colours.shape[:3]) * steps
    per_mm = side / float(size.max())
    pictures = []
    for name in PLANES:
        across, up = (axis for axis in range(3) if axis != AXES[name])
        shape = (max(1, round(size[across] * per_mm)), max(1, round(size[up] * per_mm)))
        picture = Image.fromarray(np.ascontiguousarray(cut.plane(colours, name))).resize(shape, _filter(shape, colours))
        _label(picture, name, per_mm)
        pictures.append(picture)
    return stacked(pictures)


def _filter(shape: tuple[int, int], colours: np.ndarray) -> Image.Resampling:
    smaller = max(shape) < max(colours.shape[:3])
    return Image.Resampling.BOX if smaller else Image.Resampling.NEAREST  # as a radiologist expects: voxels are seen


def _label(picture: Image.Image, plane: str, per_mm: float) -> None:
    """Draw the orientation letters and a scale bar into the picture of a plane."""
    draw, width, height = ImageDraw.Draw(picture), picture.width, picture.height
    left, right, top, bottom = LETTERS[plane]
    places = (
        (left, (MARGIN, height / 2), "lm"),
        (right, (width - MARGIN, height / 2), "rm"),
        (top, (width / 2, MARGIN), "mt"),
        (bottom, (width / 2, height - MARGIN), "mb"),
    )
    for letter, place, anchor in places:
        _text(draw, place, letter, anchor)
    length = max((bar for bar in BARS if bar * per_mm <= LARGEST_BAR * width), default=None)
    if length is not None:
        line = [(MARGIN, height - MARGIN - 1), (MARGIN + length * per_mm, height - MARGIN - 1)]
        draw.line(line, fill=(0, 0, 0), width=4)
        draw.line(line, fill=TEXT, width=2)
        _text(draw, (MARGIN, height - MARGIN - 4), f"{length} mm", "lb")


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str) -> None:
    draw.text(place, text, fill=TEXT, anchor=anchor, font=_font(), stroke_width=1, stroke_fill=(0, 0, 0))


@cache
def _font(size: int = 10) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def stacked(pictures: Sequence[Image.Image], gap: int = 2) -> Image.Image:
    """Return pictures one below the other, centred, on black."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    result = Image.new("RGB", (max(picture.width for picture in pictures), height))
    top = 0
    for picture in pictures:
        result.paste(picture, ((result.width - picture.width) // 2, top))
        top += picture.height + gap
    return result


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str], gap: int = 4) -> Image.Image:
    """Return pictures beside each other on black, each with its title above."""
    font, head = _font(11), 18
    widths = [
        max(picture.width, round(font.getlength(title)) + 2) for picture, title in zip(pictures, titles, strict=True)
    ]
    height = max(picture.height for picture in pictures) + head
    result = Image.new("RGB", (sum(widths) + gap * (len(pictures) - 1), height))
    draw, left = ImageDraw.Draw(result), 0
    for picture, title, width in zip(pictures, titles, widths, strict=True):
        result.paste(picture, (left + (width - picture.width) // 2, head))
        draw.text((left + width / 2, head / 2), title, fill=(255, 255, 255), anchor="mm", font=font)
        left += width + gap
    return result
