"""Weights, gradients and optimiser states that the processes of a training share, each with a part: torch's FSDP2.

Between steps a process holds its part of every parameter, of its moments and of its average; in a step it gathers the
weights, block by block, and their gradients. Checkpoints and exported models hold the whole, as those of a training
without sharing.
"""

from typing import Any

import torch
from torch import Tensor, nn

from longigen.errors import LongigenError
from longigen.models.compilation import regions
from longigen.models.longitudinal import LongitudinalModel


def shard(model: LongitudinalModel, device: torch.device) -> None:
    """Share the parameters of a model among all processes.

    Those of a block that repeats (`longigen.models.compilation.regions`) are gathered when it is called, so a process
    holds one block's weights beside its part. The others are gathered when the model is called, and so are those of
    blocks with methods of their own, which may be used without calling the block.

    Raises:
        LongigenError: if this torch has no FSDP2.
    """
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise LongigenError(
            f"training.sharding=full needs torch 2.6 or later, and this is {torch.__version__}; update it, or set "
            "training.sharding=none."
        ) from None
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no other layout, such as channels last
    blocks = [block for network in model.networks for block in regions(network, "regional") if not _methods(block)]
    # Resharded after each forward pass: validation puts other weights into the parts, which a step must not keep.
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def _methods(block: nn.Module) -> list[str]:
    """Return the public methods that the classes of a block, other than PyTorch's own, have beside `forward`."""
    classes = [each for each in type(block).__mro__ if not each.__module__.startswith("torch.")]
    return [
        name
        for each in classes
        for name, value in vars(each).items()
        if callable(value) and not name.startswith("_") and name != "forward"
    ]


def is_shared(tensor: Tensor) -> bool:
    """Return whether a tensor is a part of one that processes share."""
    return hasattr(tensor, "full_tensor")


def own_part(parameter: Any) -> Any:
    """Return this process's part of a parameter, in the same memory; the parameter itself if it is not shared."""
    if not is_shared(parameter):
        return parameter
    return parameter.detach().to_local().requires_grad_(parameter.requires_grad)  # by which EMAModel averages it


def whole(tensor: Any) -> Tensor:
    """Return the whole of a tensor; every process calls this."""
    return tensor.full_tensor() if is_shared(tensor) else tensor


def joined(part: Tensor, parameter: Any) -> Tensor:
    """Return the whole of what every process holds a part of, as it does of a parameter; every process calls this."""
    if not is_shared(parameter):
        return part
    from torch.distributed.tensor import DTensor

    place = {"shape": parameter.shape, "stride": parameter.stride()}
    part = part.to(parameter.device)  # averages may be held on the CPU
    return DTensor.from_local(part, parameter.device_mesh, parameter.placements, run_check=False, **place).full_tensor()


def shared_as(tensor: Tensor, parameter: Any) -> Tensor:
    """Return a whole tensor shared as a parameter is; every process calls this."""
    if not is_shared(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
