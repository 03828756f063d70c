"""The processes that a launcher started for one command: their state, what each does of the work, what is said once."""

import hashlib
import os
import pickle
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from longigen.errors import LongigenError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
R = TypeVar("R")

NUMBER = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which torchrun, accelerate launch and MPI say how many processes they started."""
INDEX = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
LONGEST_WAIT = timedelta(days=1)
"""How long a process waits for another one, which may be generating; a launcher ends all when one of them dies."""
TIME_TO_SAY = timedelta(seconds=20)
"""How long a process that fails waits for the first one to say why."""
ADVICE = "start them with 'torchrun --nproc_per_node N -m longigen_cli …'"

_said: Counter[str] = Counter()
_devices: list[str] = []
"""The devices that were chosen, each inside the context of the one before; see `on_device`."""


def launched() -> int:
    """Return how many processes were started for this command, as the launcher says; 1 without a launcher.

    Raises:
        LongigenError: if a launcher was asked for several and started one, or its variables contradict each other.
    """
    given = next((name for name in NUMBER if os.environ.get(name)), None)
    if given is None:
        # `accelerate launch --cpu --num_processes 2` sets an address at which processes meet, and starts one.
        if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
            raise LongigenError(
                "'accelerate launch' was asked for several processes and started one, as it does on a CPU; "
                f"{ADVICE} (or unset MASTER_ADDR, if one process is meant)."
            )
        return 1
    number, index = os.environ[given], _index()
    if not number.isdecimal() or int(number) < 1 or index is None or not 0 <= index < int(number):
        raise LongigenError(
            f"The environment says that there are {number} processes ({given}) and that this one has the number "
            f"{index} (RANK), which cannot be; {ADVICE}, or unset {given}."
        )
    return int(number)


def _index() -> int | None:
    """Return the number of this process as the launcher says; None without one."""
    text = next((os.environ[name] for name in INDEX if os.environ.get(name)), "")
    return int(text) if text.isdecimal() else None


def is_first() -> bool:
    """Return whether this process is the only one or the first, as the launcher says; needs no torch."""
    return not _index()


def processes() -> "PartialState":
    """Return the state of this process among those of the command; the first call makes it, on CPUs with gloo.

    Raises:
        LongigenError: if there are not as many processes as the launcher says, or fewer GPUs than processes.
    """
    number = launched()

    import torch
    from accelerate import PartialState
    from accelerate.utils import is_npu_available, is_xpu_available, parse_flag_from_env

    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    if number == 1:
        state = PartialState(cpu=on_cpu)
        if _devices:
            state.device = torch.device(_devices[-1])
    else:
        on_cpu = on_cpu or not (torch.cuda.is_available() or is_xpu_available() or is_npu_available())
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        if not on_cpu and 0 < gpus < here:
            raise LongigenError(
                f"{here} processes were started on this machine, which has {gpus} GPUs; start one for each GPU, or set "
                "CUDA_VISIBLE_DEVICES to nothing to compute on the CPU."
            )
        state = PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)
    if state.num_processes != number:
        raise LongigenError(
            f"The launcher started {number} processes and {state.num_processes} found each other, so each would do the "
            f"work of all; {ADVICE}."
        )
    return state


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Compute on a device inside the context, where this process is the only one; None for the one that it has.

    Without a choice that is a GPU, if there is one.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        LongigenError: if there is no such device, or a launcher gave each of several processes another one.
    """
    if name is None:
        yield
        return
    _require_device(name)
    if launched() > 1:
        assigned = str(processes().device)
        if name not in (assigned, assigned.partition(":")[0]):
            raise LongigenError(
                f"--device (device) is {name}, and the launcher gave this process the device {assigned}; leave it out, "
                "or start one process."
            )
        yield
        return
    _devices.append(name)
    try:
        _enter_device()
        yield
    finally:
        _devices.pop()
        _enter_device()


def _require_device(name: str) -> None:
    import torch

    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise LongigenError(f"--device (device) must be cpu, cuda, cuda:1 (or another number) or mps, got {name!r}.")
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and "cuda:0" in there):
        raise LongigenError(
            f"There is no device {name} here, only {' and '.join(there)}; choose another with --device (device), or "
            "leave it out."
        )


def _enter_device() -> None:
    """Let the state of this process, which is made for its life, have the device that is chosen now."""
    import torch
    from accelerate import PartialState

    PartialState._reset_state()
    if torch.cuda.is_available():
        named = _devices[-1] if _devices else ""
        torch.cuda.set_device(int(named.partition(":")[2] or 0) if named.startswith("cuda") else 0)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return every N-th of the items, for this process, of N."""
    state = processes()
    return items[state.process_index :: state.num_processes]


def gathered(items: Sequence[T]) -> list[T]:
    """Return the items of all processes, one process after the other; every process calls this."""
    if processes().num_processes == 1:
        return list(items)
    from accelerate.utils import gather_object

    return gather_object(list(items))


def divided(work: Callable[[Sequence[T]], Iterable[R]], items: Sequence[T]) -> list[R]:
    """Return a result for each item, in order; each process works on its `share`, and every process calls this.

    Raises:
        LongigenError: in every process, if the work of one raises it; see `agreeing`.
    """
    number, results, mine = processes().num_processes, {}, []
    with agreeing():
        mine = list(work(share(items)))
    for index, part in enumerate(gathered([mine])):
        results |= dict(zip(range(index, len(items), number), part, strict=True))
    return [results[place] for place in range(len(items))]


def of_first(make: Callable[[], T]) -> T:
    """Return what the first process makes, in every process, which all call this; see `agreeing` for its errors."""
    made: list[Any] = [None]
    with agreeing():
        if processes().is_main_process:
            made = [make()]
    return gathered(made)[0]


@contextmanager
def agreeing() -> Iterator[None]:
    """Raise a `LongigenError` that one process raises inside the context in every process, so that none waits for it.

    Every process enters it. Of several errors it is that of the first process.
    """
    raised: LongigenError | None = None
    try:
        yield
    except LongigenError as error:
        raised = error
    errors = gathered([None if raised is None else _portable(raised)])
    found = next((error for error in errors if error is not None), None)
    if found is not None:
        found.raised_by_all = True
        raise found


def _portable(error: LongigenError) -> LongigenError:
    """Return the error, or one with its message if it cannot go to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of a plugin's own class
        return LongigenError(str(error))
    return error


def says_first(text: str) -> bool:
    """Return whether this process is the first of all to say a text, so that what all would say is said once.

    What one process says twice may be said twice.
    """
    if _store() is None:
        return True
    _said[text] += 1
    return _claim(f"said {_said[text]} {text}")


@contextmanager
def failing(*, alike: bool = False) -> Iterator[bool]:
    """Yield whether this process is the first to fail, and so the one to say why; the others first wait until it has.

    A launcher that sees one process end ends all, so none may end before that is said.

    Args:
        alike: every process fails, for the same reason. The one that keeps what they tell each other then ends last, so
            that none takes itself for the first.
    """
    store = _store()
    if store is None:
        yield os.environ.get("LOCAL_RANK", "0") == "0"
    elif not _claim("failed"):
        with suppress(Exception):  # it was killed meanwhile, or has taken the store with it
            store.wait([_key("shown")], TIME_TO_SAY)
        yield False
    else:
        yield True
        sys.stderr.flush()
        _claim("shown")
    if alike and store is not None and is_first():
        until = time.monotonic() + TIME_TO_SAY.total_seconds()
        while store.add(_key("failed"), 0) < launched() and time.monotonic() < until:
            time.sleep(0.05)


def _claim(text: str) -> bool:
    store = _store()
    try:
        return store is None or store.add(_key(text), 1) == 1
    except Exception:  # of the connection: who kept the store is gone, and nobody else can say it
        return True


def _key(text: str) -> str:
    return f"longigen/{hashlib.sha256(text.encode()).hexdigest()}"


def _store() -> Any:
    """Return the store (`torch.distributed.Store`) that all processes read and write; None without others."""
    if not any(os.environ.get(name, "1") != "1" for name in NUMBER):
        return None
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.distributed_c10d._get_default_store()
