"""The last visit as the prediction."""

from torch import Tensor

from longigen import Conditioner, Conditioning, Routes, VisitSequence


class CopyLastConditioner(Conditioner):
    """The last observed visit before the target, as `concat` of C channels. It has no parameters.

    With the `identity` denoiser, the `regression` sampler and the image as target it is the copy-last baseline, made
    like any model. A visit made on the way is itself a copy of the last one, so it changes nothing.
    """

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels)
        self.time_scale = time_scale

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,).

        Raises:
            ValueError: if a subject has no observed visit before its time.
        """
        return Conditioning(concat=history.last(target_time)[0])
