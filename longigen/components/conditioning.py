"""The conditioner's output: up to four conditioning tensors (routes) for the denoiser."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from longigen.utils.randomness import randn_like


@dataclass(frozen=True)
class Routes:
    """Number of channels that a conditioner emits on each route of a `Conditioning`; 0 for an unused route."""

    concat: int = 0
    stem: int = 0
    embedding: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Conditioning:
    """The conditioning tensors that a conditioner passes to a denoiser: four routes, each optional.

    - `concat` (B, K, W, H, D): concatenated with the noisy volume along the channels.
    - `stem` (B, F, W, H, D): added to the features of the denoiser's first layer; F is `Denoiser.stem_features`.
    - `embedding` (B, E): added (after a projection) to the embedding of the noise level.
    - `tokens` (B, N, E): for cross-attention.

    `drift` (B, E) is what `embedding` gains on the way, where a conditioner tells of something that moves with the
    process: at λ it is embedding + τ drift with τ = α / (α + σ), from 0 at the start to 1 at the end. A denoiser that
    takes a noise level uses `embedding_at`; one that does not sees the start.

    For a denoiser with `needs_base`, the model adds two tensors that condition dropout keeps: `base` (B, C, W, H, D),
    the last visit, and `gap` (B,), the time from it to the target in typical gaps between visits.

    `features` is what the denoiser has computed of these alone, for all noise levels: see `Denoiser.prepared`.
    """

    concat: Tensor | None = None
    stem: Tensor | None = None
    embedding: Tensor | None = None
    tokens: Tensor | None = None
    base: Tensor | None = None
    gap: Tensor | None = None
    features: tuple[Tensor, ...] | None = None
    drift: Tensor | None = None

    @property
    def routes(self) -> Routes:
        """Channel count of each route that is set."""

        def channels(tensor: Tensor | None, axis: int) -> int:
            return 0 if tensor is None else tensor.shape[axis]

        return Routes(
            channels(self.concat, 1), channels(self.stem, 1), channels(self.embedding, 1), channels(self.tokens, 2)
        )

    def embedding_at(self, log_snr: Tensor) -> Tensor | None:
        """Return the embedding (B, E) at noise levels λ (B,); None if the route is not set."""
        if self.embedding is None or self.drift is None:
            return self.embedding
        way = torch.sigmoid(0.5 * log_snr).to(self.embedding.dtype)
        return self.embedding + way[:, None] * self.drift

    def null(self) -> Self:
        """Return the null conditioning ∅ of classifier-free guidance: the same routes, all zero."""
        return self._map(torch.zeros_like)

    def noise(self, generator: torch.Generator) -> Self:
        """Return the same routes, filled with standard normal noise."""
        return self._map(lambda tensor: randn_like(tensor, generator))

    def drop(self, dropped: Tensor, instead: Self | None = None) -> Self:
        """Replace the conditioning by `instead`, by default `null()`, in the samples where `dropped` (B,) is True."""

        def masked(tensor: Tensor, other: Tensor) -> Tensor:
            return torch.where(dropped.view(-1, *[1] * (tensor.ndim - 1)), other, tensor)

        return self._map(masked, instead or self.null())

    def take(self, rows: Tensor) -> Self:
        """Return the conditioning of the samples at the batch indices `rows` (K,), which may repeat."""
        return self._map(lambda tensor: tensor[rows])

    def cat_batch(self, other: Self) -> Self:
        """Concatenate two conditionings along the batch axis, this one first. Both must use the same routes."""
        return self._map(lambda tensor, more: torch.cat([tensor, more]), other)

    def require_base(self) -> tuple[Tensor, Tensor]:
        """Return `base` (B, C, W, H, D) and `gap` (B,), for a denoiser that `needs_base`.

        Raises:
            ValueError: if they are not set.
        """
        if self.base is None or self.gap is None:
            raise ValueError("the conditioning has no base and gap; a denoiser that uses them must set needs_base")
        return self.base, self.gap

    def with_concat(self, volume: Tensor) -> Self:
        """Return the conditioning with `volume` (B, C, W, H, D) appended to the channels of `concat`."""
        return replace(self, concat=volume if self.concat is None else torch.cat([self.concat, volume], dim=1))

    def _map(self, function: Callable[..., Tensor], *others: Self) -> Self:
        routes = {}
        for route in fields(self):
            values = [getattr(each, route.name) for each in (self, *others)]
            if isinstance(values[0], tuple):
                routes[route.name] = tuple(map(function, *values))
            else:
                routes[route.name] = None if values[0] is None else function(*values)
        return replace(self, **routes)
