"""`Conditioner`: the base class of networks that encode a subject's history and the target time."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from longigen.components.base import Component
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.visit_sequence import VisitSequence


class Conditioner(Component, nn.Module, abc.ABC):
    """Encodes a subject's history and the target time as a `Conditioning` for the denoiser.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed. It
      creates the layers and sets `routes` to the channels that `forward` emits. It downloads nothing, since `build`
      also runs for a model whose weights are loaded afterwards; pretrained weights are downloaded in `initialise`.
    - `forward(history, target_time)`: `history` is a `VisitSequence`, `target_time` (B,) in the same unit. Emitted
      volumes have the history's W, H, D, whatever they are. Output is floating, on the history's device.
    - The output must not depend on the target image. Where `causal` is true, it must not depend on a visit at or after
      `target_time`; where false, later visits may be used.
    - In generation, visits that were generated earlier are in the history, as observed. Where `autoregressive` is
      false they are not, and the history holds only the given visits.
    - The output must not depend on images that are not observed, on covariates that are not present, nor on visits
      that are not valid (padding).
    - Where `used_covariates` names covariates, the output must not depend on others.
    - The constructor and `build` work on torch's ``meta`` device, so they must not read a tensor's values. This way a
      model's shapes are compared with those of its weights before memory is allocated.
    - It is deterministic in ``eval()`` mode.
    - It may override `explain` to return how much each visit contributed; this must not change any other output.
    - Times are in the data set's unit; divide by `time_scale` (the typical gap between visits) before encoding them.
    """

    kind: ClassVar[str] = "conditioner"
    causal: bool = True
    autoregressive: bool = True
    used_covariates: tuple[str, ...] | None = None
    """Names of the covariates that the output depends on; None for all that `build` was given."""
    routes: Routes
    time_scale: float

    def __repr__(self) -> str:
        """Return the layers, as torch shows them."""
        return nn.Module.__repr__(self)

    @abc.abstractmethod
    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        """Create the layers.

        Args:
            channels: C of the volumes.
            stem_features: F of the `stem` route, which the denoiser sets; 0 if it does not use that route.
            time_scale: the typical gap between visits, in the data set's unit.
            covariates: names of the covariates that histories carry.
        """

    def initialise(self) -> None:
        """Download pretrained weights to start training from; called once, after `build`, before a new training.

        Raises:
            LongigenError: if the weights cannot be downloaded.
        """

    @abc.abstractmethod
    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,)."""

    @property
    def explains(self) -> bool:
        """Whether this conditioner implements `explain`."""
        return type(self).explain is not Conditioner.explain

    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        """Return the share of each visit in the conditioning of each target voxel, such as its attention weight.

        The docstring of the overriding method says how the shares are measured.

        Returns:
            (B, L, W, H, D), float32, at least 0: shares that sum to 1 over the visits at each voxel, for a subject
            with at least one visible visit. The share is 0 for a visit that is not valid, is at the target time, or is
            after it where `causal`.

        Raises:
            NotImplementedError: if `explains` is false.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement explain")
