"""Animations: a video shows the frames of the GIF, as long; where there is no ffmpeg, a sentence says so."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from helpers.files import ball
from helpers.models import FIXTURE
from longigen import LongigenError, generate
from longigen.data.volume import Volume
from longigen.generation.animation import write_animation
from longigen.generation.trajectory import GeneratedVisit, Trajectory


def trajectory() -> Trajectory:
    """Return two given and two generated visits of a ball that grows, with one true visit."""
    volumes = [Volume(ball((23, 20, 17), 0.3 + 0.1 * number), np.diag([2.0, 2, 2, 1])) for number in range(5)]
    visits = [GeneratedVisit(2, volumes[2]), GeneratedVisit(3, volumes[3], volumes[4], (1, volumes[1]))]
    return Trajectory("one", "full", "years", [(0, volumes[0]), (1, volumes[1])], visits)


def test_a_video_shows_the_frames_of_the_gif_as_long(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install 'longigen[video]'")
    shown = trajectory()
    for kind in ("gif", "mp4"):
        write_animation(shown, tmp_path / f"visits.{kind}", kind)
    with Image.open(tmp_path / "visits.gif") as gif:
        pictures = [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(gif)]
        milliseconds = gif.info["duration"]
    assert len(pictures) == 4
    reader = ffmpeg.read_frames(tmp_path / "visits.mp4")
    about = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(*about["size"][::-1], 3).astype(float) for frame in reader]
    assert about["size"] == pictures[0].shape[1::-1]
    assert about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")  # others do not play in browsers
    assert 1000 * len(frames) / about["fps"] == len(pictures) * milliseconds
    repeated = len(frames) // len(pictures)
    for number, frame in enumerate(frames):
        differences = [float(np.abs(frame - picture).mean()) for picture in pictures]
        assert int(np.argmin(differences)) == number // repeated
        assert min(differences) < 3


def test_without_ffmpeg_nothing_is_generated(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        LongigenError, match=r"^An MP4 video needs imageio_ffmpeg; install it with pip install 'longigen\[video\]'\.$"
    ):
        generate(FIXTURE, tmp_path / "made", data=manifest, setting="single", video=True, progress=False)
    assert not (tmp_path / "made").exists() or list((tmp_path / "made").iterdir()) == []
