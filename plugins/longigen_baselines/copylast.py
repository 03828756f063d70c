"""The copy-last baseline: the last visit as the prediction."""

from torch import Tensor

from longigen import Conditioner, Conditioning, Routes, VisitSequence


class CopyLastConditioner(Conditioner):
    """The last observed visit before the target, as `concat` of C channels. It has no parameters.

    With the `identity` denoiser, the `regression` sampler and ``target=image`` it is the copy-last baseline. Generated
    visits are copies of the last given one, so it does not matter that they join the history.
    """

    used_covariates = ()

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels)
        self.time_scale = time_scale

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,).

        Raises:
            ValueError: if a subject has no observed visit before its time.
        """
        return Conditioning(concat=history.last(target_time)[0])
