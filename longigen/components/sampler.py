"""`Sampler`: the base class of noise schedules and of the reverse process, from noise or from a visit to a volume."""

import abc
import copy
import math
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from longigen.components.base import Component, Parameter
from longigen.components.parameterization import Prediction, alpha_sigma, expand, prediction_target
from longigen.components.ranges import Evaluations, LogSNR
from longigen.errors import LongigenError
from longigen.utils.randomness import Generators, draw_rows, randn_like

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Generators], Tensor]
"""A step of the reverse process: (z_t, x̂, t, s, generator) -> z_s, with times t > s; see `Sampler.step`."""

Start = Literal["noise", "base"]

STEPS = Parameter("steps", Evaluations)


class Sampler(Component, abc.ABC):
    """The noise schedule: the forward process that corrupts training volumes, and the reverse process that samples.

    Contract:

    - Time t runs from 0 (clean) to 1 (noise). `log_snr(t)` is λ, strictly decreasing; α² = sigmoid(λ), σ² = 1 - α².
      The schedule here is the cosine one over [log_snr_min, log_snr_max] (Ho and Salimans 2022, Section 4):
      λ(t) = -2 log tan(a t + b) with b = arctan(exp(-λ_max / 2)), a = arctan(exp(-λ_min / 2)) - b.
    - Training uses `corrupt` and `loss`. `prediction` is what a network trained with this sampler predicts; the loss
      is the squared error of that prediction, so with ``epsilon`` it is the noise-prediction loss.
      Training draws its times by `training_times`; `trained_range` is the range of λ that the network then knows.
    - `step` is generation, and the one method that a new sampler must write: from z_t and x̂ to z_s. It gets x̂, so a
      sampler can use a model that was trained with another one, within that model's `trained_range`. `sample` checks,
      counts and reports, and is not overridden. `walk` holds the loop: from `begin`, where another z than the given one
      may be chosen, through the `timesteps`. A sampler whose steps depend on those before keeps what it must know in
      `stepper`; a solver that chooses for itself where it evaluates the network overrides `walk`.
    - With the true x as x̂, `step` keeps z at its noise level: z_s has the mean α_s x and about the deviation σ_s.
    - `start` is where a process starts, at t = 1: from ``noise``, or from the ``base``, the last visit. The base then
      has the place of ε: z_t = α_t x + σ_t base, plus noise of the deviation `noise_std(t)`, little at both ends. What
      is said of ε, x, v and the velocity holds with the base as ε. In particular a velocity of zero everywhere is the
      base itself: copy-last, if `step` adds no noise.
      - It is the base as x: with ``target=image`` the last visit, with ``target=residual`` zeros.
      - The model binds it by `starting_at` before `corrupt`, and gives it to `sample` as `z`. Condition dropout keeps
        it, so guidance extrapolates between two processes from the same base.
      - Draws differ by what `step` draws; see `deterministic`. A denoiser whose draws are the noise in z has one.
      - A network is sampled only by samplers with the `start` and `contexts` of the one that trained it.
      - `Conditioner.explain` tells what the conditioning comes from; the base is beside it.
    - `contexts` is the number of visits at which a process starts side by side, each a group of C channels of z and x,
      in order of time; where a subject has fewer, the last one fills up. `answer` makes the C channels of the result.
    - A sampler that overrides `log_snr` overrides its inverse, `time`.
    - Where `solver` names another sampler, that one generates by default, in `solver_steps`: for a process that is
      trained in a thousand steps and generates as well in twenty of a solver. A user who asks for this sampler by its
      name gets it as it is configured, with its own `steps`.
    - Where `learns_from_teacher` is true, `taught` returns the sampler with another `corrupt`, whose targets are those
      of a teacher's predictions for one batch; training with `training.teacher` calls it. Without a teacher it learns
      from data.
    - Where `central` is true, z = 0 gives the central forecast: one answer in the middle of the draws. A user who asks
      for a single sample gets this one.
    - Where `deterministic` is true, generation depends on no noise, so all samples are one; a user who asks for several
      is told.
    - Everything is per sample and of any shape (B, ...). Randomness comes only from the generators passed in, by
      `randn_like` and `draw_rows`: so a sample has the same noise whatever the number of processes of a training.
    """

    kind: ClassVar[str] = "sampler"
    start: ClassVar[Start] = "noise"
    contexts: int = 1
    central: bool = False
    deterministic: bool = False
    solver: str | None = None
    solver_steps: int | None = None
    learns_from_teacher: ClassVar[bool] = False

    def __init__(
        self,
        *,
        prediction: Prediction = "epsilon",
        steps: Evaluations = 100,
        log_snr_min: LogSNR = -20.0,
        log_snr_max: LogSNR = 20.0,
    ) -> None:
        super().__init__()
        if not log_snr_min < log_snr_max:
            raise LongigenError(
                f"{type(self).__name__}: log_snr_min must be below log_snr_max, got {log_snr_min:g} and "
                f"{log_snr_max:g}."
            )
        self.prediction: Prediction = prediction
        self.steps = steps
        self._base: Tensor | None = None
        self._b = math.atan(math.exp(-0.5 * log_snr_max))
        self._a = math.atan(math.exp(-0.5 * log_snr_min)) - self._b

    def log_snr(self, t: Tensor) -> Tensor:
        """Return λ at times `t` in [0, 1]."""
        # In double precision: near t = 1 the tangent is close to its pole.
        return (-2.0 * torch.log(torch.tan(self._a * t.double() + self._b))).to(t.dtype)

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the times at which λ is `log_snr`: the inverse of the schedule."""
        return ((torch.atan(torch.exp(-0.5 * log_snr.double())) - self._b) / self._a).to(log_snr.dtype)

    @property
    def trained_range(self) -> tuple[float, float]:
        """The lowest and the highest λ on which a network is trained: here, those of the schedule."""
        low, high = self.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
        return low, high

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return α and σ at times `t`."""
        return alpha_sigma(self.log_snr(t))

    def noise_std(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise in z_t at times `t`: σ, if the process starts from noise."""
        return self.alpha_sigma(t)[1]

    def starting_at(self, base: Tensor) -> Self:
        """Return this sampler for a batch whose processes start at the base (B, ...), as x.

        Raises:
            NotImplementedError: if `start` is not ``base``.
        """
        if self.start != "base":
            raise NotImplementedError(f"{type(self).__name__} starts from noise")
        bound = copy.copy(self)
        bound._base = base
        return bound

    @property
    def base(self) -> Tensor:
        """Where the processes of this batch start, as x (B, ...).

        Raises:
            ValueError: if `starting_at` has not been called.
        """
        if self._base is None:
            raise ValueError(f"{type(self).__name__} has no base to start at; call starting_at first")
        return self._base

    @property
    def starts(self) -> str:
        """Where a process starts, in words: what a network must share with a sampler that trained another one."""
        if self.start == "noise":
            return "noise"
        return "the last visit" if self.contexts == 1 else f"the last {self.contexts} visits"

    def answer(self, image: Tensor) -> Tensor:
        """Return the result (B, C, ...) of processes from several visits (B, contexts · C, ...): their mean."""
        return image.unflatten(1, (self.contexts, -1)).mean(dim=1)

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the times of `count` training samples (count,): t ~ U(0, 1)."""

        def draw(number: int) -> Tensor:
            return torch.rand(number, generator=generator, device=generator.device)

        return draw_rows(draw, count, generator)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return a noisy volume z_t at random `training_times`, its λ (B,), and the network's prediction target."""
        log_snr = self.log_snr(self.training_times(x.shape[0], generator).to(x.device))
        eps = randn_like(x, generator)
        alpha, sigma = (expand(part, x) for part in alpha_sigma(log_snr))
        return alpha * x + sigma * eps, log_snr, prediction_target(self.prediction, x, eps, log_snr)

    def taught(self, teacher: Callable[[Tensor, Tensor], Tensor]) -> "Sampler":
        """Return this sampler with the training targets of a teacher.

        Args:
            teacher: from z_t and λ (B,) to the clean volume x̂ that the teacher predicts for this batch, without
                gradients.

        Raises:
            NotImplementedError: if `learns_from_teacher` is false.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn from a teacher")

    def loss(self, output: Tensor, target: Tensor, log_snr: Tensor) -> Tensor:
        """Return the loss of each sample (B,): the mean squared error."""
        return (output - target).float().square().flatten(1).mean(dim=1)

    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        """Return the `steps` times of the network evaluations, decreasing: here, evenly from t = 1, without t = 0.

        Args:
            steps: network evaluations.
            within: the lowest and the highest λ on which the network was trained, if another sampler trained it. The
                schedule is clipped to this range.

        Raises:
            LongigenError: if the schedule and the range do not overlap.
        """
        ends = torch.tensor(self.span(steps, within), dtype=torch.float64)
        start, end = self.time(ends).clamp(0, 1).tolist()
        return torch.linspace(start, end, steps + 1, dtype=torch.float64)[:-1]

    def span(self, steps: int, within: tuple[float, float] | None) -> tuple[float, float]:
        """Return λ at the start and at the end of the reverse process: the schedule's range, clipped to `within`.

        Raises:
            LongigenError: as `timesteps`.
        """
        low, high = self.log_snr(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
        if within is not None:
            low, high = (min(max(end, within[0]), within[1]) for end in (low, high))
            if steps > 1 and not low < high:
                raise LongigenError(
                    f"A model trained for noise levels λ from {within[0]:.3g} to {within[1]:.3g} cannot be used with "
                    f"{type(self).__name__} in {steps} steps; use the sampler it was trained with, or one step."
                )
        return low, high

    @abc.abstractmethod
    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z_s from z_t, the predicted clean volume `x` and the times t > s (scalars)."""

    def evaluations(self, steps: int | None) -> int:
        """Return a number of network evaluations, checked: the sampler's own if None.

        Raises:
            LongigenError: for a number that is not allowed.
        """
        return STEPS.check(self.steps if steps is None else steps, type(self).__name__)

    def stepper(self, times: Tensor) -> Step:
        """Return the step function of one run over `times`: here `step`, which does not depend on earlier steps."""
        return self.step

    def begin(self, z: Tensor, t: Tensor) -> Tensor:
        """Return z at the first time `t` of a run (a scalar), from where the process starts: here, that itself.

        Args:
            z: standard normal noise (B, ...), or the base as x; see `start`.
            t: the first of the `timesteps`.
        """
        return z

    def walk(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        steps: int,
        within: tuple[float, float] | None,
    ) -> Tensor:
        """Return the end of the reverse process (B, ...): here, by `step` from each of the `timesteps` to the next.

        Args:
            predict: from z_t and λ (B,) to x̂, as in `sample`; it counts the evaluations.
            z: where the process starts (B, ...); see `begin`.
            generator: draws the noise that is added at each step.
            steps: network evaluations, at most.
            within: the range of λ, as in `sample`.

        Raises:
            LongigenError: as `timesteps`.
        """
        times = self.timesteps(steps, within).to(z.device)
        step = self.stepper(times)
        x = z = self.begin(z, times[0])
        for index, t in enumerate(times):
            log_snr = self.log_snr(t).to(z.dtype).repeat(z.shape[0])  # strides as with guidance, see `compiled`
            x = predict(z, log_snr)
            if index + 1 < len(times):
                z = step(z, x, t, times[index + 1], generator)
        return x

    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        *,
        steps: int | None = None,
        within: tuple[float, float] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Run the reverse process: sample a volume from noise, or from the base.

        Args:
            predict: from z_t and λ (B,) to the predicted clean volume x̂; called once a step.
            z: where the process starts (B, ...): standard normal noise, or the base as x; see `start`.
            generator: draws the noise that is added at each step.
            steps: network evaluations, at least 1; the sampler's own `steps` if None.
            within: the `trained_range` of the sampler that trained the network, if that is another one.
            callback: called as ``callback(done, steps)`` after each network evaluation.

        Returns:
            x̂ of the last step, as in Ho and Salimans 2022, Algorithm 2.

        Raises:
            LongigenError: for a number of steps that is not allowed, or a schedule that cannot go within the range.
        """
        count, done = self.evaluations(steps), 0

        def counted(z_t: Tensor, log_snr: Tensor) -> Tensor:
            nonlocal done
            x = predict(z_t, log_snr)
            done += 1
            if callback is not None:
                callback(done, max(done, count))
            return x

        end = self.walk(counted, z, generator, count, within)
        if callback is not None and done < count:
            callback(count, count)
        return end
