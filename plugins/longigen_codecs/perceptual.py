"""The distance of two volumes by the features of their slices in a trained network of timm."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longigen import LongigenError

STAGES = 3
"""The first stages of the network, whose features are compared."""


class SliceDistance:
    """The mean squared distance of features, each voxel's normalised over channels (Zhang et al. 2018, Eq. 1).

    A middle slice in each of three planes is seen, of the first channel, repeated in three channels. The weights are
    the network's own: there is no calibration on human judgements.

    Args:
        network: name of a network in timm.
        file: a file with timm's weights for it.

    Raises:
        LongigenError: if timm has no such network, or the weights are not there or do not fit.
    """

    def __init__(self, network: str, file: Path) -> None:
        import timm

        if not timm.is_model(network):
            raise LongigenError(f"timm has no network '{network}'; choose one of timm.list_models().")
        if not file.is_file():
            raise LongigenError(f"The weights {file} do not exist; give a file with timm's weights of '{network}'.")
        overlay = {"file": str(file)}
        try:
            with torch.random.fork_rng(devices=[]):
                made: Any = timm.create_model(network, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0)
        except (RuntimeError, KeyError, ValueError, OSError) as error:
            raise LongigenError(
                f"The weights {file} do not fit '{network}' ({str(error).splitlines()[0]}); give those of that network."
            ) from error
        self.network: Any = made.eval().requires_grad_(False)
        self.mean, self.std = (
            torch.tensor(self.network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std")
        )

    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        """Return the distance (B,) of volumes (B, C, W, H, D) in [-1, 1]; gradients pass to both."""
        self.network.to(one.device)
        distances = [
            (a - b).square().sum(dim=1).mean(dim=(1, 2))
            for axis in (2, 3, 4)
            for a, b in zip(self._features(one, axis), self._features(two, axis), strict=True)
        ]
        return torch.stack(distances).mean(dim=0)

    def _features(self, volume: Tensor, axis: int) -> list[Tensor]:
        slices = volume[:, :1].select(axis, volume.shape[axis] // 2).expand(-1, 3, -1, -1)
        batch = ((slices.float() + 1) / 2 - self.mean.to(volume.device)) / self.std.to(volume.device)
        stages = self.network.forward_intermediates(
            batch, indices=list(range(STAGES)), stop_early=True, intermediates_only=True
        )
        return [stage / (stage.square().sum(dim=1, keepdim=True) + 1e-10).sqrt() for stage in stages]
