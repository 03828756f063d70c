"""What a 2D network makes of a volume's middle slices."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longigen import LongigenError

PLANES = ("sagittal", "coronal", "axial")


class SliceFeatures:
    """The features of the middle slice in each of three planes, by one of timm's 2D networks.

    A slice (of the first channel) is scaled to [0, 1], repeated in three channels, and normalised as the network was
    trained; the output of one of its stages is averaged over the slice. Without weights the network is as it is
    initialised with a seed: random features, which compare textures well enough to tell sets apart, but know nothing of
    images, so that their distances mean something beside each other only, and nothing beside those of papers.

    Args:
        extractor: a network's name in timm.
        layer: which stage, from 0, as `timm`'s ``forward_intermediates`` counts.
        seed: of the initialisation, where there are no weights.
        weights: a file of timm's weights for that network.
    """

    def __init__(self, extractor: str, layer: int, seed: int, weights: Path | None) -> None:
        self.extractor, self.layer, self.seed, self.weights = extractor, layer, seed, weights

    @property
    def note(self) -> str:
        """The extractor in a few words."""
        source = f"random {self.extractor}, seed {self.seed}" if self.weights is None else f"{self.extractor}"
        held = "" if self.weights is None else f" with {self.weights.name}"
        return f"{source}{held}, stage {self.layer} averaged, {len(PLANES)} planes"

    @cached_property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the network's weights, which pin the features down."""
        found = hashlib.sha256()
        for name, tensor in self._network.state_dict().items():
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()[:12]

    @property
    def size(self) -> int:
        """How many features a plane has."""
        return self._network.feature_info[self.layer]["num_chs"]

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the features (3, F), float64, of a volume (C, W, H, D) in [-1, 1]."""
        image = volume[0].detach().to("cpu", torch.float32)
        slices = [image.select(axis, size // 2) for axis, size in enumerate(image.shape)]
        return torch.stack([self._features(each) for each in slices])

    @torch.inference_mode()
    def _features(self, image: Tensor) -> Tensor:
        config = self._network.pretrained_cfg
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
        batch = ((image.expand(3, *image.shape) + 1) / 2 - mean) / std
        (found,) = self._network.forward_intermediates(
            batch[None], indices=[self.layer], stop_early=True, intermediates_only=True
        )
        return found[0].double().mean(dim=(1, 2)).clone()

    @cached_property
    def _network(self) -> Any:
        import timm

        if self.extractor not in timm.list_models():
            raise LongigenError(f"timm has no network '{self.extractor}'; choose one of timm.list_models().")
        given = {}
        if self.weights is not None:
            if not self.weights.is_file():
                raise LongigenError(f"The weights {self.weights} are not there; give a file of timm's for a network.")
            given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(self.weights)}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                network = timm.create_model(self.extractor, num_classes=0, **given).eval()
            except (RuntimeError, KeyError, ValueError, OSError) as error:
                line = str(error).splitlines()[0]
                raise LongigenError(
                    f"The weights {self.weights} do not fit timm's '{self.extractor}' ({line}); give that network's."
                ) from None
        stages = len(getattr(network, "feature_info", ()))
        if not hasattr(network, "forward_intermediates") or not 0 <= self.layer < stages:
            raise LongigenError(f"'{self.extractor}' has the stages 0 to {stages - 1} and no {self.layer}; choose one.")
        return network
