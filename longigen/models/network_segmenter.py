"""`NetworkSegmenter`: the base class of segmenters that are networks, with their weights in a folder."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from nibabel.affines import voxel_sizes
from torch import Tensor, nn

from longigen._version import __version__
from longigen.data.grid import on_grid_of
from longigen.data.segmenter import Segmenter
from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.hub.description import SEGMENTER_SCHEMA_VERSION, read_segmenter
from longigen.hub.manifest import SEGMENTER, WEIGHTS
from longigen.models.checkpoint import compose_checked
from longigen.models.pretrained import describe, weights_checksum
from longigen.registry.registry import registry
from longigen.utils.files import atomic, write_json

PERCENTILES = (0.5, 99.5)
"""The intensities of an image that are mapped to -1 and 1."""
BRIGHTEST = 1.5
"""Brighter voxels are clipped to this."""
SAME_SPACING = 0.1
"""Voxels whose sizes differ from those of training by at most this share are not resampled."""
SMOOTH = 1e-5
"""Keeps the Dice loss of an empty region finite."""


class NetworkSegmenter(Segmenter, nn.Module, abc.ABC):
    """A segmenter that is a network, which ``longigen train-segmenter`` trains on the true labels of a data set.

    Contract, in addition to that of `Segmenter`:

    - The constructor takes hyperparameters. `build` is called once, when the regions are known, and creates the layers:
      on torch's meta device too, where tensors have no values.
    - `forward(images)`: (B, 1, W, H, D), -1 for dark to 1 for bright; the result has the logits of each class (B,
      classes, W, H, D), of which class 0 is everything else. Any W, H, D is accepted.
    - It is deterministic in ``eval()`` mode.

    An image is scaled by its percentiles 0.5 and 99.5, and resampled to the voxels of the training images if its own
    differ from them by more than a tenth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
        self.training_record: Mapping[str, Any] = {}

    @abc.abstractmethod
    def build(self, *, classes: int, spacing: tuple[float, float, float]) -> None:
        """Create the layers.

        Args:
            classes: number of regions and one for everything else.
            spacing: typical size of the training images' voxels in mm, such as to halve slices later than rows.
        """

    def compose(self, names: Sequence[str], spacing: tuple[float, float, float]) -> None:
        """Create the layers for some regions, whose labels are 1, 2, …, and for images of some voxel size."""
        self.names, self.spacing = tuple(names), spacing
        self.build(classes=len(names) + 1, spacing=spacing)

    @property
    def regions(self) -> Mapping[int, str]:
        return dict(enumerate(self.names, start=1))

    @property
    def parameter_count(self) -> int:
        """The number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def identity(self) -> str:
        return f"{type(self).__name__}, weights {weights_checksum(self)}"

    def prepared(self, image: Volume) -> Volume:
        """Return an image as the network takes it: axes in RAS order, the voxels of training, intensities scaled."""
        low, high = (float(value) for value in np.percentile(image.data, PERCENTILES))
        placed = on_grid_of(image, self._grid(image), float(image.data.min()))
        scaled = (placed.data - low) * (2 / (high - low)) - 1 if high > low else np.full_like(placed.data, -1)
        return Volume(np.clip(scaled, -1, BRIGHTEST).astype(np.float32), placed.affine)

    def segment(self, image: Volume) -> Volume:
        if not self.names:
            raise LongigenError(
                f"The segmenter {type(self).__name__} has no weights; train it with 'longigen train-segmenter', and "
                "give the folder that it writes."
            )
        ready = self.prepared(image)
        device = next(self.parameters()).device
        with torch.no_grad():
            logits = self(torch.from_numpy(ready.data)[None, None].to(device))
        return Volume(logits[0].argmax(dim=0).cpu().numpy().astype(np.float32), ready.affine)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, classes, W, H, D): cross entropy plus 1 - Dice, averaged over the regions.

        Args:
            logits: what `forward` returns.
            labels: the true class of each voxel (B, W, H, D), int64.
        """
        chosen = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
        likely = logits.softmax(dim=1)[:, 1:]
        axes = (0, 2, 3, 4)
        overlap, size = (likely * chosen).sum(dim=axes), (likely + chosen).sum(dim=axes)
        return F.cross_entropy(logits, labels) + 1 - ((2 * overlap + SMOOTH) / (size + SMOOTH)).mean()

    def save(self, folder: Path) -> None:
        """Write the weights and ``segmenter.json`` into a folder.

        Raises:
            LongigenError: if the folder cannot be written.
        """
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic(folder / WEIGHTS) as part:
            save_file(tensors, part, metadata={"format": "pt"})
        content = {
            "schema_version": SEGMENTER_SCHEMA_VERSION,
            "library_name": "longigen",
            "longigen_version": __version__,
            "segmenter": describe(self),
            "regions": list(self.names),
            "spacing": list(self.spacing),
            "training": dict(self.training_record),
        }
        write_json(content, folder / SEGMENTER)

    def _grid(self, image: Volume) -> Volume:
        """Return a volume whose grid is the one that the network works on."""
        own = on_grid_of(image, image, 0.0)
        ratio = np.array(self.spacing) / voxel_sizes(own.affine)
        steps = np.where(np.abs(ratio - 1) > SAME_SPACING, ratio, 1.0)
        if (steps == 1).all():
            return own
        shape = np.maximum(1, np.rint(np.array(own.data.shape) / steps)).astype(int)
        affine = own.affine @ np.diag([*steps, 1.0])
        affine[:3, 3] += own.affine[:3, :3] @ ((steps - 1) / 2)  # the outer edges stay
        return Volume(np.zeros(shape, dtype=np.float32), affine)


def load_segmenter(folder: Path) -> NetworkSegmenter:
    """Load a segmenter that `NetworkSegmenter.save` wrote, in ``eval()`` mode.

    Raises:
        LongigenError: if the folder has no segmenter, its component is not installed, or the weights do not fit it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content = read_segmenter(folder)
    described, names = content["segmenter"], content["regions"]
    if described["name"] not in registry.entries("segmenter"):
        distribution = described.get("distribution", "an unknown package")
        raise LongigenError(
            f"The segmenter in {folder} needs the component '{described['name']}' of {distribution}, which is not "
            f"installed; install it with 'pip install {distribution}'."
        )
    width, height, depth = map(float, content["spacing"])

    def compose() -> NetworkSegmenter:
        segmenter = registry.make("segmenter", described["name"], described["config"])
        segmenter.compose(names, (width, height, depth))
        return segmenter

    registry.load("segmenter", described["name"])  # before torch's meta device, where an import may fail
    segmenter = compose_checked(compose, folder, SEGMENTER)
    try:
        segmenter.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (RuntimeError, SafetensorError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise LongigenError(f"{folder / WEIGHTS} does not fit {SEGMENTER} ({problem}); copy both again.") from error
    segmenter.training_record = dict(content.get("training", {}))
    return segmenter.eval()
