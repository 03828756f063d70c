"""How to train: the settings of the training loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from longigen.components.base import Settings
from longigen.components.ranges import Count, Probability, Range, Seed
from longigen.errors import LongigenError

ModelPart = Literal["conditioner", "denoiser"]
"""The parts of a model that have weights."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How to train.

    Args:
        steps: optimiser steps.
        batch_size: pairs per step, process and accumulation.
        gradient_accumulation: batches whose gradients are summed before a step.
        learning_rate: of AdamW, at its peak; of an adversary's too.
        warmup: steps over which the learning rate rises; afterwards it falls along a cosine.
        weight_decay: of AdamW.
        clip: the largest norm of the gradient, the model's and an adversary's each.
        ema: the largest decay of the moving average of the weights, which is what is validated and exported; it
            starts small and grows as 1 - (1 + step)^(-3/4).
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        workers: processes that load data; 0 loads in the training process.
        validate_every: steps between validation losses.
        sample_every: steps between sample strips.
        checkpoint_every: steps between checkpoints.
        skip_bad: leave out visits and subjects that cannot be used, where the first would be an error otherwise.
        init_conditioner: a run, a model's folder or ``org/name`` of the Hub, whose conditioner's weights the new
            model's start from; see `longigen.training.warm_start`.
        init_denoiser: the same of the denoiser.
        freeze: parts that are not trained: their weights stay as they are, and their dropout is off.
        seed: of everything that training draws.

    Raises:
        LongigenError: for a value that is not allowed, or if `freeze` leaves nothing to train.
    """

    steps: Count = 10_000
    batch_size: Count = 2
    gradient_accumulation: Count = 1
    learning_rate: Annotated[float, Range(0)] = 3e-4
    warmup: Annotated[int, Range(0)] = 50
    weight_decay: Annotated[float, Range(0)] = 0.01
    clip: Annotated[float, Range(above=0)] = 1.0
    ema: Probability = 0.9999
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    workers: Annotated[int, Range(0)] = 0
    validate_every: Count = 500
    sample_every: Count = 2_000
    checkpoint_every: Count = 1_000
    skip_bad: bool = False
    init_conditioner: str | None = None
    init_denoiser: str | None = None
    freeze: tuple[ModelPart, ...] = ()
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if {"conditioner", "denoiser"} <= set(self.freeze):
            raise LongigenError("training.freeze names both parts, which leaves nothing to train; leave one out.")
