"""What a step needs on a device: memory by part and time, predicted from a trace and measured where possible."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from longigen.components.base import parameters
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError
from longigen.models.longitudinal import LongitudinalModel
from longigen.planning.device import Device
from longigen.planning.measure import Measured, measure_generation, measure_training
from longigen.planning.sizes import Shape, Sizes
from longigen.planning.trace import Part, Traced, Work, trace_generation, trace_training
from longigen.registry.registry import registry
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe
from longigen.training.settings import TrainingSettings
from longigen.utils.precision import ComputingType


@dataclass(frozen=True)
class Estimate:
    """What a step needs.

    Attributes:
        memory: predicted bytes by part, at the moment when most are used.
        predicted_seconds: predicted duration.
        measured: what was measured on this machine; None if nothing was.
    """

    memory: Mapping[Part, int]
    predicted_seconds: float
    measured: Measured | None = None

    @property
    def predicted_peak(self) -> int:
        return sum(self.memory.values())

    @property
    def peak(self) -> int:
        """Bytes at the peak: measured if they were, else predicted."""
        measured = None if self.measured is None else self.measured.peak
        return self.predicted_peak if measured is None else measured

    @property
    def seconds(self) -> float:
        """Duration: measured if it was, else predicted."""
        return self.predicted_seconds if self.measured is None else self.measured.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; memory in bytes."""
        measured = self.measured
        return {
            "memory": dict(self.memory),
            "predicted_peak": self.predicted_peak,
            "predicted_seconds": self.predicted_seconds,
            "measured_peak": None if measured is None else measured.peak,
            "measured_seconds": None if measured is None else measured.seconds,
        }


@dataclass(frozen=True)
class Subject:
    """What is estimated: a recipe at some sizes on a device.

    Attributes:
        recipe: the recipe.
        sizes: the sizes.
        device: the device.
    """

    recipe: Recipe
    sizes: Sizes
    device: Device

    @property
    def training(self) -> TrainingSettings:
        return self.recipe.settings("training")

    def model(self) -> LongitudinalModel:
        """Return the recipe's model with random weights, on the CPU.

        Raises:
            LongigenError: if it has no weights.
        """
        torch.manual_seed(self.training.seed)
        model = model_of(self.recipe, Statistics(covariates=self.sizes.covariates, channels=self.sizes.channels))
        if not model.parameter_count:
            raise LongigenError(
                f"{' + '.join(self.recipe.names[part] for part in ('conditioner', 'denoiser', 'sampler'))} has no "
                "weights to train, so there is nothing to plan; choose a recipe or components that are trained."
            )
        return model

    def changed(self, *changes: str, sizes: Sizes | None = None) -> "Subject":
        """Return the subject with other hyperparameters, and maybe other sizes."""
        recipe = Recipe.from_dict(self.recipe.to_dict(), changes)
        return replace(self, recipe=recipe, sizes=sizes or self.sizes)

    @property
    def can_checkpoint(self) -> bool:
        """Whether the denoiser can recompute its activations."""
        return "checkpointing" in parameters(registry.load("denoiser", self.recipe.names["denoiser"]))

    def traced(self) -> Traced:
        """Return the trace of one batch of training."""
        settings = self.training
        work = self._work(settings.batch_size, self.sizes.box, settings.precision)
        accumulate = settings.gradient_accumulation > 1
        average = not (work.cuda and settings.ema_device == "cpu")
        return trace_training(self.model(), work, frozen=settings.freeze, accumulate=accumulate, average=average)

    def of_training(self, limit: float = 0.0) -> Estimate:
        """Return what a batch of training needs, measured too if its predicted time is within a limit.

        Args:
            limit: seconds that measuring may take; 0 measures nothing.
        """
        settings, traced = self.training, self.traced()
        estimate = Estimate(traced.memory, self.device.seconds(traced.kernels))
        slow = not self.device.cuda and settings.precision != "fp32"  # a step in 16 bits can take minutes on a CPU
        if slow or not self._measurable(estimate, 2, limit):
            return estimate
        batch = self.sizes.batch(settings.batch_size, self.sizes.box)
        measured = measure_training(
            self.model,
            batch,
            settings.precision,
            self._torch,
            frozen=settings.freeze,
            average_on=torch.device("cpu") if settings.ema_device == "cpu" else None,
        )
        return replace(estimate, measured=measured)

    def of_generation(self, evaluations: int, limit: float = 0.0) -> Estimate:
        """Return what the generation of one visit by some network evaluations needs, as `of_training`."""
        kind: ComputingType = "bf16" if self.device.cuda and self.device.bf16 else "fp32"  # as --precision auto
        work = self._work(1, self.sizes.grid, kind)
        traced = trace_generation(self.model(), work, evaluations=evaluations)
        estimate = Estimate(traced.memory, self.device.seconds(traced.kernels))
        if not self._measurable(estimate, 4 / max(evaluations, 2), limit):
            return estimate
        batch = self.sizes.batch(1, self.sizes.grid)
        measured = measure_generation(self.model, batch, kind, self._torch, evaluations=evaluations)
        return replace(estimate, measured=measured)

    @property
    def _torch(self) -> torch.device:
        return torch.device("cuda" if self.device.cuda else "cpu")

    def _work(self, count: int, shape: Shape, kind: ComputingType) -> Work:
        return Work(self.sizes.batch(count), shape, kind, self.device.cuda)

    def _measurable(self, estimate: Estimate, calls: float, limit: float) -> bool:
        """Return whether calls of what is estimated fit into a limit of seconds and into the memory of this machine."""
        fits = estimate.predicted_peak < self.device.usable
        return self.device.here and fits and calls * estimate.predicted_seconds < limit
