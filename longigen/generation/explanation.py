"""Explain generated visits: the share of each earlier visit at each voxel, from the conditioner's attention."""

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
from longigen.data.intensity import foreground_mask
from longigen.data.preprocess import Prepared
from longigen.data.training_pairs import make_sequence
from longigen.data.volume import Volume, write_volume
from longigen.errors import LongigenError
from longigen.models.channels import channel_tasks
from longigen.models.figures import Slice, draw_grey
from longigen.models.layout import Layout
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.predict import Generated
from longigen.models.pretrained import describe
from longigen.models.settings import Order
from longigen.models.visit_files import sidecar_path
from longigen.utils.files import atomic, write_json
from longigen.utils.time_units import time_text

Origin = Literal["given", "generated", "missing"]
COLORS: dict[Origin, str] = {"given": "tab:blue", "generated": "tab:orange", "missing": "lightgrey"}
MAX_COLUMNS = 6
"""The largest number of images in a row of the figure."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each of L visits contributed to one generated visit, at each voxel.

    Attributes:
        prepared: the subject.
        time: time of the generated visit.
        image: image of the generated visit (C, W, H, D).
        times: times of the L visits that the conditioner could use, ascending.
        origins: whether each of the L visits was given, was generated before, or is missing (has no image).
        images: images of the L visits (L, C, W, H, D); background for missing ones.
        shares: share of each of the L visits at each voxel (L, W, H, D); see `Conditioner.explain`.
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
        """The mean share of each of the L visits inside the foreground."""
        return self.shares[:, foreground_mask(self.prepared.visit(0))].mean(dim=1).tolist()

    @property
    def volume(self) -> Volume:
        """The shares on the grid of the subject's first visit (W, H, D, L), 0 outside the model's grid."""
        placed = [self.prepared.placement.to_subject(share.numpy(), 0.0) for share in self.shares]
        return replace(placed[0], data=np.stack([volume.data for volume in placed], axis=-1))


def require_explaining(model: LongitudinalModel) -> None:
    """Check that the model's conditioner implements `Conditioner.explain`.

    Raises:
        LongigenError: if it does not.
    """
    if not model.conditioner.explains:
        name = describe(model.conditioner)["name"]
        raise LongigenError(
            f"The conditioner '{name}' cannot explain which visits it used; leave --explain out, or use a model with "
            "an attention conditioner such as sadm."
        )


def explanations(
    model: LongitudinalModel, generated: Generated, order: Order = "autoregressive"
) -> Iterator[Explanation]:
    """Yield the explanation of each generated visit, given the history that it was generated from.

    Args:
        model: the model that generated the visits.
        generated: one sample of a subject's visits.
        order: the order in which they were generated.

    Raises:
        LongigenError: if the conditioner does not implement `Conditioner.explain`.
    """
    require_explaining(model)
    given = make_sequence(generated.prepared, generated.task.given, set(), model.statistics.covariates)
    visits = _joined(given, generated)
    times = sorted([*(generated.prepared.subject.times[index] for index in generated.task.given), *generated.times])
    targets = torch.tensor(generated.model_times, dtype=visits.times.dtype)
    is_generated = torch.isin(visits.times, targets)
    for time, target, image in zip(generated.times, targets[:, None], generated.images, strict=True):
        # As in generation, the history holds the visits that were generated before, or in the order direct none.
        is_target = visits.times == target
        if order == "direct":
            history = replace(visits, observed=~is_generated, valid=~is_generated)
        else:
            observed = ~is_target & (~is_generated | (visits.times < target))
            history = replace(visits, observed=observed, valid=~is_target)
        shares = model.explain(history.to(model.device), target.to(model.device)).cpu()
        usable = (history.before(target) if model.conditioner.causal else history.valid)[0]
        origins: list[Origin] = [
            "missing" if not has_image else "generated" if from_model else "given"
            for has_image, from_model in zip(
                history.observed[0, usable].tolist(), is_generated[0, usable].tolist(), strict=True
            )
        ]
        yield Explanation(
            generated.prepared,
            time,
            image,
            tuple(compress(times, usable.tolist())),
            tuple(origins),
            history.images[0, usable],
            shares[0, usable],
        )


def _joined(given: VisitSequence, generated: Generated) -> VisitSequence:
    """Return the given and the generated visits of a subject, in order of time, as a batch of one."""
    number = len(generated.times)
    times = torch.cat([given.times, torch.tensor([generated.model_times], dtype=given.times.dtype)], dim=1)
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
        observed_channels=_channels(given, generated),
    )
    return joined.select(times.argsort(dim=1))


def _channels(given: VisitSequence, generated: Generated) -> Tensor | None:
    """Return which channels the given and the generated visits have (1, L, C); None if they have all."""
    if given.observed_channels is None:
        return None
    parts = channel_tasks(generated.prepared, generated.task)
    made = torch.zeros(1, len(generated.times), given.images.shape[2], dtype=torch.bool)
    for part in parts:
        made[0, :, part.number] = torch.tensor([part.reaches(time) for time in generated.times])
    return torch.cat([given.observed_channels, made], dim=1)


def first_of_each(generated: Generated, paths: Sequence[Sequence[Path]]) -> list[Path]:
    """Return a file of each generated visit, in order of time: the first channel's, since all share one explanation.

    Args:
        generated: one sample of a subject's visits.
        paths: what `write_sample` returned for it.
    """
    found: dict[float, Path] = {}
    for part, files in zip(generated.by_channel(), paths, strict=True):
        for time, path in zip(part.times, files, strict=True):
            found.setdefault(time, path)
    return [found[time] for time in generated.times]


def write_explanations(model: LongitudinalModel, generated: Generated, paths: Sequence[Path], layout: Layout) -> None:
    """Write the explanation of each generated visit, where the layout of the folder has it.

    ``…_explain.nii.gz`` holds the share of each visit along its fourth axis, in the subject's own space, 0 outside the
    model's grid. ``…_explain.json`` lists these visits with their mean shares; ``…_explain.png`` shows them.

    Args:
        model: the model that generated the visits.
        generated: one sample of a subject's visits.
        paths: a file of each visit, beside which its explanation is; see `first_of_each`.
        layout: the layout of the folder, with the provenance of the visits.
    """
    record, unit = layout.record, layout.record.time_unit
    for explanation, path in zip(explanations(model, generated, record.order), paths, strict=True):
        file = layout.explanation(path)
        description = f"longigen: share of each visit in the visit generated at {time_text(explanation.time)} {unit}"
        write_volume(explanation.volume, file, description)
        content = {
            "subject": generated.prepared.subject.id,
            "time": explanation.time,
            "time_unit": unit,
            "visits": [
                {"time": time, "origin": origin, "mean_share_in_foreground": share}
                for time, origin, share in zip(explanation.times, explanation.origins, explanation.means, strict=True)
            ],
            "simulated_history": record.simulated,
            "model": dict(record.model),
        }
        write_json(content, sidecar_path(file))
        draw_explanation(explanation, sidecar_path(file).with_suffix(".png"), title=path.name, unit=unit)


def draw_explanation(explanation: Explanation, path: Path, *, title: str, unit: str) -> None:
    """Write a PNG: the generated visit, the visits it was generated from overlaid with their shares, and mean shares.

    The slice is perpendicular to the axis with the fewest voxels, where the generated visit differs most from the last
    visit before it. All shares have one colour scale: blue is less than an equal share, red is more.

    Args:
        explanation: the explanation of one generated visit.
        path: path of the PNG file.
        title: title of the figure.
        unit: unit of time.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    number = len(explanation.times)
    rows, columns = math.ceil((number + 1) / MAX_COLUMNS), min(number + 1, MAX_COLUMNS)
    figure = Figure(figsize=(max(1.6 * columns, 5.0) + 0.7, 1.9 * rows + 2.6), layout="constrained")
    figure.suptitle(title, fontsize=8)
    above, below = figure.subfigures(2, 1, height_ratios=[1.9 * rows, 2.2])  # type: ignore[misc]
    axes = above.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    last = max(place for place, time in enumerate(explanation.times) if time < explanation.time)
    cut = Slice.through(explanation.images[last], explanation.image)
    draw_grey(axes[0], cut(explanation.image), f"generated t={explanation.time:.3g}")
    equal = 1 / max(number, 2)  # a single visit always has a share of 1, which is then drawn in red
    largest = min(1.0, max(2 * equal, float(explanation.shares.max())))
    scale = ScalarMappable(TwoSlopeNorm(vmin=0.0, vcenter=equal, vmax=largest), "coolwarm")
    for place, axis in enumerate(axes[1 : number + 1]):
        label = f"{explanation.origins[place]} t={explanation.times[place]:.3g}"
        draw_grey(axis, cut(explanation.images[place]), label)
        share = cut(explanation.shares[place, None])
        opacity = 0.6 * np.abs(2 * np.asarray(scale.norm(share)) - 1)  # transparent at an equal share
        axis.imshow(share, cmap=scale.cmap, norm=scale.norm, alpha=opacity, interpolation="nearest")
    bar = above.colorbar(scale, ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label("share", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axis = below.subplots()
    gaps = np.array([explanation.time - time for time in explanation.times])
    span = float(np.ptp([0.0, *gaps]))
    width = max(0.7 * float(np.min(-np.diff(gaps), initial=span / 5)), 0.01 * span)
    axis.bar(gaps, explanation.means, width=width, color=[COLORS[origin] for origin in explanation.origins])
    axis.axhline(1 / number, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlim(max(gaps) + width, min(0.0, *gaps) - width)
    axis.set_xlabel(f"time from the visit to the generated one ({unit})", fontsize=8)
    axis.set_ylabel("mean share in the foreground", fontsize=8)
    axis.tick_params(labelsize=7)
    handles = [Patch(color=COLORS[origin], label=origin) for origin in dict.fromkeys(explanation.origins)]
    below.legend(
        handles=[*handles, Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="equal shares")],
        fontsize=7,
        loc="outside right center",
        frameon=False,
    )
    with atomic(path) as part:
        figure.savefig(part, dpi=110)
