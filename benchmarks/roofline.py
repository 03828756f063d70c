"""How near `unet3d` comes to what the machine can do: ``python benchmarks/roofline.py``, on a GPU if there is one.

The machine's peak is the better of a matrix product and of a 3×3×3 convolution of 64 channels, its bandwidth that of a
copy, both measured here in the same type. A layer's attainable time is the larger of its FLOPs over the peak and of its
bytes (input, output and weights, once each) over the bandwidth: the roofline of Williams, Waterman and Patterson, CACM
2009. For each level of the network and for each kind of layer, the tables of a guided step (a batch of two, with 8
channels of conditioning) have milliseconds, FLOPs, bytes, FLOP/s, and the share of the attainable speed. ``between
layers`` is the rest of the step: SiLU, scale and shift, concatenation, interpolation.

Times are of the CPU on a CPU, and of the clock on a GPU, where each layer is waited for, so that their sum is longer
than a step. ``--tiny`` rehearses it; ``--out FILE`` appends the tables to a Markdown file.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu import Table
from levers import clock, seconds
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from longigen import Conditioning, Routes
from longigen.utils.memory import keep_freed_memory
from longigen.utils.precision import HALF_TYPES, ComputingType, computing_in
from longigen_unet3d import UNet3D


@dataclass(frozen=True)
class Machine:
    """What the machine can do: FLOP/s and bytes per second."""

    peak: float
    bandwidth: float

    @classmethod
    def measured(cls, device: torch.device, dtype: torch.dtype, *, tiny: bool) -> "Machine":
        side, size, count = (256, 16, 2**22) if tiny else (2048, 48, 2**26)
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        volume = torch.randn(2, 64, size, size, size, device=device, dtype=dtype)
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
        layer = nn.Conv3d(64, 64, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last_3d)
        source, target = torch.randn(2, count, device=device)
        with torch.no_grad():
            product, convolution, copy = (
                min(seconds(function, device) for _ in range(4))
                for function in (lambda: matrix @ matrix, lambda: layer(volume), lambda: target.copy_(source))
            )
        peak = max(2 * side**3 / product, 2 * 27 * 64 * 64 * 2 * size**3 / convolution)
        return cls(peak, 2 * source.nbytes / copy)

    def attainable(self, flops: float, moved: float) -> float:
        """Return the time in seconds that a layer takes at best."""
        return max(flops / self.peak, moved / self.bandwidth)


@dataclass
class Layer:
    """A layer, with the times of its calls in seconds, the FLOPs and the bytes of one call."""

    level: str
    kind: str
    times: list[float] = field(default_factory=list)
    flops: float = 0
    moved: float = 0


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    yield from (value for value in values if isinstance(value, Tensor))


@contextmanager
def timed(layers: dict[str, Layer], network: nn.Module, device: torch.device) -> Iterator[None]:
    """Time every call of the layers inside the context."""
    handles, started = [], {}
    for name, layer in layers.items():
        module = network.get_submodule(name)

        def before(_: nn.Module, inputs: Any, name: str = name) -> None:
            started[name] = clock(device)

        def after(module: nn.Module, inputs: Any, output: Any, name: str = name, layer: Layer = layer) -> None:
            layer.times.append(clock(device) - started[name])
            layer.moved = sum(each.nbytes for each in (*tensors(inputs), *tensors([output]), *module.parameters()))

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def level_of(name: str) -> str:
    """Return the part of the U-Net that a layer is in: ``down.0``, ``middle``, ``refinement`` …"""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in ("down", "up", "downsample", "upsample") else first


def measured(
    network: nn.Module, step: Callable[[], object], device: torch.device, rounds: int
) -> tuple[list[Layer], float]:
    """Return the layers of a network, and the time of a whole step."""
    leaves = [name for name, module in network.named_modules() if name and not list(module.children())]
    kinds = {name: type(network.get_submodule(name)).__name__ for name in leaves}
    layers = {name: Layer(level_of(name), kinds[name]) for name in leaves if kinds[name] not in ("Identity", "Dropout")}
    whole = statistics.median([seconds(step, device) for _ in range(rounds + 1)][1:])
    with timed(layers, network, device):
        for _ in range(rounds + 1):
            step()
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    counts = counter.get_flop_counts()
    for name, layer in layers.items():
        layer.flops = sum(counts.get(f"{type(network).__name__}.{name}", {}).values())
        layer.times = layer.times[1:]
    return [layer for layer in layers.values() if layer.times], whole


def table(title: str, layers: Sequence[Layer], key: str, whole: float, machine: Machine, note: str) -> Table:
    groups: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        groups[getattr(layer, key)].append(layer)
    rows, sum_of_times, best_of_all = [], 0.0, 0.0
    for name, group in groups.items():
        time = sum(statistics.median(layer.times) for layer in group)
        flops, moved = sum(layer.flops for layer in group), sum(layer.moved for layer in group)
        best = sum(machine.attainable(layer.flops, layer.moved) for layer in group)
        sum_of_times, best_of_all = sum_of_times + time, best_of_all + best
        rows.append([name, f"{1000 * time:.1f}", f"{flops / 1e9:.2f}", f"{moved / 1e6:.1f}"])
        rows[-1] += [f"{flops / time / 1e9:.0f}", f"{best / time:.0%}"]
    rows.append(["between layers", f"{1000 * max(0.0, whole - sum_of_times):.1f}", "", "", "", ""])
    flops = sum(layer.flops for layer in layers)
    rows.append(["whole step", f"{1000 * whole:.1f}", f"{flops / 1e9:.2f}", "", f"{flops / whole / 1e9:.0f}"])
    rows[-1].append(f"{best_of_all / whole:.0%}")
    return Table(title, [key, "ms", "GFLOP", "MB", "GFLOP/s", "of the attainable"], rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32, help="width of the network")
    parser.add_argument("--size", type=int, nargs=3, metavar=("W", "H", "D"), help="size of the volume")
    parser.add_argument("--precision", choices=["fp32", *HALF_TYPES], default="fp32", help="type to compute in")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds that are timed")
    parser.add_argument("--tiny", action="store_true", help="rehearse at small sizes")
    parser.add_argument("--out", type=Path, help="Markdown file to append the tables to")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind: ComputingType = arguments.precision
    keep_freed_memory()  # as the commands do
    size = arguments.size or ((16, 16, 8) if arguments.tiny else (128, 128, 32))
    torch.manual_seed(0)
    network = UNet3D(width=8 if arguments.tiny else arguments.width)
    network.build(channels=1, routes=Routes(concat=8))
    network.to(device).eval()
    z_t, log_snr = torch.randn(2, 1, *size, device=device), torch.zeros(2, device=device)
    given = Conditioning(torch.randn(2, 8, *size, device=device))

    def step() -> None:
        with torch.no_grad(), computing_in(kind, device):
            network(z_t, log_snr, given)

    dtype = torch.float32 if kind == "fp32" else HALF_TYPES[kind]
    machine = Machine.measured(device, dtype, tiny=arguments.tiny)
    layers, whole = measured(network, step, device, arguments.rounds)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    note = (
        f"unet3d of width {network.widths[0]}, 2 × 9 × {' × '.join(map(str, size))}, {kind}; {where}, torch "
        f"{torch.__version__}; measured peak {machine.peak / 1e9:.0f} GFLOP/s and {machine.bandwidth / 1e9:.1f} GB/s; "
        f"median of {arguments.rounds}."
    )
    for key in ("level", "kind"):
        table(f"Roofline of a guided step, by {key}", layers, key, whole, machine, note).show(arguments.out)


if __name__ == "__main__":
    main()
