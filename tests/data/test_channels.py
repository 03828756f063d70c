"""Tests of visits with several images: subjects, preprocessing, training pairs, and what is said of missing ones."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.files import visit_of
from longigen import BACKGROUND, LongigenError, Subject, Visit, Volume
from longigen.data.cache import VisitCache
from longigen.data.channels import channel_cautions, missing_channels
from longigen.data.grid import Grid
from longigen.data.intensity import IntensityRange
from longigen.data.preprocess import Prepared, Preprocess
from longigen.data.training_pairs import make_pair

SHAPE = (6, 7, 8)


def volume(seed: int, scale: float = 100.0, shape: tuple[int, int, int] = SHAPE, step: float = 2.0) -> Volume:
    values = np.random.default_rng(seed).uniform(0, scale, shape).astype(np.float32)
    return Volume(values, np.diag([step, step, step, 1.0]))


def image(content: Volume, time: float) -> Visit:
    step = float(content.affine[0, 0])
    return visit_of(partial(_same, content), time=time, shape=content.data.shape, spacing=(step, step, step))


def _same(content: Volume) -> Volume:
    return content


T1W = [volume(0), volume(1), volume(2)]
FLAIR = [volume(3, 900.0), volume(4, 900.0), volume(5, 900.0)]


def subject(missing: tuple[tuple[str, int], ...] = ()) -> Subject:
    visits = []
    for index in range(3):
        images = {
            name: None if (name, index) in missing else image(of[index], float(index))
            for name, of in (("T1w", T1W), ("FLAIR", FLAIR))
        }
        visits.append(Visit.of_channels(images, subject="s"))
    return Subject("s", tuple(visits))


def prepared(given: Subject) -> Prepared:
    return Preprocess(Grid(SHAPE), upper=100.0).subject(given)


def test_each_channel_has_its_own_range_and_all_have_one_grid() -> None:
    ready = prepared(subject())
    assert ready.visit(1).shape == (2, *SHAPE)
    for number, (channel, of) in enumerate(zip(ready.channels, (T1W, FLAIR), strict=True)):
        assert channel.intensity == IntensityRange(float(of[0].data.min()), float(of[0].data.max()))
        restored = channel.restore(ready.visit(0)[number : number + 1])
        np.testing.assert_allclose(restored.data, of[0].data, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(channel.placement.affine, ready.placement.affine)
    with pytest.raises(TypeError, match="several channels; ask one of them"):
        ready.restore(ready.visit(0)[:1])


def test_a_missing_channel_is_background_and_the_range_is_of_the_first_that_is_there(tmp_path: Path) -> None:
    given = subject((("T1w", 0), ("FLAIR", 2)))
    cache = VisitCache(tmp_path, 10**8)
    for ready in (Preprocess(Grid(SHAPE), upper=100.0).subject(given, cache) for _ in range(2)):  # read, then cached
        assert [ready.has(index) for index in range(3)] == [(False, True), (True, True), (True, False)]
        assert ready.visit(0)[0].eq(BACKGROUND).all()
        assert ready.visit(2)[1].eq(BACKGROUND).all()
        t1w, flair = ready.channels
        assert t1w.subject.times == (1.0, 2.0)
        assert torch.equal(ready.visit(2)[:1], t1w.visit(1))
        assert (t1w.intensity.high, flair.intensity.high) == (T1W[1].data.max(), FLAIR[0].data.max())
        pair = make_pair(ready, [0, 1], set(), 2, ())
        assert pair.history.channel_mask.tolist() == [[[False, True], [True, True]]]
        assert pair.target_channels is not None
        assert pair.target_channels.tolist() == [[True, False]]
        assert len({ready.digest(index) for index in range(3)}) == 3
    assert make_pair(prepared(subject()), [0, 1], set(), 2, ()).target_channels is None


def test_an_image_on_another_grid_is_resampled_to_the_first_and_that_is_said() -> None:
    coarse = Volume(np.full((3, 4, 4), 5, np.float32), np.diag([4.0, 4, 4, 1]))
    coarse.data[:, :, 2:] = 9
    visit = Visit.of_channels({"T1w": image(T1W[0], 0.0), "FLAIR": image(coarse, 0.0)}, subject="s")
    (caution,) = visit.cautions
    assert "has 3 × 4 × 4 voxels of 4 × 4 × 4 mm where the T1w of the visit has 6 × 7 × 8 voxels" in str(caution)
    second = prepared(Subject("s", (visit,))).visit(0)[1]
    assert second.shape == SHAPE
    assert (second[:, :, 0].unique().tolist(), second[:, :, 7].unique().tolist()) == ([-1], [1])


def test_a_visit_has_the_labels_of_any_of_its_images() -> None:
    labels = Volume(np.ones(SHAPE, np.float32), T1W[0].affine)
    marked = replace(image(FLAIR[0], 0.0), labels=partial(_same, labels))
    visit = Visit.of_channels({"T1w": image(T1W[0], 0.0), "FLAIR": marked}, subject="s")
    assert visit.channels["T1w"] is not None
    for each in (visit, visit.channels["T1w"]):
        found = each.read_labels("s")
        assert found is not None
        np.testing.assert_array_equal(found.data, labels.data)


def test_missing_channels_are_said() -> None:
    never = replace(subject(tuple(("FLAIR", index) for index in range(3))), id="never")
    some = subject((("T1w", 1),))
    assert [finding.kind for finding in missing_channels([some, never])] == ["missing-channel", "no-channel"]
    assert "is without T1w (1 visit at time 1)" in str(next(missing_channels([some])))
    t1w, flair = channel_cautions([some, never])
    assert t1w.startswith("T1w is missing at 1 of 6 visits; it is background there")
    assert "FLAIR is missing at 3 of 6 visits, among them all of 1 subjects, such as never" in flair
    assert prepared(never).visit(0)[1].eq(BACKGROUND).all()
    assert len(prepared(never).channels) == 1
    assert list(missing_channels([subject()])) == []


def test_names_of_channels_are_checked() -> None:
    one = image(T1W[0], 0.0)
    with pytest.raises(ValueError, match="at least one image"):
        Visit.of_channels({"T1w": None, "FLAIR": None}, subject="s")
    with pytest.raises(LongigenError, match="The channel 't1_ce' of subject s cannot be a part of files' names"):
        Subject("s", (Visit.of_channels({"t1_ce": one, "FLAIR": one}, subject="s"),))
    with pytest.raises(ValueError, match="have different channels"):
        Subject("s", (one, subject().visits[1]))
