"""MONAI's AutoencoderKL as a codec, with a user's own weights or to train."""

from pathlib import Path
from typing import Annotated

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor

from longigen import LongigenError, NetworkCodec, Range

Positive = Annotated[int, Range(1)]


class MONAICodec(NetworkCodec):
    """MONAI's `AutoencoderKL`, unchanged, with a thin adapter; its weights are a user's own, or those of train-codec.

    MONAI's network takes images of one scale, often [0, 1]: `low` and `high` are what -1 and 1 become before it, and
    the way back. Attention, and with it MONAI's default in the middle, is left out: it needs memory for each pair of
    voxels. Its group normalisation is over the whole image, so weights that were trained on patches give other codes on
    whole images; train it on patches as large as memory holds.

    Args:
        network_channels: channels of each level, a multiple of `norm_groups`; each has half the size of the one before.
        latent_channels: channels of a code.
        network_blocks: residual blocks of each level.
        norm_groups: groups of the group normalisation.
        low: what the intensity -1 becomes.
        high: what the intensity 1 becomes.
        weights_file: the weights, a file of safetensors, or of torch that holds tensors only.

    Raises:
        LongigenError: for values that do not fit together.
    """

    local = False

    def __init__(
        self,
        *,
        network_channels: tuple[Positive, ...] = (32, 64, 64),
        latent_channels: Positive = 3,
        network_blocks: Positive = 1,
        norm_groups: Positive = 16,
        low: Annotated[float, Range(-1e6, 1e6)] = 0.0,
        high: Annotated[float, Range(-1e6, 1e6)] = 1.0,
        weights_file: Path | None = None,
    ) -> None:
        super().__init__()
        if len(network_channels) < 2 or any(each % norm_groups for each in network_channels):
            raise LongigenError(
                f"monai: network_channels must be two levels or more, each a multiple of norm_groups={norm_groups}, "
                f"got {network_channels}; change either."
            )
        if low >= high:
            raise LongigenError(f"monai: low must be below high, got {low:g} and {high:g}.")
        self.network_channels, self.latent_channels = network_channels, latent_channels
        self.network_blocks, self.norm_groups, self.low, self.high = network_blocks, norm_groups, low, high
        self.weights_file = weights_file
        self.factor = 2 ** (len(network_channels) - 1)

    def build(self, *, channels: int) -> None:
        self.channels = self.latent_channels
        self.network = AutoencoderKL(
            spatial_dims=3,
            in_channels=channels,
            out_channels=channels,
            num_res_blocks=(self.network_blocks,) * len(self.network_channels),
            channels=self.network_channels,
            attention_levels=(False,) * len(self.network_channels),
            latent_channels=self.latent_channels,
            norm_num_groups=self.norm_groups,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )

    def initialise(self) -> None:
        if self.weights_file is None:
            super().initialise()
            return
        if not self.weights_file.is_file():
            raise LongigenError(f"The weights {self.weights_file} do not exist; give a file with --set weights_file=.")
        try:
            self.network.load_state_dict(_read(self.weights_file))
        except Exception as error:  # what is no file of weights raises many things
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LongigenError(
                f"The weights {self.weights_file} do not fit MONAI's AutoencoderKL with these settings ({line}); set "
                "network_channels, latent_channels, network_blocks and norm_groups as they were trained."
            ) from error

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.low + (image + 1) / 2 * (self.high - self.low)
        mean, deviation = self.network.encode(scaled)
        return mean, 2 * deviation.log()

    def reconstruct(self, code: Tensor) -> Tensor:
        return (self.network.decode(code) - self.low) / (self.high - self.low) * 2 - 1


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, without what trainers put before their names."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content)
    return {name.removeprefix("module.").removeprefix("autoencoder."): value for name, value in content.items()}
