"""Animations: one trajectory visit by visit, in three planes, as a GIF or as an MP4 video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.generation.planes import SIDE, Window, column, grey, side_by_side
from longigen.generation.strip import cut_of
from longigen.generation.trajectory import Trajectory
from longigen.utils.files import atomic
from longigen.utils.optional import optional_import
from longigen.utils.time_units import time_text

Kind = Literal["gif", "mp4"]
"""The format of an animation, which is the end of its name."""
PER_SECOND, REPEATED = 5, 3
"""The frame rate of a video, and how often it has each frame: some players leave out frames at lower rates."""
QUALITY = 8
"""Of a video, from 1 to 10: a constant rate factor of 10, at which no loss is seen."""


def require_video() -> None:
    """Check that an MP4 video can be written.

    Raises:
        LongigenError: if imageio-ffmpeg is not installed, or it finds no ffmpeg.
    """
    try:
        _ffmpeg().get_ffmpeg_exe()
    except RuntimeError as error:
        raise LongigenError(
            "An MP4 video needs ffmpeg, which imageio-ffmpeg has not found; install ffmpeg, or leave --video out."
        ) from error


def _ffmpeg() -> Any:
    """Return the package that brings ffmpeg."""
    return optional_import("imageio_ffmpeg", "An MP4 video", extra="video")


def write_animation(trajectory: Trajectory, path: Path, kind: Kind, *, side: int = SIDE) -> None:
    """Write the visits of a trajectory in order of time: given ones, generated ones, and true ones beside.

    Each is shown for .6 s. A GIF starts again at its end. A video is H.264, which browsers and slides play.

    Args:
        trajectory: the visits of a subject.
        path: the file.
        kind: its format.
        side: the longest side of a plane, in pixels.

    Raises:
        LongigenError: if it cannot be written.
    """
    frames = _frames(trajectory, side)
    with atomic(path) as part:
        if kind == "gif":
            shown = 1000 * REPEATED // PER_SECOND
            frames[0].save(
                part, format="GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, disposal=1
            )
        else:
            _write_video(frames, part)


def _write_video(frames: Sequence[Image.Image], path: Path) -> None:
    writer = _ffmpeg().write_frames(
        path, frames[0].size, fps=PER_SECOND, quality=QUALITY, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for frame in frames:
            for _ in range(REPEATED):
                writer.send(frame.tobytes())
    except OSError as error:  # whose text is ffmpeg's whole command
        raise OSError("ffmpeg has stopped") from error
    writer.close()
    if not path.stat().st_size:
        raise OSError("ffmpeg wrote nothing")


def _frames(trajectory: Trajectory, side: int) -> list[Image.Image]:
    """Return a picture for each time, all of one size, which is even, as videos need it."""
    window = Window.of(trajectory.volumes)
    cut = cut_of(trajectory.visits[-1], window)
    generated = {visit.time: visit for visit in trajectory.visits}
    given, beside = dict(trajectory.given), any(visit.true is not None for visit in trajectory.visits)
    frames = []

    def drawn(volume: Volume | None) -> Image.Image:
        data = np.full(trajectory.visits[0].generated.data.shape, window.low) if volume is None else volume.data
        return column(grey(data, window), cut, trajectory.affine, side=side)

    for time in sorted({*given, *generated}):
        visit = generated.get(time)
        left = given[time] if visit is None else visit.generated
        kind = "given" if visit is None else "generated"
        pictures, titles = [drawn(left)], [f"{kind} {time_text(time)}"]
        if beside:
            true = given[time] if visit is None else visit.true
            pictures.append(drawn(true))
            titles.append("no true visit" if true is None else f"true {time_text(time)}")
        frames.append(side_by_side(pictures, titles))
    width, height = (max(sizes) for sizes in zip(*(frame.size for frame in frames), strict=True))
    padded = [Image.new("RGB", (width + width % 2, height + height % 2)) for _ in frames]
    for canvas, frame in zip(padded, frames, strict=True):
        canvas.paste(frame, ((width - frame.width) // 2, 0))
    return padded
