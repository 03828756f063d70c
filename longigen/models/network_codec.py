"""`NetworkCodec`: the base class of codecs that are networks, with their weights in a folder or in those of a model."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from longigen._version import __version__
from longigen.components.codec import Codec
from longigen.errors import LongigenError
from longigen.hub.manifest import CONFIG, WEIGHTS
from longigen.hub.model_config import CODEC, CONFIG_SCHEMA_VERSION, is_codec, read_config, require_installed
from longigen.models.pretrained import describe, write_weights
from longigen.registry.registry import registry
from longigen.utils.files import write_json
from longigen.utils.randomness import randn_like

RECORD = ("data", "preprocess", "training")
"""The sections of a codec's configuration that record what it was trained on."""


class NetworkCodec(Codec, abc.ABC):
    """A codec that is a variational autoencoder, which ``longigen train-codec`` trains (Kingma and Welling 2014).

    Contract, in addition to that of `Codec`:

    - `factor` is known once the codec is constructed.
    - `distribution(image)` returns the mean and the logarithm of the variance of the code, each (B, C', w, h, d); the
      code of an image is the mean. `reconstruct(code)` returns images of such codes.
    - `losses` and `adversary_losses` are those of training, per sample (B,) and weighted. `make_adversary` makes a
      discriminator for them, which is trained beside the codec and is no part of it.
    - Where `local` is true, the result for a voxel depends on what surrounds it and not on the whole image, so that
      what is trained on patches holds for whole images: no layer normalises over space.

    The codes that a model sees are divided by their standard deviation over training images, as in latent diffusion
    (Rombach et al., CVPR 2022, arXiv 2112.10752, Appendix G). It is kept with the weights, as are the largest magnitude
    of a code and the error of the round trip.
    """

    local: ClassVar[bool] = True
    kl_weight: float = 1e-4
    """Weight of the mean divergence, per element of a code, from a standard normal distribution."""
    scale: Tensor
    largest: Tensor
    measured: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("largest", torch.full((), torch.inf))
        self.register_buffer("measured", torch.full((), -1.0))  # the error; -1 before it is measured
        self.training_record: Mapping[str, Any] = {}

    @abc.abstractmethod
    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the logarithm of the variance of the code of images (B, C, W, H, D)."""

    @abc.abstractmethod
    def reconstruct(self, code: Tensor) -> Tensor:
        """Return the images (B, C, W, H, D) of codes (B, C', w, h, d) that are not scaled."""

    @property
    def error(self) -> float | None:
        value = float(self.measured)
        return None if value < 0 else value

    @property
    def limit(self) -> Tensor:
        """The largest magnitude of a code of the images that it was measured on."""
        return self.largest

    def to_code(self, image: Tensor) -> Tensor:
        return self.scale * self.distribution(image)[0]

    def to_image(self, code: Tensor) -> Tensor:
        return self.reconstruct(code / self.scale)

    def initialise(self) -> None:
        raise LongigenError(
            f"{self} has no weights before it is trained; train it with 'longigen train-codec', and give the folder "
            "that it writes with --codec."
        )

    @torch.no_grad()
    def measure(self, images: Sequence[Tensor]) -> None:
        """Measure the scale and the largest magnitude of codes, and the error of the round trip, on images."""
        self.scale.fill_(1.0)
        codes = [self.encode(image) for image in images]
        squares = torch.stack([code.double().square().mean() for code in codes]).mean()
        means = torch.stack([code.double().mean() for code in codes]).mean()
        deviation = float((squares - means.square()).sqrt())
        self.scale.fill_(1 / deviation if deviation > 0 else 1.0)
        self.largest.fill_(max(float(code.abs().max()) for code in codes) * float(self.scale))
        self.measure_error(images)

    @torch.no_grad()
    def measure_error(self, images: Sequence[Tensor]) -> None:
        """Measure the error of the round trip on images."""
        squares = [(self.round_trip(image) - image).double().square().mean() for image in images]
        self.measured.fill_(float(torch.stack(squares).mean().sqrt()))

    def make_adversary(self) -> nn.Module | None:
        """Return a new discriminator, called with images, to train beside the codec; None for none."""
        return None

    def losses(self, images: Tensor, generator: torch.Generator, adversary: nn.Module | None) -> Mapping[str, Tensor]:
        """Return the training losses of images (B, C, W, H, D) by name, per sample (B,): L1, and the divergence.

        Args:
            images: patches of sizes that are multiples of `factor`.
            generator: draws the code from its distribution.
            adversary: the discriminator, if there is one.
        """
        return self.reconstruction(images, generator)[1]

    def adversary_losses(
        self, images: Tensor, generator: torch.Generator, adversary: nn.Module
    ) -> Mapping[str, Tensor]:
        """Return the discriminator's losses by name, per sample (B,).

        Raises:
            NotImplementedError: if there is a discriminator and this method is not overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} has an adversary and must override adversary_losses")

    def reconstruction(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return images as a drawn code reconstructs them, and the losses of that.

        The divergence of N(μ, σ²) from N(0, 1) is (μ² + σ² - 1 - log σ²) / 2 (Kingma and Welling 2014, Appendix B).
        """
        mean, log_variance = self.distribution(images)
        log_variance = log_variance.clamp(-30, 20)
        drawn = mean + (0.5 * log_variance).exp() * randn_like(mean, generator)
        made = self.reconstruct(drawn)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return made, {
            "l1": (made - images).abs().flatten(1).mean(dim=1),
            "divergence": self.kl_weight * divergence.flatten(1).mean(dim=1),
        }

    def save(self, folder: Path) -> None:
        """Write the weights and a ``config.json`` into a folder, which the Hub's commands take as they take a model's.

        Raises:
            LongigenError: if the folder cannot be written.
        """
        write_weights(self, folder / WEIGHTS)
        content = {
            "schema_version": CONFIG_SCHEMA_VERSION,
            "library_name": "longigen",
            "longigen_version": __version__,
            CODEC: describe(self),
            **self.training_record,
        }
        write_json(content, folder / CONFIG)

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def load_codec(folder: Path) -> NetworkCodec:
    """Load a codec that `NetworkCodec.save` wrote, in ``eval()`` mode.

    Raises:
        LongigenError: if the folder has no codec, its component is not installed, or the weights do not fit it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    if not is_codec(config):
        raise LongigenError(f"{folder} holds no codec; give a folder that 'longigen train-codec' wrote.")
    require_installed(config, folder)
    codec: NetworkCodec = registry.make(CODEC, config[CODEC]["name"], config[CODEC].get("config", {}))
    codec.compose(1)
    try:
        codec.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (RuntimeError, SafetensorError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise LongigenError(f"{folder / WEIGHTS} does not fit {CONFIG} ({problem}); copy both again.") from error
    codec.training_record = {key: config[key] for key in RECORD if key in config}
    return codec
