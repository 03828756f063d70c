"""Time the denoiser `unet3d` with a patched and with a plain stem, with about equal numbers of parameters.

    python benchmarks/unet3d.py --size 48 64 48 --widths 16 24 32 --concat 9

On Linux a large part of the time is page faults: compare with MALLOC_TRIM_THRESHOLD_=1000000000000 and
MALLOC_MMAP_THRESHOLD_=1000000000000 set in the environment. The shortest time of the repeats is reported.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from longigen import Conditioning, Routes
from longigen_unet3d import UNet3D

STEMS = {"patched": {}, "patched, no refinement": {"refine": 0}, "plain": {"patch": 1}}


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of `repeats` calls, after one call that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure(denoiser: UNet3D, arguments: argparse.Namespace) -> list[str]:
    """Return the number of parameters, and the times of a training step and of denoising steps (batch, single)."""
    denoiser.build(channels=1, routes=Routes(concat=arguments.concat))
    optimizer = torch.optim.AdamW(denoiser.parameters())
    z_t = torch.randn(arguments.batch, 1, *arguments.size)
    log_snr = torch.zeros(arguments.batch)
    concat = torch.randn(arguments.batch, arguments.concat, *arguments.size) if arguments.concat else None

    def forward(batch: int) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            part = None if concat is None else concat[:batch]
            return denoiser(z_t[:batch], log_snr[:batch], Conditioning(part))

    def train() -> None:
        (forward(arguments.batch) - z_t).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    training = seconds(train, arguments.repeats)
    with torch.no_grad():
        steps = [seconds(lambda batch=batch: forward(batch), arguments.repeats) for batch in (arguments.batch, 1)]
    parameters = sum(parameter.numel() for parameter in denoiser.parameters())
    return [f"{parameters / 1e6:.2f} M", *(f"{value:.3f}" for value in (training, *steps))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time unet3d: the patched stem against the plain one.")
    sizes = ("W", "H", "D")
    parser.add_argument("--size", type=int, nargs=3, default=(48, 64, 48), metavar=sizes, help="size of the volumes")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 24, 32], help="widths of the network")
    parser.add_argument("--stems", nargs="+", choices=STEMS, default=list(STEMS), help="stems to compare")
    parser.add_argument("--concat", type=int, default=9, help="channels of the concat route")
    parser.add_argument("--batch", type=int, default=2, help="batch size")
    parser.add_argument("--bf16", action="store_true", help="use bfloat16 autocast")
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads")
    parser.add_argument("--repeats", type=int, default=5, help="number of timed repeats")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kind = "bf16" if arguments.bf16 else "fp32"
    table = Table(title=f"{arguments.batch} × {tuple(arguments.size)}, {kind}, {arguments.threads} threads, seconds")
    for column in ("width", "stem", "parameters", "training step", "denoising step", "denoising step, batch 1"):
        table.add_column(column, justify="left" if column == "stem" else "right")
    for width in arguments.widths:
        for stem in arguments.stems:
            table.add_row(str(width), stem, *measure(UNet3D(width=width, **STEMS[stem]), arguments))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
