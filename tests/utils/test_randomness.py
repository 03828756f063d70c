"""Tests of derived seeds: reproducible and distinct."""

import torch

from longigen.utils.randomness import derive_seed, derived_generator, randn_like


def test_seed_is_the_same_on_every_machine() -> None:
    # A change of this number would change every generated volume.
    assert derive_seed("pair", 0, 1) == 8721792365938484599


def test_seeds_of_different_parts_differ() -> None:
    seeds = {derive_seed("a", "b"), derive_seed("ab"), derive_seed("b", "a"), derive_seed("a", "b", 0)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_with_one_generator_per_sample_is_independent_of_the_batch() -> None:
    volumes = torch.empty(3, 1, 4, 5, 6)
    together = randn_like(volumes, [derived_generator("noise", row) for row in range(3)])
    alone = randn_like(volumes[1:2], [derived_generator("noise", 1)])
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])
