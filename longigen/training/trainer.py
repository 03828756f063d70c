"""The training loop, on one or several devices by Accelerate."""

import copy
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from longigen.components.visit_sequence import Batch
from longigen.data.augment import Augment
from longigen.data.codes import Codes
from longigen.data.cohort import Cohort
from longigen.data.training_pairs import TrainingPairs
from longigen.errors import LongigenError, LongigenWarning
from longigen.models.batch_size import memory_errors
from longigen.models.compilation import compiled
from longigen.models.figures import write_strip
from longigen.models.longitudinal import LongitudinalModel, total
from longigen.models.predict import GenerationSettings, predict_batch
from longigen.models.tasks import tasks
from longigen.training.averaging import averaged, update
from longigen.training.checkpoint import Best, Trained, TrainingState
from longigen.training.micro_batch import divisor, find_micro_batch
from longigen.training.noise_loss import NoiseLoss
from longigen.training.own_visits import with_own_visits
from longigen.training.run import Run
from longigen.training.settings import TrainingSettings
from longigen.training.sharding import own_part, shard, whole
from longigen.training.step_metrics import StepMetrics
from longigen.training.stop import StopRequests, ignore_signals
from longigen.training.tracking import Tracking, tracked
from longigen.utils.files import write_errors
from longigen.utils.precision import tf32
from longigen.utils.processes import agreeing, divided, gathered, of_first, processes
from longigen.utils.randomness import SharedGenerator, derive_seed, randomness_kept

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from diffusers.training_utils import EMAModel
    from torch.optim.lr_scheduler import LRScheduler

VALIDATION_PAIRS = 16
"""Number of pairs of the validation loss."""
LOG_EVERY = 10
"""Steps between lines of ``metrics.jsonl``."""


Validated = Literal["validation_loss", "training_subjects_loss"]

StepCallback = Callable[[int, dict[str, Any]], None]
"""Called as ``callback(step, metrics)`` after each step.

On a GPU the losses of most steps are not read, since that makes the CPU wait; the metrics are then those of the last
step that was read, less than `LOG_EVERY` steps ago.
"""


class Scorer(Protocol):
    """Scores generated visits of a few validation subjects, by name; the layer of evaluations has one."""

    @property
    def best_by(self) -> str:
        """The name of the score by which weights are compared; larger is better."""
        ...

    def __call__(self, model: LongitudinalModel) -> Mapping[str, float]:
        """Return the scores of a model in ``eval()`` mode; those that are no finite numbers are left out."""
        ...


class Trainer:
    """Trains a model on a cohort and writes a run.

    The data and the noise of a step depend only on (seed, step), so a run that was interrupted and resumed ends with
    the same weights as one that was not. Several processes share each batch, and a pair has the noise that it has in
    one process, so their number changes the weights only by rounding (and by dropout, which is not shared).

    If the denoiser has an adversary (discriminator), each step of the model is followed by a step of the adversary on
    the same batch. The adversary's weights are not averaged.

    Args:
        model: the model to train.
        cohort: the data, preprocessed and split.
        settings: settings of the training loop.
        run: the run to write.
        augment: augmentation of the training pairs.
        codes: the codes of the visits, by the model's codec; by default the model encodes the images of each batch.

    Attributes:
        scorer: scores the averaged weights every `TrainingSettings.score_every` steps, and at the last one; the best
            are kept beside the last. Without one there are no scores.
        best: the step with the best score so far.
    """

    accelerator: "Accelerator"
    ema: "EMAModel"
    wrapped: nn.Module
    optimizers: "list[AcceleratedOptimizer]"
    schedules: "list[LRScheduler]"

    def __init__(
        self,
        model: LongitudinalModel,
        cohort: Cohort,
        settings: TrainingSettings,
        run: Run,
        augment: Augment | None = None,
        codes: Codes | None = None,
    ) -> None:
        # Imported late, because these imports are slow and errors in the user's options should appear quickly.
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState

        processes()  # before Accelerate makes its own state, which on a CPU has one process
        self.settings = settings
        self.augment = augment
        self.codes: Codes | None = codes
        self.run = run
        self.cohort = cohort
        # The adversary is part of the denoiser, so it is frozen with it.
        self.adversary: nn.Module | None = None if "denoiser" in settings.freeze else model.denoiser.adversary
        # A step of the model does not use the adversary's parameters, and the reverse.
        unused = DistributedDataParallelKwargs(find_unused_parameters=self.adversary is not None)
        # Accelerate keeps the precision for the life of the process; a notebook may train with another one afterwards.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            gradient_accumulation_steps=settings.gradient_accumulation,
            kwargs_handlers=[unused],
        )
        self.batch_size: int = settings.batch_of(self.accelerator.num_processes)
        self.found: int | None = None  # pairs that memory holds at once; see `longigen.training.micro_batch`
        for part in settings.freeze:
            getattr(model, part).requires_grad_(False)  # before DDP collects the parameters to synchronise
        self.whole = self._share_weights(model)
        parameters = model.generator_parameters
        self.averaged: list[nn.Parameter] = [own_part(parameter) for parameter in parameters]
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if settings.freeze and not trained:
            raise LongigenError(
                f"The {settings.freeze[0]}, which training.freeze names, is the only part of this model with weights, "
                "so there is nothing to train; do not freeze it."
            )
        self.has_weights: bool = bool(trained)  # a baseline may have no weights; it is then run without training
        parts = [trained, *([] if self.adversary is None else [list(self.adversary.parameters())])]
        optimizers = [
            torch.optim.AdamW(
                [{"params": part}],
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                betas=settings.betas,
                fused=self.accelerator.device.type == "cuda",  # one kernel for many small ones
            )
            for part in parts
        ]
        self.step: int = 0
        self.schedules = self._schedules(optimizers)
        self.model = model
        self.optimizers = [self.accelerator.prepare(optimizer) for optimizer in optimizers]
        self.wrapped = model if self.shares_weights else self.accelerator.prepare(model)
        device = torch.device("cpu") if settings.ema_device == "cpu" else self.accelerator.device
        self.ema = averaged(self.averaged, decay=settings.ema, device=device)
        self.metrics = StepMetrics(settings.learning_rate)
        self.noise_loss = NoiseLoss(model, self.accelerator.device)
        self.scorer: Scorer | None = None
        self.best: Best | None = None
        self.read_every = LOG_EVERY if self.accelerator.device.type == "cuda" else 1
        self.stop = StopRequests()
        self._started = time.perf_counter()
        self._seconds = 0.0  # of earlier processes, up to the checkpoint that this one continues from

    @property
    def micro_batch(self) -> int:
        """How many training pairs this process computes at once."""
        return divisor(self.batch_size, self.found or self.batch_size)

    @property
    def parts(self) -> int:
        """The number of micro-batches that this process makes of its share of a batch."""
        return self.batch_size // self.micro_batch

    @property
    def shares_weights(self) -> bool:
        """Whether each process holds a part of the weights; see `longigen.training.sharding`."""
        return self.settings.sharding == "full" and self.accelerator.num_processes > 1

    def _share_weights(self, model: LongitudinalModel) -> LongitudinalModel:
        """Share the weights among the processes, if that is set; return a model that can hold the whole of them.

        Raises:
            LongigenError: if the model has a discriminator.
        """
        if not self.shares_weights:
            return model
        if self.adversary is not None:
            raise LongigenError(
                "training.sharding=full does not go with a denoiser that has a discriminator; set training.sharding="
                "none."
            )
        complete = copy.deepcopy(model) if self.accelerator.is_main_process else model
        shard(model, self.accelerator.device)
        return complete

    def _gather(self) -> None:
        """Give the whole model, on the first process, the weights of all; every process calls this."""
        if not self.shares_weights:
            return
        weights = {name: whole(tensor).cpu() for name, tensor in self.model.state_dict().items()}
        if self.accelerator.is_main_process:
            self.whole.load_state_dict(weights)
            self.whole.provenance = self.model.provenance
            self.whole.eval()

    def resume(self) -> None:
        """Continue from the run's last checkpoint that is intact, or from the start if there is none at all.

        Raises:
            LongigenError: if no checkpoint is intact, or training has come further than the number of steps.
        """
        damaged: list[str] = []
        for folder in reversed(self.run.checkpoints()):
            try:
                trained = self._state.load(folder)
            except LongigenError as error:
                damaged.append(str(error))
                continue
            self.step, self._seconds, self.best = trained.step, trained.seconds, trained.best
            self.schedules = self._schedules([optimizer.optimizer for optimizer in self.optimizers])
            if damaged and self.accelerator.is_main_process:
                warnings.warn(
                    f"{damaged[0]} Training continues from the checkpoint before, of step {self.step}.",
                    LongigenWarning,
                    stacklevel=2,
                )
            self._say_processes(trained)
            break
        else:
            if damaged:
                raise LongigenError(
                    f"{damaged[0]} {self.run.folder} has no intact checkpoint to continue from; train its exported "
                    f"model further with --init {self.run.folder} and another --out, or start anew."
                )
        if self.settings.micro_batch == "auto":
            self.found = self.run.read().get("micro_batch")
        if self.step > self.settings.steps:
            raise LongigenError(
                f"{self.run.folder} is at step {self.step}, so it cannot be trained to step {self.settings.steps}; "
                "give more --steps, or leave the option out (nothing was changed)."
            )
        if self.accelerator.is_main_process:
            self.run.rewind(self.step)
        self._restore_best()

    def _restore_best(self) -> None:
        """Let the exported best weights be those of the best step that the checkpoint knows.

        A process that was killed while it exported them left a checkpoint with the same weights. Others, of later steps
        than an older checkpoint to continue from, are deleted: this training may not come to them.
        """
        exported, known = of_first(self.run.best_step), self.best and self.best.step
        if known == exported:
            return
        if known == self.step:
            self._keep_best()
            return
        self.best = None
        if self.accelerator.is_main_process:
            shutil.rmtree(self.run.best, ignore_errors=True)
            there, had = (f"of step {step}" if step else "of no step" for step in (exported, known))
            warnings.warn(
                f"The best weights in {self.run.best} were {there}, and those that the checkpoint of step {self.step} "
                f"knows {had}; they were deleted, and the best are sought anew.",
                LongigenWarning,
                stacklevel=3,
            )
        self.accelerator.wait_for_everyone()

    def _say_processes(self, trained: Trained) -> None:
        """Say if the run goes on in another number of processes, or with another number of pairs in a step."""
        now, size = self.accelerator.num_processes, self.settings.batch_size
        before = size * trained.processes if trained.batch_size is None else trained.batch_size
        if not self.accelerator.is_main_process or (trained.processes == now and before == size):
            return
        pairs = f"the same {size} pairs as before"
        if before != size:
            pairs = f"{size} pairs where it had {before}, since training.batch_size is now that of all processes"
        warnings.warn(
            f"The run was trained in {trained.processes} processes and goes on in {now}; a batch has {pairs}.",
            LongigenWarning,
            stacklevel=3,
        )

    def fit(self, callback: StepCallback | None = None) -> None:
        """Train to the last step, and export the model.

        When a signal asks the training to stop (`longigen.training.stop`), or the callback raises KeyboardInterrupt,
        the step is completed and a checkpoint is written before the exception is raised.

        Args:
            callback: called as ``callback(step, metrics)`` after each step.

        Raises:
            LongigenError: if the loss is NaN. The checkpoints and the exported model are not changed then.
            Interruption: for a signal.
        """
        settings = self.settings
        self._train_mode()
        compiling = compiled(self.model.networks, settings.compile)
        with (
            self.stop as stop,
            tf32(settings.tf32),
            compiling,
            self.noise_loss.watching(),
            tracked(settings.track if self.accelerator.is_main_process else "none", self.run, self.step) as tracking,
        ):
            if settings.micro_batch == "auto" and self.found is None:
                self._find_micro_batch()
            self.accelerator.gradient_accumulation_steps = settings.gradient_accumulation * self.parts
            self._started, first = time.perf_counter(), self.step
            batches = self._batches()
            while self.step < settings.steps and not stop.agreed:
                with memory_errors(self._too_much):
                    self._train_step(batches)
                metrics: dict[str, Any] = self.metrics.read() if self._is_read(first) else self.metrics.last
                if stop.agreed:
                    self.checkpoint()  # first of all, since a cluster may kill the process after some seconds
                metrics["steps_per_second"] = (self.step - first) / (time.perf_counter() - self._started)
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    metrics[self.validated] = self.validate()
                improved = self._score(metrics)
                self._log(metrics, tracking, first)
                try:
                    if callback is not None:
                        callback(self.step, metrics)
                except KeyboardInterrupt:
                    self.metrics.read()  # no checkpoint of weights that are NaN
                    self.checkpoint()
                    raise
                if self.step % settings.sample_every == 0 or self.step == settings.steps:
                    self.sample()
                    if self.accelerator.is_main_process:
                        tracking.picture(self.run.sample(self.step), self.step)
                if improved or self.step % settings.checkpoint_every == 0 or self.step == settings.steps:
                    self.checkpoint()
                if improved:
                    self._keep_best()
        stop.obey()

    def _log(self, metrics: dict[str, Any], tracking: Tracking, first: int) -> None:
        """Write the metrics of a step, if they are due, into the run and to the tracker.

        The first step of a process is written too. That ends no mean over steps, nor does anything but the step itself
        and a checkpoint, so that a resumed run has the lines of one that was not interrupted.
        """
        settings = self.settings
        due = self.step % LOG_EVERY == 0 or self.step % settings.validate_every == 0 or self._is_scored
        due = due or self.step == settings.steps
        if not due and self.step != first + 1:
            return
        metrics |= self.noise_loss.read(self.accelerator)
        if due:
            self.noise_loss.clear()
        if self.accelerator.is_main_process:
            self.run.log({"step": self.step, **metrics})
            tracking.log(metrics, self.step)

    @property
    def _is_scored(self) -> bool:
        """Whether generated visits are scored after this step."""
        every = self.settings.score_every
        return bool(self.scorer and every) and (self.step % every == 0 or self.step == self.settings.steps)

    def _score(self, metrics: dict[str, Any]) -> bool:
        """Add the scores of the averaged weights, if they are due; return whether they are the best so far.

        The names begin with ``validation``, or with ``training_subjects`` if no others are set apart: then none are
        best.
        """
        if self.scorer is None or not self._is_scored:
            return False
        scorer = self.scorer
        with self._averaged(), self._on_first():
            scores = of_first(lambda: dict(scorer(self.whole)))
        metrics |= {f"{self.validated.removesuffix('_loss')}_{name}": score for name, score in scores.items()}
        score = scores.get(scorer.best_by)
        if score is None or not self.cohort.split.validation or (self.best and score <= self.best.score):
            return False
        self.best = Best(self.step, score)
        return True

    @property
    def _too_much(self) -> str:
        """What memory does not hold where it does not hold a step, and what to do."""
        advice = "'longigen plan' says which settings make it fit."
        if self.settings.micro_batch == "all" and self.batch_size > 1:
            advice = f"train with --batch-size auto, which computes fewer at once, or {advice}"
        return f"the training step, in which {self.micro_batch} pairs are computed at once; {advice}"

    @property
    def validated(self) -> Validated:
        """The name of the loss that `validate` returns: that of the training subjects if no others are set apart."""
        return "validation_loss" if self.cohort.split.validation else "training_subjects_loss"

    def validate(self) -> float:
        """Return the loss of the averaged weights on fixed pairs of the validation part, with fixed noise.

        Several processes share the pairs, and each returns the mean of all.

        Without a validation part the pairs are of the training part, and the loss has another name. Missing visits are
        slots whatever `TrainingSettings.missing` is, so that the losses of runs can be compared.
        """
        subjects = self.cohort.part("validation") or self.cohort.part("train")
        pairs = TrainingPairs(
            subjects,
            length=VALIDATION_PAIRS,
            seed=derive_seed("validation", 0),
            causal=self.model.conditioner.causal,
            covariates=self.model.statistics.covariates,
            codes=self.codes,
        )
        device = self.accelerator.device

        def losses(numbers: Sequence[int]) -> list[float]:
            found = []
            for number in numbers:
                generator = torch.Generator(device).manual_seed(derive_seed("validation noise", number))
                found.append(self.model.loss(pairs[number].to(device), generator).mean())
            return torch.stack(found).tolist() if found else []

        numbers = range(len(pairs))
        with self._averaged(), torch.no_grad(), self.accelerator.autocast():
            # Shared weights are gathered at each call, so every process makes every call.
            return sum(losses(numbers) if self.shares_weights else divided(losses, numbers)) / len(pairs)

    def sample(self) -> None:
        """Write a figure of the last visit of a validation subject: given, generated and true visits, and errors.

        Without a validation part it is a training subject, and the figure says so.
        """
        with self._averaged(), self._on_first():
            if self.accelerator.is_main_process:
                prepared = (self.cohort.part("validation") or self.cohort.part("train"))[0]
                task = tasks(len(prepared.subject.visits), "full", subject=prepared.subject.id)[-1]
                generation = GenerationSettings(precision=self.settings.precision)
                device = self.accelerator.device
                result = predict_batch(self.whole, [(prepared, task)], settings=generation, device=device)[0]
                seen = "" if self.cohort.split.validation else ", a training subject"
                write_strip(result, self.run.sample(self.step), title=f"step {self.step}{seen}")
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _on_first(self) -> Iterator[None]:
        """Have the whole model on the first process's device inside the context; every process enters it."""
        self._gather()
        if self.accelerator.is_main_process:
            self.whole.to(self.accelerator.device)
        yield
        if self.accelerator.is_main_process and self.shares_weights:
            self.whole.cpu()

    def _keep_best(self) -> None:
        """Export the averaged weights of this step as the best; after their checkpoint, which can replace them."""
        with write_errors(self.run.best):
            self._export(self.run.best)

    def checkpoint(self) -> None:
        """Write a checkpoint and export the averaged weights, atomically."""
        part, final = self.run.checkpoint(self.step)
        with write_errors(final):
            if self.accelerator.is_main_process and part.exists():
                shutil.rmtree(part)
            self.accelerator.wait_for_everyone()
            seconds = self._seconds + time.perf_counter() - self._started
            try:
                self._state.save(part, self.step, seconds, self.best)
            except OSError:
                shutil.rmtree(part, ignore_errors=True)
                raise
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                self.run.finish_checkpoint(part, final)
            self._export(self.run.model)
        self.noise_loss.clear()  # what was added up is not in the checkpoint

    def _export(self, folder: Path) -> None:
        """Write the model with its averaged weights; every process calls this."""
        self.model.provenance = replace(self.model.provenance, training=self._training_metadata())
        with self._averaged():
            self._gather()
            if self.accelerator.is_main_process:
                self.whole.save_pretrained(folder)
        self.accelerator.wait_for_everyone()

    def _training_metadata(self) -> dict[str, Any]:
        """Return the training metadata of ``config.json``: steps, seconds, type of device; no host name."""
        cuda = self.accelerator.device.type == "cuda"
        return {
            **self.model.provenance.training,
            "steps": self.step,
            "seconds": round(self._seconds + time.perf_counter() - self._started, 1),
            "device": torch.cuda.get_device_name(self.accelerator.device) if cuda else f"CPU ({platform.machine()})",
            "threads": None if cuda else torch.get_num_threads(),
            "processes": self.accelerator.num_processes,
        }

    @property
    def _state(self) -> TrainingState:
        averaged, batch_size = self.model.generator_parameters, self.settings.batch_size
        return TrainingState(self.accelerator, self.model, self.ema, self.optimizers, averaged, batch_size)

    def _schedules(self, optimizers: Sequence[torch.optim.Optimizer]) -> "list[LRScheduler]":
        """Return the schedule of the learning rate of each optimiser from the present step on."""
        from diffusers.optimization import get_scheduler

        settings = self.settings
        return [
            get_scheduler(
                "constant_with_warmup" if settings.lr_schedule == "constant" else settings.lr_schedule,
                optimizer,
                num_warmup_steps=settings.warmup,
                num_training_steps=settings.steps,
                last_epoch=self.step - 1,
            )
            for optimizer in optimizers
        ]

    def _train_mode(self) -> None:
        self.model.train()
        for part in self.settings.freeze:
            getattr(self.model, part).eval()

    def _train_step(self, batches: Iterator[Batch]) -> None:
        """Train the model, and its adversary if it has one, for one step."""
        settings, accelerator = self.settings, self.accelerator
        micro_losses, norm = [], None
        for number, part in product(range(settings.gradient_accumulation), range(self.parts)):
            # The 0 was once the number of the process; now a sample's noise goes by its number in the whole batch.
            seed = derive_seed("noise", settings.seed, self.step, number, 0)
            generator = SharedGenerator(accelerator.device, **self._place(part)).manual_seed(seed)
            batch = self._with_own_visits(next(batches).to(accelerator.device), number, part)
            with accelerator.accumulate(self.wrapped):
                with self._frozen(self.adversary):
                    losses, norm = self._optimizer_step(batch, generator)
                self.noise_loss.add(total(losses))
                losses = {"loss": total(losses)} | {
                    f"loss_{name}": loss for name, loss in losses.items() if len(losses) > 1
                }
                if self.adversary is not None:
                    adversary_losses, _ = self._optimizer_step(batch, generator, adversary=True)
                    losses |= {"adversary_loss": total(adversary_losses)}
                    losses |= {f"adversary_loss_{name}": loss for name, loss in adversary_losses.items()}
            micro_losses.append({name: loss.detach().mean() for name, loss in losses.items()})
        rate = float(self.schedules[0].get_last_lr()[0])
        if self.has_weights:
            for schedule in self.schedules:
                schedule.step()
            update(self.ema, self.averaged)
        self.step += 1
        names = list(micro_losses[0])
        means = torch.stack([torch.stack(list(losses.values())) for losses in micro_losses]).mean(0)
        # With the losses, whether any process was asked to stop, so that all stop after the same step.
        requested = self.stop.received is not None
        if accelerator.num_processes > 1:
            reduced = torch.cat([means, means.new_tensor([float(requested)])])
            reduced = torch.as_tensor(accelerator.reduce(reduced, "mean"))
            means, requested = reduced[:-1], bool(reduced[-1] > 0)
        self.stop.agree(requested)
        self.metrics.add(self.step, names, means, None if norm is None else whole(norm), rate)

    def _is_read(self, first: int) -> bool:
        """Return whether the losses of this step are read: it is logged, or something is written after it."""
        settings = self.settings
        every = (self.read_every, LOG_EVERY, settings.validate_every, settings.sample_every, settings.checkpoint_every)
        due = self._is_scored or any(self.step % steps == 0 for steps in every)
        return due or self.stop.agreed or self.step in (first + 1, settings.steps)

    def _with_own_visits(self, batch: Batch, number: int, part: int) -> Batch:
        settings = self.settings
        if not settings.own_visits:
            return batch
        seed = derive_seed("own visits", settings.seed, self.step, number, 0) % 2**32
        batch = with_own_visits(
            self.model, batch, share=settings.own_visits, precision=settings.precision, seed=seed, **self._place(part)
        )
        self._train_mode()
        return batch

    def _place(self, part: int) -> dict[str, int]:
        """Return where a micro-batch is in the whole batch, as if a process of its own had it."""
        accelerator, parts = self.accelerator, self.parts
        return {"process": accelerator.process_index * parts + part, "processes": accelerator.num_processes * parts}

    def _optimizer_step(
        self, batch: Batch, generator: torch.Generator, *, adversary: bool = False
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Make one optimiser step of the model, or of its adversary; return the losses and the gradient norm."""
        accelerator, optimizer = self.accelerator, self.optimizers[adversary]
        norm = None
        losses = self._backward(self.wrapped, batch, generator, adversary=adversary)
        if self.has_weights:
            if accelerator.sync_gradients:
                accelerator.unscale_gradients(optimizer)
                parts = [parameter for group in optimizer.param_groups for parameter in group["params"]]
                norm = nn.utils.clip_grad_norm_(parts, self.settings.clip)
            optimizer.step()
            optimizer.zero_grad()
        return losses, norm

    def _backward(
        self, network: nn.Module, batch: Batch, generator: torch.Generator, *, adversary: bool = False
    ) -> dict[str, Tensor]:
        """Compute the losses of the model, or of its adversary, and add their gradients to the parameters'."""
        with self.accelerator.autocast():
            losses = network(batch, generator, adversary=adversary)
        if self.has_weights:
            self.accelerator.backward(total(losses).mean())
        return losses

    def _find_micro_batch(self) -> None:
        """Find how many pairs memory holds at once, in whichever process it holds least; say and record it."""
        accelerator, found = self.accelerator, self.batch_size
        pair = self._pairs().largest()
        with agreeing(), self._trial():
            found = find_micro_batch(lambda pairs: self._try([pair] * pairs), self.batch_size, accelerator.device)
        self.found = min(gathered([found]))
        if not accelerator.is_main_process:
            return
        self.run.record_micro_batch(self.found)
        if self.parts > 1:
            settings = self.settings
            warnings.warn(
                f"As memory allows, {self.found} of the {self.batch_size} training pairs that a process has of a batch "
                f"are computed at once; the gradients of its {self.parts} parts are added up, so a step is of "
                f"{settings.batch_size * settings.gradient_accumulation} pairs, as the recipe says.",
                LongigenWarning,
                stacklevel=3,
            )

    @contextmanager
    def _trial(self) -> Iterator[None]:
        """Leave buffers and random generators as they are, and hold what an optimiser will: the moments of AdamW."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        groups = [group for optimizer in self.optimizers if not optimizer.state for group in optimizer.param_groups]
        moments = [torch.zeros_like(parameter) for group in groups for parameter in group["params"] * 2]
        with randomness_kept(self.accelerator.device):
            yield
        moments.clear()
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)

    def _try(self, pairs: Sequence[Batch]) -> None:
        """Compute the gradients of pairs and forget them, in this process alone."""
        batch = Batch.collate(pairs).to(self.accelerator.device)
        generator = torch.Generator(self.accelerator.device).manual_seed(0)
        try:
            with self._frozen(self.adversary):
                self._backward(self.model, batch, generator)
            if self.adversary is not None:
                self._backward(self.model, batch, generator, adversary=True)
        finally:
            self.model.zero_grad()

    @staticmethod
    @contextmanager
    def _frozen(adversary: nn.Module | None) -> Iterator[None]:
        """Disable the gradients of the adversary's parameters inside the context."""
        if adversary is None:
            yield
            return
        adversary.requires_grad_(False)
        try:
            yield
        finally:
            adversary.requires_grad_(True)

    def _pairs(self) -> TrainingPairs:
        """Return the pairs of the whole training, of all processes."""
        settings = self.settings
        return TrainingPairs(
            self.cohort.part("train"),
            length=settings.steps * settings.batch_size * settings.gradient_accumulation,
            seed=settings.seed,
            causal=self.model.conditioner.causal,
            covariates=self.model.statistics.covariates,
            augment=self.augment,
            missing=settings.missing,
            last=settings.last,
            single=settings.single,
            codes=self.codes,
        )

    def _batches(self) -> Iterator[Batch]:
        """Return the training batches of this process, in micro-batches, from the next step to the last."""
        settings, accelerator, pairs = self.settings, self.accelerator, self._pairs()
        size, micro = self.batch_size, self.micro_batch
        done = self.step * settings.batch_size * settings.gradient_accumulation
        starts = range(done + accelerator.process_index * size, len(pairs), settings.batch_size)
        return iter(
            DataLoader(
                pairs,
                batch_sampler=(
                    list(range(first, first + micro)) for start in starts for first in range(start, start + size, micro)
                ),
                collate_fn=Batch.collate,
                num_workers=settings.workers,
                worker_init_fn=ignore_signals,
                pin_memory=accelerator.device.type == "cuda",
            )
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the model its averaged weights, in ``eval()`` mode, inside the context."""
        self.ema.store(self.averaged)
        self.ema.copy_to(self.averaged)
        self.model.eval()
        try:
            yield
        finally:
            self._train_mode()
            self.ema.restore(self.averaged)
