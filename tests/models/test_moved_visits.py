"""Generation with a denoiser that moves the last visit: displacements lead to the last given visit."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.conformance import registered
from helpers.files import visit_of
from helpers.volumes import oriented
from longigen import Conditioning, Denoiser, LongitudinalModel, Moved, Routes, Subject, Volume, warp
from longigen.data.grid import Grid
from longigen.data.preprocess import Preprocess
from longigen.data.statistics import Statistics
from longigen.models.predict import GenerationSettings
from longigen.models.settings import ModelSettings, Provenance
from longigen.testing.case import after, history
from longigen_baselines import RawConditioner
from longigen_continuous import ContinuousSampler

SIZE = (12, 10, 9)


class Shift(Denoiser):
    """Moves the last visit by a number of voxels along each axis per typical gap, and adds `change`."""

    predicts = "image"
    needs_base = True
    moves = True

    def __init__(self, *, voxels: tuple[float, float, float] = (1.0, 0.0, -1.0), change: float = 0.0) -> None:
        super().__init__()
        self.voxels, self.change = voxels, change

    def build(self, *, channels: int, routes: Routes) -> None:
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        base, _ = conditioning.require_base()
        return self.moved(z_t, log_snr, conditioning).image(base)

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        # An unconditional prediction, whose routes are zero, moves twice as far.
        assert conditioning.concat is not None
        _, gap = conditioning.require_base()
        factor = gap * torch.where(conditioning.concat[:, 0].flatten(1).any(dim=1), 1.0, 2.0)
        shift = factor.view(-1, 1, 1, 1, 1) * torch.tensor(self.voxels).view(1, 3, 1, 1, 1)
        return Moved(shift.expand(-1, 3, *z_t.shape[2:]), torch.full_like(z_t, self.change))


def model_of(denoiser: Denoiser, target: str = "image") -> LongitudinalModel:
    return LongitudinalModel(
        RawConditioner(frames=1),
        denoiser,
        ContinuousSampler(prediction="x", steps=2),
        settings=ModelSettings(target=target),  # type: ignore[arg-type]
        statistics=Statistics(residual_std=0.3),
        provenance=Provenance(preprocess=Preprocess(Grid(SIZE), upper=100.0).config),
    ).eval()


@pytest.mark.parametrize("guidance", [0.0, 0.5])
@pytest.mark.parametrize("target", ["image", "residual"])
def test_displacements_are_conditional_and_lead_to_the_last_given_visit(guidance: float, target: str) -> None:
    visits = history(SIZE, lengths=(3, 2))
    times = torch.stack([after(visits, 1.0), after(visits, 2.5)], dim=1)
    model = model_of(Shift(), target=target)
    made = model.generate_visits(visits, times, GenerationSettings(guidance=guidance))
    assert made.displacement is not None
    assert made.displacement.shape == (2, 2, 3, *SIZE)
    for place, gap in enumerate((1.0, 2.5)):
        expected = gap * torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1, 1).expand(3, *SIZE)
        for row in range(2):
            torch.testing.assert_close(made.displacement[row, place], expected, rtol=1e-5, atol=1e-5)
    if guidance:
        return
    base, _ = visits.last(times[:, 0])
    inner = (..., slice(4, -4), slice(None), slice(4, -4))
    torch.testing.assert_close(made.images[:, 0], warp(base, made.displacement[:, 0]), rtol=0, atol=1e-5)
    assert (made.images[:, 1] - warp(base, made.displacement[:, 1]))[inner].abs().mean() < 0.3  # interpolated twice


def test_displacements_add_up_along_the_generated_visits() -> None:
    """A field that differs from place to place: u(p) + v(p + u(p))."""

    class Grows(Shift):
        def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
            places = torch.arange(SIZE[0], dtype=torch.float32).view(1, 1, -1, 1, 1) - 5
            u = torch.cat([0.1 * places, 0 * places, 0 * places], dim=1).expand(len(z_t), 3, *SIZE)
            return Moved(u, torch.zeros_like(z_t))

    visits = history(SIZE)
    times = torch.stack([after(visits, 1.0), after(visits, 2.0)], dim=1)
    made = model_of(Grows()).generate_visits(visits, times, GenerationSettings(guidance=0.0))
    assert made.displacement is not None
    places = torch.arange(SIZE[0], dtype=torch.float32) - 5
    twice = made.displacement[0, 1, 0, :, 3, 3]
    torch.testing.assert_close(twice[1:-1], (0.21 * places)[1:-1], rtol=1e-4, atol=1e-5)
    valid = torch.tensor([[True, True], [True, False]])
    padded = model_of(Grows()).generate_visits(visits, times, GenerationSettings(guidance=0.0), target_valid=valid)
    assert padded.displacement is not None
    assert not padded.displacement[1, 1].any()


def test_where_nothing_is_moved_there_is_no_displacement() -> None:
    class Still(Shift):
        moves = False

    visits = history(SIZE)
    assert model_of(Still()).generate_visits(visits, after(visits)[:, None], GenerationSettings()).displacement is None


@pytest.fixture
def known() -> Iterator[None]:
    """Register the denoiser, whose name a forecast records."""
    with registered("denoiser", Shift):
        yield


def subject_of(*volumes: Volume) -> Subject:
    visits = tuple(
        visit_of(lambda v=volume: v, time=float(place), shape=volume.data.shape, source=f"/data/visit{place}.nii")
        for place, volume in enumerate(volumes)
    )
    return Subject("s", visits, time_unit="years")


@pytest.mark.usefixtures("known")
def test_a_forecast_moves_the_subjects_own_voxels(tmp_path: Path) -> None:
    """Stored flipped: one voxel along W is one against the file's first axis; the last visit is below the range."""
    first, last = oriented("LAS"), oriented("LAS", seed=1)
    model = model_of(Shift(voxels=(1.0, 0.0, 0.0)))
    forecast = model.forecast(subject_of(first, last), at=2.0, guidance=0.0, progress=False)
    (volume,) = forecast.mean
    # The model's grid is as fine as the subject's, so that whole voxels move without interpolation.
    np.testing.assert_allclose(volume.data[1:], last.data[:-1], atol=1e-3)
    (path,) = forecast.save(tmp_path)
    sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
    assert sidecar["detail"] is True
    assert sidecar["reference"] == {"time": 1.0, "source": "visit1.nii"}
    bare = model.forecast(subject_of(first, last), at=2.0, guidance=0.0, detail=False, progress=False)
    assert not np.array_equal(bare.mean[0].data, volume.data)
    (path,) = bare.save(tmp_path / "bare")
    sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
    assert sidecar["detail"] is False
    assert "reference" not in sidecar


@pytest.mark.usefixtures("known")
def test_an_imputed_visit_has_the_grid_of_the_visit_before_it() -> None:
    first, other = oriented("LAS"), oriented("PIR", (8, 5, 7), seed=1)
    model = model_of(Shift(voxels=(0.0, 0.0, 0.0)))
    subject = subject_of(first, other, oriented("RAS", seed=2))
    made = model.impute(subject, at=[0.5, 1.5], guidance=0.0, progress=False)
    for volume, own in zip(made.mean, (first, other), strict=True):
        np.testing.assert_array_equal(volume.data, own.data)
        np.testing.assert_array_equal(volume.affine, own.affine)
