"""The peak of memory is that of the work since the start."""

import pytest
import torch

from longigen.utils.memory import peak, start_peak


def test_the_peak_of_memory_is_of_the_work_since_the_start() -> None:
    device = torch.device("cpu")
    start_peak(device)
    low = peak(device)
    if low is None:
        pytest.skip("this system does not tell a process its peak")
    held = torch.ones(50_000_000)
    high = peak(device)
    assert high is not None
    assert high - low > 150e6
    del held
    start_peak(device)
    after = peak(device)
    assert after is not None
    assert after < high - 100e6
