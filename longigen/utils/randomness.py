"""Seeds derived from (seed, subject, visit, sample), independent of batch, order and process."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for a batch, or one per sample, so that a sample's noise does not depend on its batch."""


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) hashed from the text of `parts`, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derived_generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded with `derive_seed(*parts)`; its noise is the same whatever the device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def randn_like(x: Tensor, generator: Generators) -> Tensor:
    """Return standard normal noise of the shape of `x`; a CPU generator gives the same noise on every device."""
    from diffusers.utils.torch_utils import randn_tensor  # slow to import

    generators = generator if isinstance(generator, torch.Generator) else list(generator)
    return randn_tensor(tuple(x.shape), generator=generators, device=x.device, dtype=x.dtype)
