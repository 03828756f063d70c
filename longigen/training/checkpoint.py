"""A checkpoint: a folder with the state of a training after a step, in safetensors and JSON and never in a pickle.

- ``state.safetensors``: weights, averaged weights and the moments of the optimisers.
- ``state.json``: the step, the seconds and processes of the training, the best step so far, the state of the gradient
  scaler.
- ``random-N.json``: the states of the random number generators of process N, which dropout draws from.
- ``SHA256SUMS``: the checksums of these files, which ``sha256sum -c`` can check too.

What follows from the step and the recipe, such as the learning rate, is not in a checkpoint.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longigen.errors import LongigenError
from longigen.hub.manifest import checksum
from longigen.hub.safetensors_header import read_header
from longigen.training.sharding import joined, own_part, shared_as, whole
from longigen.utils.files import read_json, read_text, reason, regular_size, write_json

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from diffusers.training_utils import EMAModel

TENSORS, VALUES, SUMS = "state.safetensors", "state.json", "SHA256SUMS"


@dataclass(frozen=True)
class Best:
    """The step whose scores on validation visits were best so far, and its score; larger is better."""

    step: int
    score: float


@dataclass(frozen=True)
class Trained:
    """How far a training had come at a checkpoint.

    Attributes:
        step: number of optimiser steps that were made.
        seconds: duration of the training, of all its processes one after the other.
        processes: number of processes that trained side by side.
        batch_size: training pairs per batch, of all processes together; None if an earlier version wrote it, in which
            each process had as many as the recipe says.
        best: the best step so far; None if none was scored.
    """

    step: int
    seconds: float
    processes: int
    batch_size: int | None = None
    best: Best | None = None


@dataclass(frozen=True)
class TrainingState:
    """The parts of a training whose state a checkpoint holds; `save` and `load` copy it out of and into them.

    Attributes:
        accelerator: the accelerator, with the gradient scaler of fp16.
        model: the model, not wrapped for several devices; processes may share it (`longigen.training.sharding`).
        ema: the averaged weights.
        optimizers: the optimisers of the model and, if it has one, of its adversary.
        averaged: the parameters of which `ema` holds the averages.
        batch_size: training pairs per batch, of all processes together.
    """

    accelerator: "Accelerator"
    model: nn.Module
    ema: "EMAModel"
    optimizers: "Sequence[AcceleratedOptimizer]"
    averaged: Sequence[nn.Parameter]
    batch_size: int

    def save(self, folder: Path, step: int, seconds: float, best: Best | None = None) -> None:
        """Write a checkpoint into a new folder; every process of the training calls this.

        Raises:
            OSError: if it cannot be written.
        """
        accelerator = self.accelerator
        if accelerator.is_main_process:
            folder.mkdir(parents=True)
        accelerator.wait_for_everyone()
        write_json(_random_states(), folder / _random_file(accelerator.process_index))
        accelerator.wait_for_everyone()
        tensors = {}
        for name, tensor in self._tensors():
            tensor = whole(tensor)  # of all processes, which all take part in this
            if accelerator.is_main_process:
                tensors[name] = tensor.detach().cpu().contiguous()
        if accelerator.is_main_process:
            try:
                save_file(tensors, folder / TENSORS)
            except (RuntimeError, SafetensorError) as error:  # raised by safetensors when the disk is full
                raise OSError(reason(error)) from error
            scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
            trained = Trained(step, seconds, accelerator.num_processes, self.batch_size, best)
            write_json({**asdict(trained), "scaler": scaler}, folder / VALUES)
            sums = [f"{checksum(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
            (folder / SUMS).write_text("".join(sums), encoding="utf-8")

    def load(self, folder: Path) -> Trained:
        """Read a checkpoint and return how far it is; every file is verified before anything is changed.

        Raises:
            LongigenError: if a file is missing or damaged, or does not fit this training.
        """
        _verify(folder)
        values = read_json(folder / VALUES)
        try:
            batch_size = None if values.get("batch_size") is None else int(values["batch_size"])
            best = values.get("best")  # of earlier versions there is none
            best = None if best is None else Best(int(best["step"]), float(best["score"]))
            trained = Trained(int(values["step"]), float(values["seconds"]), int(values["processes"]), batch_size, best)
            scaler = values["scaler"]
        except (KeyError, TypeError, ValueError) as error:
            raise LongigenError(f"{folder / VALUES} is damaged ({reason(error)}).") from error
        tensors = self._read_tensors(folder / TENSORS)
        path = folder / _random_file(self.accelerator.process_index)
        states = read_json(path) if path.exists() else None  # trained with fewer processes
        self.model.load_state_dict(
            {name: shared_as(tensors[f"model.{name}"], tensor) for name, tensor in self.model.state_dict().items()}
        )
        self.ema.optimization_step = trained.step
        self.ema.shadow_params = [
            own_part(shared_as(tensors[f"ema.{number}"], parameter)).to(average.device)
            for number, (parameter, average) in enumerate(zip(self.averaged, self.ema.shadow_params, strict=True))
        ]
        for number, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(prefix := f"optimizer.{number}."):
                    index, _, key = name.removeprefix(prefix).partition(".")
                    parameter = optimizer.param_groups[0]["params"][int(index)]
                    fits = tensor.shape == parameter.shape and tensor.ndim > 0
                    moments.setdefault(int(index), {})[key] = _like(tensor, parameter) if fits else tensor
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        if self.accelerator.scaler is not None and scaler:
            self.accelerator.scaler.load_state_dict(scaler)
        if states is not None:
            _set_random_states(states, path)
        return trained

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of everything that ``state.safetensors`` holds."""
        for name, tensor in self.model.state_dict().items():
            yield f"model.{name}", tensor
        for number, (tensor, parameter) in enumerate(zip(self.ema.shadow_params, self.averaged, strict=True)):
            yield f"ema.{number}", joined(tensor, parameter)
        for number, optimizer in enumerate(self.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                for key, value in moments.items():
                    yield f"optimizer.{number}.{index}.{key}", torch.as_tensor(value)

    def _read_tensors(self, path: Path) -> dict[str, Tensor]:
        """Read the tensors of a checkpoint, and check their names, shapes, and whether they are of real numbers."""
        found = {name: (layout.shape, layout.floating_point) for name, layout in read_header(path).items()}
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        weights |= {f"ema.{number}": parameter for number, parameter in enumerate(self.averaged)}
        expected = {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in weights.items()}
        moments = {
            f"optimizer.{number}.{index}.{key}": (tuple(shape), True)
            for number, optimizer in enumerate(self.optimizers)
            for index, parameter in enumerate(optimizer.param_groups[0]["params"])
            for key, shape in (("step", ()), ("exp_avg", parameter.shape), ("exp_avg_sq", parameter.shape))
        }
        wrong = [name for name in expected if name not in found]
        owners = {name.rpartition(".")[0] for name in found}
        wrong += [name for name in moments if name not in found and name.rpartition(".")[0] in owners]
        wrong += [name for name, layout in found.items() if (expected | moments).get(name) != layout]
        if wrong:
            raise LongigenError(
                f"{path} does not fit the recipe of this run, as its tensor '{wrong[0]}' shows; restore the run.json "
                "that it was trained with."
            )
        try:
            # Copied, because load_file maps the file into memory, and the file is deleted with its checkpoint.
            return {name: tensor.clone() for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise LongigenError(f"{path} cannot be read ({reason(error)}).") from error


def _like(moment: Tensor, parameter: Tensor) -> Tensor:
    """Return the moment of a parameter, shared and laid out in memory as it is: the fused AdamW takes no other."""
    moment = shared_as(moment, parameter)
    return moment if moment.stride() == parameter.stride() else torch.empty_like(parameter).copy_(moment)


def _verify(folder: Path) -> None:
    """Check every file of a checkpoint by its checksum.

    Raises:
        LongigenError: for a missing or changed file, and for a checkpoint with pickles.
    """
    if not (folder / SUMS).exists() and (folder / "optimizer.bin").exists():
        raise LongigenError(
            f"{folder} holds pickles, as earlier versions of longigen wrote them, and no pickle is ever read."
        )
    names = set()
    try:
        lines = read_text(folder / SUMS).splitlines()
        for line in lines:
            digest, _, name = line.partition("  ")
            regular_size(folder / name)
            if Path(name).name != name or checksum(folder / name) != digest:
                raise LongigenError(f"{folder / name} has not the content that was written.")
            names.add(name)
    except (OSError, ValueError) as error:
        raise LongigenError(f"{folder} is incomplete ({reason(error)}).") from error
    missing = {TENSORS, VALUES, _random_file(0)} - names
    if missing:
        raise LongigenError(f"{folder / SUMS} lacks {min(missing)}.")


def _random_file(process: int) -> str:
    return f"random-{process}.json"


def _random_states() -> dict[str, Any]:
    """Return the states of the random number generators of this process as plain values."""
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].tolist()}},
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": [_to_hex(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def _set_random_states(states: Mapping[str, Any], path: Path) -> None:
    try:
        version, words, gauss = states["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(states["numpy"])
        torch.set_rng_state(_from_hex(states["torch"]))
        if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([_from_hex(state) for state in states["cuda"]])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise LongigenError(f"{path} is damaged ({reason(error)}).") from error


def _to_hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
