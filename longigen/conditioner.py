"""The interface of conditioners."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from longigen.component import Component
from longigen.conditioning import Conditioning, Routes
from longigen.visits import VisitSequence


class Conditioner(Component, nn.Module, abc.ABC):
    """The subject's history and the time asked for, as a `Conditioning`.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed, makes
      the layers, and sets `routes` to the channels that `forward` emits.
    - `forward(history, target_time)`: `history` is a `VisitSequence`, `target_time` (B,) in the same unit. Volumes it
      emits have the history's W, H, D, whatever they are. Output is floating, on the history's device.
    - It must not see the target. Where `causal` is true, its output must not depend on a visit at or after
      `target_time`; where false, later visits may be used.
    - It must not depend on images that are not observed nor on visits that are not valid: padding changes nothing.
    - It is deterministic in ``eval()`` mode.
    - Times are data-set units; divide by `time_scale` (the typical gap between visits) before encoding them.
    """

    kind: ClassVar[str] = "conditioner"
    causal: bool = True
    routes: Routes
    time_scale: float

    @abc.abstractmethod
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        """Make the layers.

        Args:
            channels: C of the volumes.
            stem_features: F of the `stem` route, asked of the denoiser; 0 if it has no stem to add to.
            time_scale: the typical gap between visits, in the data set's unit.
            covariates: names of the covariates that histories carry.
        """

    @abc.abstractmethod
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,)."""
