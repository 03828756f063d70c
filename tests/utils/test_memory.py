"""Tests of longigen.utils.memory: the peak since the last reset."""

import pytest
import torch

from longigen.utils.memory import peak_memory, reset_peak_memory


def test_peak_memory_counts_from_the_last_reset() -> None:
    device = torch.device("cpu")
    reset_peak_memory(device)
    low = peak_memory(device)
    if low is None:
        pytest.skip("peak memory cannot be measured on this system")
    held = torch.ones(50_000_000)
    high = peak_memory(device)
    assert high is not None
    assert high - low > 150e6
    del held
    reset_peak_memory(device)
    after = peak_memory(device)
    assert after is not None
    assert after < high - 100e6
