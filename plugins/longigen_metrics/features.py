"""Features of a volume's middle slices by a 2D network of timm."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longigen import LongigenError

PLANES = ("sagittal", "coronal", "axial")


class SliceFeatures:
    """Features of the middle slice in each of three planes, by a 2D network of timm.

    A slice (of the first channel) is scaled to [0, 1], repeated in three channels and normalised as in the network's
    training; the output of one of its stages is averaged over the slice. Without a file of weights the network is
    initialised at random with a seed. Such features distinguish textures well enough to compare methods, but their
    distances cannot be compared with published ones, which use trained networks.

    Args:
        extractor: name of a network in timm.
        layer: stage of the network, from 0, as in ``forward_intermediates`` of timm.
        seed: random seed of the initialisation if there is no file of weights.
        weights: a file with timm's weights for that network.
    """

    def __init__(self, extractor: str, layer: int, seed: int, weights: Path | None) -> None:
        self.extractor, self.layer, self.seed, self.weights = extractor, layer, seed, weights

    @property
    def note(self) -> str:
        """A short description of the extractor."""
        source = f"random {self.extractor}, seed {self.seed}"
        if self.weights is not None:
            source = f"{self.extractor} with {self.weights.name}"
        return f"{source}, stage {self.layer} averaged, {len(PLANES)} planes"

    @cached_property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the network's weights, which identify the features."""
        digest = hashlib.sha256()
        for name, tensor in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @property
    def size(self) -> int:
        """The number of features per plane."""
        return self._network.feature_info[self.layer]["num_chs"]

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the features (3, F), float64, of a volume (C, W, H, D) in [-1, 1]."""
        image = volume[0].detach().to("cpu", torch.float32)
        slices = [image.select(axis, size // 2) for axis, size in enumerate(image.shape)]
        return torch.stack([self._features(image_slice) for image_slice in slices])

    @torch.inference_mode()
    def _features(self, image: Tensor) -> Tensor:
        config = self._network.pretrained_cfg
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
        batch = ((image.expand(3, *image.shape) + 1) / 2 - mean) / std
        (output,) = self._network.forward_intermediates(
            batch[None], indices=[self.layer], stop_early=True, intermediates_only=True
        )
        return output[0].double().mean(dim=(1, 2)).clone()

    @cached_property
    def _network(self) -> Any:
        import timm

        if self.extractor not in timm.list_models():
            raise LongigenError(f"timm has no network '{self.extractor}'; choose one of timm.list_models().")
        options = {}
        if self.weights is not None:
            if not self.weights.is_file():
                raise LongigenError(
                    f"The weights {self.weights} do not exist; give a file with timm's weights for '{self.extractor}'."
                )
            options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(self.weights)}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                network = timm.create_model(self.extractor, num_classes=0, **options).eval()
            except (RuntimeError, KeyError, ValueError, OSError) as error:
                line = str(error).splitlines()[0]
                raise LongigenError(
                    f"The weights {self.weights} do not fit timm's '{self.extractor}' ({line}); give the weights of "
                    "that network."
                ) from None
        stages = len(getattr(network, "feature_info", ()))
        if not hasattr(network, "forward_intermediates") or not 0 <= self.layer < stages:
            raise LongigenError(
                f"'{self.extractor}' has no stage {self.layer}; choose one of its stages 0 to {stages - 1} as layer."
            )
        return network
