"""Headers of safetensors files that are refused."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from helpers.files import FIXTURES
from longigen import LongigenError, LongitudinalModel
from longigen.hub.safetensors_header import read_header


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "schema-1", tmp_path / "model")


def test_invalid_safetensors_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")

    def with_header(**changes: Any) -> bytes:
        text = json.dumps({**header, name: {**header[name], **changes}}).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    for data, problem in [
        (content[:-1], "is truncated: it has 22631 bytes, where its header requires 22632; copy or pull it again"),
        (content + b"x", "is too long: it has 22633 bytes"),
        (content[:100], "is truncated"),
        (b"", "is not a safetensors file"),
        (b"\x80\x04\x95" + b"x" * 100, "is not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "has an invalid header"),
        (struct.pack("<Q", 2) + b"{x", "is damaged"),
        (with_header(dtype="F8_E9"), "has the unsupported type F8_E9"),
        (with_header(shape=[-4]), "has the shape -4"),
        (with_header(shape=[10**12]), "do not match 1000000000000 of F32"),
        (with_header(data_offsets=None), "has an invalid header"),
    ]:
        path.write_bytes(data)
        for read in (lambda: read_header(path), lambda: LongitudinalModel.from_pretrained(folder)):
            with pytest.raises(LongigenError) as caught:
                read()
            assert problem in str(caught.value)
            assert str(path) in str(caught.value)
