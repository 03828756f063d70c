"""The interface of denoisers."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from longigen.component import Component
from longigen.conditioning import Conditioning, Routes


class Denoiser(Component, nn.Module, abc.ABC):
    """A noisy volume, its noise level and a `Conditioning`, as a prediction.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed, and
      makes the layers. `stem_features` is known before that.
    - `forward(z_t, log_snr, conditioning)`: `z_t` (B, C, W, H, D), `log_snr` (B,) is λ = log(α²/σ²) whatever the
      sampler; the result has the shape, dtype and device of `z_t`. What it predicts (ε, x or v) is the sampler's
      choice and not the denoiser's business.
    - Any W, H, D is accepted: pad to the stride inside and crop at the end.
    - All four routes are served; a route that `routes` gives no channels is absent from the conditioning.
    - Where `denoises` is true, the prediction depends on `z_t` and λ. Where it is false it depends on the conditioning
      alone: there is no unconditional prediction worth the name, so the model drops no conditions in training and
      applies no guidance.
    - It is deterministic in ``eval()`` mode. A zero-initialised output makes a residual model start as copy-last.
    """

    kind: ClassVar[str] = "denoiser"
    denoises: ClassVar[bool] = True

    @property
    def stem_features(self) -> int:
        """F, the channels of the `stem` route at full resolution; 0 where the network has no stem to add to."""
        return 0

    @abc.abstractmethod
    def build(self, *, channels: int, routes: Routes) -> None:
        """Make the layers for volumes of `channels` channels and the conditioner's `routes`."""

    @abc.abstractmethod
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction, of the shape of `z_t`."""
