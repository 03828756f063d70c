"""Draw a pair of simulated brains before and after each augmentation: ``python benchmarks/augmentation.py``.

Above the given visit, in the middle the visit to generate, below the change between the two. Written to
``docs/augmentation.png``.
"""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from longigen.data.augment import Augment, AugmentSettings
from longigen.data.training_pairs import make_pair
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe

VARIANTS = {
    "as it is": AugmentSettings(),
    "rotate=0,0,15\nscale=0.1": AugmentSettings(rotate=(0, 0, 15), scale=0.1),
    "elastic=0.1": AugmentSettings(elastic=0.1),
    "gamma=1.5": AugmentSettings(gamma=1.5),
    "bias=0.3": AugmentSettings(bias=0.3),
    "blur=2": AugmentSettings(blur=2),
    "noise=0.1": AugmentSettings(noise=0.1),
}
SEED = 7
"""One with which each draw is far from none."""
FILE = Path(__file__).parents[1] / "docs" / "augmentation.png"


def main() -> None:
    study = Experiment.of(Recipe.resolve("brain", data="sim-brain"))
    prepared = max(study.cohort.part("train"), key=lambda each: each.subject.times[-1])
    pair = make_pair(prepared, [0], set(), len(prepared.subject.visits) - 1, ())
    figure = Figure((11, 5), dpi=70, layout="constrained")
    axes = figure.subplots(3, len(VARIANTS))
    for column, (title, settings) in zip(axes.T, VARIANTS.items(), strict=True):
        made = pair if settings.augment is None else Augment(settings)(pair, seed=SEED)
        given, target = (
            image[0, :, :, image.shape[-1] // 2].T for image in (made.history.images[0, 0], made.target[0])
        )
        for place, image in zip(column, (given, target), strict=False):
            place.imshow(image, cmap="gray", vmin=-1, vmax=1, origin="lower")
        column[2].imshow(target - given, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower")
        column[0].set_title(title, fontsize=10)
        for place in column:
            place.set_xticks([])
            place.set_yticks([])
    for place, label in zip(axes[:, 0], ("given", "to generate", "change"), strict=True):
        place.set_ylabel(label)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(FILE, optimize=True)  # small


if __name__ == "__main__":
    main()
