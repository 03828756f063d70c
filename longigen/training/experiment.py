"""An experiment: a recipe with the data and the model that it names, ready to train."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from longigen.components.codec import Codec
from longigen.data.codes import Codes
from longigen.data.cohort import Cohort, NewSubjects
from longigen.data.seen import RECORDED, seen_hashes
from longigen.errors import LongigenError, LongigenWarning
from longigen.hub.manifest import CONFIG
from longigen.hub.model_config import CODEC, COMPONENTS, grid_text, read_config
from longigen.hub.resolve import ModelSource
from longigen.models.cautions import MAX_OUTSIDE, require_channels
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.open_codec import open_codec
from longigen.models.settings import Provenance
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.settings import TrainingSettings
from longigen.training.trainer import Trainer
from longigen.training.warm_start import WarmStart, public_name, warm_starts
from longigen.utils.processes import processes

MEASURED = 16
"""The number of training subjects whose first visit is encoded to measure the scale of codes."""


@dataclass(frozen=True)
class Experiment:
    """A recipe and its data set, preprocessed and split."""

    recipe: Recipe
    cohort: Cohort

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        callback: Callable[[int, int], None] | None = None,
        *,
        split: Mapping[str, Sequence[str]] | None = None,
        new: NewSubjects | None = None,
    ) -> "Experiment":
        """Open the recipe's data set; volumes are read now only if bad ones have to be left out.

        Args:
            recipe: the recipe.
            callback: called as ``callback(done, total)`` while visits are read.
            split: the subjects' ids by part, as the run to continue recorded them; by default the split is drawn.
            new: what becomes of subjects that the recorded split does not name; see `Cohort.keep_split`.

        Raises:
            LongigenError: if the data set cannot be used, or a component refuses its configuration.
        """
        for part in (*COMPONENTS, CODEC):
            recipe.component(part)  # raises an error for inconsistent values, before data are read
        cohort = Cohort(
            recipe.names["data"],
            recipe.component("data"),
            recipe.settings("preprocess"),
            recipe.settings("split"),
            skip_bad=recipe.settings("training").skip_bad,
            callback=callback,
        )
        if split is not None:
            cohort.keep_split(split, new)
        return cls(recipe, cohort)

    @property
    def training(self) -> TrainingSettings:
        return self.recipe.settings("training")

    @property
    def warm_starts(self) -> tuple[WarmStart, ...]:
        """The parts that are initialised with another model's weights."""
        return warm_starts(self.training)

    def read(self, callback: Callable[[int, int], None] | None = None) -> None:
        """Read, check and cache every subject, so that bad data fail before training starts.

        Those for testing too, of which training uses nothing: they would fail the evaluation after it.
        """
        self.cohort.require(self.cohort.part("all"), callback)

    def codec(self, trained: str | None = None) -> Codec:
        """Return the codec of the recipe with its weights, and its scale measured on the training part.

        Args:
            trained: where its weights are; by default where the recipe says. See `open_codec`.

        Raises:
            LongigenError: if it needs weights and there are none.
        """
        channels = self.cohort.channels
        codec: Codec = self.recipe.component(CODEC).compose(max(1, len(channels)))
        if not codec.trivial:
            self.cohort.require_whole(f"A code of {codec} mixes the channels of a visit")
        source = trained or self.training.init_codec
        if source is not None and trained is None and channels:
            raise LongigenError(
                f"The codec of {source} was trained on one image per visit and these visits have the channels "
                f"{', '.join(channels)}; leave the codec out, or choose one without weights, such as --codec haar."
            )
        if source is None:
            codec.initialise()
        else:
            codec.take_weights(open_codec(source))
        if codec.error is None:
            training = self.cohort.part("train")
            visits = [prepared.visit(0)[None] for prepared in training[:MEASURED]]
            codec.measure(visits)
        return codec

    def compose(self, codec: Codec | None = None) -> LongitudinalModel:
        """Compose the model, with weights initialised from the recipe's seed and statistics of the training part.

        Args:
            codec: the codec, as `codec` returns it, which is called by default.
        """
        import torch

        codec = codec or self.codec()
        codes = Codes(codec)
        codes.read(self.cohort.part("train"), processes().device)
        torch.manual_seed(self.training.seed)  # for the initial weights
        conditioner, denoiser, sampler = (self.recipe.component(part) for part in COMPONENTS)
        data = self.cohort.provenance
        data["seen"] = seen_hashes([*self.cohort.part("train"), *self.cohort.part("validation")], data["fingerprint"])
        statistics = self.cohort.statistics(
            causal=conditioner.causal, covariates=self.cohort.covariates, seed=self.training.seed, codes=codes
        )
        name, training = self.training.teacher, self._training_provenance
        teacher = None if name is None else LongitudinalModel.from_pretrained(name)
        if teacher is not None and name is not None:
            require_channels(teacher, self.cohort.channels)
            training["teacher"] = {"name": public_name(name), "weights_sha256": teacher.weights_sha256}
        model = LongitudinalModel(
            conditioner,
            denoiser,
            sampler,
            settings=self.recipe.settings("model"),
            statistics=statistics if teacher is None else teacher.statistics,
            provenance=Provenance(self.cohort.pipeline.config, data, training),
            codec=codec,
        )
        if teacher is not None:
            model.learn_from(teacher)
        return model

    @property
    def _training_provenance(self) -> dict[str, Any]:
        """The recipe and the sources of initial weights, without paths and free text; a folder's name is None."""
        sources = {start.part: start.public_name for start in self.warm_starts}
        if self.training.init_codec is not None:
            sources[CODEC] = public_name(self.training.init_codec)
        return {**self.recipe.provenance, **({"initialised": sources} if sources else {})}

    def trainer(self, run: Run, *, resume: bool = False, model: LongitudinalModel | None = None) -> Trainer:
        """Return a trainer and write the recipe and the split into the run.

        Where another model's weights do not fit a part that is initialised with them, a `LongigenWarning` says which.

        Args:
            run: the run to write.
            resume: continue from the run's last checkpoint.
            model: the model to train; by default it is composed here.
        """
        if model is None:
            # A run that goes on needs its codec's weights no longer where they were.
            exported = resume and (run.model / CONFIG).exists() and CODEC in read_config(run.model)
            model = self.compose(self.codec(str(run.model) if exported else None))
        starts_new = not (resume and run.checkpoints())  # a checkpoint holds all weights
        if starts_new:
            model.conditioner.initialise()
        notes = [start.apply(model) for start in self.warm_starts] if starts_new else []
        if earlier := self._earlier(run, starts_new=starts_new):
            model.provenance = replace(model.provenance, data={**model.provenance.data, "earlier": earlier})
        augment = self.recipe.settings("augment").augment
        codes = self._codes(model, changed=augment is not None)
        trainer = Trainer(model, self.cohort, self.training, run, augment, codes)
        if resume:
            trainer.resume()
        schedule, note = self._schedule(run.read(), trainer.step) if resume else ([], None)
        if schedule:
            training = {**model.provenance.training, "schedule": schedule}
            model.provenance = replace(model.provenance, training=training)
        if trainer.accelerator.is_main_process:
            for text in filter(None, [*notes, note]):
                warnings.warn(text, LongigenWarning, stacklevel=2)
            self.record(run, schedule, trainer.found)
        return trainer

    def _codes(self, model: LongitudinalModel, *, changed: bool) -> Codes | None:
        """Return the codes of the visits, or None if training changes images before they are encoded, and say so."""
        own = self.training.own_visits > 0
        if not (changed or own):
            return Codes(model.codec)
        if not model.codec.trivial:
            why = "training.own_visits replaces" if own else "augmentation changes"
            warnings.warn(
                f"Visits are encoded anew in every step, since {why} images before they are encoded; without that each "
                "visit is encoded once, and its code is kept.",
                LongigenWarning,
                stacklevel=3,
            )
        return None

    def _earlier(self, run: Run, *, starts_new: bool) -> list[dict[str, Any]]:
        """Return what is recorded of the data that the models were trained on which initialise this one."""
        if not starts_new:
            return read_config(run.model)["data"].get("earlier", []) if (run.model / CONFIG).exists() else []
        found: list[dict[str, Any]] = []
        sources = [start.source for start in self.warm_starts]
        if self.training.init_codec is not None:
            sources.append(self.training.init_codec)  # its training used images too
        for source in dict.fromkeys(sources):
            data = read_config(ModelSource.parse(source).find()).get("data", {})
            found += [{key: data[key] for key in RECORDED if key in data}, *data.get("earlier", [])]
        return [data for place, data in enumerate(found) if data not in found[:place]]

    def _schedule(self, recorded: Mapping[str, Any], step: int) -> tuple[list[dict[str, int]], str | None]:
        """Return how the number of steps changed in a run, and a sentence if it changes now.

        Args:
            recorded: content of the run's ``run.json``.
            step: the step that training continues from.

        Returns:
            The step and the number of steps from then on, for the start and for each change; empty without a change.
        """
        before, now = recorded["recipe"]["training"]["steps"], self.training.steps
        changes = recorded.get("schedule", []) or [{"step": 0, "steps": before}]
        changes = [change for change in changes if change["step"] < step]
        if not changes or changes[-1]["steps"] == now:
            return (changes if len(changes) > 1 else []), None
        ends = f"The run was to end at step {before} and now ends at step {now}"
        if self.training.lr_schedule == "constant":
            text = f"{ends}; as the learning rate is constant, the result is that of a run of {now} steps."
        else:
            text = (
                f"{ends}: from step {step} on the learning rate follows the schedule of {now} steps, so the result "
                f"differs from that of a run of {now} steps."
            )
        return [*changes, {"step": step, "steps": now}], text

    def record(self, run: Run, schedule: Sequence[Mapping[str, int]] = (), micro_batch: int | None = None) -> None:
        """Write the recipe, the split, how the number of steps changed and what was found into the folder of a run."""
        run.write(self.recipe, self.cohort.split.ids, schedule, micro_batch)

    def _batches(self, number: int) -> str:
        """Return a few words on the processes and what they share of a step."""
        training = self.training
        step = f"{training.batch_size * training.gradient_accumulation} pairs in a step"
        if training.gradient_accumulation > 1:
            step += f", {training.gradient_accumulation} batches of {training.batch_size}"
        return (
            f"1 process; {step}"
            if number == 1
            else (f"{number} processes; {step}, of which each process has 1 in {number}")
        )

    def summary(self, model: LongitudinalModel) -> str:
        """Return a few lines of text: components, number of parameters, device, data, split sizes and grid."""
        split, names = self.cohort.split, self.recipe.names
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        shape = grid_text(self.cohort.pipeline.config)
        if self.cohort.channels:
            shape += f", channels {', '.join(self.cohort.channels)}"
        outside = model.provenance.data.get("outside", 0.0)
        if outside > MAX_OUTSIDE:
            shape += f", with up to {outside:.0%} of a subject's foreground outside, where nothing is learnt"
        sources = [f"{start.part} from {start.source}" for start in self.warm_starts]
        codes = "" if model.codec.trivial else f" on {names[CODEC]} codes"
        frozen = [f"{part} frozen" for part in self.training.freeze]
        return (
            f"{names['conditioner']} + {names['denoiser']} + {names['sampler']}{codes}, "
            f"{model.parameter_count / 1e6:.2f} M parameters, {''.join(f'{note}, ' for note in sources + frozen)}"
            f"on {model.device}\n"
            f"{names['data']}{simulated}: {len(split.train)} subjects for training, {len(split.validation)} for "
            f"validation, {len(split.test)} for testing; grid {shape}\n"
            f"{self._batches(processes().num_processes)}"
        )
