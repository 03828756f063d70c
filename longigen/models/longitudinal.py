"""The model: a conditioner, a denoiser and a sampler, composed."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from longigen.components.conditioner import Conditioner
from longigen.components.conditioning import Conditioning
from longigen.components.denoiser import Denoiser
from longigen.components.parameterization import Prediction
from longigen.components.sampler import Sampler
from longigen.components.training_example import DiffusionTarget, Example
from longigen.components.visit_sequence import BACKGROUND, Batch, VisitSequence
from longigen.data.dataset import Subject
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError
from longigen.hub.publish import Release, publication
from longigen.models.forecast import Forecast, as_subject, future_times, generate_forecast, missing_times
from longigen.models.guidance import guided
from longigen.models.predict import GenerationSettings
from longigen.models.pretrained import load, loader, save
from longigen.models.settings import ModelSettings, Provenance
from longigen.registry.registry import registry
from longigen.utils.progress import progress as show_progress
from longigen.utils.progress import silent
from longigen.utils.randomness import Generators, derived_generator, randn_like


class LongitudinalModel(nn.Module):
    """A conditioner, a denoiser and a sampler, composed into one model.

    Composing builds the layers of both networks: the conditioner is told the denoiser's `stem_features`, the denoiser
    the conditioner's `routes`.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        denoiser: Denoiser,
        sampler: Sampler,
        *,
        settings: ModelSettings | None = None,
        statistics: Statistics | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        self.settings: ModelSettings = settings or ModelSettings()
        self.statistics: Statistics = statistics or Statistics()
        self.provenance: Provenance = provenance or Provenance()
        conditioner.build(
            channels=self.statistics.channels,
            stem_features=denoiser.stem_features,
            time_scale=self.statistics.time_scale,
            covariates=self.statistics.covariates,
        )
        base = self.statistics.channels if self.settings.target == "residual" else 0
        denoiser.build(
            channels=self.statistics.channels,
            routes=replace(conditioner.routes, concat=conditioner.routes.concat + base),
        )
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.sampler = sampler

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters, excluding those of an adversary (discriminator)."""
        return sum(p.numel() for p in self.generator_parameters)

    @property
    def generator_parameters(self) -> list[nn.Parameter]:
        """All parameters, excluding those of an adversary (discriminator)."""
        adversary = self.denoiser.adversary
        left_out = set() if adversary is None else {id(p) for p in adversary.parameters()}
        return [p for p in self.parameters() if id(p) not in left_out]

    @property
    def prediction(self) -> Prediction:
        """Prediction type of the denoiser's output, after an image is encoded as the diffusion target."""
        return self.sampler.prediction if self.denoiser.predicts is None else "x"

    def forward(self, batch: Batch, generator: torch.Generator, *, adversary: bool = False) -> dict[str, Tensor]:
        """Return the training losses of each sample (B,) by name: the denoiser's or its adversary's.

        A method of this name is what DDP wraps.
        """
        if not adversary:
            return dict(self.denoiser.losses(self.example(batch, generator)))
        with torch.no_grad():
            example = self.example(batch, generator)
        return dict(self.denoiser.adversary_losses(example))

    def example(self, batch: Batch, generator: torch.Generator) -> Example:
        """Encode the conditions of a batch and drop some of them (SADM, Algorithm 1), as input of `Denoiser.losses`."""
        conditioning = self.conditioner(batch.history, batch.target_time)
        if self.denoiser.denoises:
            dropped = torch.rand(len(batch.target), generator=generator, device=generator.device)
            instead = conditioning.noise(generator) if self.settings.unconditional == "random" else conditioning.null()
            conditioning = conditioning.drop(dropped.to(batch.target.device) < self.settings.p_uncond, instead)
        (conditioning,), target = self._add_residual_base(batch.history, batch.target_time, conditioning)
        return Example(
            image=batch.target,
            conditioning=conditioning,
            sampler=self.sampler,
            generator=generator,
            diffusion_target=target,
        )

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the mean training loss of a batch (SADM, Algorithm 1, Eq. 5): the sum of the denoiser's losses.

        Args:
            batch: histories, target visits and their times.
            generator: of the noise level, the noise and the dropping of conditions.
        """
        return total(self(batch, generator)).mean()

    @torch.no_grad()
    def generate(
        self,
        history: VisitSequence,
        target_times: Tensor,
        *,
        target_valid: Tensor | None = None,
        subjects: Sequence[str] | None = None,
        seed: int = 0,
        sample: int = 0,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Generate visits, missing ones and future ones (SADM, Algorithm 2).

        Visits are made in order of time, and each joins the history of the next (unless the conditioner is not
        `autoregressive`). Visits that the history holds as valid but not observed and that lie before the last target
        are imputed on the way. The conditioning is computed once per visit. A visit's noise is seeded by (seed,
        subject, time, sample): it does not depend on the batch.

        Args:
            history: what is known; every subject needs an observed visit before its first target.
            target_times: (B, K), the times to generate, in the data set's unit.
            target_valid: (B, K), bool, where subjects ask for different numbers of visits; all by default.
            subjects: the subjects' ids, which seed the noise; their places in the batch by default.
            seed: random seed of the sampling noise.
            sample: which of several samples of the same visits this is.
            sampler: another sampler; the model's own by default. The prediction type and the range of λ stay those
                of the model.
            steps: network evaluations per visit (with guidance, each is a batch of two).
            guidance: w; the model's own by default.
            callback: called as ``callback(done, total)`` after each network evaluation.

        Returns:
            (B, K, C, W, H, D) in [-1, 1]; background where `target_valid` is not set.

        Raises:
            ValueError: if a target's time is that of an observed visit, or has no observed visit before it.
        """
        if target_valid is None:
            target_valid = torch.ones_like(target_times, dtype=torch.bool)
        names = list(subjects) if subjects is not None else [str(row) for row in range(history.batch_size)]
        sequence, slots = history.with_slots(target_times, target_valid)
        last = torch.where(target_valid, target_times, -torch.inf).amax(dim=1)
        wanted = sequence.valid & ~sequence.observed & (sequence.times <= last[:, None])
        sampler = sampler or self.sampler
        evaluations = sampler.steps if steps is None else steps
        given = sequence.observed
        rounds = int(wanted.sum(dim=1).max()) if wanted.numel() else 0
        for done in range(rounds):
            known = sequence if self.conditioner.autoregressive else replace(sequence, observed=given)
            rows = torch.nonzero(wanted.any(dim=1)).flatten()
            index = wanted[rows].int().argmax(dim=1)  # the earliest: visits are in order of time
            times = sequence.times[rows, index]
            # A time as written in the data set: float32 noise in its last digits must not change the seed.
            generators = [
                derived_generator(seed, names[row], f"{time:.6g}", sample)
                for row, time in zip(rows.tolist(), times.tolist(), strict=True)
            ]
            images = self._generate_visit(
                known.take(rows).hide(index),
                times,
                generators,
                sampler=sampler,
                steps=evaluations,
                guidance=self.settings.guidance if guidance is None else guidance,
                callback=callback and (lambda step, steps, done=done: callback(done * steps + step, rounds * steps)),
            )
            filled, observed = sequence.images.clone(), sequence.observed.clone()
            filled[rows, index], observed[rows, index] = images.to(filled.dtype), True
            wanted[rows, index] = False
            sequence = replace(sequence, images=filled, observed=observed)
        result = sequence.select(slots).images
        return torch.where(target_valid[:, :, None, None, None, None], result, BACKGROUND)

    def _generate_visit(
        self,
        history: VisitSequence,
        target_time: Tensor,
        generator: Generators,
        *,
        sampler: Sampler,
        steps: int,
        guidance: float,
        callback: Callable[[int, int], None] | None,
    ) -> Tensor:
        conditional = self.conditioner(history, target_time)
        (conditional, unconditional), target = self._add_residual_base(
            history, target_time, conditional, conditional.null()
        )
        low, high = (target.encode(torch.tensor(bound, device=history.images.device)) for bound in (-1.0, 1.0))

        def network(z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
            output = self.denoiser(z_t, log_snr, conditioning)
            if self.denoiser.predicts != "image":
                return output
            return torch.cat([target.encode(image) for image in output.split(history.batch_size)])  # two of guidance

        def predict(z_t: Tensor, log_snr: Tensor) -> Tensor:
            return guided(
                network,
                self.prediction,
                z_t,
                log_snr,
                conditional,
                unconditional,
                weight=guidance if self.denoiser.denoises else 0.0,
                space=self.settings.guidance_space,
                low=low,
                high=high,
            )

        z = randn_like(history.images[:, 0], generator)
        within = self.sampler.trained_range
        x = sampler.sample(predict, z, generator, steps=steps, within=within, callback=callback)
        image = target.decode(x)
        if self.settings.keep_background:
            last, _ = history.last(before=target_time)
            image = torch.where((last <= BACKGROUND).all(dim=1, keepdim=True), BACKGROUND, image)
        return image

    def _add_residual_base(
        self, history: VisitSequence, target_time: Tensor, *conditionings: Conditioning
    ) -> tuple[list[Conditioning], DiffusionTarget]:
        """Append the last visit to each conditioning, after conditions were dropped; return the diffusion target too.

        The last visit goes to the `concat` route where a residual is diffused, and to `base` and `gap` where the
        denoiser needs them.
        """
        residual, needed = self.settings.target == "residual", self.denoiser.needs_base
        if not (residual or needed):
            return list(conditionings), DiffusionTarget()
        base, time = history.last(before=target_time)
        gap = (target_time - time) / self.statistics.time_scale
        given = [each.with_concat(base) for each in conditionings] if residual else list(conditionings)
        if needed:
            given = [replace(each, base=base, gap=gap) for each in given]
        return given, DiffusionTarget(base, self._residual_scale(gap)) if residual else DiffusionTarget()

    def _residual_scale(self, gap: Tensor) -> float | Tensor:
        """Return the scale of residuals over a gap (B,), counted in typical gaps."""
        known = self.statistics
        if self.settings.residual_scale == "all":
            return known.residual_std
        variance = known.residual_noise_std**2 + (known.residual_std_per_gap * gap).square()
        return variance.sqrt().view(-1, 1, 1, 1, 1)

    def forecast(
        self,
        subject: Subject | Sequence[Path | str],
        *,
        at: float | str | Sequence[float | str],
        times: Sequence[float] | None = None,
        samples: int = 1,
        steps: int | None = None,
        sampler: Sampler | str | None = None,
        guidance: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Forecast:
        """Generate future visits of one subject, from all visits that it has.

        Args:
            subject: a `Subject`, or the paths of its visits' images.
            at: the times to generate, in the model's time unit; ``"+1"`` is one unit after the last visit.
            times: of the visits, where `subject` is paths; in the model's time unit.
            samples: K ≥ 1, how many trajectories are sampled.
            steps: network evaluations per visit; the model's own number by default.
            sampler: another sampler, by name or as an object.
            guidance: weight of classifier-free guidance; the model's own by default.
            seed: random seed of the sampling noise.
            progress: show a progress bar.

        Raises:
            LongigenError: if the visits cannot be used, or a time is not after the last visit.
        """
        known = as_subject(subject, times, self.statistics.time_unit)
        wanted = future_times(known, at, self.statistics.time_unit)
        return self._forecast(known, wanted, samples, steps, sampler, guidance, seed, progress)

    def impute(
        self,
        subject: Subject | Sequence[Path | str],
        *,
        at: float | str | Sequence[float | str],
        times: Sequence[float] | None = None,
        samples: int = 1,
        steps: int | None = None,
        sampler: Sampler | str | None = None,
        guidance: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Forecast:
        """Generate missing visits of one subject, between visits that it has.

        A causal conditioner uses the visits before the time only; see `Conditioner.causal`.

        Args:
            subject: a `Subject`, or the paths of its visits' images.
            at: the times to generate, in the model's time unit, between the first visit and the last.
            times: of the visits, where `subject` is paths; in the model's time unit.
            samples: as in `forecast`, and so are all that follow.
            steps: network evaluations per visit.
            sampler: another sampler.
            guidance: weight of classifier-free guidance.
            seed: random seed of the sampling noise.
            progress: show a progress bar.

        Raises:
            LongigenError: if the visits cannot be used, or a time is not between two of them.
        """
        known = as_subject(subject, times, self.statistics.time_unit)
        wanted = missing_times(known, at, self.statistics.time_unit)
        return self._forecast(known, wanted, samples, steps, sampler, guidance, seed, progress)

    def _forecast(
        self,
        subject: Subject,
        times: Sequence[float],
        samples: int,
        steps: int | None,
        sampler: Sampler | str | None,
        guidance: float | None,
        seed: int,
        progress: bool,
    ) -> Forecast:
        if samples < 1:
            raise LongigenError(f"samples must be at least 1, got {samples}.")
        chosen = registry.load("sampler", sampler)() if isinstance(sampler, str) else sampler
        settings = GenerationSettings(sampler=chosen, steps=steps, guidance=guidance, seed=seed)
        shown = show_progress if progress else silent
        return generate_forecast(self, subject, times, settings, samples=samples, progress=shown)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder; see `longigen.models.pretrained`."""
        save(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load a model, strictly, from a folder, the zoo or the Hugging Face Hub.

        Args:
            source: a run's or a model's folder, the name of a published model, or ``org/repo``.
            revision: branch, tag or commit of a Hub repository.
            token: for a private repository; by default the one that ``hf auth login`` or HF_TOKEN set.
            device: to load to, e.g. ``"cuda"``; CPU by default.
            dtype: of the floating-point weights; float32 as saved by default.

        Returns:
            The model in ``eval()`` mode.

        Raises:
            LongigenError: if there is no such model, or it is damaged or of another version.
        """
        model = load(cls, str(source), revision=revision, token=token)
        return model.to(device=device, dtype=dtype)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        tag: str | None = None,
        licence: str | None = None,
        message: str | None = None,
        token: str | None = None,
    ) -> Release:
        """Publish the model with its card, in one commit and tagged, as ``longigen push`` does.

        `huggingface_hub.ModelHubMixin` has a method of this name that does not fit: it keeps a constructor's arguments
        as the configuration, where here the constructor is given three components and each is written with the
        distribution that provides it; it passes ``**kwargs`` on unchecked; and it neither tags nor shows what goes.

        Args:
            repository: ``org/name``.
            private: of a repository that does not exist yet, True by default; of one that does, what it must be.
            tag: name of the version; v1, v2 … by default.
            licence: of the weights, e.g. ``apache-2.0``.
            message: commit message.
            token: with the right to write; by default the one that ``hf auth login`` or HF_TOKEN set.

        Raises:
            LongigenError: if the Hub refuses it, or what is private cannot be left out.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            with publication(
                folder, repository, load=loader(type(self)), tag=tag, private=private, licence=licence, token=token
            ) as ready:
                return ready.publish(message)

    def __repr__(self) -> str:
        """Return one line: the three components, the number of parameters, the device."""
        parts = " + ".join(type(part).__name__ for part in (self.conditioner, self.denoiser, self.sampler))
        return f"{type(self).__name__}({parts}, {self.parameter_count / 1e6:.2f} M parameters, {self.device})"


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of named losses, per sample (B,)."""
    return torch.stack(list(losses.values())).sum(dim=0)
