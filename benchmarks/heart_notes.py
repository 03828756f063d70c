"""What the cards of the published heart models say of their data, their cross-validation and their training images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longigen.generation.session import GenerationSession
from longigen.models.predict import GenerationSettings
from longigen.models.tasks import last_only

TABLE = Path(__file__).parents[1] / "docs" / "results" / "acdc-heart" / "table.txt"
USE = """\
## Frames of your own heart

    longigen generate {name} --data CINE.nii.gz --setting single --times 0.5,1

makes the frames halfway to end systole and at end systole from the first frame of a short-axis cine series, which must
be end diastole, with its own voxels and slices. Times run from 0 (end diastole) to 1 (end systole). One volume is the
central forecast; with `--samples 8` each is a draw. {limit}
"""
ACDC_LIMIT = "It sees the middle 100 × 100 voxels of each slice, in which the heart must lie; the rest stays as it is."
SUNNYBROOK_LIMIT = (
    f"{ACDC_LIMIT} It has seen end diastole and end systole only: frames between follow from how it depends on time, "
    "which nothing has tested."
)
ACDC_DATA = """\
## Data and citation

55 patients of the training set of the Automated Cardiac Diagnosis Challenge (ACDC), end diastole to end systole,
cropped around the heart. The data are for research and under CC BY-NC-SA 4.0, and so are these weights. Cite

- Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and Diagnosis: Is the
  Problem Solved?, IEEE TMI 2018, doi 10.1109/TMI.2018.2837502

Training started from heart-sunnybrook.
"""
SUNNYBROOK_DATA = """\
## Data and citation

30 patients of the Sunnybrook Cardiac Data, their end diastole and end systole (CC0 1.0). Cite

- Radau et al., Evaluation Framework for Algorithms Segmenting Short Axis Cardiac MRI, The MIDAS Journal, 2009
"""
FOLDS = """\
## Cross-validation

These weights were trained on all 55 patients, so they cannot be scored on any of them. Five models of the same recipe,
each trained on four fifths of the patients, were scored on the others (`benchmarks/heart.py`), with one seed. The
recipe's settings were chosen on the patients of fold 1, which are among the 55:

```
{table}
```
"""
NEAREST = """\
## Nearest training images

End systole was generated from end diastole for {count} patients of {data}. For each slice the nearest of the
{training:,} slices that it was trained on was found, by the root mean squared difference of intensities in [0, 1]
(median [10th, 90th percentile] over slices):

| slice | its nearest training slice | its own end diastole |
|---|---|---|
| generated | {generated} | {moved} |
| true | {true} | {changed} |

{verdict} Patients that it was trained on were not tested so: their images are near their own by intention.
"""


ACDC = "ACDC, which it has never seen"
SUNNYBROOK = "Sunnybrook, which it was not trained on itself (the model that it started from was)"


@dataclass(frozen=True)
class Distances:
    """Root mean squared differences of slices, (N,) each: from the nearest training slice and from end diastole."""

    generated: np.ndarray
    true: np.ndarray
    moved: np.ndarray
    changed: np.ndarray
    training: int
    patients: int


def slices(volume: Tensor) -> Tensor:
    """Return the slices (D, W·H) of a volume (C, W, H, D), with intensities in [0, 1]."""
    return ((volume + 1) / 2).permute(3, 0, 1, 2).flatten(1)


def nearest(values: Tensor, others: Tensor) -> Tensor:
    """Return for each row of (N, P) the root mean squared difference from the nearest row of (M, P)."""
    return torch.cdist(values, others).min(dim=1).values / values.shape[1] ** 0.5


def distances(model: str, trained_on: GenerationSession, unseen: GenerationSession) -> Distances:
    """Compare what a model generates for `unseen` subjects with the images of those that it was trained on."""
    known = torch.cat(
        [
            slices(prepared.visit(index))
            for prepared in trained_on.subjects
            for index in range(len(prepared.subject.visits))
        ]
    )
    tasks = unseen.tasks("single", seed=0, select=last_only)
    found: dict[str, list[Tensor]] = {"generated": [], "true": [], "moved": [], "changed": []}
    for item in unseen.generate(tasks, GenerationSettings(), batch_size=1):
        made, first = slices(item.images[-1]), slices(item.prepared.visit(0))
        true = slices(item.prepared.visit(item.task.targets[-1]))
        found["generated"].append(nearest(made, known))
        found["true"].append(nearest(true, known))
        found["moved"].append((made - first).square().mean(1).sqrt())
        found["changed"].append((true - first).square().mean(1).sqrt())
    return Distances(
        **{name: torch.cat(values).numpy() for name, values in found.items()},
        training=len(known),
        patients=len(unseen.subjects),
    )


def text(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def nearest_note(found: Distances, data: str) -> str:
    """Return the section on the nearest training images."""
    ratio = float(np.median(found.generated / found.true))
    if ratio >= 0.9:
        verdict = f"A generated slice is as far from the training slices as a true one (median ratio {ratio:.2f})."
    else:
        verdict = f"A generated slice is nearer to the training slices than a true one (median ratio {ratio:.2f})."
    return NEAREST.format(
        count=found.patients,
        data=data,
        training=found.training,
        generated=text(found.generated),
        true=text(found.true),
        moved=text(found.moved),
        changed=text(found.changed),
        verdict=verdict,
    )


def notes(name: str, model: str, acdc: Path, sunnybrook: Path) -> str:
    """Return the Markdown that is added to the card of ``heart-acdc`` or ``heart-sunnybrook``."""
    on_acdc = GenerationSession.open(model, data=f"acdc:{acdc}", changes=["data.frames=6"], part="all")
    changes = ["data.pattern=*_ED_ES.nii.gz", "data.time_unit=cycle"]
    on_sunnybrook = GenerationSession.open(model, data=f"nifti4d:{sunnybrook}", changes=changes, part="all")
    if name == "heart-acdc":
        found = distances(model, on_acdc, on_sunnybrook)
        use, data = USE.format(name=name, limit=ACDC_LIMIT), ACDC_DATA
        parts = [use, data, FOLDS.format(table=TABLE.read_text("utf-8").strip()), nearest_note(found, SUNNYBROOK)]
    else:
        found = distances(model, on_sunnybrook, on_acdc)
        use, data = USE.format(name=name, limit=SUNNYBROOK_LIMIT), SUNNYBROOK_DATA
        parts = [use, data, nearest_note(found, ACDC)]
    return "\n".join(parts)
