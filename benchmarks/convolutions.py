"""`unet3d`'s 3×3×3 convolution beside PyTorch's own, on a CPU in fp32: ``python benchmarks/convolutions.py``.

At the levels of the default U-Net for 64 × 64 × 32 voxels and of wider ones, in a guided step (a batch of two) and with
gradients, in turn: the median of CPU seconds, and the largest difference of the outputs in their standard deviations.
``--tiny`` rehearses it, ``--out FILE`` appends the table to a Markdown file.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from gpu import Table
from levers import in_turn
from torch import nn

from longigen.utils.memory import keep_freed_memory
from longigen_unet3d.convolution import Convolution

Shape = tuple[int, int, int]

LAYERS: tuple[tuple[int, int, Shape], ...] = (
    (32, 32, (32, 32, 16)),
    (64, 32, (32, 32, 16)),
    (64, 64, (16, 16, 8)),
    (64, 64, (64, 64, 16)),
    (128, 128, (32, 32, 8)),
)
TINY: tuple[tuple[int, int, Shape], ...] = ((32, 32, (8, 8, 8)),)
"""Channels, features, and voxels (W, H, D)."""


def steps(layer: nn.Conv3d, shape: Shape) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return functions that compute the output of a layer, and that with its gradients."""
    x = torch.randn(2, layer.in_channels, *shape).contiguous(memory_format=torch.channels_last_3d)
    given = x.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def training() -> None:
        layer(given).square().sum().backward()

    return forward, training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds that are timed")
    parser.add_argument("--tiny", action="store_true", help="rehearse at a small size")
    parser.add_argument("--out", type=Path, help="Markdown file to append the table to")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the commands do
    torch.manual_seed(0)
    rows = []
    for channels, features, shape in TINY if arguments.tiny else LAYERS:
        own = Convolution(channels, features).to(memory_format=torch.channels_last_3d)
        plain = nn.Conv3d(channels, features, 3, padding=1).to(memory_format=torch.channels_last_3d)
        plain.load_state_dict(own.state_dict())
        functions = [*steps(plain, shape), *steps(own, shape)]
        forward, training, own_forward, own_training = in_turn(functions, torch.device("cpu"), arguments.rounds)
        with torch.no_grad():
            x = torch.randn(2, channels, *shape).contiguous(memory_format=torch.channels_last_3d)
            difference = ((own(x) - plain(x)).abs().max() / plain(x).std()).item()
        row = [f"{channels} → {features}", " × ".join(map(str, shape))]
        for before, after in ((forward, own_forward), (training, own_training)):
            row += [f"{1000 * before:.1f}", f"{1000 * after:.1f}", f"{before / after:.2f}"]
        rows.append([*row, f"{difference:.0e}"])
    columns = ["channels", "voxels", "PyTorch, CPU ms", "ours", "× as fast", "with gradients, PyTorch", "ours"]
    note = (
        f"Batches of two, fp32; CPU, {torch.get_num_threads()} thread; torch {torch.__version__}; median of "
        f"{arguments.rounds} rounds in turn."
    )
    table = Table("3×3×3 convolutions on a CPU", [*columns, "× as fast", "largest difference"], rows, note)
    table.show(arguments.out)


if __name__ == "__main__":
    main()
