"""The exponential moving average of the weights (EMA), on the device of the model or on the CPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel


def averaged(parameters: Sequence[nn.Parameter], *, decay: float, device: torch.device) -> "EMAModel":
    """Return a moving average, held on a device; its decay grows as 1 - (1 + step)^(-3/4) up to `decay`."""
    from diffusers.training_utils import EMAModel  # slow to import

    average = EMAModel(parameters, decay=decay, use_ema_warmup=True, power=3 / 4, foreach=bool(parameters))
    average.to(device)
    return average


def update(average: "EMAModel", parameters: Sequence[nn.Parameter]) -> None:
    """Take one step of the moving average towards the parameters, which are copied to its device if that is another."""
    device = next((shadow.device for shadow in average.shadow_params), None)
    near = [
        parameter
        if parameter.device == device
        else parameter.detach().to(device).requires_grad_(parameter.requires_grad)
        for parameter in parameters
    ]
    average.step(cast("list[nn.Parameter]", near))
