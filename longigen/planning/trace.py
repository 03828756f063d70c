"""A step traced without computing it: its memory by part, and what each of its kernels reads, writes and computes.

The tensors of the networks are fake (`torch._subclasses.fake_tensor`): they have a shape and a type and no content, so
a step of any size is traced in seconds. Times and masks stay real, since code branches on them. Every allocation and
release is recorded in order, as `torch.distributed._tools.mem_tracker` does, and is attributed to a part afterwards.
"""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from longigen.components.visit_sequence import Batch
from longigen.errors import LongigenError
from longigen.models.longitudinal import LongitudinalModel, total
from longigen.planning.autocast import autocasting_of_cuda
from longigen.utils.memory import resident_memory
from longigen.utils.precision import ComputingType, computing_in

BLOCK = 512
"""Bytes that the allocator of CUDA rounds up to a multiple of."""

SINGLE = 4
"""Bytes of a number of 32 bits."""

WORKSPACE = 0.06
"""The share of its tensors that a GPU takes besides, above all for cuDNN's workspaces: fitted to docs/results/gpu."""

HEAP_KEPT, HEAP_TEMPORARY, LIBRARIES = 0.45, 1.0, 12_000_000
"""What a process on a CPU takes besides its tensors and what this process has already, with Python and PyTorch: shares
of what is kept and of what comes and goes, for gaps in the heap and oneDNN's own buffers, and bytes for its compiled
kernels: fitted to the resident memory of small steps."""

Part = Literal["weights", "gradients", "optimiser", "average", "data", "activations", "temporary", "overhead"]
"""What memory is used for: the weights; their gradients; the moments of AdamW; the averaged weights (EMA); the batch;
what the forward pass keeps for the backward pass; what comes and goes; and what is taken besides tensors."""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Kernel:
    """One operation on a device.

    Attributes:
        flops: floating-point operations of matrix products and convolutions; 0 for others.
        moved: bytes that are read and written.
        half: whether it computes in 16 bits.
        convolution: whether it is a convolution.
    """

    flops: float
    moved: float
    half: bool = False
    convolution: bool = False


@dataclass(frozen=True)
class Traced:
    """What was traced.

    Attributes:
        memory: bytes by part at the moment when most are used.
        kernels: the operations, in order.
    """

    memory: Mapping[Part, int]
    kernels: Sequence[Kernel]

    @property
    def peak(self) -> int:
        """The largest number of bytes in use."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Work:
    """What a step works on, and where.

    Attributes:
        batch: random histories and targets of images of one voxel, whose times and masks count.
        shape: (W, H, D) of the images.
        kind: the type that the networks compute in.
        cuda: whether it is for a CUDA device, or for a CPU.
    """

    batch: Batch
    shape: tuple[int, int, int]
    kind: ComputingType
    cuda: bool


def trace_training(
    model: LongitudinalModel, work: Work, *, frozen: Sequence[str] = (), accumulate: bool, average: bool = True
) -> Traced:
    """Trace a training step, from the second on, when the optimiser has its moments.

    Args:
        model: the model, on the CPU; its parameters are replaced by fake ones.
        work: what it works on.
        frozen: components that are not trained.
        accumulate: whether gradients of earlier batches are kept (gradient accumulation).
        average: whether the averaged weights are on the device too.

    Raises:
        LongigenError: if the model cannot be traced.
    """
    for part in frozen:
        getattr(model, part).requires_grad_(False)
    adversary = model.denoiser.adversary
    with _tracing(work) as trace:
        batch = _prepare(trace, model.train(), work)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if accumulate:
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
        trace.kernels.clear()
        generator = torch.Generator().manual_seed(0)
        for second in (False, True) if adversary is not None and "denoiser" not in frozen else (False,):
            with computing_in(work.kind, torch.device("cpu")):
                losses = model(batch, generator, adversary=second)
            loss = total(losses).mean()
            trace.mark("activations")
            torch.autograd.backward(loss)
            del loss, losses
        trace.assign("gradients", [parameter.grad for parameter in trained if parameter.grad is not None])
        own, averaged = _bytes(trained), _bytes(model.generator_parameters) if average else 0
        memory = trace.peak({"optimiser": 2 * own, "average": averaged})
        # On a CPU AdamW takes one more copy of the largest gradient; the fused one of CUDA takes none.
        spare = 0 if work.cuda else max(map(_bytes, ([each] for each in trained)), default=0)
        update: dict[Part, int] = {
            **dict.fromkeys(PARTS, 0),
            "weights": memory["weights"],
            "data": memory["data"],
            "gradients": own,
            "optimiser": 2 * own,
            "average": averaged,
            "temporary": spare,
        }
        # It reads weights, gradients and moments and writes all but the gradients; on CUDA many tensors in one kernel.
        share = [Kernel(0, 7 * _bytes([each])) for each in trained]
        kernels = [*trace.kernels, *([_joined(share)] * 12 if work.cuda else share)]
    return Traced(_with_overhead(max(memory, update, key=lambda each: sum(each.values())), work), kernels)


def trace_generation(
    model: LongitudinalModel, work: Work, *, evaluations: int, guidance: float | None = None
) -> Traced:
    """Trace the generation of a visit of each history of the batch.

    Two network evaluations are traced, and the second stands for all further ones.

    Args:
        model: the model, on the CPU; its parameters are replaced by fake ones.
        work: what it works on; the batch's target times are generated.
        evaluations: network evaluations.
        guidance: guidance weight; by default the model's own.

    Raises:
        LongigenError: if the model cannot be traced.
    """
    with _tracing(work) as trace:
        batch = _prepare(trace, model.eval(), work)
        trace.kernels.clear()
        ends: list[int] = []
        model.generate(
            batch.history,
            batch.target_time[:, None],
            steps=min(evaluations, 2),
            guidance=guidance,
            precision=work.kind,
            callback=lambda done, total: ends.append(len(trace.kernels)),
        )
        further = trace.kernels[ends[-2] : ends[-1]] * (evaluations - 2) if evaluations > 2 else []
        return Traced(_with_overhead(trace.peak({}), work), [*trace.kernels, *further])


class _Trace(TorchDispatchMode):
    """Records the memory and the kernels of fake tensors; what has real tensors alone is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.fakes = False
        self._events: list[tuple[int, int]] = []  # the number of a storage, and bytes: negative where it is released
        self._numbers: dict[int, int] = {}  # of storages that are in use
        self._parts: dict[int, Part] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        given = [value for value in tree_leaves((args, named)) if isinstance(value, Tensor)]
        if not self.fakes and not any(isinstance(value, FakeTensor) for value in given):
            with unset_fake_temporarily():
                return func(*args, **named)
        if func is torch.ops.aten.is_pinned.default:  # torch 2.4 cannot say it of a fake tensor
            return False
        out = func(*args, **named)
        made = [value for value in tree_leaves(out) if isinstance(value, FakeTensor)]
        before = {value.untyped_storage()._cdata for value in given if isinstance(value, FakeTensor)}
        for value in made:
            self._note(value)
        is_view = not func._schema.is_mutable and all(value.untyped_storage()._cdata in before for value in made)
        if made and not is_view:
            moved = sum(value.numel() * value.element_size() for value in (*given, *made))
            half = any(value.element_size() == 2 for value in (*given, *made) if value.is_floating_point())
            flops = _flops(func._overloadpacket, args, named, out)
            self.kernels.append(Kernel(flops, moved, half, "convolution" in func._schema.name))
        return out

    def assign(self, part: Part, tensors: Sequence[Tensor]) -> None:
        """Say what the memory of tensors is used for."""
        for tensor in tensors:
            self._parts[self._numbers[tensor.untyped_storage()._cdata]] = part

    def mark(self, part: Part) -> None:
        """Say what all memory in use is used for that has no part yet."""
        for number in self._numbers.values():
            self._parts.setdefault(number, part)

    def peak(self, more: Mapping[Part, int]) -> dict[Part, int]:
        """Return the bytes by part at the moment when most are used, with `more` that are used all the time."""
        used: dict[Part, int] = {**dict.fromkeys(PARTS, 0), **more}
        most, found = -1, dict(used)
        for number, change in self._events:
            used[self._parts.get(number, "temporary")] += change
            if change > 0 and (now := sum(used.values())) > most:
                most, found = now, dict(used)
        return found

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._numbers:
            number, size = len(self._events), -(-storage.nbytes() // BLOCK) * BLOCK
            self._numbers[storage._cdata] = number
            self._events.append((number, size))
            weakref.finalize(storage, self._release, storage._cdata, number, size)

    def _release(self, key: int, number: int, size: int) -> None:
        self._events.append((number, -size))
        del self._numbers[key]


@contextmanager
def _tracing(work: Work) -> Iterator[_Trace]:
    """Trace what happens inside the context."""
    trace = _Trace()
    promoting = autocasting_of_cuda() if work.cuda else nullcontext()
    try:
        with promoting, FakeTensorMode(allow_non_fake_inputs=True), trace:
            yield trace
    except RuntimeError as error:  # NotImplementedError is one too
        raise LongigenError(
            "The model cannot be traced without computing it, so its memory cannot be predicted "
            f"({type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}); measure a step on the "
            "machine that trains it."
        ) from error


def _prepare(trace: _Trace, model: LongitudinalModel, work: Work) -> Batch:
    """Replace the tensors of a model by fake ones, and return the batch with fake images of the full shape."""
    trace.fakes = True
    fakes: dict[int, Tensor] = {}
    for module in model.modules():
        tensors: dict[str, Tensor | None]
        for tensors in (module._parameters, module._buffers):  # type: ignore[assignment]  # a fake one is of its type
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fakes.setdefault(id(tensor), _fake(tensor))
    trace.assign("weights", list(fakes.values()))
    history, target = work.batch.history, work.batch.target
    images = torch.empty(*history.images.shape[:3], *work.shape)
    image = torch.empty(*target.shape[:2], *work.shape)
    trace.fakes = False
    batch = Batch(replace(history, images=images), image, work.batch.target_time)
    trace.assign("data", [batch.history.images, image])
    return batch


def _fake(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return nn.Parameter(made, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def _flops(operation: Any, args: Sequence[Any], named: Mapping[str, Any], out: Any) -> float:
    """Return the floating-point operations of a call; 0 for what is no matrix product, convolution or attention."""
    aten = torch.ops.aten
    if operation is getattr(aten, "_scaled_dot_product_flash_attention_for_cpu", None):
        return sdpa_flop_count(*(value.shape for value in args[:3]))
    if operation is getattr(aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None):
        return sdpa_backward_flop_count(*(value.shape for value in args[:4]))
    count = flop_registry.get(operation)
    return 0 if count is None else count(*args, **named, out_val=out)


def _with_overhead(memory: Mapping[Part, int], work: Work) -> dict[Part, int]:
    """Return the bytes by part, with those that are taken besides tensors."""
    if work.cuda:
        overhead = WORKSPACE * sum(memory.values())
    else:
        heap = HEAP_KEPT * memory["activations"] + HEAP_TEMPORARY * memory["temporary"]
        overhead = resident_memory() + heap + LIBRARIES
    return {**memory, "overhead": int(overhead)}


def _bytes(parameters: Sequence[Tensor]) -> int:
    return SINGLE * sum(parameter.numel() for parameter in parameters)


def _joined(kernels: Sequence[Kernel]) -> Kernel:
    """Return a twelfth of the traffic of kernels, as one: the `foreach` form of AdamW has about a dozen."""
    return Kernel(0, sum(kernel.moved for kernel in kernels) / 12)
