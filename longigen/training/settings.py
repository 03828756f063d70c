"""Settings of the training loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from longigen.components.base import Settings
from longigen.components.ranges import Count, Probability, Range, Seed
from longigen.data.training_pairs import Missing
from longigen.errors import LongigenError
from longigen.models.compilation import Compile
from longigen.training.micro_batch import MicroBatch
from longigen.utils.precision import ComputingType

ModelPart = Literal["conditioner", "denoiser"]
"""The components of a model that have weights."""

RateSchedule = Literal["cosine", "linear", "constant"]
"""What becomes of the learning rate after the warm-up: it falls to 0 along a cosine or a line, or stays."""

Track = Literal["auto", "tensorboard", "wandb", "trackio", "mlflow", "none"]
"""What shows a training while it runs, or ``none``; ``auto`` is tensorboard where it is installed."""

Decay = Annotated[float, Range(0, below=1)]
"""The decay β of a running mean."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """Settings of the training loop.

    Args:
        steps: number of optimiser steps.
        batch_size: training pairs per batch, which several processes share equally.
        micro_batch: ``all`` pairs that a process has of a batch are computed at once, or, with ``auto``, as many as
            memory holds, which is found before the first step. The gradients of the rest are added up, so that a step
            is of as many pairs; it changes the result only by rounding, by dropout, and, where there is a
            discriminator, as `gradient_accumulation` does.
        gradient_accumulation: number of batches whose gradients are accumulated for one optimiser step.
        learning_rate: peak learning rate of AdamW, for the model and for an adversary.
        lr_schedule: the learning rate after the warm-up: it falls to 0 at the last step, along a ``cosine`` or a
            ``linear`` line, or is ``constant``.
        warmup: steps over which the learning rate rises linearly from 0; 0 for none.
        betas: β₁ and β₂ of AdamW, the decays of the running means of the gradient and of its square.
        weight_decay: weight decay of AdamW; without it (0) AdamW is Adam.
        clip: maximum gradient norm, of the model and of an adversary separately.
        ema: maximum decay of the exponential moving average of the weights, which is validated and exported; the
            decay grows as 1 - (1 + step)^(-3/4).
        ema_device: where the averaged weights are held: on the device of the ``model``, or on the ``cpu``, which saves
            4 bytes of a GPU's memory per weight, for a copy of the weights at each step.
        mixed_precision: ``no``, ``bf16`` or ``fp16``, for training, its validation losses and its figures.
        tf32: let products of 32-bit matrices round their factors to 10 bits of mantissa on a GPU, as convolutions do by
            PyTorch's default; faster, and no matter where `mixed_precision` is used.
        compile: ``regional`` or ``full`` compiles the networks with `torch.compile`; the first step then takes minutes
            (`longigen.models.compilation`).
        sharding: what several processes share of the weights: ``none``, so that each has all of them, or ``full``: each
            holds a part of the weights, their averages and the optimiser's states (FSDP2), and gathers the weights in a
            step, for models that are too wide for one GPU.
        workers: number of data-loading processes; 0 loads in the training process.
        validate_every: steps between validation losses.
        score_every: steps between scores of generated validation visits beside copy-last, by which the best weights are
            kept; 0 for none.
        sample_every: steps between figures of a generated visit.
        checkpoint_every: steps between checkpoints.
        track: what shows the training while it runs: ``tensorboard``, ``wandb``, ``trackio``, ``mlflow`` or ``none``;
            ``auto`` is tensorboard where it is installed.
        missing: how missing visits of the history are represented in training pairs: as ``slots`` whose times are
            known (SADM, Algorithm 1), ``absent``, or ``mixed``, so that the model reads times and does not count slots.
        last: probability that a training pair's target is the subject's last visit; otherwise it is any after the
            first.
        single: probability that a training pair's history is the first visit alone. Without it few pairs are, and they
            are the hardest.
        own_visits: probability that the last given visit of a training pair is replaced by what the model generates for
            it from the other given visits, so that errors add up less in autoregressive generation; it costs the
            generation of a visit. Pairs with one given visit stay as they are.
        skip_bad: leave out visits and subjects that cannot be used, instead of raising an error.
        init_conditioner: a run, a model's folder or a Hub repository whose conditioner's weights initialise the
            conditioner; see `longigen.training.warm_start`.
        init_denoiser: the same for the denoiser.
        init_codec: a folder that ``longigen train-codec`` wrote, or a run, a model's folder or a Hub repository of a
            model with a codec, whose weights are those of the codec, which is not trained; ``--codec`` sets it.
        teacher: a run, a model's folder or a Hub repository whose few-step map the model learns, instead of the data's
            own noise; for a sampler that can, such as ``distilled``. ``longigen distill`` sets it.
        freeze: components that are not trained: their weights are fixed and their dropout is off.
        seed: random seed of initial weights, training pairs and noise.

    Raises:
        LongigenError: for a value that is not allowed, or if `freeze` leaves nothing to train.
    """

    steps: Count = 10_000
    batch_size: Count = 2
    micro_batch: MicroBatch = "all"
    gradient_accumulation: Count = 1
    learning_rate: Annotated[float, Range(0)] = 3e-4
    lr_schedule: RateSchedule = "cosine"
    warmup: Annotated[int, Range(0)] = 50
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Annotated[float, Range(0)] = 0.01
    clip: Annotated[float, Range(above=0)] = 1.0
    ema: Probability = 0.9999
    ema_device: Literal["model", "cpu"] = "model"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    tf32: bool = False
    compile: Compile = "none"
    sharding: Literal["none", "full"] = "none"
    workers: Annotated[int, Range(0)] = 0
    validate_every: Count = 500
    score_every: Annotated[int, Range(0)] = 1_000
    sample_every: Count = 2_000
    checkpoint_every: Count = 1_000
    track: Track = "auto"
    missing: Missing = "mixed"
    last: Probability = 0.0
    single: Probability = 0.0
    own_visits: Probability = 0.0
    skip_bad: bool = False
    init_conditioner: str | None = None
    init_denoiser: str | None = None
    init_codec: str | None = None
    teacher: str | None = None
    freeze: tuple[ModelPart, ...] = ()
    seed: Seed = 0

    @property
    def precision(self) -> ComputingType:
        """The type that the networks compute in."""
        return "fp32" if self.mixed_precision == "no" else self.mixed_precision

    def batch_of(self, processes: int) -> int:
        """Return the training pairs per batch of each of several processes.

        Raises:
            LongigenError: if they cannot share a batch equally.
        """
        if self.batch_size % processes:
            larger = processes * (self.batch_size // processes + 1)
            raise LongigenError(
                f"training.batch_size is {self.batch_size}, the pairs of all processes together, which {processes} "
                f"processes cannot share equally; set a multiple, such as --set training.batch_size={larger}, or start "
                "another number of processes."
            )
        return self.batch_size // processes

    def __post_init__(self) -> None:
        super().__post_init__()
        if {"conditioner", "denoiser"} <= set(self.freeze):
            raise LongigenError("training.freeze names both parts, so there is nothing to train; leave one out.")
        if self.sharding == "full" and (self.own_visits or self.mixed_precision == "fp16"):
            other = "training.own_visits" if self.own_visits else "training.mixed_precision=fp16"
            raise LongigenError(
                f"training.sharding=full does not go with {other}; leave one of them out (bf16 goes with it)."
            )
        if self.sharding == "full" and self.micro_batch == "auto":
            raise LongigenError(
                "training.micro_batch=auto does not go with training.sharding=full, where a process that runs out of "
                "memory leaves the others waiting; leave it out, and raise training.gradient_accumulation as far as "
                "training.batch_size falls."
            )
