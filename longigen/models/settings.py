"""What a recipe may say of a model beyond its three parts, and what is kept with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from longigen.components.base import Settings
from longigen.components.ranges import GuidanceWeight, Probability
from longigen.models.guidance import Space

Target = Literal["image", "residual"]
Unconditional = Literal["zero", "random"]
ResidualScale = Literal["all", "gap"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """What a recipe may say of a model beyond its three parts.

    Args:
        target: what is diffused: the follow-up `image`, or the `residual`, the follow-up minus the last visit in the
            history, divided by its standard deviation over the training set. With ``residual`` and a sampler that
            predicts x, a network that outputs zero is the copy-last baseline. The last visit is then part of the
            question and not of the condition: it goes to the denoiser's `concat` route, guided or not.
        residual_scale: over what the residual's standard deviation is taken: `all` pairs of visits, or those of its own
            `gap`. Little changes within a short gap, so that training on one scale hardly looks at it, and generation
            from the visit just before may be worse than a copy of it.
        p_uncond: the probability with which training drops a sample's conditioning (SADM, Algorithm 1). With 1 the
            denoiser is trained without a condition, to be fine-tuned with one.
        unconditional: what training puts, on every route, where conditioning is dropped: `zero` is ∅, `random` is
            standard normal noise. The ∅ of guidance is zero either way, so what is to be guided is trained with
            ``zero``; ``random`` is for pretraining with ``p_uncond=1``.
        guidance: w of classifier-free guidance at generation (SADM, Eq. 4).
        guidance_space: whether the guided combination is made of x̂ or of ε̂; see `longigen.models.guidance`.
        keep_background: at generation, leave a voxel that is exactly background in the last visit as it is. For images
            with a mask, such as brains without a skull, outside which nothing can appear. A network's last thousandth
            there would otherwise be fed back from visit to visit, and the structural similarity of nothing with next
            to nothing is low.

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


@dataclass(frozen=True)
class Provenance:
    """What is kept with the weights: the preprocessing pipeline, the origin of the training data, and how training
    was asked for and on what it ran (`longigen.training.experiment`, `longigen.training.trainer`).
    """

    preprocess: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
