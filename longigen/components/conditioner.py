"""The interface of conditioners."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from longigen.components.base import Component
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.visit_sequence import VisitSequence


class Conditioner(Component, nn.Module, abc.ABC):
    """The subject's history and the time asked for, as a `Conditioning`.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed, makes
      the layers, and sets `routes` to the channels that `forward` emits. It fetches nothing: a model that is loaded is
      built too, and has its weights already. Weights from elsewhere are for `initialise`.
    - `forward(history, target_time)`: `history` is a `VisitSequence`, `target_time` (B,) in the same unit. Volumes it
      emits have the history's W, H, D, whatever they are. Output is floating, on the history's device.
    - It must not see the target. Where `causal` is true, its output must not depend on a visit at or after
      `target_time`; where false, later visits may be used.
    - In generation, visits that were made earlier are in the history, as observed. Where `autoregressive` is false they
      are not, and the history holds what was given alone.
    - It must not depend on images that are not observed, on covariates that are not present, nor on visits that are not
      valid: padding changes nothing.
    - It can be made and built on torch's ``meta`` device: neither step looks at a tensor's value. So a model's shapes
      are known, and compared with its weights, before memory is spent on it.
    - It is deterministic in ``eval()`` mode.
    - It may override `explain` to say where it looked; asking changes nothing else.
    - Times are data-set units; divide by `time_scale` (the typical gap between visits) before encoding them.
    """

    kind: ClassVar[str] = "conditioner"
    causal: bool = True
    autoregressive: bool = True
    routes: Routes
    time_scale: float

    def __repr__(self) -> str:
        """Return the layers, as torch shows them."""
        return nn.Module.__repr__(self)

    @abc.abstractmethod
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        """Make the layers.

        Args:
            channels: C of the volumes.
            stem_features: F of the `stem` route, asked of the denoiser; 0 if it has no stem to add to.
            time_scale: the typical gap between visits, in the data set's unit.
            covariates: names of the covariates that histories carry.
        """

    def initialise(self) -> None:
        """Fetch weights that training is to start from; called after `build`, once, before a new model is trained.

        Raises:
            LongigenError: if they cannot be had.
        """

    @abc.abstractmethod
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,)."""

    @property
    def explains(self) -> bool:
        """Whether it can say where it looked: whether it overrides `explain`."""
        return type(self).explain is not Conditioner.explain

    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        """Return how much of what each voxel of the target is made from came from each visit.

        The docstring of what overrides this says how that is measured.

        Returns:
            (B, L, W, H, D), float32, at least 0: shares, which sum to 1 over the visits at each voxel, for a subject
            with a visit that may be seen. A visit that is not valid, is at the target's time, or is after it where
            `causal`, has 0.

        Raises:
            NotImplementedError: if `explains` is false.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say where it looked")
