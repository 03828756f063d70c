"""Settings of a model beyond its three components, and the provenance saved with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from longigen.components.base import Settings
from longigen.components.ranges import GuidanceWeight, Probability
from longigen.models.guidance import Space

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
        residual_scale: pairs of visits over which the residual's standard deviation is taken: ``all``, or those with
            the same ``gap``. Little changes within a short gap, so with one scale for all gaps short ones contribute
            little to the loss, and forecasts over a short gap may be worse than copy-last.
        p_uncond: probability in [0, 1] with which training drops a sample's conditioning (SADM, Algorithm 1). With 1
            the denoiser is pretrained without conditioning.
        unconditional: what replaces dropped conditioning in training, on every route: ``zero`` for ∅, ``random`` for
            standard normal noise. Guidance always uses zeros as ∅, so a model that is to be guided needs ``zero``;
            ``random`` is for pretraining with ``p_uncond=1``.
        guidance: weight w ≥ 0 of classifier-free guidance in generation (SADM, Eq. 4).
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
    residual_scale: ResidualScale = "all"
    p_uncond: Probability = 0.1
    unconditional: Unconditional = "zero"
    guidance: GuidanceWeight = 0.1
    guidance_space: Space = "x"
    keep_background: bool = False
    order: Order = "autoregressive"


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
