"""A study: a recipe, with the data and the model that it names, ready to train."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from longigen.data.cohort import Cohort
from longigen.errors import LongigenWarning
from longigen.hub.model_config import COMPONENTS
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.settings import Provenance
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.settings import TrainingSettings
from longigen.training.trainer import Trainer
from longigen.training.warm_start import WarmStart, warm_starts


@dataclass(frozen=True)
class Experiment:
    """A recipe and the cohort that it names."""

    recipe: Recipe
    cohort: Cohort

    @classmethod
    def of(cls, recipe: Recipe, callback: Callable[[int, int], None] | None = None) -> "Experiment":
        """Open the recipe's data set; its volumes are read now only if bad ones are to be left out.

        Raises:
            LongigenError: if the data set cannot be used, or a part cannot be made with its configuration.
        """
        for part in COMPONENTS:
            recipe.component(part)  # refuses values that do not go together, before data are read
        cohort = Cohort(
            recipe.names["data"],
            recipe.component("data"),
            recipe.settings("preprocess"),
            recipe.settings("split"),
            skip_bad=recipe.settings("training").skip_bad,
            callback=callback,
        )
        return cls(recipe, cohort)

    @property
    def training(self) -> TrainingSettings:
        return self.recipe.settings("training")

    @property
    def warm_starts(self) -> tuple[WarmStart, ...]:
        """The parts that start from another model's weights."""
        return warm_starts(self.training)

    def read(self, callback: Callable[[int, int], None] | None = None) -> None:
        """Read what training needs, so that a bad file is named before training starts."""
        self.cohort.read([*self.cohort.part("train"), *self.cohort.part("validation")], callback)

    def compose(self) -> LongitudinalModel:
        """Compose the model, its weights drawn with the recipe's seed, its statistics measured on the training part."""
        import torch

        torch.manual_seed(self.training.seed)  # of the weights
        conditioner, denoiser, sampler = (self.recipe.component(part) for part in COMPONENTS)
        statistics = self.cohort.statistics(
            causal=conditioner.causal, covariates=self.cohort.covariates, seed=self.training.seed
        )
        return LongitudinalModel(
            conditioner,
            denoiser,
            sampler,
            settings=self.recipe.settings("model"),
            statistics=statistics,
            provenance=Provenance(self.cohort.pipeline.config, self.cohort.provenance, self._asked),
        )

    @property
    def _asked(self) -> dict[str, Any]:
        """What a model keeps of how training was asked for: no path and no free text; of what its parts started from,
        what strangers may call it, or None where it was a folder.
        """
        starts = {start.part: start.public_name for start in self.warm_starts}
        asked = self.recipe.provenance
        return {**asked, **({"initialised": starts} if starts else {})}

    def trainer(self, run: Run, *, resume: bool = False, model: LongitudinalModel | None = None) -> Trainer:
        """Return the trainer of `model`, composed here by default; a new run's recipe and split are written first.

        A LongigenWarning says what of the parts that start from another model's weights does not fit.
        """
        model = model or self.compose()
        begins = not (resume and run.checkpoints())  # a checkpoint has all weights
        if begins:
            model.conditioner.initialise()
        notes = [start.apply(model) for start in self.warm_starts] if begins else []
        augment = self.recipe.settings("augment").augment
        trainer = Trainer(model, self.cohort, self.training, run, augment)
        if resume:
            trainer.resume()
        if trainer.accelerator.is_main_process:
            for note in filter(None, notes):
                warnings.warn(note, LongigenWarning, stacklevel=2)
            self.record(run)
        return trainer

    def record(self, run: Run) -> None:
        """Write the recipe and the split into a run."""
        run.write(self.recipe, self.cohort.split.ids)

    def summary(self, model: LongitudinalModel) -> str:
        """Say in a few lines what is about to be trained on what."""
        split, names = self.cohort.split, self.recipe.names
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        shape = " × ".join(map(str, self.cohort.pipeline.grid.shape))
        starts = [f"{start.part} from {start.source}" for start in self.warm_starts]
        frozen = [f"{part} frozen" for part in self.training.freeze]
        return (
            f"{names['conditioner']} + {names['denoiser']} + {names['sampler']}, "
            f"{model.parameter_count / 1e6:.2f} M parameters, {''.join(f'{note}, ' for note in starts + frozen)}"
            f"on {model.device}\n"
            f"{names['data']}{simulated}: {len(split.train)} subjects to train, {len(split.validation)} to validate, "
            f"{len(split.test)} kept for testing; grid {shape}"
        )
