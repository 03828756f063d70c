"""Tests of derived seeds: reproducible and distinct."""

import torch

from longigen.utils.randomness import SharedGenerator, derive_seed, derived_generator, draw_rows, randn_like
from longigen_continuous import ContinuousSampler
from longigen_ddpm import DDPMSampler


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


def test_processes_that_share_a_generator_draw_the_noise_of_one() -> None:
    volumes = torch.empty(4, 1, 4, 5, 6)
    alone = torch.Generator().manual_seed(3)
    shared = [SharedGenerator("cpu", process=process, processes=2).manual_seed(3) for process in range(2)]
    for draw in (
        lambda x, generator: randn_like(x, generator),
        lambda x, generator: ContinuousSampler().training_times(len(x), generator),
        lambda x, generator: DDPMSampler().training_times(len(x), generator),
        lambda x, generator: draw_rows(lambda count: torch.rand(count, generator=generator), len(x), generator),
    ):
        parts = [draw(volumes[2 * number : 2 * number + 2], generator) for number, generator in enumerate(shared)]
        assert torch.equal(torch.cat(parts), draw(volumes, alone))
