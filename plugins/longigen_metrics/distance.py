"""FID and KID: distances between the set of generated and the set of true visits."""

import math
from abc import abstractmethod
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from longigen import SetMetric
from longigen_metrics.features import SliceFeatures


class FeatureDistance(SetMetric):
    """A distance between sets of `SliceFeatures`, computed for each plane and averaged over the planes.

    Args:
        extractor: name of a 2D network in timm.
        layer: stage of the network whose output is used, from 0; stage 1 of ``resnet18`` has 64 features.
        seed: random seed of the network's weights if no file is given.
        weights: a file (safetensors) with timm's weights for that network.
    """

    higher_is_better = False

    def __init__(
        self, *, extractor: str = "resnet18", layer: int = 1, seed: int = 0, weights: Path | None = None
    ) -> None:
        super().__init__()
        self._settings = (extractor, layer, seed, weights)

    @cached_property
    def features(self) -> SliceFeatures:
        """The feature extractor."""
        return SliceFeatures(*self._settings)

    @property
    def note(self) -> str:
        return self.features.note

    @property
    def _of(self) -> str:
        return f"of features by {self.note} (weights {self.features.digest}), each plane by itself, mean over planes"

    def visit_features(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        """Return the features of the generated and of the true visit (2, 3, F)."""
        return torch.stack([self.features(generated), self.features(true)])

    def compute(self, features: Tensor) -> float:
        if len(features) < 2:
            return math.nan
        return sum(self.distance(*plane.unbind(dim=1)) for plane in features.unbind(dim=2)) / features.shape[2]

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
            f"{visits - 1}; compare it within this table only, or use kid, which is unbiased."
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
