"""Devices: by name, by numbers, and how long they take."""

import pytest

from longigen.errors import LongigenError
from longigen.planning.device import KNOWN, Device
from longigen.planning.trace import Kernel


@pytest.mark.parametrize("name", [row[0] for row in KNOWN])
def test_each_known_device_is_found_by_its_name(name: str) -> None:
    found = Device.parse(name.lower().removeprefix("nvidia "))
    assert (found.name, found.cuda, found.here) == (name, True, False)
    assert 0 < found.usable < found.memory


def test_a_device_is_described_by_its_numbers() -> None:
    found = Device.parse("24 GB, 165 TFLOP/s, 1008 GB/s")
    known = Device.parse("NVIDIA RTX 4090 24GB")
    assert found.memory == 24e9
    assert found.bandwidth == known.bandwidth
    assert found.convolutions * found.halves == pytest.approx(known.convolutions * known.halves)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NVIDIA H2000", "There is no device 'NVIDIA H2000'. Did you mean 'NVIDIA H200'? Devices: NVIDIA H200, "),
        ("A100", "'A100' is several devices, NVIDIA A100 80GB and NVIDIA A100 40GB; give the whole name."),
        ("", "There is no device ''."),
        ("0GB,1TFLOP/s,1GB/s", "A device needs memory, TFLOP/s and GB/s above 0"),
        ("1.2.3GB,1TFLOP/s,1GB/s", "There is no device '1.2.3GB,1TFLOP/s,1GB/s'"),
    ],
)
def test_a_device_that_is_not_known_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(LongigenError) as error:
        Device.parse(text)
    assert said in str(error.value)


def test_a_gpu_takes_as_long_as_it_computes_or_as_its_operations_take_to_start() -> None:
    gpu = Device.parse("NVIDIA H200")
    assert gpu.seconds([Kernel(0, 8)] * 100) == pytest.approx(100 * gpu.start)
    heavy = Kernel(1e13, 8, half=True, convolution=True)
    assert gpu.seconds([heavy]) == pytest.approx(1e13 / (gpu.convolutions * gpu.halves))
    assert gpu.seconds([Kernel(1e13, 8, half=True)]) < gpu.seconds([heavy]) < gpu.seconds([Kernel(1e13, 8)]) * 10


def test_this_machine_is_measured() -> None:
    found = Device.this()
    assert found.here
    assert min(found.convolutions, found.products, found.bandwidth) > 1e8
