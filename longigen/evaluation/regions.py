"""Regions of an evaluation: marked in generated images by a segmenter, and compared with the true label maps."""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from torch import Tensor

from longigen.components.metric import Metric, RegionMasks, RegionMetric
from longigen.data.dataset import Dataset, Subject
from longigen.data.grid import labels_on_grid_of
from longigen.data.preprocess import Prepared
from longigen.data.regions import region_mask
from longigen.data.segmenter import Segmenter
from longigen.data.split import Split, SplitSettings, fingerprint
from longigen.data.volume import Volume, voxel_digest
from longigen.errors import LongigenError, LongigenWarning, did_you_mean
from longigen.evaluation.comparison import Comparison
from longigen.evaluation.metrics import loadable
from longigen.evaluation.volumes import RegionVolume
from longigen.hub.metrics_file import COPY_LAST, SEGMENTED
from longigen.models.network_segmenter import NetworkSegmenter

KEPT = 16
"""Number of label maps that are kept, since the same true images are segmented for every sample and target."""


@dataclass(frozen=True)
class Regions:
    """Which regions are scored, who marks them in images, and where their true label maps are.

    Without a segmenter only copy-last is scored, by the true labels of the last given visit. Without true labels, the
    segmenter's label maps of the true images stand for them, and its own error is not known.

    Attributes:
        names: the regions.
        segmenter: marks them in images; None if there is none.
        marked: the region of each label of the segmenter.
        true: the region of each label of the data set; empty if it has no labels.
    """

    names: tuple[str, ...]
    segmenter: Segmenter | None
    marked: Mapping[int, str]
    true: Mapping[int, str]
    _kept: "OrderedDict[bytes, Volume]" = field(default_factory=OrderedDict, repr=False, compare=False)

    @classmethod
    def of(
        cls, dataset: Dataset, subjects: Sequence[Subject], segmenter: Segmenter | None, named: Mapping[int, str]
    ) -> Self:
        """Return the regions that can be scored.

        Args:
            dataset: the data set.
            subjects: the subjects that are scored; if none of their visits has a label map, the data set has none.
            segmenter: the segmenter that the user named, if any.
            named: the regions of the segmenter's labels that the user named; empty for the segmenter's own.

        Raises:
            LongigenError: if it is not known what the labels stand for, or data set and segmenter share no region.
        """
        has_labels = any(visit.labels is not None for subject in subjects for visit in subject.visits)
        true = dataset.regions if has_labels else {}
        if segmenter is None:
            if named:
                raise LongigenError(
                    "--region names the labels of a segmenter, and there is none; give one with --segmenter."
                )
            if not true:
                raise LongigenError(
                    "Regions cannot be scored, since the data have no label maps and there is no segmenter; give one "
                    "with --segmenter."
                )
            return cls(tuple(dict.fromkeys(true.values())), None, {}, true)
        marked = named or segmenter.regions or dataset.regions
        if not marked:
            raise LongigenError(
                "It is not known which regions the labels of the segmenter stand for; name them with --region, such as "
                "--region 'left ventricle=3' or --region 'ventricles=4+11'."
            )
        names = dict.fromkeys(name for name in (true or marked).values() if name in marked.values())
        if not names:
            raise LongigenError(
                f"The segmenter marks {_listed(marked)} and the data set has labels of {_listed(true)}, so there is no "
                "region to compare; name the segmenter's labels with --region, such as --region "
                f"'{next(iter(true.values()))}=1'."
            )
        return cls(tuple(names), segmenter, marked, true)

    def check_unseen(self, subjects: Sequence[Subject], scored: Sequence[Prepared]) -> None:
        """Warn if the segmenter was trained on some of the scored subjects, whose regions it marks better than others'.

        Args:
            subjects: all subjects of the data set, by which the segmenter's own is recognised.
            scored: the subjects that are scored.
        """
        record = self.segmenter.training_record if isinstance(self.segmenter, NetworkSegmenter) else {}
        if record.get("fingerprint") != fingerprint(subjects):
            return
        split = Split.by_subject(subjects, SplitSettings.from_config(record.get("split", {}), "the segmenter's split"))
        used = {subject.id for subject in (*split.train, *split.validation)}
        seen = [prepared.subject.id for prepared in scored if prepared.subject.id in used]
        if seen:
            warnings.warn(
                f"The segmenter was trained or chosen on {len(seen)} of the {len(scored)} scored subjects, such as "
                f"{seen[0]}, so its own error is larger on new ones than it seems here.",
                LongigenWarning,
                stacklevel=2,
            )

    @property
    def caution(self) -> str | None:
        """A sentence on what stands for the true label maps, where the data set has none."""
        if self.true:
            return None
        return (
            "The data set has no label maps, so regions are compared with the segmenter's label maps of the true "
            "images, and the segmenter's own error is not known."
        )

    def to_dict(self, subjects: Sequence[Prepared]) -> dict[str, Any]:
        """Return what scores of regions depend on, as plain values for the protocol.

        Args:
            subjects: the scored subjects, of whose true label maps it has a hash; none if the data are simulated, whose
                label maps the protocol's hash of the images covers.
        """
        return {
            "names": list(self.names),
            "segmenter": None if self.segmenter is None else self.segmenter.identity,
            "marked": {str(label): name for label, name in self.marked.items()},
            "true": {str(label): name for label, name in self.true.items()} or "the segmenter's, of the true images",
            "labels": labels_digest(subjects) if self.true and subjects else None,
        }

    def metrics(self, chosen: Mapping[str, Metric]) -> dict[str, Metric]:
        """Return the chosen metrics, with one for each region in the place of a `RegionMetric` without a region.

        If there is no `RegionMetric` among them, all installed ones are added.

        Raises:
            LongigenError: if the user chose a region that there is not.
        """
        given = dict(chosen)
        if not any(isinstance(metric, RegionMetric) for metric in given.values()):
            given |= {name: cls() for name, cls in loadable() if issubclass(cls, RegionMetric)}
        found: dict[str, Metric] = {}
        for name, metric in given.items():
            if not isinstance(metric, RegionMetric):
                found[name] = metric
            elif metric.region:
                if metric.region not in self.names:
                    raise LongigenError(
                        f"There is no region '{metric.region}' to score.{did_you_mean(metric.region, self.names)} "
                        f"Regions: {', '.join(self.names)}."
                    )
                found[name] = metric
            else:
                for region in filter(metric.covers, self.names):
                    each = type(metric).from_config({**metric.config, "region": region})
                    found[f"{name}-{each.variant}"] = each
        return found

    def scores(
        self,
        compared: Comparison,
        methods: Mapping[str, Tensor],
        metrics: Mapping[str, RegionMetric],
        prepared: Prepared,
        visits: tuple[int, int, int],
    ) -> "RegionScores":
        """Return the metrics and the volumes of regions in one generated visit; see `RegionMasks`.

        The method `SEGMENTED` is of the true image: its scores are the segmenter's own error. It is there where the
        data set has labels.

        Args:
            compared: the volumes of the visit.
            methods: images of the visit (K, C, W, H, D) by method.
            metrics: the metrics of regions by name.
            prepared: the subject.
            visits: indices of the subject's first visit, the last given one and the scored one.
        """
        first, previous, true = (
            [true_labels(prepared, index, compared) for index in visits]
            if self.true
            else [self._marked(image, compared) for image in (compared.first, compared.previous, compared.true)]
        )
        marked = {name: self._marked(images.mean(dim=0), compared) for name, images in methods.items()}
        before = [self._marked(image, compared) for image in (compared.first, compared.previous)]
        if self.segmenter is None:
            before, marked[COPY_LAST] = [first, previous], previous
        elif self.true:
            marked[SEGMENTED] = self._marked(compared.true, compared)
        names = self.true if self.segmenter is None else self.marked
        values: dict[tuple[str, str], float] = {}
        for name, metric in metrics.items():
            truth = RegionMasks(
                *(_mask(labels, self.true or self.marked, metric) for labels in (first, previous, true))
            )
            for method, labels in marked.items():
                masks = RegionMasks(*(_mask(each, names, metric) for each in (*before, labels)))
                values[method, name] = metric.of_region(masks, truth)
        voxel = abs(float(np.linalg.det(compared.volume(compared.true).affine[:3, :3])))
        truth_volumes = _volumes(true, self.true or self.marked, voxel)
        volumes = {}
        for method, labels in marked.items():
            made = _volumes(labels, names, voxel)
            volumes[method] = {
                region: RegionVolume(made.get(region, 0.0), truth_volumes.get(region, 0.0)) for region in self.names
            }
        return RegionScores(values, volumes)

    def _marked(self, image: Tensor, compared: Comparison) -> Volume | None:
        """Return the segmenter's label map of an image (C, W, H, D) on its grid; None if there is no segmenter."""
        if self.segmenter is None:
            return None
        volume = compared.volume(image)
        key = voxel_digest(volume) + volume.affine.tobytes()
        if key not in self._kept:
            self._kept[key] = labels_on_grid_of(self.segmenter.segment(volume), volume)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]


@dataclass(frozen=True)
class RegionScores:
    """The scores of regions in one visit.

    Attributes:
        values: the metrics of regions, by method and name.
        volumes: the volume of each region, by method.
    """

    values: Mapping[tuple[str, str], float] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, RegionVolume]] = field(default_factory=dict)


def labels_digest(subjects: Sequence[Prepared]) -> str:
    """Return sixteen hexadecimal digits that identify the true label maps of some subjects."""
    digest = hashlib.sha256()
    for prepared in subjects:
        for visit in prepared.subject.visits:
            labels = visit.read_labels(prepared.subject.id)
            digest.update(f"{prepared.subject.id} {visit.time!r}".encode())
            digest.update(b"" if labels is None else voxel_digest(labels))
    return digest.hexdigest()[:16]


def true_labels(prepared: Prepared, index: int, compared: Comparison) -> Volume | None:
    """Return the true label map of a visit on the grid of a comparison; None if the visit has none."""
    labels = prepared.subject.visits[index].read_labels(prepared.subject.id)
    return None if labels is None else labels_on_grid_of(labels, compared.volume(compared.true))


def _volumes(labels: Volume | None, regions: Mapping[int, str], voxel: float) -> Mapping[str, float]:
    """Return the volume in mm³ of each region that a label map has, with voxels of a size in mm³; NaN without one."""
    if labels is None:
        return dict.fromkeys(regions.values(), float("nan"))
    found: dict[str, float] = {}
    for label, count in zip(*np.unique(labels.data, return_counts=True), strict=True):
        if int(label) in regions:
            found[regions[int(label)]] = found.get(regions[int(label)], 0.0) + voxel * int(count)
    return found


def _mask(labels: Volume | None, regions: Mapping[int, str], metric: RegionMetric) -> Tensor | None:
    return None if labels is None else region_mask(labels, regions, metric.region)


def _listed(regions: Mapping[int, str]) -> str:
    return ", ".join(dict.fromkeys(regions.values()))
