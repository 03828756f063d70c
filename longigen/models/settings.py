"""Settings of a model beyond its three components, and the provenance saved with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from longigen.components.base import Settings
from longigen.components.ranges import GuidanceWeight, NoiseLevels, Probability
from longigen.data.preprocess import Preprocess
from longigen.data.trained_grid import TrainedGrid
from longigen.models.guidance import Space, check_interval

Target = Literal["image", "residual"]
Unconditional = Literal["zero", "random"]
ResidualScale = Literal["all", "gap"]
Order = Literal["direct", "autoregressive"]
"""How several visits are generated: each from the given visits alone, or each joining the history of the next."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """Settings of a model beyond its three components.

    Args:
        target: the diffusion target: the follow-up ``image``, or the ``residual``, the follow-up minus the last visit
            in the history, divided by the residual's standard deviation over the training set. With ``residual`` and a
            sampler that predicts x, a network that outputs zero is the copy-last baseline. The last visit is then
            always appended to the denoiser's `concat` route, also when the conditioning is dropped.
        append_last: append the last visit to the `concat` route with ``image`` as target too.
        residual_scale: pairs of visits over which the residual's standard deviation is taken: ``all``, or those with
            the same ``gap``. Little changes within a short gap, so with one scale for all gaps short ones contribute
            little to the loss, and forecasts over a short gap may be worse than copy-last.
        p_uncond: probability in [0, 1] with which training drops a sample's conditioning (SADM, Algorithm 1). With 1
            the denoiser is pretrained without conditioning.
        unconditional: what replaces dropped conditioning in training, on every route: ``zero`` for ∅, ``random`` for
            standard normal noise. Guidance always uses zeros as ∅, so a model that is to be guided needs ``zero``;
            ``random`` is for pretraining with ``p_uncond=1``.
        guidance: weight w ≥ 0 of classifier-free guidance in generation (SADM, Eq. 4).
        guidance_interval: the lowest and the highest λ at which generation is guided, such as ``-3,3``; None for all.
            At other noise levels the network is evaluated once, without guidance; see `longigen.models.guidance`.
        guidance_space: variable in which guidance combines predictions, x̂ or ε̂; see `longigen.models.guidance`.
        keep_background: keep voxels at background in generation if they are exactly background in the last visit. For
            images with a mask, such as skull-stripped brains. Otherwise small errors in the background would be fed
            back from visit to visit, and they lower the SSIM of an empty background.
        order: how several visits are generated: ``direct``, each from the given visits alone, or ``autoregressive``
            (SADM, Algorithm 2), where each generated visit joins the history of the next.

    Raises:
        LongigenError: for a value that is not allowed.
    """

    target: Target = "residual"
    append_last: bool = False
    residual_scale: ResidualScale = "all"
    p_uncond: Probability = 0.1
    unconditional: Unconditional = "zero"
    guidance: GuidanceWeight = 0.1
    guidance_interval: NoiseLevels | None = None
    guidance_space: Space = "x"
    keep_background: bool = False
    order: Order = "autoregressive"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.guidance_interval)

    @property
    def appends_last(self) -> bool:
        """Whether the last visit is an input of the denoiser."""
        return self.append_last or self.target == "residual"


@dataclass(frozen=True)
class Provenance:
    """Provenance saved with the weights.

    Attributes:
        preprocess: configuration of the preprocessing pipeline.
        data: name, public parameters, split and fingerprint of the training data.
        training: recipe, changes to it, and the steps, time and device of training.
    """

    preprocess: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _own(self) -> Preprocess:
        return Preprocess.from_config(self.preprocess)

    @property
    def has_own_voxels(self) -> bool:
        """Whether the grid has the voxels of the data, since neither its spacing nor its fit says otherwise."""
        return self._own.grid.fit == "crop" and self._own.grid.spacing is None

    @property
    def keeps_voxels(self) -> bool:
        """Whether the grid has the voxels of each subject by design: as many as the subject, or a box in mm."""
        return self.has_own_voxels and not all(self._own.grid.shape)

    @cached_property
    def trained_grid(self) -> TrainedGrid | None:
        """The grid in the training subjects; None if it is not known.

        Earlier versions did not record it; where the grid has the voxels of the data, those of a simulation are known.
        """
        if "voxels" in self.data:
            return TrainedGrid.recorded(self.data)
        return TrainedGrid.of_simulation(self.data) if self.has_own_voxels else None

    @property
    def explicit_preprocess(self) -> Mapping[str, Any]:
        """`preprocess` with the size of the voxels that the model was trained at, if it leaves that to the data."""
        trained = self.pipeline().trained if self.preprocess else None
        return self.preprocess if trained is None else {**self.preprocess, "spacing": [*trained.median]}

    def pipeline(self, changes: Mapping[str, Any] | None = None) -> Preprocess:
        """Return the pipeline that preprocesses subjects for the model.

        A grid of a fixed shape without a spacing has the voxels that the model was trained at: subjects with others are
        resampled, if these are known. A grid of each subject's own shape keeps each subject's voxels.

        Args:
            changes: a ``shape`` in voxels or an ``extent`` in mm to use instead of the model's own; see `Grid`.

        Raises:
            LongigenError: if they do not fit the grid.
        """
        own, trained = self._own, None
        if self.has_own_voxels and not self.keeps_voxels:
            trained = self.trained_grid
        box = {"shape": (0, 0, 0), "extent": None, **changes} if changes else {}
        return replace(own, grid=replace(own.grid, **box), trained=trained)
