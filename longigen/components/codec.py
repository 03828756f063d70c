"""`Codec`: the base class of invertible or learned encodings of an image, on whose codes a model is trained."""

import abc
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen.components.base import Component
from longigen.errors import LongigenError


class Codec(Component, nn.Module, abc.ABC):
    """Encodes an image as a code of fewer voxels and more channels, and decodes a code as an image.

    A model with a codec is trained on codes: histories, bases, residuals and what the denoiser predicts are codes. What
    it is given and what it returns are images.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed; it
      creates the layers and sets `channels`, the channels C' of a code. It downloads and reads nothing: weights from
      elsewhere are read in `initialise`.
    - `factor` is the number of voxels of an image along each axis for one of its code; 1 if the codec keeps the grid.
    - `to_code(image)`: (B, C, W, H, D), in [-1, 1], of sizes that are multiples of `factor`; the result is
      (B, C', w, h, d) with w = W / `factor`, and so on, of the same dtype and device. `to_image(code)` goes back.
      Gradients pass through both. Users call `encode` and `decode`, which take any size.
    - `limit` is the largest magnitude that the code of an image has; predicted codes are clipped to it.
    - `error` is the root mean square of decode(encode(image)) - image over images like those that it is for, in model
      intensities (-1 to 1): a rounding error where the codec is exact. None if that is not known, since it has not been
      measured yet.
    - `keeps_voxels` says whether a code has the voxels of its image, in the same places, so that moving them along a
      displacement field moves the image.
    - `trivial` says that a code is the image itself, so that there is nothing to store, to record or to measure.
    - The constructor and `build` work on torch's ``meta`` device.
    - It is deterministic in ``eval()`` mode. It is not trained with the model, and its weights are saved with it.
    """

    kind: ClassVar[str] = "codec"
    keeps_voxels: ClassVar[bool] = False
    trivial: ClassVar[bool] = False
    factor: int = 1
    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._images: int | None = None

    def __repr__(self) -> str:
        """Return the class name and the parameters that differ from their defaults."""
        return Component.__repr__(self)

    @property
    def limit(self) -> float | Tensor:
        """The largest magnitude of a code: a number, or a tensor ()."""
        return 1.0

    @property
    @abc.abstractmethod
    def error(self) -> float | None:
        """The root mean square error of a round trip, in model intensities; None if it has not been measured."""

    @abc.abstractmethod
    def build(self, *, channels: int) -> None:
        """Create the layers for images of `channels` channels, and set `channels` to those of a code."""

    @abc.abstractmethod
    def to_code(self, image: Tensor) -> Tensor:
        """Return the code of images whose sizes are multiples of `factor`."""

    @abc.abstractmethod
    def to_image(self, code: Tensor) -> Tensor:
        """Return the images of codes."""

    def initialise(self) -> None:
        """Read weights from elsewhere, if the codec has any; called once, after `build`, before a new training.

        Raises:
            LongigenError: if it cannot be used, since it has no weights, or they cannot be read.
        """

    def take_weights(self, other: "Codec") -> None:
        """Take the weights of another codec of the same configuration.

        Raises:
            LongigenError: if it is of another kind, or of another size.
        """
        try:
            if type(other) is not type(self):
                raise RuntimeError
            self.load_state_dict(other.state_dict())
        except RuntimeError:
            raise LongigenError(
                f"The weights are of the codec {other}, and this one is {self}; give both the same."
            ) from None

    def measure(self, images: Sequence[Tensor]) -> None:
        """Measure what depends on the data, on images (B, C, W, H, D); called before training where `error` is None."""

    def compose(self, channels: int) -> Self:
        """Build the codec for images of `channels` channels, unless it is built already, and freeze its weights."""
        if self._images is None:
            self.build(channels=channels)
            self._images = channels
        elif self._images != channels:
            raise ValueError(f"the codec was built for images of {self._images} channels, not of {channels}")
        return self.requires_grad_(False).eval()

    def encode(self, image: Tensor) -> Tensor:
        """Return the code (B, C', w, h, d) of images (B, C, W, H, D) of any size, w = ⌈W / `factor`⌉ and so on.

        Sizes are filled up to a multiple of `factor` by repeating the last voxels.
        """
        missing = [-size % self.factor for size in image.shape[2:]]
        if any(missing):
            image = functional.pad(image, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
        return self._exactly(self.to_code, image)

    def decode(self, code: Tensor, size: tuple[int, ...]) -> Tensor:
        """Return the images (B, C, W, H, D) of codes, with W, H, D = `size`, the size of what was encoded."""
        image = self._exactly(self.to_image, code)
        return image[:, :, : size[0], : size[1], : size[2]]

    def round_trip(self, image: Tensor) -> Tensor:
        """Return decode(encode(image)) for images (B, C, W, H, D), clipped to the range of intensities."""
        return self.decode(self.encode(image), tuple(image.shape[2:])).clamp(-1, 1)

    def _exactly(self, convert: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        """Convert in the precision of the codec's weights, or in 32 bits, whatever a context of 16 bits says."""
        own = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        with torch.autocast(given.device.type, enabled=False):
            return convert(given.to(own)).to(given.dtype)

    @property
    def identity(self) -> str:
        """What codes depend on besides the image, in one line: the configuration, and a hash of the weights."""
        digest = hashlib.sha256(json.dumps(self.config, default=str, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return f"{type(self).__module__}.{type(self).__qualname__} {digest.hexdigest()}"


class IdentityCodec(Codec):
    """The image is its own code: the model works on voxels. A model that names no codec has this one."""

    keeps_voxels = True
    trivial = True

    @property
    def error(self) -> float:
        return 0.0

    def build(self, *, channels: int) -> None:
        self.channels = channels

    def to_code(self, image: Tensor) -> Tensor:
        return image

    def to_image(self, code: Tensor) -> Tensor:
        return code
