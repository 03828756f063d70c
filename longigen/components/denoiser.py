"""`Denoiser`: the base class of networks that predict the clean volume (or noise) from a noisy one; `Moved`."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from longigen.components.base import Component
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.deformation import warp
from longigen.components.training_example import Example


@dataclass(frozen=True)
class Moved:
    """The last visit moved along a displacement field, plus a change of intensity.

    Attributes:
        displacement: u (B, 3, W, H, D), in voxels along W, H and D: what is at p comes from p + u(p).
        change: what is added after the warp (B, C, W, H, D), in model intensities.
    """

    displacement: Tensor
    change: Tensor

    def image(self, base: Tensor) -> Tensor:
        """Return base(p + u(p)) + change(p) for the last visit `base` (B, C, W, H, D), in the dtype of `change`."""
        return warp(base, self.displacement).to(self.change.dtype) + self.change


class Denoiser(Component, nn.Module, abc.ABC):
    """Predicts the clean volume, or equivalently the noise, from a noisy volume, its noise level and a `Conditioning`.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed, and
      creates the layers. `stem_features` is known before that.
    - `forward(z_t, log_snr, conditioning)`: `z_t` (B, C, W, H, D), `log_snr` (B,) is λ = log(α²/σ²) whatever the
      sampler; the result has the shape, dtype and device of `z_t`. What it predicts is the sampler's choice (ε, x, v
      or the velocity), unless `predicts` says otherwise, from the class on or once configured: ``"x"`` the clean
      variable that is diffused, ``"image"`` the follow-up image itself, which the model converts to x (see
      `DiffusionTarget`).
    - Any W, H, D is accepted: pad to the stride inside and crop at the end.
    - All four routes are supported; a route with 0 channels in `routes` is None in the conditioning. A denoiser that
      uses λ takes the embedding by `Conditioning.embedding_at`. Where `needs_base`
      is true, the conditioning also has the last visit (`base`) and the time since (`gap`), whatever the conditioner,
      and condition dropout keeps them; otherwise they may be None.
    - `prepared(conditioning)` may compute once, before the first step of generation, what depends on the conditioning
      alone, and keep it in its `features`. `forward` returns the same with and without, to rounding.
    - Where `moves` is true, from the class on or once configured, the prediction is the last visit moved: `moved`
      returns the displacement and the change of intensity, and `forward` is ``self.moved(...).image(base)``. `predicts`
      is then ``"image"`` and `needs_base` is true. What a user gets is the subject's own voxels, moved likewise.
    - Where `denoises` is true, the prediction depends on `z_t` and λ. Where it is false it depends only on the
      conditioning, so there is no meaningful unconditional prediction: the model drops no conditions in training and
      applies no guidance.
    - The constructor and `build` work on torch's ``meta`` device, so they must not read a tensor's values. This way a
      model's shapes are compared with those of its weights before memory is allocated.
    - It is deterministic in ``eval()`` mode. A zero-initialised output makes a residual model start as copy-last.
    - `losses(example)` returns the training losses, by default the sampler's loss of the prediction. Each is per
      sample (B,) and already weighted; training minimises their sum and logs each under its name. Random numbers come
      only from the example's generator, by `randn_like` or `draw_rows`, which processes of one training share. A
      prediction is compared with the truth by way of `Example.counting`, so that the losses, the adversary's too, do
      not depend on what is predicted in channels that do not count.
    - A discriminator is a module that `build` assigns to `adversary`. It is trained with its own optimiser and
      `adversary_losses(example)`, one step after each step of the denoiser; its parameters are frozen during the
      denoiser's step. Those losses give gradients to the discriminator only. It is part of the weights, but not of
      `forward`.
    """

    kind: ClassVar[str] = "denoiser"
    denoises: ClassVar[bool] = True
    predicts: Literal["x", "image"] | None = None
    needs_base: bool = False
    moves: bool = False
    adversary: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.adversary = None

    @property
    def stem_features(self) -> int:
        """F, the channels of the `stem` route at full resolution; 0 if the network does not use that route."""
        return 0

    def __repr__(self) -> str:
        """Return the layers, as torch shows them."""
        return nn.Module.__repr__(self)

    @abc.abstractmethod
    def build(self, *, channels: int, routes: Routes) -> None:
        """Create the layers for volumes of `channels` channels and the conditioner's `routes`."""

    @abc.abstractmethod
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction, with the shape of `z_t`."""

    def prepared(self, conditioning: Conditioning) -> Conditioning:
        """Return the conditioning of all steps of a visit, with what the network computes of it alone as `features`.

        What is done to a conditioning (`null`, `drop`, `with_concat`) is done before.
        """
        return conditioning

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        """Return the prediction as the last visit moved, plus a change of intensity, if `moves` is true.

        Raises:
            NotImplementedError: if this method is not overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} does not predict the last visit moved")

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        """Return the training losses by name, per sample (B,)."""
        z_t, log_snr, target = example.sampler.corrupt(example.x, example.generator)
        output = self(z_t, log_snr, example.conditioning)
        if self.predicts is not None:
            output = example.diffusion_target.encode(output) if self.predicts == "image" else output
            # A sampler that predicts x has x as its target, or what a teacher says that x is.
            target = target if example.sampler.prediction == "x" else example.x
        return {"denoising": example.sampler.loss(example.counting(output, target), target, log_snr)}

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        """Return the discriminator's losses by name, per sample (B,).

        Raises:
            NotImplementedError: if there is a discriminator and this method is not overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} has an adversary and must override adversary_losses")
