"""The model: a conditioner, a denoiser and a sampler, composed."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from longigen.batch import Batch
from longigen.conditioner import Conditioner
from longigen.conditioning import Conditioning
from longigen.denoiser import Denoiser
from longigen.diffused import Diffused
from longigen.example import Example
from longigen.guidance import Space, guided
from longigen.prediction import Prediction
from longigen.randomness import derived_generator
from longigen.sampler import Generators, Sampler, randn_like
from longigen.visits import BACKGROUND, VisitSequence

if TYPE_CHECKING:
    from longigen.publication import Release

Target = Literal["image", "residual"]
Unconditional = Literal["zero", "random"]
ResidualScale = Literal["all", "gap"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
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
        guidance_space: whether the guided combination is made of x̂ or of ε̂; see `longigen.guidance`.
        keep_background: at generation, leave a voxel that is exactly background in the last visit as it is. For images
            with a mask, such as brains without a skull, outside which nothing can appear. A network's last thousandth
            there would otherwise be fed back from visit to visit, and the structural similarity of nothing with next
            to nothing is low.
    """

    target: Target = "residual"
    residual_scale: ResidualScale = "all"
    p_uncond: float = 0.1
    unconditional: Unconditional = "zero"
    guidance: float = 0.1
    guidance_space: Space = "x"
    keep_background: bool = False


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a model must know of the data it was trained on.

    Args:
        channels: C of the volumes.
        residual_std: standard deviation of follow-up minus last visit over the training set, in model intensities.
        residual_still: s in the model of the residual's variance at a gap Δ, s² + (p Δ)²: what is there without any
            time between, such as noise.
        residual_pace: p in it, per typical gap.
        time_scale: the typical gap between visits, in `time_unit`.
        time_unit: the unit of all times.
        covariates: names of the covariates that histories carry.
    """

    channels: int = 1
    residual_std: float = 1.0
    residual_still: float = 1.0
    residual_pace: float = 0.0
    time_scale: float = 1.0
    time_unit: str = "years"
    covariates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """What is kept with the weights: the preprocessing pipeline, the origin of the training data, and how training
    was asked for and on what it ran (`longigen.study`, `longigen.training`).
    """

    preprocess: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


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
        self.settings = settings or ModelSettings()
        self.statistics = statistics or Statistics()
        self.provenance = provenance or Provenance()
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
        """How many numbers are learnt, but for those of an adversary, which has no part in generation."""
        return sum(p.numel() for p in self.generator_parameters)

    @property
    def generator_parameters(self) -> list[nn.Parameter]:
        """All parameters but the adversary's."""
        adversary = self.denoiser.adversary
        left_out = set() if adversary is None else {id(p) for p in adversary.parameters()}
        return [p for p in self.parameters() if id(p) not in left_out]

    @property
    def prediction(self) -> Prediction:
        """What the denoiser's output says, once an image is turned into what is diffused."""
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
        """Return a batch as the denoiser is trained on it (SADM, Algorithm 1): conditions encoded, and some dropped."""
        conditioning = self.conditioner(batch.history, batch.target_time)
        if self.denoiser.denoises:
            dropped = torch.rand(len(batch.target), generator=generator, device=generator.device)
            instead = conditioning.noise(generator) if self.settings.unconditional == "random" else conditioning.null()
            conditioning = conditioning.drop(dropped.to(batch.target.device) < self.settings.p_uncond, instead)
        (conditioning,), diffused = self._asked(batch.history, batch.target_time, conditioning)
        return Example(
            image=batch.target,
            conditioning=conditioning,
            sampler=self.sampler,
            generator=generator,
            diffused=diffused,
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
            seed: of all noise.
            sample: which of several samples of the same visits this is.
            sampler: another sampler to walk with; the model's own by default. What the network predicts stays the
                model's, and so does the range of λ.
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
        sequence, slots = _with_targets(history, target_times, target_valid)
        last = torch.where(target_valid, target_times, -torch.inf).amax(dim=1)
        wanted = sequence.valid & ~sequence.observed & (sequence.times <= last[:, None])
        walker = sampler or self.sampler
        evaluations = walker.steps if steps is None else steps
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
                _rows(known, rows, hidden=index),
                times,
                generators,
                sampler=walker,
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
        (conditional, unconditional), diffused = self._asked(history, target_time, conditional, conditional.null())
        low, high = (diffused.of(torch.tensor(bound, device=history.images.device)) for bound in (-1.0, 1.0))

        def network(z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
            output = self.denoiser(z_t, log_snr, conditioning)
            if self.denoiser.predicts != "image":
                return output
            return torch.cat([diffused.of(image) for image in output.split(history.batch_size)])  # two of guidance

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
        image = diffused.image(x)
        if self.settings.keep_background:
            last, _ = history.last(before=target_time)
            image = torch.where((last <= BACKGROUND).all(dim=1, keepdim=True), BACKGROUND, image)
        return image

    def _asked(
        self, history: VisitSequence, target_time: Tensor, *conditionings: Conditioning
    ) -> tuple[list[Conditioning], Diffused]:
        """Return conditionings with what belongs to the question and is never dropped, and what is diffused."""
        residual, needed = self.settings.target == "residual", self.denoiser.needs_base
        if not (residual or needed):
            return list(conditionings), Diffused()
        base, time = history.last(before=target_time)
        gap = (target_time - time) / self.statistics.time_scale
        given = [each.with_concat(base) for each in conditionings] if residual else list(conditionings)
        if needed:
            given = [replace(each, base=base, gap=gap) for each in given]
        return given, Diffused(base, self._residual_scale(gap)) if residual else Diffused()

    def _residual_scale(self, gap: Tensor) -> float | Tensor:
        """Return what residuals over a gap (B,), in typical gaps, are divided by."""
        known = self.statistics
        if self.settings.residual_scale == "all":
            return known.residual_std
        variance = known.residual_still**2 + (known.residual_pace * gap).square()
        return variance.sqrt().view(-1, 1, 1, 1, 1)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors``; see `longigen.pretrained`."""
        from longigen.pretrained import save

        save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, source: Path | str, *, revision: str | None = None) -> Self:
        """Load a model from a folder or from the Hub, strictly; see `longigen.pretrained`."""
        from longigen.pretrained import load

        model = load(str(source), revision=revision)
        assert isinstance(model, cls)
        return model

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        tag: str | None = None,
        licence: str | None = None,
        message: str | None = None,
    ) -> "Release":
        """Publish the model with its card, in one commit and tagged, as ``longigen push`` does; see
        `longigen.publication` for what the arguments mean.

        `huggingface_hub.ModelHubMixin` has a method of this name, and does not fit: it keeps what a constructor was
        called with as the configuration, where here the constructor is given three components and each is written with
        the distribution that provides it; it passes ``**kwargs`` on unchecked; and it neither tags nor shows what goes.
        """
        from longigen.publication import publication

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            with publication(folder, repository, tag=tag, private=private, licence=licence) as ready:
                return ready.publish(message)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of named losses, per sample (B,)."""
    return torch.stack(list(losses.values())).sum(dim=0)


def _with_targets(history: VisitSequence, times: Tensor, valid: Tensor) -> tuple[VisitSequence, Tensor]:
    """Return the history with an unobserved visit at each target time, in order of time, and where those are (B, K)."""
    same = (history.times[:, :, None] == times[:, None, :]) & history.valid[:, :, None] & valid[:, None, :]
    if bool((same.any(dim=2) & history.observed).any()):
        raise ValueError("a target's time is that of an observed visit")
    known = history.valid & ~same.any(dim=2)  # a missing visit that is asked for is the target itself
    number, count = len(history), times.shape[1]
    shape = history.images.shape
    images = torch.cat([history.images, history.images.new_full((shape[0], count, *shape[2:]), BACKGROUND)], dim=1)
    covariates = {
        name: type(item)(*(torch.cat([part, part.new_zeros(times.shape)], dim=1) for part in item))
        for name, item in history.covariates.items()
    }
    merged = VisitSequence(
        images=images,
        times=torch.cat([history.times, times.to(history.times)], dim=1),
        observed=torch.cat([history.observed & known, torch.zeros_like(valid)], dim=1),
        valid=torch.cat([known, valid], dim=1),
        covariates=covariates,
    )
    order = torch.where(merged.valid, merged.times, torch.inf).argsort(dim=1, stable=True)
    slots = order.argsort(dim=1)[:, number:]
    return merged.select(order), slots


def _rows(sequence: VisitSequence, rows: Tensor, hidden: Tensor) -> VisitSequence:
    """Return some subjects' sequences, in each of which the visit at `hidden` is not valid: it is the target."""
    length = len(sequence)
    every = torch.arange(length, device=rows.device).expand(len(rows), length)
    covariates = {name: type(item)(item.values[rows], item.present[rows]) for name, item in sequence.covariates.items()}
    return VisitSequence(
        images=sequence.images[rows],
        times=sequence.times[rows],
        observed=sequence.observed[rows],
        valid=sequence.valid[rows] & (every != hidden[:, None]),
        covariates=covariates,
    )
