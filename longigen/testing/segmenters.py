"""The checks of segmenters."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from longigen.data.segmenter import Segmenter
from longigen.data.volume import Volume
from longigen.models.network_segmenter import NetworkSegmenter, load_segmenter
from longigen.testing.assertions import keeps_its_configuration
from longigen.testing.case import SIZES, Case, randomised
from longigen.testing.randomness import assert_draws_nothing_global, seeded

SPACING = (1.5, 1.5, 6.0)
NAMES = ("left ventricle", "myocardium")


def _made(case: Case, seed: int | None = 0) -> Segmenter:
    """Make the segmenter; a network is composed for two regions, with random weights."""
    segmenter = case.make(seed)
    if isinstance(segmenter, NetworkSegmenter):
        with seeded(seed or 0):
            segmenter.compose(NAMES, SPACING)
        randomised(segmenter).eval()
    return segmenter


def _image(size: tuple[int, int, int]) -> Volume:
    """Return a bright ball in noise, in a rotated and flipped space."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.4
    data = 100 * inside + np.random.default_rng(0).normal(0, 5, size)
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = 20, -30, 10
    return Volume(data.astype(np.float32), affine)


def marks_with_whole_numbers(case: Case) -> None:
    """Check label maps of images of odd sizes, and of one without contrast."""
    segmenter = _made(case)
    flat = Volume(np.zeros((9, 10, 11), dtype=np.float32), np.eye(4))
    for image in (*map(_image, SIZES), flat):
        before = image.data.copy()
        labels = segmenter.segment(image)
        assert isinstance(labels, Volume), f"segment returns a {type(labels).__name__}, not a Volume"
        assert labels.data.ndim == 3, f"the label map is {labels.data.ndim}D"
        assert (labels.data >= 0).all(), "a label is negative, or not a number"
        assert np.array_equal(labels.data, np.rint(labels.data)), "a label is not a whole number"
        assert np.array_equal(image.data, before), "the image was changed"
        known = {0, *segmenter.regions}
        unknown = set(np.unique(labels.data).astype(int).tolist()) - known if segmenter.regions else set()
        assert not unknown, f"labels {sorted(unknown)} are of no region in `regions`"


def marks_the_same_again(case: Case) -> None:
    """Check that an image has one label map."""
    segmenter, image = _made(case), _image(SIZES[1])
    one, two = (segmenter.segment(image) for _ in range(2))
    assert np.array_equal(one.data, two.data), "two label maps of one image differ"
    assert np.array_equal(one.affine, two.affine), "two label maps of one image lie in different places"


def draws_nothing_global(case: Case) -> None:
    """Check that it leaves the global random generators alone."""
    segmenter, image = _made(case), _image(SIZES[1])

    def answer() -> list[Tensor]:
        return [torch.from_numpy(segmenter.segment(image).data.astype(np.float64))]

    assert_draws_nothing_global(answer)


def says_what_it_is(case: Case) -> None:
    """Check `regions` and `identity`."""
    segmenter = _made(case)
    assert all(isinstance(label, int) and label > 0 for label in segmenter.regions), "a label in regions is not 1, 2, …"
    assert all(name.strip() for name in segmenter.regions.values()), "a region has no name"
    identity = segmenter.identity
    assert identity, "the identity is empty"
    assert "\n" not in identity, "the identity is longer than one line"
    assert identity == _made(case).identity, "the identity differs for an equal segmenter"


def learns(case: Case) -> None:
    """Check of a network: logits of any size, a loss that falls below another's for the truth, gradients everywhere."""
    segmenter = _made(case)
    if not isinstance(segmenter, NetworkSegmenter):
        return
    segmenter.train()
    found = {
        size: segmenter(torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1) for size in SIZES
    }
    for size, logits in found.items():
        assert logits.shape == (2, len(NAMES) + 1, *size), f"of images of {size} the logits are {tuple(logits.shape)}"
    logits = found[SIZES[0]]
    labels = logits.detach().argmax(dim=1)
    segmenter.loss(logits, (labels + 1) % (len(NAMES) + 1)).backward()
    without = [name for name, parameter in segmenter.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {without[0]}"
    sure = 100 * torch.nn.functional.one_hot(labels, len(NAMES) + 1).movedim(-1, 1).float()
    right, wrong = (float(segmenter.loss(sure, classes)) for classes in (labels, (labels + 1) % (len(NAMES) + 1)))
    assert right < wrong, f"the loss of the truth is {right}, and of wrong classes {wrong}"


def keeps_its_weights(case: Case) -> None:
    """Check of a network that it is the same once it was saved and loaded."""
    segmenter = _made(case)
    if not isinstance(segmenter, NetworkSegmenter):
        return
    with TemporaryDirectory() as folder:
        segmenter.save(Path(folder))
        again = load_segmenter(Path(folder))
    image = _image(SIZES[0])
    assert again.identity == segmenter.identity, "the weights differ once they were saved and loaded"
    assert again.regions == segmenter.regions, "the regions differ once they were saved and loaded"
    one, two = segmenter.segment(image).data, again.segment(image).data
    assert np.array_equal(one, two), "the label map differs once the weights were saved and loaded"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "marks regions with whole numbers": marks_with_whole_numbers,
    "marks the same again": marks_the_same_again,
    "leaves global random generators alone": draws_nothing_global,
    "says what its labels and its results depend on": says_what_it_is,
    "learns, where it is a network": learns,
    "keeps its weights, where it is a network": keeps_its_weights,
}
"""By what a segmenter is to do; see `Segmenter` and `NetworkSegmenter`."""
