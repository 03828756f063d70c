"""Signals as users, terminals and clusters send them: the step is completed, and a checkpoint written."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.trainings import SMALL, trainer
from longigen.errors import Interruption
from longigen.training.run import Run
from longigen.training.stop import StopRequests

START = 300
"""Seconds that a process may take to its first steps."""


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    """Handle signals as in a terminal: under nohup and in the background of a shell some are ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_completes_the_step_and_writes_a_checkpoint(manifest: Path, tmp_path: Path, name: str) -> None:
    number, before = signal.Signals[name], signal.getsignal(signal.Signals[name])

    def send(step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(Interruption) as stopped:
        trainer(manifest, tmp_path / "run", "training.steps=9").fit(send)
    assert stopped.value.status == 128 + number
    assert signal.getsignal(number) is before
    assert trainer(manifest, tmp_path / "run", resume=True).step == 3  # the step after the callback was completed


def test_a_second_interrupt_is_obeyed_at_once() -> None:
    with StopRequests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as error:
            os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(error.value, Interruption)


def test_ignored_signals_stay_ignored() -> None:
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_handles_no_signals() -> None:
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with StopRequests():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not errors


def test_a_process_group_with_workers(manifest: Path, tmp_path: Path) -> None:
    """A cluster sends its signal to every process of a job."""
    folder = tmp_path / "run"
    changes = [word for change in (*SMALL, "training.workers=2") for word in ("--set", change)]
    options = ["--data", manifest, *changes, "--steps", "400", "--out", folder]
    with subprocess.Popen(
        [sys.executable, "-m", "longigen_cli", "train", *map(str, options)],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        end = time.monotonic() + START
        while not Run(folder).checkpoints() and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        message = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + signal.SIGTERM, message
    assert "Traceback" not in message
    last = Run(folder).checkpoints()[-1]
    step = int(last.name.removeprefix("step-"))
    assert f"Stopped at step {step}; continue with: longigen train --resume --out {folder}" in message
    assert 3 <= step < 400

    def stop(at: int, metrics: dict[str, float]) -> None:
        if at == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(manifest, tmp_path / "other", "training.steps=400").fit(stop)
    one = load_file(last / "state.safetensors")
    two = load_file(tmp_path / "other" / "checkpoints" / last.name / "state.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
