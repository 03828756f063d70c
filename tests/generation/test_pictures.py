"""Pictures of volumes: aspect, orientation and scales of the three planes, the contact sheet and the animation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.models import FIXTURE
from longigen import LongigenError, generate
from longigen.data.volume import Volume
from longigen.generation.planes import PLANES, Cut, Window, column, difference_colours, grey, stacked
from longigen.generation.strip import Strip
from longigen.generation.trajectory import find_trajectories

SPACING = (1.0, 2.0, 6.0)


def test_voxels_have_their_physical_size_and_the_subjects_left_is_at_the_left() -> None:
    data = np.zeros((40, 30, 10), np.float32)
    data[2, 27, 8] = 1.0  # left, anterior, superior
    cut, window = Cut((2, 27, 8)), Window(0, 1)
    picture = column(grey(data, window), cut, np.diag((*SPACING, 1.0)), side=120)
    heights = {"axial": 120, "coronal": 120, "sagittal": 120}  # 40 × 60 × 60 mm: axial 40 × 60, sagittal 60 × 60
    assert picture.size == (120, sum(heights.values()) + 2 * 2)
    assert stacked([Image.new("RGB", (3, 5))]).size == (3, 5)
    for name, (across, down) in {"axial": (2 / 40, 1 - 27 / 30), "sagittal": (27 / 30, 1 - 8 / 10)}.items():
        plane = cut.plane(data, name)
        row, place = np.unravel_index(int(np.argmax(plane)), plane.shape)
        assert abs(place / plane.shape[1] - across) < 0.05, name
        assert abs(row / plane.shape[0] - down) < 0.15, name
    assert set(PLANES) == set(heights)


def test_scales_are_linear_and_signed() -> None:
    colours = difference_colours(np.array([-2.0, -1.0, 0.0, 1.0]), limit=1.0)
    assert colours[0].tolist() == colours[1].tolist()  # clipped
    assert colours[2].tolist() == [0, 0, 0]
    assert colours[1][2] == colours[3][0] == 255  # blue below, red above
    window = Window.of([Volume(np.linspace(5, 15, 1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4))])
    assert window.low == 5
    assert window.high == pytest.approx(15, abs=0.1)


def test_generate_writes_a_contact_sheet_and_animations(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(
        FIXTURE, out, data=manifest, setting="single", subjects=["s0", "s1"], samples=2, animate=True, progress=False
    )
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 600  # a given, three generated and the true visit, two differences
        assert sheet.height > 2 * 3 * 50
    with Image.open(out / "sub-s1" / "figures" / "sub-s1_setting-single_desc-synthetic.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 4
    recorded = json.loads((out / "data.json").read_text())
    assert recorded["name"] == "csv"
    assert str(manifest.parent) not in json.dumps(recorded)  # where the files are is nobody else's business
    found = find_trajectories(out)
    assert [(files.subject, files.setting, files.samples, files.times) for files in found] == [
        (name, "single", 2, [1.1, 2.2, 3.3]) for name in ("s0", "s1")
    ]
    ending = found[0].ending(2, 1)
    assert (ending.times, {row["given"] for row in ending.rows}) == ([2.2, 3.3], {"0"})
    alone = found[0].read(None)
    assert alone.given == []
    titles = [panel.title for panel in Strip.of(alone).panels]
    assert titles[:-1] == ["generated 1.1", "generated 2.2", "generated 3.3"]
    assert titles[-1].startswith("std, 0 to ")
    index = out / "visits.csv"
    index.write_text(index.read_text().replace("sub-s0/ses", "../ses"))
    with pytest.raises(LongigenError, match="which is outside of its folder"):
        find_trajectories(out)
