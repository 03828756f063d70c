"""The interface of denoisers."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from longigen.components.base import Component
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.training_example import Example


class Denoiser(Component, nn.Module, abc.ABC):
    """A noisy volume, its noise level and a `Conditioning`, as a prediction.

    Contract:

    - The constructor takes hyperparameters (see `Component`). `build` is called once, when a model is composed, and
      makes the layers. `stem_features` is known before that.
    - `forward(z_t, log_snr, conditioning)`: `z_t` (B, C, W, H, D), `log_snr` (B,) is λ = log(α²/σ²) whatever the
      sampler; the result has the shape, dtype and device of `z_t`. What it predicts is the sampler's choice (ε, x or
      v), unless `predicts` says otherwise, from the class on or once configured: ``"x"`` the clean variable that is
      diffused, ``"image"`` the follow-up image itself, which the model converts to x (see `DiffusionTarget`).
    - Any W, H, D is accepted: pad to the stride inside and crop at the end.
    - All four routes are served; a route that `routes` gives no channels is absent from the conditioning. Where
      `needs_base` is true, the conditioning has the last visit (`base`) and the time since (`gap`) beside them,
      whatever the conditioner and whether or not conditions were dropped; else it need not.
    - Where `denoises` is true, the prediction depends on `z_t` and λ. Where it is false it depends on the conditioning
      alone: there is no unconditional prediction worth the name, so the model drops no conditions in training and
      applies no guidance.
    - It can be made and built on torch's ``meta`` device: neither step looks at a tensor's value. So a model's shapes
      are known, and compared with its weights, before memory is spent on it.
    - It is deterministic in ``eval()`` mode. A zero-initialised output makes a residual model start as copy-last.
    - `losses(example)` is what it is trained with, by default the sampler's error of the prediction. Each is per
      sample (B,), already weighted; training minimises their sum and writes down each by its name. What is drawn is
      drawn from the example's generator.
    - An adversary is a module that `build` puts into `adversary`. It is trained with an optimiser of its own, with
      `adversary_losses(example)`, one step after each of the denoiser's, in which it stands still. Those losses give
      gradients to the adversary and to nothing else. It is part of the weights and not of `forward`.
    """

    kind: ClassVar[str] = "denoiser"
    denoises: ClassVar[bool] = True
    predicts: Literal["x", "image"] | None = None
    needs_base: bool = False
    adversary: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.adversary = None

    @property
    def stem_features(self) -> int:
        """F, the channels of the `stem` route at full resolution; 0 where the network has no stem to add to."""
        return 0

    def __repr__(self) -> str:
        """Return the layers, as torch shows them."""
        return nn.Module.__repr__(self)

    @abc.abstractmethod
    def build(self, *, channels: int, routes: Routes) -> None:
        """Make the layers for volumes of `channels` channels and the conditioner's `routes`."""

    @abc.abstractmethod
    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction, of the shape of `z_t`."""

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        """Return the losses of each sample (B,) by name."""
        z_t, log_snr, target = example.sampler.corrupt(example.x, example.generator)
        output = self(z_t, log_snr, example.conditioning)
        if self.predicts is not None:
            output, target = example.diffusion_target.encode(output) if self.predicts == "image" else output, example.x
        return {"denoising": example.sampler.loss(output, target, log_snr)}

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        """Return the adversary's losses of each sample (B,) by name.

        Raises:
            NotImplementedError: if there is an adversary and this is not overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} has an adversary and does not say what it is trained with")
