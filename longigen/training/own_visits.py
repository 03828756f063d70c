"""Replace given visits of training pairs by the model's own, so that it learns to go on from what it generated."""

from dataclasses import replace

import torch

from longigen.components.visit_sequence import Batch
from longigen.models.longitudinal import LongitudinalModel
from longigen.utils.precision import Precision
from longigen.utils.randomness import SharedGenerator, draw_rows


@torch.no_grad()
def with_own_visits(
    model: LongitudinalModel,
    batch: Batch,
    *,
    share: float,
    precision: Precision,
    seed: int,
    process: int = 0,
    processes: int = 1,
) -> Batch:
    """Return the batch with some of the last given visits as the model generates them from the other given visits.

    In generation one visit after the other, a visit's base is a generated one, with the errors of the model. A model
    that is trained on true visits alone has never seen them. The target stays the true one (the idea of scheduled
    sampling, Bengio et al., NeurIPS 2015, arXiv 1506.03099).

    Args:
        model: the model, whose mode is left as ``eval()``.
        batch: training pairs.
        share: probability, for a pair with two or more given visits before the target, that the last of them is
            replaced; other pairs stay as they are.
        precision: the type that the networks compute in.
        seed: random seed of the choice and of the sampling noise, the same in all processes that share the batch.
        process: number of this process, from 0.
        processes: number of processes.
    """
    history = batch.history
    given = history.observed & history.before(batch.target_time)
    generator = SharedGenerator("cpu", process=process, processes=processes).manual_seed(seed)
    drawn = draw_rows(lambda count: torch.rand(count, generator=generator), history.batch_size, generator)
    rows = torch.nonzero((given.sum(dim=1) >= 2) & (drawn.to(given.device) < share)).flatten()
    if not len(rows):
        return batch
    index = torch.where(given, history.times, -torch.inf).argmax(dim=1)[rows]
    times = history.times[rows, index]
    # Directly, so that visits which are slots are not generated as well, and it costs one visit.
    first = process * history.batch_size
    made = model.eval().generate(
        history.take(rows).hide(index),
        times[:, None],
        subjects=[str(first + row) for row in rows.tolist()],  # the noise goes by the number in the whole batch
        seed=seed,
        order="direct",
        precision=precision,
    )
    images = history.images.clone()
    images[rows, index] = made[:, 0].to(images.dtype)
    return replace(batch, history=replace(history, images=images))
