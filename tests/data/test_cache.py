"""Tests of the visit cache: atomic, bounded, shared by processes, and without growth of memory."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers import commandline
from helpers.files import ball, write_image
from helpers.processes import Longigen
from longigen import LongigenError
from longigen.data.cache import TEMPORARY_FILE_SECONDS, VisitCache
from longigen.data.cohort import Cohort
from longigen.data.preprocess import PreprocessSettings
from longigen.data.split import SplitSettings
from longigen.data.training_pairs import TrainingPairs
from longigen.errors import LongigenWarning
from longigen_csv import CSVDataset

SIZE = 4 * 8**3  # bytes of a visit's voxels
ENTRY = 1.2 * SIZE  # bytes of its file with header, at most


def visit(number: float) -> torch.Tensor:
    return torch.full((1, 8, 8, 8), float(number))


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("??/*.safetensors") if not path.name.startswith("."))


def test_entry_can_be_read_by_another_process(tmp_path: Path) -> None:
    cache, key = VisitCache(tmp_path / "new", 10**6), VisitCache.key("file", "pipeline")
    assert cache.get(key) is None
    cache.put(key, visit(3), {"note": "ü"})
    for other in (cache, VisitCache(tmp_path / "new", 10**6), pickle.loads(pickle.dumps(cache))):
        held = other.get(key)
        assert held is not None
        assert torch.equal(held[0], visit(3))
        assert held[1] == {"note": "ü"}
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0  # medical images are private
    assert VisitCache.key("ab", "c") != VisitCache.key("a", "bc")


def test_changing_a_returned_tensor_does_not_change_the_entry(tmp_path: Path) -> None:
    cache = VisitCache(tmp_path, 10**6)
    cache.put("aa", visit(1), {})
    first = cache.get("aa")
    assert first is not None
    first[0].zero_()
    second = cache.get("aa")
    assert second is not None
    assert torch.equal(second[0], visit(1))


def test_least_recently_used_entries_are_evicted(tmp_path: Path) -> None:
    cache = VisitCache(tmp_path, int(10 * ENTRY))
    for number in range(8):
        cache.put(f"{number:02x}", visit(number), {})
        os.utime(entries(tmp_path)[-1], (number, number))
    assert cache.get("00") is not None  # recently used
    for number in range(8, 60):
        cache.put(f"{number:02x}", visit(number), {})
        assert cache.used_bytes <= cache.limit_bytes
    assert len(entries(tmp_path)) >= 8
    cache = VisitCache(tmp_path, int(10 * ENTRY))
    cache.put("aa", visit(1), {})
    assert cache.get("01") is None
    cache.put("bb", torch.zeros(1, 99, 99, 99), {})  # larger than the limit
    assert cache.get("bb") is None
    assert cache.get("aa") is not None


def test_concurrent_writes(tmp_path: Path) -> None:
    limit = int(20 * ENTRY)
    caches = [VisitCache(tmp_path, limit) for _ in range(2)]
    wrong = []

    def work(cache: VisitCache, seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 60, 200):
            held = cache.get(f"{number:02x}")
            if held is None:
                cache.put(f"{number:02x}", visit(number), {})
            elif not torch.equal(held[0], visit(number)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(caches[seed % 2], seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert caches[0].used_bytes <= 1.3 * limit  # each may exceed it by a tenth for a moment
    assert not list(tmp_path.glob("??/.part-*"))


WRITER = """
import sys, torch
from pathlib import Path
from longigen.data.cache import VisitCache
cache = VisitCache(Path(sys.argv[1]), 10**9)
for number in range(10**6):
    cache.put(f"{number % 256:02x}", torch.full((1, 64, 64, 64), float(number % 256)), {"n": str(number % 256)})
"""


def test_killed_process_leaves_no_partial_entry(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("writer")
    (place / "writer.py").write_text(WRITER)
    streams = [Path(os.devnull), place / "stdout", place / "stderr"]
    for moment in (0.0, 0.01, 0.037, 0.1, 0.2):
        for path in entries(tmp_path):
            path.unlink()
        process = commandline.start([str(tmp_path)], place, dict(os.environ), streams, module="writer")
        while not entries(tmp_path) and process.is_alive():
            time.sleep(0.001)
        time.sleep(moment)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, streams[2].read_text()
        assert entries(tmp_path)
        for path in entries(tmp_path):
            with safe_open(path, framework="pt") as file:
                assert (file.get_tensor("visit") == float(file.metadata()["n"])).all()
    part = tmp_path / "00" / ".part-x.safetensors"
    part.write_bytes(b"half")
    before = time.time() - 2 * TEMPORARY_FILE_SECONDS
    os.utime(part, (before, before))
    assert VisitCache(tmp_path, 10**9).used_bytes > 0
    assert not part.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 5000])
def test_damaged_entry_is_written_again(content: bytes, tmp_path: Path) -> None:
    cache = VisitCache(tmp_path, 10**6)
    cache.put("aa", visit(1), {})
    (path,) = entries(tmp_path)
    path.write_bytes(content)
    assert cache.get("aa") is None
    assert not path.exists()
    cache.put("aa", visit(1), {})
    assert cache.get("aa") is not None


def test_unwritable_folder_gives_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = VisitCache(tmp_path / "file", 10**6)
    with pytest.warns(LongigenWarning, match="set LONGIGEN_CACHE to a folder with free space"):
        cache.put("aa", visit(1), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("bb", visit(1), {})
    assert cache.get("aa") is None


def test_default_folder_and_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGIGEN_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("LONGIGEN_CACHE_GB", "0.5")
    cache = VisitCache.default()
    assert (cache.folder, cache.limit_bytes) == (tmp_path / "mine" / "visits", 500_000_000)
    assert not cache.folder.exists()
    monkeypatch.delenv("LONGIGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert VisitCache.default().folder == tmp_path / "xdg" / "longigen" / "visits"
    monkeypatch.delenv("LONGIGEN_CACHE_GB")
    assert 0 < VisitCache.default().limit_bytes <= 20e9
    monkeypatch.setenv("LONGIGEN_CACHE_GB", "many")
    with pytest.raises(LongigenError, match="LONGIGEN_CACHE_GB is 'many', which is not a number of GB"):
        VisitCache.default()


READER = """
import csv, sys
from pathlib import Path
from longigen.data.cohort import Cohort
from longigen.data.preprocess import PreprocessSettings
from longigen.registry.registry import registry
from longigen.data.split import SplitSettings

def resident(kind):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(kind)) * 1024

data = registry.load("dataset", "csv")(path=sys.argv[1])
cohort = Cohort("csv", data, PreprocessSettings(), SplitSettings(validation=0, test=0))
subjects = cohort.part("all")
cohort.read(subjects[:2])
before = resident("VmRSS")
for _ in range(2):
    cohort.read(subjects)
print(resident("VmRSS") - before, resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    shape, lines = (64, 64, 48), ["subject,time,path"]
    for number in range(64):  # 50 MB once preprocessed
        path = write_image(tmp_path / f"v{number % 4}.nii", ball(shape, 0.3 + 0.1 * (number % 4)))
        lines.append(f"s{number // 2},{number % 2},{path.name}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    limit = 64 * 4 * 64 * 64 * 48 / 10
    environment = {"LONGIGEN_CACHE": str(tmp_path / "cache"), "LONGIGEN_CACHE_GB": str(limit / 1e9)}
    output = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "m.csv")],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    after, peak = map(int, output.split())
    assert after < 15e6, f"memory grew by {after / 1e6:.0f} MB"
    assert peak < 40e6, f"memory peaked {peak / 1e6:.0f} MB higher"
    assert sum(path.stat().st_size for path in entries(tmp_path / "cache" / "visits")) <= limit


def test_two_concurrent_trainings_on_an_empty_cache(manifest: Path, longigen: Longigen, tmp_path: Path) -> None:
    small = [
        "denoiser.width=8",
        "denoiser.heads=2",
        "denoiser.multipliers=1,2",
        "conditioner.dim=16",
        "sampler.steps=2",
        "score_every=0",
    ]
    options = [*(part for change in small for part in ("--set", change)), "--steps", 2]

    def train(name: str, cache: str) -> None:
        longigen("train", "--data", manifest, *options, "--out", tmp_path / name, LONGIGEN_CACHE=str(tmp_path / cache))

    threads = [threading.Thread(target=train, args=(name, "cold")) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    train("alone", "other")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("one", "two", "alone")]
    assert weights[0] == weights[1] == weights[2]
    assert len(entries(tmp_path / "cold" / "visits")) == len(entries(tmp_path / "other" / "visits")) > 0


def test_second_epoch_reads_no_nifti(tmp_path: Path) -> None:
    lines = ["subject,time,path"]
    for subject in range(4):
        for number in range(2):
            path = write_image(tmp_path / f"{subject}-{number}.nii.gz", ball((12, 12, 12), 0.3 + 0.1 * number))
            lines.append(f"s{subject},{number},{path.name}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    settings = SplitSettings(validation=0, test=0)
    cohort = Cohort("csv", CSVDataset(path=tmp_path / "m.csv"), PreprocessSettings(), settings)
    cohort.read(cohort.part("train"))
    first = [
        pair.target
        for pair in (TrainingPairs(cohort.part("train"), length=4, seed=0, causal=True)[k] for k in range(4))
    ]
    for path in tmp_path.glob("*.nii.gz"):
        path.write_bytes(b"")
    again = Cohort(
        "csv", cohort.dataset, cohort.pipeline, settings
    )  # a new object, which finds all entries in the cache
    pairs = TrainingPairs(again.part("train"), length=4, seed=0, causal=True)
    assert all(torch.equal(pairs[k].target, target) for k, target in enumerate(first))
