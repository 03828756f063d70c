"""The training loss by noise level."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from longigen.models.longitudinal import LongitudinalModel

if TYPE_CHECKING:
    from accelerate import Accelerator

QUARTERS = ("loss_q0", "loss_q1", "loss_q2", "loss_q3")
"""The mean losses of the training pairs in the quarters of the noise schedule, from the least noise to the most.

They are named as in improved-diffusion (Nichol and Dhariwal 2021, arXiv 2102.09672), which logs the same."""


class NoiseLoss:
    """The mean loss of the training pairs since it was cleared, by quarter of the sampler's schedule.

    The quarters are those of the time t in [0, 1], which is uniform in training, so they have as many pairs. A pair's
    noise level is the λ that the denoiser is called with. There are no quarters where the sampler has one noise level,
    and no values of a denoiser that computes its losses without being called.

    Sums stay on the device until they are read.

    Args:
        model: the model that is trained.
        device: where it is trained.
    """

    def __init__(self, model: LongitudinalModel, device: torch.device) -> None:
        self._denoiser: nn.Module = model.denoiser
        low, high = model.sampler.trained_range
        times = torch.tensor([0.75, 0.5, 0.25], dtype=torch.float64)
        self._edges: Tensor | None = model.sampler.log_snr(times).float().to(device) if low < high else None
        self._sums = torch.zeros(2, len(QUARTERS), device=device)
        self._seen: Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See the noise levels that the denoiser is called with, inside the context."""

        def see(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._seen = inputs[1] if len(inputs) > 1 else named.get("log_snr")

        handle = self._denoiser.register_forward_pre_hook(see, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
            self._seen = None

    def add(self, loss: Tensor) -> None:
        """Add the loss of each training pair (B,) of the denoiser's last call."""
        seen, self._seen = self._seen, None
        if self._edges is None or seen is None or seen.shape != loss.shape:
            return
        quarter = len(self._edges) - torch.bucketize(seen.detach().float(), self._edges)
        members = nn.functional.one_hot(quarter, len(QUARTERS)).float()
        self._sums += torch.stack([loss.detach().float() @ members, members.sum(dim=0)])

    def read(self, accelerator: "Accelerator") -> dict[str, float]:
        """Return the means by name, of quarters that have pairs; every process calls this."""
        if self._edges is None:
            return {}
        sums = accelerator.reduce(self._sums, "sum") if accelerator.num_processes > 1 else self._sums
        losses, counts = torch.as_tensor(sums).tolist()
        return {name: loss / count for name, loss, count in zip(QUARTERS, losses, counts, strict=True) if count}

    def clear(self) -> None:
        """Begin anew."""
        self._sums.zero_()
