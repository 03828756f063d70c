"""What the protocol ``cronos-acdc`` gives and hides: ``python benchmarks/cronos.py --acdc PATH --model NAME``.

Of every n-th patient it measures, with the protocol's own preparation and medians: the share of dark voxels, SSIM and
PSNR of copies in the whole image, inside the body, where the heart moves and under a mask; of a constant image; of the
same patients in a frame of zeros; and how well end systole is told by the given visits alone, into which the
interpolation over time has mixed it. Then it scores the given models by the protocol on the same patients. It writes
``hidden.txt`` and a table for each model to ``--out``, by default docs/results/cronos.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

import longigen
from longigen.data.dataset import Subject
from longigen.evaluation.result_table import ResultTable
from longigen.utils.intervals import MEDIAN, Summary
from longigen_acdc import ACDCDataset, sadm
from longigen_acdc.series import Series
from longigen_metrics.similarity import ssim_map

COMMAND = "python benchmarks/cronos.py --acdc PATH"
OUT = Path(__file__).parents[1] / "docs" / "results" / "cronos"
DARK, MOVING, REACH = 0.1, 0.1, 3
"""Dark: below a tenth of the range. Moving: a change from ED to ES above a tenth, and `REACH` voxels around."""
LINES = [
    ("copy of visit 11, dense", "whole image"),
    ("copy of ED", "whole image"),
    ("copy of ED", "body (not dark)"),
    ("copy of ED", "moving heart"),
    ("copy of ED", "under a mask of the moving heart"),
    ("copy of ED", "in a frame of zeros, twice as wide"),
    ("constant, its mean", "whole image"),
    ("constant, its mean", "under a mask of the moving heart"),
    ("ES by the leak, of visits not yet scaled", "whole image"),
    ("ES by the leak, of scaled visits", "whole image"),
]


def similarity(made: Tensor, true: Tensor, inside: Tensor | None = None) -> tuple[float, float]:
    """Return SSIM and PSNR of two volumes (1, W, H, D) in [0, 1] by the protocol, or inside a mask (W, H, D) only."""
    span = max(float(volume.max() - volume.min()) for volume in (made, true))
    found = ssim_map(2 * made - 1, 2 * true - 1, span=2 * span)
    error = (made - true).double().square()
    if inside is not None:
        found, error = found[:, inside], error[:, inside]
    return float(found.mean()), float(-10 * error.mean().log10())


@cache
def decoder(frames: int) -> np.ndarray:
    """Return the weights (11,) with which the given visits, each a sum of frames, make the last visit best."""
    matrix = sadm.spline(frames, sadm.FRAMES)
    return np.linalg.lstsq(matrix[:-1].T, matrix[-1], rcond=1e-6)[0]


def framed(series: Series, visit: int) -> Tensor:
    """Return a visit of the protocol of the same patient, whose slices lie in zeros, twice as wide and high."""
    weights = sadm.spline(len(series.frames), sadm.FRAMES)[visit]
    volume = sadm.read_blend(series.path, series.subject, series.frames, tuple(map(float, weights)))
    data = volume.data - min(0.0, float(volume.data.min()))
    data = np.pad(data, [(size // 2, size // 2) for size in data.shape[:2]] + [(0, 0)])
    for axis, size in enumerate(sadm.GRID):
        data = np.moveaxis(np.tensordot(sadm.spline(data.shape[axis], size), data, axes=(1, axis)), 0, axis)
    return torch.from_numpy((data - data.min()) / np.ptp(data)).float()[None]


def measured(subject: Subject, folder: Path) -> Iterator[tuple[float, float]]:
    """Yield SSIM and PSNR of each of `LINES` for a patient."""
    visits = [torch.from_numpy(visit.load().data)[None] for visit in subject.visits]
    first, last = visits[0], visits[-1]
    body = (last > DARK)[0]
    heart = torch.from_numpy(binary_dilation(((last - first).abs() > MOVING)[0].numpy(), iterations=REACH))
    constant = torch.full_like(last, float(last.mean()))
    constant[..., 0, 0, 0] += 1e-6  # SSIM of a constant in both is not defined
    series = Series.of(folder)
    yield similarity(visits[-2], last)
    yield similarity(first, last)
    yield similarity(first, last, body)
    yield similarity(first, last, heart)
    yield similarity(first * heart, last * heart)
    yield similarity(framed(series, 0), framed(series, sadm.FRAMES - 1))
    yield similarity(constant, last)
    yield similarity(constant * heart, last * heart)
    weights = torch.from_numpy(decoder(len(series.frames)))
    unscaled = torch.stack([torch.from_numpy(visit.load().data) for visit in sadm.visits(series)]).double()
    unscaled = (unscaled - unscaled[-1].min()) / (unscaled[-1].max() - unscaled[-1].min())
    yield similarity(torch.tensordot(weights, unscaled[:-1], 1)[None], unscaled[-1:])
    yield similarity(torch.tensordot(weights, torch.cat(visits[:-1]).double(), 1)[None], last.double())


def hidden(acdc: Path, every: int) -> str:
    """Return the table of what the protocol hides."""
    subjects = ACDCDataset(path=acdc, protocol="cronos").subjects()
    chosen = subjects[::every]
    values = np.array([list(measured(subject, acdc / subject.id)) for subject in chosen])
    dark, moving = [], []
    for subject in chosen:
        first, last = (subject.visits[index].load().data for index in (0, -1))
        dark.append(float((last < DARK).mean()))
        moving.append(float((np.abs(last - first) > MOVING).mean()))
    frames = [len(Series.of(acdc / subject.id).frames) for subject in subjects]
    lines = [
        [what, where, *(Summary.median(values[:, place, column].tolist()).cell() for column in range(2))]
        for place, (what, where) in enumerate(LINES)
    ]
    shares = [f"{Summary.median(share).mean:.2f}" for share in (dark, moving)]
    notes = [
        f"medians over {len(chosen)} patients, every {every}. of {len(subjects)} [{MEDIAN.interval}]",
        f"dark: below {DARK} of the range, {shares[0]} of the voxels; they change by more than {MOVING} in {shares[1]}",
        f"mask: voxels that do, and {REACH} around; inside it, or images multiplied by it and averaged over all voxels",
        f"leak: a weighted sum of the 11 given visits, whose weights follow from the interpolation over time alone; it "
        f"is ES where a patient has fewer than 12 frames ({sum(n < 12 for n in frames)} of {len(frames)}), since 12 "
        "visits then depend on each other",
    ]
    title = f"$ {COMMAND} --every {every}\n\ncronos-acdc: what its numbers are made of"
    return ResultTable(["what is scored", "where", "SSIM", "PSNR"], lines, left=2, title=title, notes=notes).text()


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acdc", type=Path, required=True, help="folder of the ACDC patients")
    parser.add_argument("--every", type=int, default=5, help="take every n-th patient (they are ordered by diagnosis)")
    parser.add_argument("--model", action="append", default=[], help="a model to score (may be repeated)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    text = hidden(options.acdc, options.every)
    print(text)
    (options.out / "hidden.txt").write_text(text + "\n")
    folders = sorted(path for path in options.acdc.iterdir() if path.name.startswith("patient"))[:: options.every]
    for model in options.model:
        with tempfile.TemporaryDirectory() as data:
            for folder in folders:
                (Path(data) / folder.name).symlink_to(folder.resolve())
            result = longigen.evaluate(model, data=f"acdc:{data}", protocol="cronos-acdc", part="all")
        text = f"$ {COMMAND} --every {options.every} --model {model}\n\n{result.table()}\n"
        print(text)
        (options.out / f"{Path(model).name}.txt").write_text(text)


if __name__ == "__main__":
    main()
