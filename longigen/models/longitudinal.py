"""The longitudinal model: a conditioner, a denoiser, a sampler and a codec, composed."""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from longigen.components.base import Parameter
from longigen.components.codec import Codec, IdentityCodec
from longigen.components.conditioner import Conditioner
from longigen.components.conditioning import Conditioning
from longigen.components.deformation import composed
from longigen.components.denoiser import Denoiser
from longigen.components.parameterization import Prediction
from longigen.components.ranges import Count, NoiseLevels
from longigen.components.sampler import Sampler
from longigen.components.training_example import DiffusionTarget, Example
from longigen.components.visit_sequence import BACKGROUND, Batch, VisitSequence
from longigen.data.dataset import Subject
from longigen.data.statistics import Statistics
from longigen.errors import LongigenError, LongigenWarning
from longigen.hub.publish import Release, publication
from longigen.models.batch_size import Size
from longigen.models.compilation import Compile, compiled
from longigen.models.forecast import (
    Forecast,
    Images,
    as_subject,
    future_times,
    generate_forecast,
    missing_times,
)
from longigen.models.guidance import untrained_null
from longigen.models.predict import Draw, GeneratedVisits, GenerationSettings
from longigen.models.predictor import Predictor
from longigen.models.pretrained import load, loader, save, weights_checksum
from longigen.models.settings import ModelSettings, Order, Provenance
from longigen.registry.registry import registry
from longigen.utils.precision import Precision, computing_in
from longigen.utils.progress import progress as show_progress
from longigen.utils.progress import silent
from longigen.utils.randomness import Generators, derived_generator, draw_rows, randn_like
from longigen.utils.time_units import time_text

SAMPLES, BATCH_SIZE = Parameter("samples", Count), Parameter("batch_size", Count | Literal["auto"])


class LongitudinalModel(nn.Module):
    """A conditioner, a denoiser and a sampler, composed into one model, and the codec on whose codes they work.

    Composing builds the layers of both networks: the conditioner's from the denoiser's `stem_features`, the denoiser's
    from the conditioner's `routes`. Both see codes: `example`, `predictor` and what they call work on codes; `generate`
    takes images and returns images.

    Args:
        conditioner: encodes the history and the target time.
        denoiser: predicts the clean volume.
        sampler: noise schedule and reverse process.
        settings: diffusion target, conditioning dropout and guidance.
        statistics: statistics of the training data: channels, typical gap between visits, time unit, residual scale.
        provenance: preprocessing, data and training that are recorded with the weights.
        codec: encodes images, and is not trained with the model; by default the images are their own codes.

    Raises:
        LongigenError: if the denoiser moves the last visit, which the codes do not allow.
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
        codec: Codec | None = None,
    ) -> None:
        super().__init__()
        self.settings: ModelSettings = settings or ModelSettings()
        self.statistics: Statistics = statistics or Statistics()
        self.provenance: Provenance = provenance or Provenance()
        codec = (codec or IdentityCodec()).compose(self.statistics.channels)
        _require_voxels(denoiser, codec)
        conditioner.build(
            channels=codec.channels,
            stem_features=denoiser.stem_features,
            time_scale=self.statistics.time_scale,
            covariates=self.statistics.covariates,
        )
        used = conditioner.used_covariates
        if used is not None:
            kept = tuple(name for name in self.statistics.covariates if name in used)
            self.statistics = replace(self.statistics, covariates=kept)
        channels = sampler.contexts * codec.channels
        base = channels if self.settings.appends_last else 0
        denoiser.build(
            channels=channels,
            routes=replace(conditioner.routes, concat=conditioner.routes.concat + base),
        )
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.sampler = sampler
        self.codec: Codec = codec
        if sampler.solver is not None:
            registry.entry("sampler", sampler.solver)  # so that an unknown name is refused before training
        # Not a module of this one: its weights are neither trained nor saved.
        self.__dict__["teacher"] = None
        self._file: tuple[str, int] | None = None

    teacher: "LongitudinalModel | None"
    """The model whose few-step map this one learns; None if it learns from data. See `Sampler.taught`."""

    def learn_from(self, teacher: "LongitudinalModel") -> None:
        """Train as the student of a teacher, whose weights stay as they are.

        Raises:
            LongigenError: if the sampler or the denoiser cannot, or the two do not diffuse the same variable.
        """
        if not self.sampler.learns_from_teacher:
            raise LongigenError(
                f"{type(self.sampler).__name__} learns from data and has no use for training.teacher; choose "
                "--sampler distilled, or leave training.teacher out."
            )
        if type(self.denoiser).losses is not Denoiser.losses or self.denoiser.predicts == "image":
            raise LongigenError(
                f"{type(self.denoiser).__name__} learns from true images by losses of its own, so it cannot learn from "
                "a teacher; distil a diffusion model such as one of unet3d."
            )
        for key in ("target", "residual_scale"):
            own, other = getattr(self.settings, key), getattr(teacher.settings, key)
            if own != other:
                raise LongigenError(f"The teacher has model.{key}={other} and the student {own}; give both the same.")
        if teacher.codec.identity != self.codec.identity:
            raise LongigenError(
                f"The teacher works on codes of {teacher.codec} and the student on those of {self.codec}; give both "
                "the same codec."
            )
        if teacher.sampler.starts != self.sampler.starts:
            raise LongigenError(
                f"The teacher starts from {teacher.sampler.starts} and {type(self.sampler).__name__} from "
                f"{self.sampler.starts}, so it cannot learn the teacher's steps; distil a model that starts from "
                f"{self.sampler.starts}."
            )
        self.statistics = teacher.statistics  # the scale of the residual that both diffuse
        self.__dict__["teacher"] = teacher.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the floating-point weights."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters, excluding those of an adversary (discriminator) and of the codec."""
        return sum(p.numel() for p in self.generator_parameters)

    @property
    def generator_parameters(self) -> list[nn.Parameter]:
        """All parameters, excluding those of an adversary (discriminator) and of the codec, which is not trained."""
        adversary = self.denoiser.adversary
        excluded = {id(p) for part in (adversary, self.codec) if part is not None for p in part.parameters()}
        return [p for p in self.parameters() if id(p) not in excluded]

    @property
    def networks(self) -> tuple[Conditioner, Denoiser]:
        """The two networks, which may be compiled (`longigen.models.compilation`)."""
        return self.conditioner, self.denoiser

    @property
    def prediction(self) -> Prediction:
        """Prediction type of the denoiser's output, after an image is encoded as the diffusion target."""
        return self.sampler.prediction if self.denoiser.predicts is None else "x"

    def train(self, mode: bool = True) -> Self:
        """Set the networks to training or evaluation; the codec is always in evaluation."""
        super().train(mode)
        self.codec.eval()
        return self

    def coded(self, history: VisitSequence) -> VisitSequence:
        """Return the visits with their codes (B, L, C', w, h, d) instead of their images.

        What is not observed is filled as `VisitSequence` fills it.

        Raises:
            LongigenError: if a visit lacks a channel and a code mixes them.
        """
        if self.codec.trivial:
            return history
        if history.observed_channels is not None:
            raise LongigenError(
                f"A code of {self.codec} mixes the channels of a visit, and a visit lacks one; leave such visits out, "
                "or use a model without a codec (--codec identity)."
            )
        codes = self.codec.encode(history.images.flatten(0, 1))
        return history.with_images(codes.unflatten(0, history.images.shape[:2]))

    def forward(self, batch: Batch, generator: torch.Generator, *, adversary: bool = False) -> dict[str, Tensor]:
        """Return the training losses of each sample (B,) by name: the denoiser's, or its adversary's.

        It is named `forward` because distributed data parallel training (DDP) wraps that method.
        """
        if not adversary:
            return dict(self.denoiser.losses(self.example(batch, generator)))
        with torch.no_grad():
            example = self.example(batch, generator)
        return dict(self.denoiser.adversary_losses(example))

    def example(self, batch: Batch, generator: torch.Generator) -> Example:
        """Return the training example of a batch: conditioning encoded and randomly dropped (SADM, Algorithm 1).

        Images of a batch that is not `coded` are encoded here; the example is of codes.
        """
        if not batch.coded:
            with torch.no_grad():
                history = self.coded(batch.history)
                batch = replace(batch, history=history, target=self.codec.encode(batch.target), coded=True)
        batch, counted = self._counted(batch)
        conditioning = self.conditioner(batch.history, batch.target_time)
        if self.denoiser.denoises:
            dropped = draw_rows(
                lambda count: torch.rand(count, generator=generator, device=generator.device),
                len(batch.target),
                generator,
            )
            replacement = (
                conditioning.noise(generator) if self.settings.unconditional == "random" else conditioning.null()
            )
            conditioning = conditioning.drop(dropped.to(batch.target.device) < self.settings.p_uncond, replacement)
        (conditioning,), target = self._add_residual_base(batch.history, batch.target_time, conditioning)
        sampler = self.sampler if self.teacher is None else self._taught(self.teacher, batch)
        return Example(
            image=batch.target[:, None].expand(-1, sampler.contexts, -1, -1, -1, -1).flatten(1, 2),
            counted=None if counted is None else counted.repeat(1, sampler.contexts),
            conditioning=conditioning,
            sampler=sampler if target.start is None else sampler.starting_at(target.start),
            generator=generator,
            diffusion_target=target,
        )

    def _counted(self, batch: Batch) -> tuple[Batch, Tensor | None]:
        """Return which channels of the target count in the loss (B, C), and the batch with the last visit's in others.

        A channel counts if the target has it, and a visit before has it: what was never given is not generated either.
        """
        known = [batch.target_channels, batch.history.channels_before(batch.target_time)]
        masks = [mask for mask in known if mask is not None]
        if not masks:
            return batch, None
        counted = torch.stack(masks).all(dim=0)
        last, _ = batch.history.last(before=batch.target_time)
        target = torch.where(counted[:, :, None, None, None], batch.target, last)
        return replace(batch, target=target), counted

    def _taught(self, teacher: "LongitudinalModel", batch: Batch) -> Sampler:
        """Return the sampler with the targets that a teacher's prediction gives for a batch."""
        if teacher.device != self.device:
            teacher.to(self.device)
        return self.sampler.taught(torch.no_grad()(teacher.predictor(batch.history, batch.target_time)))

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the mean training loss of a batch (SADM, Algorithm 1, Eq. 5): the sum of the denoiser's losses.

        Args:
            batch: histories, target visits and their times.
            generator: random generator of the noise level, the noise and the conditioning dropout.
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
        sample: int | None = 0,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_interval: NoiseLevels | None = None,
        order: Order | None = None,
        precision: Precision = "auto",
        compile: Compile = "none",
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Generate missing and future visits.

        - In the order ``autoregressive`` (SADM, Algorithm 2) visits are generated in order of time, and each joins the
          history of the next (unless the conditioner is not `autoregressive`). Visits of the history that are valid but
          not observed, and lie before the last target, are generated too.
        - In the order ``direct`` each target is generated from the history alone, so it does not depend on which other
          times are asked for. Visits of the history that are not observed remain slots.

        The conditioning is computed once per visit. A visit's noise is seeded by (seed, subject, time, sample), and in
        the order ``direct`` by (seed, subject, sample), so it does not depend on the batch.

        Args:
            history: the visits so far; every subject needs an observed visit before its first target.
            target_times: times to generate (B, K), in the data set's unit.
            target_valid: mask of `target_times` (B, K), bool, for subjects with fewer targets; by default all are
                valid.
            subjects: the subjects' ids, which seed the noise; by default their indices in the batch.
            seed: random seed of the sampling noise.
            sample: index of this sample among several samples of the same visits; None for the central forecast (see
                `Sampler.central`).
            sampler: sampler to use instead of the model's own. The prediction type and the range of λ remain those
                that the network was trained with.
            steps: network evaluations per visit (with guidance, each evaluates a batch of two).
            guidance: guidance weight w ≥ 0; by default the model's own.
            guidance_interval: the lowest and the highest λ with guidance; by default the model's own.
            order: ``direct`` or ``autoregressive``; by default the model's own.
            precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto`` by device.
            compile: which parts of the networks to compile; see `forecast`.
            callback: called as ``callback(done, total)`` after each network evaluation.

        Returns:
            The generated visits (B, K, C, W, H, D) in [-1, 1]; background where `target_valid` is False.

        Raises:
            LongigenError: for steps, a guidance weight, an order or a seed that is not allowed.
            ValueError: if a target has the time of an observed visit, or no observed visit before it.
        """
        generation = GenerationSettings.among(locals())
        return self.generate_visits(
            history, target_times, generation, target_valid=target_valid, subjects=subjects, callback=callback
        ).images

    @torch.no_grad()
    def generate_visits(
        self,
        history: VisitSequence,
        target_times: Tensor,
        generation: GenerationSettings,
        *,
        target_valid: Tensor | None = None,
        subjects: Sequence[str] | None = None,
        draws: Sequence[Draw] | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> GeneratedVisits:
        """Generate visits as `generate` does; return their images, and where each voxel comes from if tissue moves.

        The displacement of a visit is that of the last network evaluation's conditional prediction, composed over the
        generated visits before it, so that it leads to the last *given* visit.

        Args:
            history: as for `generate`.
            target_times: as for `generate`.
            generation: sampler, network evaluations, guidance weight, seed and index of the sample.
            target_valid: as for `generate`.
            subjects: as for `generate`.
            draws: what to generate, a subject's row in the batch and the index of the sample each; by default one
                sample of each subject, that of `generation`. The conditioning of a visit is computed once for all
                samples of a subject, as long as their histories are the same: in the order ``autoregressive`` the first
                generated visit only.
            callback: as for `generate`.

        Returns:
            The visits of each draw, B being the number of draws.

        Raises:
            ValueError: as `generate`.
        """
        guidance = self.settings.guidance if generation.guidance is None else generation.guidance
        guidance = guidance if self.denoiser.denoises else 0.0
        settings = self.settings
        caution = untrained_null(guidance, p_uncond=settings.p_uncond, unconditional=settings.unconditional)
        if caution is not None:
            warnings.warn(caution, LongigenWarning, stacklevel=2)
        direct = (generation.order or settings.order) == "direct"
        if target_valid is None:
            target_valid = torch.ones_like(target_times, dtype=torch.bool)
        size = tuple(history.images.shape[3:])
        names = list(subjects) if subjects is not None else [str(row) for row in range(history.batch_size)]
        _require_times(history, target_times, target_valid)
        given_images, history = history, self.coded(history)
        if draws is None:
            draws = [(row, generation.sample) for row in range(history.batch_size)]
        else:
            origin = torch.tensor([row for row, _ in draws], device=history.images.device)
            given_images, history = given_images.take(origin), history.take(origin)
            target_times, target_valid = target_times[origin], target_valid[origin]
        sequence, slots = history.with_slots(target_times, target_valid)
        pictures = given_images.with_slots(target_times, target_valid)[0].images  # of the codes in `sequence`
        last = torch.where(target_valid, target_times, -torch.inf).amax(dim=1)
        pending = sequence.valid & ~sequence.observed & (sequence.times <= last[:, None])
        if direct:
            pending &= torch.zeros_like(pending).scatter(1, slots, target_valid)
        sampler, evaluations = generation.sampler_of(self), generation.steps_of(self)
        computing = generation.computing_type_of(self)
        given = sequence.observed
        rounds = int(pending.sum(dim=1).max()) if pending.numel() else 0
        shape = sequence.images.shape
        # Of each visit to the last given one before it: zero for the given ones.
        fields = sequence.images.new_zeros(*shape[:2], 3, *shape[3:]) if self.denoiser.moves else None
        for done in range(rounds):
            joins = self.conditioner.autoregressive and not direct
            known = sequence if joins else replace(sequence, observed=given)
            rows = torch.nonzero(pending.any(dim=1)).flatten()
            drawn = [draws[row] for row in rows.tolist()]
            index = pending[rows].int().argmax(dim=1)  # the earliest pending visit, as visits are in order of time
            times = sequence.times[rows, index]
            if direct:  # the other targets are not in the history, not even as slots
                visible, place = history.take(rows).with_slots(times[:, None], torch.ones_like(times[:, None]).bool())
                visible = visible.hide(place[:, 0])
            else:
                visible = known.take(rows).hide(index)
            # The text of a time in single precision is that of the time as the user wrote it, up to six digits, and no
            # two times share one. In the order direct all times of a sample share their noise: nothing else connects
            # them, and with noise of their own the visits of one sample would be draws from different courses.
            generators = [
                derived_generator(generation.seed, names[subject], *([] if direct else [time_text(time)]), sample or 0)
                for (subject, sample), time in zip(drawn, times.cpu().numpy(), strict=True)
            ]
            # The samples of a subject have one history until they join it.
            alike = [subject for subject, _ in drawn] if done == 0 or not joins else list(range(len(drawn)))
            with computing_in(computing, self.device), compiled(self.networks, generation.compile):
                code, displacement = self._generate_visit(
                    visible,
                    times,
                    generators,
                    sampler=sampler,
                    steps=evaluations,
                    guidance=guidance,
                    interval=generation.guidance_interval_of(self),
                    alike=alike,
                    central=[sample is None for _, sample in drawn],
                    callback=callback
                    and (lambda step, steps, done=done: callback(done * steps + step, rounds * steps)),
                )
            before_it = known.take(rows).hide(index)
            image = self.codec.decode(code, size).clamp(-1, 1)
            with_pictures = replace(before_it, images=pictures[rows])
            if self.settings.keep_background:
                last, _ = with_pictures.last(before=times)
                image = torch.where((last <= BACKGROUND).all(dim=1, keepdim=True), BACKGROUND, image)
            has = with_pictures.channels_before(times)
            if has is not None:  # a channel that was never given has nothing to go on, and is not generated
                image = torch.where(has[:, :, None, None, None], image, BACKGROUND)
            pictures = pictures.clone()
            pictures[rows, index] = image.to(pictures.dtype)
            filled, observed = sequence.images.clone(), sequence.observed.clone()
            # The code of the image that is returned, so that a visit given back by a user is the same history.
            filled[rows, index], observed[rows, index] = self.codec.encode(image).to(filled.dtype), True
            if fields is not None and displacement is not None:
                before, _ = before_it.with_images(fields[rows]).last(before=times)
                fields[rows, index] = composed(displacement, before)
            pending[rows, index] = False
            channels = sequence.observed_channels
            if channels is not None and has is not None:
                channels = channels.clone()
                channels[rows, index] = has
            sequence = replace(sequence, images=filled, observed=observed, observed_channels=channels)
        result, shown = (
            sequence.with_images(pictures).select(slots).images,
            target_valid[:, :, None, None, None, None],
        )
        return GeneratedVisits(
            torch.where(shown, result, BACKGROUND),
            None if fields is None else sequence.with_images(fields).select(slots).images * shown,
        )

    def _generate_visit(
        self,
        history: VisitSequence,
        target_time: Tensor,
        generator: Generators,
        *,
        sampler: Sampler,
        steps: int,
        guidance: float,
        interval: NoiseLevels | None,
        alike: Sequence[int],
        central: Sequence[bool],
        callback: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the code of a visit (B, C', w, h, d), and its displacement from the last visit in the history.

        Rows with the same number in `alike` (B,) have the same history and time, and so the same conditioning. Where
        `central` (B,) is true, generation starts from zeros.
        """
        conditional = self._conditioning(history, target_time, alike)
        predict = self._predictor(history, target_time, conditional, guidance, interval)
        if predict.target.start is None:
            z = randn_like(history.images[:, 0], generator)
            if any(central):
                z = torch.where(torch.tensor(central, device=z.device).view(-1, 1, 1, 1, 1), 0.0, z)
        else:
            z = predict.target.start
        within = self.sampler.trained_range
        x = sampler.sample(predict, z, generator, steps=steps, within=within, callback=callback)
        limit: Any = self.codec.limit  # a number, which makes no GPU wait, or a tensor where the codes are
        return sampler.answer(predict.target.decode(x).clamp(-limit, limit)), predict.displacement

    @torch.no_grad()
    def explain(self, history: VisitSequence, target_time: Tensor) -> Tensor:
        """Return the share of each visit at each voxel (B, L, W, H, D), as `Conditioner.explain` measures it.

        With a codec the shares are those at the voxels of the code, each repeated for the voxels that it stands for.

        Args:
            history: visits with their images.
            target_time: the time of the visit to explain (B,).
        """
        shares = self.conditioner.explain(self.coded(history), target_time)
        for axis in (2, 3, 4):
            shares = shares.repeat_interleave(self.codec.factor, dim=axis) if self.codec.factor > 1 else shares
        width, height, depth = history.images.shape[3:]
        return shares[:, :, :width, :height, :depth]

    @torch.no_grad()
    def predictor(self, history: VisitSequence, target_time: Tensor) -> Predictor:
        """Return the model's prediction of a visit at `target_time` (B,), guided as by default; see `Predictor`.

        The history holds codes, and the prediction is of a code; see `coded`.
        """
        settings = self.settings
        guidance = settings.guidance if self.denoiser.denoises else 0.0
        conditional = self.conditioner(history, target_time)
        return self._predictor(history, target_time, conditional, guidance, settings.guidance_interval)

    def _predictor(
        self,
        history: VisitSequence,
        target_time: Tensor,
        conditional: Conditioning,
        guidance: float,
        interval: NoiseLevels | None,
    ) -> Predictor:
        (conditional, unconditional), target = self._add_residual_base(
            history, target_time, conditional, conditional.null()
        )
        return Predictor(self, conditional, unconditional, target, guidance=guidance, interval=interval)

    def _conditioning(self, history: VisitSequence, target_time: Tensor, alike: Sequence[int]) -> Conditioning:
        """Return the conditioning of each row, computed once for the rows that have the same number in `alike` (B,)."""
        first = {number: row for row, number in reversed([*enumerate(alike)])}
        if len(first) == len(alike):
            return self.conditioner(history, target_time)
        place = {number: index for index, number in enumerate(first)}
        rows, back = (
            torch.tensor(index, device=target_time.device)
            for index in ([*first.values()], [place[number] for number in alike])
        )
        return self.conditioner(history.take(rows), target_time[rows]).take(back)

    def _add_residual_base(
        self, history: VisitSequence, target_time: Tensor, *conditionings: Conditioning
    ) -> tuple[list[Conditioning], DiffusionTarget]:
        """Append the last visit to each conditioning, after conditioning dropout; return the diffusion target too.

        The last visit is appended to the `concat` route if the settings say so, and is set as `base`, with its `gap`,
        if the denoiser needs them. It is the target's `start`, if the sampler starts there.
        """
        appends, needs_base = self.settings.appends_last, self.denoiser.needs_base
        residual, starts_there = self.settings.target == "residual", self.sampler.start == "base"
        if not (appends or needs_base or starts_there):
            return list(conditionings), DiffusionTarget()
        base, time = history.bases(self.sampler.contexts, target_time)
        gap = (target_time - time) / self.statistics.time_scale
        extended = [item.with_concat(base) for item in conditionings] if appends else list(conditionings)
        if needs_base:
            extended = [replace(item, base=base, gap=gap) for item in extended]
        target = DiffusionTarget(base, self._residual_scale(gap)) if residual else DiffusionTarget()
        return extended, replace(target, start=target.encode(base)) if starts_there else target

    def _residual_scale(self, gap: Tensor) -> float | Tensor:
        """Return the standard deviation of residuals over a gap (B,), which is measured in typical gaps."""
        statistics = self.statistics
        if statistics.channel_stds:
            return self._channel_scales(gap)
        if self.settings.residual_scale == "all":
            return statistics.residual_std
        variance = statistics.residual_noise_std**2 + (statistics.residual_std_per_gap * gap).square()
        return variance.sqrt().view(-1, 1, 1, 1, 1)

    def _channel_scales(self, gap: Tensor) -> Tensor:
        """Return the standard deviations of the residuals of each channel, (B or 1, C, 1, 1, 1), as above."""
        statistics, of_gap = self.statistics, self.settings.residual_scale == "gap"

        def row(values: Sequence[float]) -> Tensor:
            return torch.tensor([*values] * self.sampler.contexts, device=gap.device, dtype=gap.dtype)[None]

        scales = row(statistics.channel_stds)
        if of_gap:
            slopes = row(statistics.channel_stds_per_gap) * gap[:, None]
            scales = (row(statistics.channel_noise_stds).square() + slopes.square()).sqrt()
        return scales[:, :, None, None, None]

    def forecast(
        self,
        subject: Subject | Images,
        *,
        at: float | str | Sequence[float | str],
        times: Sequence[float] | None = None,
        samples: int = 1,
        steps: int | None = None,
        sampler: Sampler | str | None = None,
        guidance: float | None = None,
        guidance_interval: NoiseLevels | None = None,
        order: Order | None = None,
        precision: Precision = "auto",
        compile: Compile = "none",
        seed: int = 0,
        batch_size: Size = 4,
        detail: bool = True,
        shape: tuple[int, int, int] | None = None,
        progress: bool = True,
    ) -> Forecast:
        """Generate future visits of one subject, from all visits that it has.

        Args:
            subject: a `Subject`, or the paths of its images in order of time, by channel where visits have several.
            at: times to generate, in the subject's time unit; ``"+1"`` is one unit after the last visit.
            times: times of the images if `subject` is paths, in the model's time unit, which is then the subject's.
            samples: K ≥ 1, the number of sampled trajectories.
            steps: network evaluations per visit; by default the sampler's own number.
            sampler: sampler, or its name, to use instead of the model's own.
            guidance: weight w ≥ 0 of classifier-free guidance; by default the model's own.
            guidance_interval: the lowest and the highest λ with guidance; by default the model's own.
            order: generate each time from the given visits alone (``direct``), or let each generated visit join the
                history of the next (``autoregressive``); by default the model's own.
            precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto`` by device.
            compile: compile the networks with `torch.compile`: ``full``, ``regional`` (the blocks that repeat) or
                ``none``. The first visit then takes minutes.
            seed: random seed of the sampling noise.
            batch_size: number of samples generated in one batch, or ``auto`` for as many as memory holds; the result
                does not depend on it.
            detail: keep the own voxels of the last visit before each time, moved and changed as the model says;
                otherwise the volumes are the model's images, interpolated from its grid.
            shape: (W, H, D) of the grid instead of the model's own, in voxels; 0 for as many as the subject has, so
                that nothing of it lies outside.
            progress: show a progress bar.

        Raises:
            LongigenError: if the visits cannot be used, too much of the subject lies outside of the grid, or a time is
                not after the last visit.
        """
        resolved = as_subject(subject, times, self.statistics.time_unit)
        targets = future_times(resolved, at)
        settings = GenerationSettings.among(locals())
        return self._forecast(resolved, targets, settings, samples, batch_size, detail, shape, progress)

    def impute(
        self,
        subject: Subject | Images,
        *,
        at: float | str | Sequence[float | str],
        times: Sequence[float] | None = None,
        samples: int = 1,
        steps: int | None = None,
        sampler: Sampler | str | None = None,
        guidance: float | None = None,
        guidance_interval: NoiseLevels | None = None,
        order: Order | None = None,
        precision: Precision = "auto",
        compile: Compile = "none",
        seed: int = 0,
        batch_size: Size = 4,
        detail: bool = True,
        shape: tuple[int, int, int] | None = None,
        progress: bool = True,
    ) -> Forecast:
        """Generate missing visits of one subject, between visits that it has.

        A causal conditioner uses only the visits before the generated time; see `Conditioner.causal`.

        Args:
            subject: a `Subject`, or the paths of its images in order of time, by channel where visits have several.
            at: times to generate, in the subject's time unit, between the first and the last visit.
            times: times of the images if `subject` is paths, in the model's time unit, which is then the subject's.
            samples: K ≥ 1, the number of sampled trajectories.
            steps: network evaluations per visit; by default the sampler's own number.
            sampler: sampler, or its name, to use instead of the model's own.
            guidance: weight w ≥ 0 of classifier-free guidance; by default the model's own.
            guidance_interval: the lowest and the highest λ with guidance; by default the model's own.
            order: generate each time from the given visits alone (``direct``), or let each generated visit join the
                history of the next (``autoregressive``); by default the model's own.
            precision: the type that the networks compute in: ``fp32``, ``bf16``, ``fp16``, or ``auto`` by device.
            compile: compile the networks with `torch.compile`: ``full``, ``regional`` (the blocks that repeat) or
                ``none``. The first visit then takes minutes.
            seed: random seed of the sampling noise.
            batch_size: number of samples generated in one batch, or ``auto`` for as many as memory holds; the result
                does not depend on it.
            detail: keep the own voxels of the last visit before each time, moved and changed as the model says;
                otherwise the volumes are the model's images, interpolated from its grid.
            shape: (W, H, D) of the grid instead of the model's own, in voxels; 0 for as many as the subject has, so
                that nothing of it lies outside.
            progress: show a progress bar.

        Raises:
            LongigenError: if the visits cannot be used, too much of the subject lies outside of the grid, or a time is
                not between two of them.
        """
        resolved = as_subject(subject, times, self.statistics.time_unit)
        targets = missing_times(resolved, at)
        settings = GenerationSettings.among(locals())
        return self._forecast(resolved, targets, settings, samples, batch_size, detail, shape, progress)

    def _forecast(
        self,
        subject: Subject,
        times: Sequence[float],
        settings: GenerationSettings,
        samples: int,
        batch_size: Size,
        detail: bool,
        shape: tuple[int, int, int] | None,
        progress: bool,
    ) -> Forecast:
        return generate_forecast(
            self,
            subject,
            times,
            settings,
            samples=SAMPLES.check(samples),
            batch_size=BATCH_SIZE.check(batch_size),
            detail=detail,
            shape=shape,
            progress=show_progress if progress else silent,
        )

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
        """Load a model from a folder, the zoo or the Hugging Face Hub; all weights must fit.

        Args:
            source: a run's or a model's folder, the name of a published model, or ``org/repo``.
            revision: branch, tag or commit of a Hub repository.
            token: access token for a private repository; by default the one set by ``hf auth login`` or HF_TOKEN.
            device: device of the model, e.g. ``"cuda"``; CPU by default.
            dtype: type of the floating-point weights; by default float32, as saved.

        Returns:
            The model in ``eval()`` mode.

        Raises:
            LongigenError: if there is no such model, or it is damaged or was saved by an incompatible version.
        """
        return load(cls, str(source), revision=revision, token=token, device=device, dtype=dtype)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        tag: str | None = None,
        licence: str | None = None,
        notes: str = "",
        message: str | None = None,
        token: str | None = None,
    ) -> Release:
        """Publish the model with its card on the Hub, in one tagged commit, as ``longigen push`` does.

        This is not the method of `huggingface_hub.ModelHubMixin`. The mixin saves the constructor's arguments as the
        configuration; here each of the three components is saved with the distribution that provides it. It also
        accepts unchecked ``**kwargs``, and does not tag versions.

        Args:
            repository: the repository, ``org/name``.
            private: visibility of a new repository, by default True; for an existing one, the visibility to require.
            tag: tag of the version; by default v1, v2 …
            licence: licence of the weights, e.g. ``apache-2.0``.
            notes: Markdown that is added to the model card.
            message: commit message.
            token: access token with write permission; by default the one set by ``hf auth login`` or HF_TOKEN.

        Raises:
            LongigenError: if the Hub rejects the upload, or private values of the configuration cannot be removed.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            with publication(
                folder,
                repository,
                load=loader(type(self)),
                tag=tag,
                private=private,
                licence=licence,
                notes=notes,
                token=token,
            ) as ready:
                return ready.publish(message)

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file that was loaded, or of the file that `save` would write if they changed."""
        if self._file is not None and self._file[1] == self._versions:
            return self._file[0]
        return weights_checksum(self)

    def note_file(self, sha256: str) -> None:
        """Record the SHA-256 of the file that contains the current weights."""
        self._file = sha256, self._versions

    @property
    def _versions(self) -> int:
        """Number that increases whenever weights change in place: by an optimiser, or by loading other weights."""
        return sum(tensor._version for tensor in (*self.parameters(), *self.buffers()))

    def __repr__(self) -> str:
        """Return one line: the three components, the number of parameters, the device."""
        parts = " + ".join(type(part).__name__ for part in (self.conditioner, self.denoiser, self.sampler))
        return f"{type(self).__name__}({parts}, {self.parameter_count / 1e6:.2f} M parameters, {self.device})"


def _require_voxels(denoiser: Denoiser, codec: Codec) -> None:
    """Raise a `LongigenError` for a denoiser that moves the last visit's voxels where codes have none."""
    if denoiser.moves and not codec.keeps_voxels:
        raise LongigenError(
            f"The denoiser {type(denoiser).__name__} moves the last visit voxel by voxel, and a code of {codec} has no "
            "voxels to move; use it without a codec (--codec identity), or choose a denoiser or a setting of it that "
            "does not move."
        )


def _require_times(history: VisitSequence, target_times: Tensor, target_valid: Tensor) -> None:
    """Raise a `ValueError` for a target at the time of an observed visit, or without an observed visit before it.

    Once, from copies on the CPU: on a GPU a `VisitSequence` does not check these.
    """
    outline, valid = history.without_images(), target_valid.cpu()
    outline.with_slots(target_times.cpu(), valid)
    outline.last(before=torch.where(valid, target_times.cpu(), torch.inf).amin(dim=1))


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the named losses of each sample (B,)."""
    return torch.stack(list(losses.values())).sum(dim=0)
