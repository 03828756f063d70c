"""Which visits a generated one was made from, and where: the conditioner's attention as maps, figure and table."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from longigen.components.visit_sequence import Covariate, VisitSequence
from longigen.data.intensity import foreground_of
from longigen.data.preprocess import Prepared
from longigen.data.training_pairs import make_sequence
from longigen.data.volume import Volume, write_volume
from longigen.errors import LongigenError
from longigen.models.figures import Slice, draw_grey
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import Generated
from longigen.models.pretrained import describe
from longigen.models.visit_files import GenerationRecord
from longigen.utils.files import atomic, write_json

Origin = Literal["given", "generated", "missing"]
COLORS: dict[Origin, str] = {"given": "tab:blue", "generated": "tab:orange", "missing": "lightgrey"}
MAX_COLUMNS = 6
"""Of images in a row of the figure."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a conditioner looked to make one visit.

    Attributes:
        prepared: the subject.
        time: of the visit that was made.
        image: the visit that was made (C, W, H, D).
        times: of the L visits that it could look at, ascending.
        origins: whether each of these was given, was generated before, or has no image.
        images: of these visits (L, C, W, H, D), background where missing.
        shares: of these visits at each voxel (L, W, H, D); see `Conditioner.explain`.
    """

    prepared: Prepared
    time: float
    image: Tensor
    times: tuple[float, ...]
    origins: tuple[Origin, ...]
    images: Tensor
    shares: Tensor

    @cached_property
    def means(self) -> list[float]:
        """The mean share of each visit inside the foreground."""
        return self.shares[:, foreground_of(self.prepared.visit(0))].mean(dim=1).tolist()

    @property
    def volume(self) -> Volume:
        """The shares on the first visit's own grid (W, H, D, L), 0 outside the model's grid."""
        placed = [self.prepared.placement.to_subject(share.numpy(), 0.0) for share in self.shares]
        return Volume(np.stack([volume.data for volume in placed], axis=-1), placed[0].affine)


def require_explaining(model: LongitudinalModel) -> None:
    """Refuse a model whose conditioner cannot say where it looked.

    Raises:
        LongigenError: naming the conditioner.
    """
    if not model.conditioner.explains:
        name = describe(model.conditioner)["name"]
        raise LongigenError(
            f"The conditioner '{name}' cannot say where it looked; leave --explain out, or take a model whose "
            "conditioner attends to visits."
        )


def explanations(model: LongitudinalModel, generated: Generated) -> Iterator[Explanation]:
    """Yield an explanation of each generated visit, from the history that it was generated with.

    Raises:
        LongigenError: if the conditioner cannot say where it looked.
    """
    require_explaining(model)
    given = make_sequence(generated.prepared, generated.task.given, set(), model.statistics.covariates)
    every = _joined(given, generated)
    times = sorted([*(generated.prepared.subject.times[index] for index in generated.task.given), *generated.times])
    made = torch.isin(every.times, torch.tensor(generated.times, dtype=every.times.dtype))
    for time, image in zip(generated.times, generated.images, strict=True):
        target = torch.tensor([time], dtype=every.times.dtype)
        # As in generation: each visit that was made joined the history of the next.
        own = every.times == target
        history = replace(every, observed=~own & (~made | (every.times < target)), valid=~own)
        shares = model.conditioner.explain(history.to(model.device), target.to(model.device)).cpu()
        seen = (history.before(target) if model.conditioner.causal else history.valid)[0]
        origins: list[Origin] = [
            "missing" if not observed else "generated" if generated else "given"
            for observed, generated in zip(history.observed[0, seen].tolist(), made[0, seen].tolist(), strict=True)
        ]
        yield Explanation(
            generated.prepared,
            time,
            image,
            tuple(compress(times, seen.tolist())),
            tuple(origins),
            history.images[0, seen],
            shares[0, seen],
        )


def _joined(given: VisitSequence, generated: Generated) -> VisitSequence:
    """Return the visits that were given and those that were made, in order of time, as a batch of one."""
    number = len(generated.times)
    times = torch.cat([given.times, torch.tensor([generated.times], dtype=given.times.dtype)], dim=1)
    known = torch.ones_like(times, dtype=torch.bool)
    joined = VisitSequence(
        images=torch.cat([given.images, generated.images[None]], dim=1),
        times=times,
        observed=known,
        valid=known,
        covariates={
            name: Covariate(*(torch.nn.functional.pad(part, (0, number)) for part in item))
            for name, item in given.covariates.items()
        },
    )
    return joined.select(times.argsort(dim=1))


def write_explanations(
    model: LongitudinalModel, generated: Generated, paths: Sequence[Path], record: GenerationRecord
) -> None:
    """Write beside each generated visit where the conditioner looked.

    ``…_explain.nii.gz`` holds the shares of the visits along its fourth axis, in the subject's own space, 0 outside the
    model's grid; ``…_explain.json`` says which visits they are, and ``…_explain.png`` shows them.

    Args:
        model: that generated them.
        generated: one sample of a subject's visits.
        paths: of the visits, as `write_visits` returned them.
        record: how they were generated.
    """
    unit = record.time_unit
    for found, path in zip(explanations(model, generated), paths, strict=True):
        name = f"{path.name.removesuffix('.nii.gz')}_explain"
        description = f"longigen: share of each visit in the one made at {found.time:g} {unit}"
        write_volume(found.volume, path.with_name(f"{name}.nii.gz"), description)
        content = {
            "subject": generated.prepared.subject.id,
            "time": found.time,
            "time_unit": unit,
            "visits": [
                {"time": time, "origin": origin, "mean_share_in_foreground": share}
                for time, origin, share in zip(found.times, found.origins, found.means, strict=True)
            ],
            "simulated_history": record.simulated,
            "model": dict(record.model),
        }
        write_json(content, path.with_name(f"{name}.json"))
        draw_explanation(found, path.with_name(f"{name}.png"), title=path.name, unit=unit)


def draw_explanation(found: Explanation, path: Path, *, title: str, unit: str) -> None:
    """Write a PNG: the visit that was made, each visit it was made from under its share, and the mean shares over time.

    Shown is the slice across the axis with the fewest voxels on which the visit that was made differs most from the
    last one before it. All shares have one colour scale: blue is less than an equal share, red is more.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    number = len(found.times)
    rows, columns = math.ceil((number + 1) / MAX_COLUMNS), min(number + 1, MAX_COLUMNS)
    figure = Figure(figsize=(max(1.6 * columns, 5.0) + 0.7, 1.9 * rows + 2.6), layout="constrained")
    figure.suptitle(title, fontsize=8)
    above, below = figure.subfigures(2, 1, height_ratios=[1.9 * rows, 2.2])  # type: ignore[misc]
    axes = above.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    last = max(place for place, time in enumerate(found.times) if time < found.time)
    cut = Slice.through(found.images[last], found.image)
    draw_grey(axes[0], cut(found.image), f"made: t={found.time:.3g}")
    equal = 1 / max(number, 2)  # one visit has all there is
    most = min(1.0, max(2 * equal, float(found.shares.max())))
    scale = ScalarMappable(TwoSlopeNorm(vmin=0.0, vcenter=equal, vmax=most), "coolwarm")
    for place, axis in enumerate(axes[1 : number + 1]):
        draw_grey(axis, cut(found.images[place]), f"{found.origins[place]} t={found.times[place]:.3g}")
        share = cut(found.shares[place, None])
        opacity = 0.6 * np.abs(2 * np.asarray(scale.norm(share)) - 1)  # none where the share is equal
        axis.imshow(share, cmap=scale.cmap, norm=scale.norm, alpha=opacity, interpolation="nearest")
    bar = above.colorbar(scale, ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label("share", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axis = below.subplots()
    gaps = np.array([found.time - time for time in found.times])
    span = float(np.ptp([0.0, *gaps]))
    width = max(0.7 * float(np.min(-np.diff(gaps), initial=span / 5)), 0.01 * span)
    axis.bar(gaps, found.means, width=width, color=[COLORS[origin] for origin in found.origins])
    axis.axhline(1 / number, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlim(max(gaps) + width, min(0.0, *gaps) - width)
    axis.set_xlabel(f"time from there to the visit that was made ({unit})", fontsize=8)
    axis.set_ylabel("mean share in the foreground", fontsize=8)
    axis.tick_params(labelsize=7)
    handles = [Patch(color=COLORS[origin], label=origin) for origin in dict.fromkeys(found.origins)]
    below.legend(
        handles=[*handles, Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="equal shares")],
        fontsize=7,
        loc="outside right center",
        frameon=False,
    )
    with atomic(path) as part:
        figure.savefig(part, dpi=110)
