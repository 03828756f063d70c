"""A study: a recipe, with the data and the model that it names, ready to train."""

from collections.abc import Callable
from dataclasses import dataclass

from longigen.cohort import Cohort
from longigen.model import LongitudinalModel, Provenance
from longigen.recipe import Recipe
from longigen.run import Run
from longigen.training import Trainer, TrainingSettings


@dataclass(frozen=True)
class Study:
    """A recipe and the cohort that it names."""

    recipe: Recipe
    cohort: Cohort

    @classmethod
    def of(cls, recipe: Recipe, callback: Callable[[int, int], None] | None = None) -> "Study":
        """Open the recipe's data set; its volumes are read now only if bad ones are to be left out.

        Raises:
            LongigenError: if the data set cannot be used.
        """
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

    def read(self, callback: Callable[[int, int], None] | None = None) -> None:
        """Read what training needs, so that a bad file is named before training starts."""
        self.cohort.read([*self.cohort.part("train"), *self.cohort.part("validation")], callback)

    def trainer(self, run: Run, *, resume: bool = False) -> Trainer:
        """Compose the model and return its trainer; a new run's recipe and split are written first."""
        import torch

        torch.manual_seed(self.training.seed)  # of the weights
        conditioner, denoiser, sampler = (
            self.recipe.component(part) for part in ("conditioner", "denoiser", "sampler")
        )
        statistics = self.cohort.statistics(
            causal=conditioner.causal, covariates=self.cohort.covariates, seed=self.training.seed
        )
        model = LongitudinalModel(
            conditioner,
            denoiser,
            sampler,
            settings=self.recipe.settings("model"),
            statistics=statistics,
            provenance=Provenance(self.cohort.pipeline.config, self.cohort.provenance),
        )
        augment = self.recipe.settings("augment").augment
        trainer = Trainer(model, self.cohort, self.training, run, augment)
        if resume:
            trainer.resume()
        if trainer.accelerator.is_main_process:
            split = self.cohort.split
            run.write(self.recipe, {part: [s.id for s in split.part(part)] for part in ("train", "validation", "test")})
        return trainer

    def summary(self, model: LongitudinalModel) -> str:
        """Say in a few lines what is about to be trained on what."""
        split, names = self.cohort.split, self.recipe.names
        simulated = ", simulated" if self.cohort.dataset.simulated else ""
        shape = " × ".join(map(str, self.cohort.pipeline.grid.shape))
        return (
            f"{names['conditioner']} + {names['denoiser']} + {names['sampler']}, "
            f"{model.parameter_count / 1e6:.2f} M parameters, on {model.device}\n"
            f"{names['data']}{simulated}: {len(split.train)} subjects to train, {len(split.validation)} to validate, "
            f"{len(split.test)} kept for testing; grid {shape}"
        )
