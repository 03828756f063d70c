"""`unet3d` beside other networks, on a CPU in fp32: ``python benchmarks/peers.py monai`` (or ``published``).

- ``monai``: the default `unet3d` and MONAI's `DiffusionModelUNet` of about as many parameters.
- ``published``: the denoiser of `sadm-acdc`, and the layers of the network in SADM's published code
  (ubc-tea/SADM-Longitudinal-Medical-Image-Generation, ``DDPM/module.py``, of 8 features) in a network of our own. Its
  weights are random, since none were published.

A guided denoising step is a batch of two; what depends on the conditioning alone is computed before, as in generation.
A training step is of a batch of one, with AdamW. Times are CPU seconds, in turn, round after round, the median counts;
``spread`` is that of the rounds, (largest - smallest) / median. GFLOP are those of a guided step as the layers are
written, by PyTorch's counter. ``--tiny`` rehearses it, ``--out FILE`` appends the table to a Markdown file.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from gpu import PEERS, Table, parameters
from levers import seconds
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from longigen import Conditioning, Denoiser, Routes
from longigen.registry.registry import registry
from longigen.training.recipe import Recipe
from longigen.utils.memory import keep_freed_memory

FEATURES = 8
"""Channels at full resolution of the published network (``SADM.py``: n_feat)."""


def twice(channels: int, features: int) -> nn.Sequential:
    """Return two convolutions of the published network, with BatchNorm and GELU after each."""
    layers: list[nn.Module] = []
    for inputs in (channels, features):
        layers += [nn.Conv3d(inputs, features, 3, padding=1), nn.BatchNorm3d(features), nn.GELU()]
    return nn.Sequential(*layers)


class Published(nn.Module):
    """The layers of the published network, in its order; pooling to one voxel leaves room for the noise level."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        super().__init__()
        n, (width, height, depth) = FEATURES, size
        pool = width // 4, height // 4, depth // 4
        self.first, self.down1, self.down2 = twice(1, n), twice(n + 1, n), twice(n, 2 * n)
        self.pool = nn.MaxPool3d(2)
        self.vector = nn.Sequential(nn.AvgPool3d(pool), nn.GELU())
        self.level = nn.Sequential(nn.Linear(1, 2 * n), nn.GELU(), nn.Linear(2 * n, 2 * n))
        self.up0 = nn.Sequential(nn.ConvTranspose3d(4 * n, 2 * n, pool, pool), nn.GroupNorm(8, 2 * n), nn.ReLU())
        self.up1 = nn.Sequential(nn.ConvTranspose3d(4 * n, n, 2, 2), twice(n, n), twice(n, n))
        self.up2 = nn.Sequential(nn.ConvTranspose3d(2 * n, n, 2, 2), twice(n, n), twice(n, n))
        convolution = nn.Conv3d(2 * n + 1, n, 3, padding=1)
        self.last = nn.Sequential(convolution, nn.GroupNorm(8, n), nn.ReLU(), nn.Conv3d(n, 1, 3, padding=1))

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        assert conditioning.concat is not None
        x = torch.cat([self.first(z_t), conditioning.concat[:, :1]], dim=1)
        half = self.pool(self.down1(x))
        quarter = self.pool(self.down2(half))
        level = self.level(log_snr[:, None])[..., None, None, None]
        up = self.up1(torch.cat([self.up0(torch.cat([self.vector(quarter), level], dim=1)), quarter], dim=1))
        return self.last(torch.cat([self.up2(torch.cat([up, half], dim=1)), x], dim=1))


def networks(table: str, size: tuple[int, int, int]) -> tuple[dict[str, nn.Module], int]:
    """Return the networks of a table by name, and their number of channels of conditioning."""
    torch.manual_seed(0)
    made: dict[str, nn.Module] = {}
    if table == "monai":
        for name, config in PEERS.items():
            made[name] = built(registry.make("denoiser", name, config), 1)
        return made, 1
    recipe = Recipe.resolve("sadm-acdc", data="sim-heart")
    features = recipe.component("conditioner").features
    return {"sadm-acdc": built(recipe.component("denoiser"), features), "published": Published(size)}, features


def built(denoiser: Denoiser, concat: int) -> Denoiser:
    denoiser.build(channels=1, routes=Routes(concat=concat))
    return denoiser


def steps(network: nn.Module, concat: int, size: tuple[int, int, int]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return functions that make a training step and a guided denoising step."""
    optimizer = torch.optim.AdamW(network.parameters())
    z_t, log_snr = torch.randn(2, 1, *size), torch.zeros(2)
    given = Conditioning(torch.randn(2, concat, *size))
    with torch.no_grad():
        prepared = network.prepared(given) if isinstance(network, Denoiser) else given

    def training() -> None:
        output = network.train()(z_t[:1], log_snr[:1], given.take(torch.tensor([0])))
        (output - z_t[:1]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def guided() -> None:
        with torch.no_grad():
            network.eval()(z_t, log_snr, prepared)

    return training, guided


def gigaflops(network: nn.Module, concat: int, size: tuple[int, int, int]) -> float:
    """Return the floating-point operations of a guided step, without computing it."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        given = Conditioning(torch.empty(2, concat, *size))
        copy.deepcopy(network).to("meta").eval()(torch.empty(2, 1, *size), torch.empty(2), given)
    return counter.get_total_flops() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["monai", "published"], help="what to compare with")
    parser.add_argument("--size", type=int, nargs=3, metavar=("W", "H", "D"), default=(64, 64, 32), help="of a volume")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds that are timed")
    parser.add_argument("--tiny", action="store_true", help="rehearse at a small size")
    parser.add_argument("--out", type=Path, help="Markdown file to append the table to")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the commands do
    device = torch.device("cpu")
    size: tuple[int, int, int] = (16, 16, 8) if arguments.tiny else arguments.size
    compared, concat = networks(arguments.table, size)
    functions = [step for network in compared.values() for step in steps(network, concat, size)]
    times = [[seconds(function, device) for function in functions] for _ in range(arguments.rounds + 1)][1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    spreads = [(max(column) - min(column)) / statistics.median(column) for column in zip(*times, strict=True)]
    rows = []
    for place, (name, network) in enumerate(compared.items()):
        row = [name, parameters(network), f"{gigaflops(network, concat, size):.1f}"]
        for column in (2 * place, 2 * place + 1):
            ratio = medians[column] / medians[column % 2]
            row += [f"{1000 * medians[column]:.0f}", f"{spreads[column]:.0%}", f"{ratio:.2f}"]
        rows.append(row)
    heads = [f"{kind} step, CPU ms | spread | × the first" for kind in ("training", "guided")]
    note = (
        f"1 × {' × '.join(map(str, size))} voxels and {concat} of conditioning, fp32; CPU, {torch.get_num_threads()} "
        f"thread; torch {torch.__version__}; median of {arguments.rounds} rounds in turn."
    )
    columns = [column for head in heads for column in head.split(" | ")]
    table = Table(f"unet3d and {arguments.table}, on a CPU", ["network", "parameters", "GFLOP", *columns], rows, note)
    table.show(arguments.out)


if __name__ == "__main__":
    main()
