"""The prediction of a visit's clean volume from a noisy one, which a reverse process calls and a student learns."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longigen.components.conditioning import Conditioning
from longigen.components.ranges import NoiseLevels
from longigen.components.training_example import DiffusionTarget
from longigen.models.guidance import guided

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel


class Predictor:
    """From z_t (B, C, W, H, D) and λ (B,) to the guided x̂ of a visit, whose conditioning is computed beforehand.

    Attributes:
        target: converts x̂ to the image.
        displacement: of the last conditional prediction, if the denoiser moves the last visit; None otherwise.
    """

    def __init__(
        self,
        model: "LongitudinalModel",
        conditional: Conditioning,
        unconditional: Conditioning,
        target: DiffusionTarget,
        *,
        guidance: float,
        interval: NoiseLevels | None,
    ) -> None:
        self.target = target
        self.displacement: Tensor | None = None
        self._model, self._guidance, self._interval = model, guidance, interval
        self._conditional = model.denoiser.prepared(conditional)
        self._unconditional = model.denoiser.prepared(unconditional) if guidance else unconditional
        self._size = 0  # B; with guidance the network is given twice as many

    def __call__(self, z_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return x̂, within the range of intensities, or of the codec's codes."""
        self._size = len(z_t)
        limit = self._model.codec.limit
        low, high = (self.target.encode(bound * z_t.new_ones(())) for bound in (-limit, limit))
        return guided(
            self._network,
            self._model.prediction,
            z_t,
            log_snr,
            self._conditional,
            self._unconditional,
            weight=self._guidance,
            interval=self._interval,
            space=self._model.settings.guidance_space,
            low=low,
            high=high,
        )

    def _network(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        denoiser = self._model.denoiser
        if denoiser.moves:
            base, _ = conditioning.require_base()
            moved = denoiser.moved(z_t, log_snr, conditioning)
            output = moved.image(base)
            # With guidance the batch is twice as large: conditional predictions, then unconditional ones.
            self.displacement = moved.displacement[: self._size]
        else:
            output = denoiser(z_t, log_snr, conditioning)
        output = output.float()  # a layer of 16 bits may be the last; the reverse process has 32
        if denoiser.predicts != "image":
            return output
        return torch.cat([self.target.encode(image) for image in output.split(self._size)])
