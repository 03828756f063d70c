"""Seeds that depend on what is made and not on when, where or beside what."""

import hashlib

import torch


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) from the text of `parts`, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derived_generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed`; its noise is the same for every device."""
    return torch.Generator().manual_seed(derive_seed(*parts))
