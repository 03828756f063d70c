"""Scores while a model is trained: a few validation visits, generated in few steps and scored as `evaluate` does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from longigen.components.metric import Metric
from longigen.data.cohort import Cohort
from longigen.evaluation.comparison import Comparison
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import GenerationSettings, SubjectTask, predict_samples
from longigen.models.tasks import tasks
from longigen.training.settings import TrainingSettings
from longigen.utils.precision import Precision

VISITS = 4
"""The largest number of visits that are scored, each the last of its subject."""
STEPS = 8
"""The largest number of network evaluations of a visit; a sampler with fewer of its own has these."""


@dataclass(frozen=True)
class ValidationScores:
    """Scores the last visit of a few subjects, generated from all visits before it, beside copy-last.

    That is the setting ``full`` with the targets ``last`` in the subjects' own space, as `evaluate` scores by default,
    of the first subjects of the validation part (of the training part, if there is none). They are always the same.

    Attributes:
        subject_tasks: the subjects, and the visits that are given and generated.
        metrics: metrics by name.
        precision: the type that the networks compute in.
        best_by: the score by which weights are compared: the gain in this metric over copy-last.
    """

    subject_tasks: list[SubjectTask]
    metrics: Mapping[str, Metric]
    precision: Precision
    best_by: str

    @classmethod
    def of(cls, cohort: Cohort, settings: TrainingSettings, metrics: Mapping[str, Metric], best_by: str) -> Self:
        """Return the scores of a training.

        Args:
            cohort: its data.
            settings: its settings.
            metrics: metrics by name.
            best_by: name of the metric by whose gain over copy-last weights are compared.
        """
        subjects = (cohort.part("validation") or cohort.part("train"))[:VISITS]
        chosen = [(p, tasks(len(p.subject.visits), "full", subject=p.subject.id)[-1]) for p in subjects]
        return cls(chosen, metrics, settings.precision, f"{best_by}_gain")

    def __call__(self, model: LongitudinalModel) -> dict[str, float]:
        """Return the mean over subjects, and channels, of each metric, and of its gain over copy-last, ``NAME_gain``.

        Means that are no finite numbers are left out, such as the PSNR of a visit that equals the one before it.

        Args:
            model: the model, in ``eval()`` mode.
        """
        own = GenerationSettings(precision=self.precision)
        generation = GenerationSettings(precision=self.precision, steps=min(own.steps_of(model), STEPS))
        values: dict[str, list[float]] = {}
        for generated in predict_samples(model, self.subject_tasks, generation, batch_size="auto"):
            for part in generated.by_channel(with_true=True):
                compared = Comparison.of([part], 0, "subject")
                others = compared.true, compared.previous, compared.foreground
                for name, metric in self.metrics.items():
                    value = metric(compared.generated[0], *others)
                    values.setdefault(name, []).append(value)
                    values.setdefault(f"{name}_gain", []).append(value - metric(compared.previous, *others))
        means = {name: sum(found) / len(found) for name, found in values.items()}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}
