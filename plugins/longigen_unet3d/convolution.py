"""3×3×3 convolutions that are fast on a CPU too: by Winograd's algorithm along one axis, and for a batch of one."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALL_CONVOLUTION = 20_480
"""Up to this N·C·W·H PyTorch computes a batch of one in fp32 with a slow im2col instead of oneDNN on CPUs."""

WINOGRAD_CHANNELS, WINOGRAD_VOXELS = 32, 512
"""From as many channels and voxels per sample Winograd's algorithm is faster: with fewer channels its sums take longer
than the products that they save, with fewer voxels the transformation of the weights does."""

OF_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
OF_WEIGHT = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
OF_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
"""F(4, 3) of Lavin and Gray 2016 (arXiv 1509.09308): Bᵀ, G and Aᵀ, by which four neighbouring outputs of a filter of
three taps take six products instead of twelve."""


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the 3×3×3 convolution, padded by 1, of x (B, C, W, H, D) in fp32, with half the products.

    The algorithm is applied along W, whose slices are contiguous in memory; along H and D six 2D convolutions do the
    rest. The error of rounding is a few times that of the plain sum, about 2e-5 of an output's standard deviation.

    Args:
        x: the volume, stored with the channels last.
        weight: (F, C, 3, 3, 3).
        bias: (F,).

    Returns:
        (B, F, W, H, D), stored with the channels last.
    """
    B, C, W, H, D = x.shape
    F, tiles, row = len(weight), -(-W // 4), H * D
    of_input, of_weight, of_output = (x.new_tensor(matrix) for matrix in (OF_INPUT, OF_WEIGHT, OF_OUTPUT))
    filters = (of_weight @ weight.permute(2, 0, 3, 4, 1).reshape(3, -1)).view(6, F, 3, 3, C).movedim(-1, 2)
    rows = x.new_empty(B, 4 * tiles + 2, row * C)
    rows[:, 0], rows[:, W + 1 :] = 0, 0  # functional.pad would fill all of it
    rows[:, 1 : W + 1] = x.permute(0, 2, 3, 4, 1).reshape(B, W, row * C)
    result = x.new_empty(B, 4 * tiles, H, D, F)
    for sample in range(B):
        parts, sums = x.new_empty(6, tiles, row * C), x.new_empty(6, tiles, H, D, F)
        inputs = rows[sample].unfold(0, 6, 4).transpose(1, 2)
        torch.bmm(of_input.expand(tiles, -1, -1), inputs, out=parts.transpose(0, 1))
        for place, part in enumerate(parts.view(6, tiles, H, D, C).movedim(-1, 2)):
            # The second column of Aᵀ is all ones, so what is added to the second part is added to every output.
            added = bias if place == 1 else None
            sums[place] = functional.conv2d(part, filters[place], added, padding=1).movedim(1, -1)
        outputs = result[sample].view(tiles, 4, row * F)
        torch.bmm(of_output.expand(tiles, -1, -1), sums.view(6, tiles, row * F).transpose(0, 1), out=outputs)
    return result[:, :W].movedim(-1, 1).contiguous(memory_format=torch.channels_last_3d)


class Winograd(torch.autograd.Function):
    """`winograd` with gradients: that of the input is such a convolution too, that of the weight PyTorch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.features = None if bias is None else [len(weight)]
        return winograd(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = grad_outputs[0].contiguous(memory_format=torch.channels_last_3d)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        _, weight_gradient, bias_gradient = torch.ops.aten.convolution_backward(
            gradient, x, weight, ctx.features, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, (False, of_weight, of_bias)
        )
        x_gradient = winograd(gradient, weight.flip(2, 3, 4).transpose(0, 1), None) if of_x else None
        return x_gradient, weight_gradient, bias_gradient


class Convolution(nn.Conv3d):
    """A 3×3×3 convolution, padded by 1, that is fast on CPUs in fp32 too, for a batch of one as well."""

    def __init__(self, channels: int, features: int, stride: int = 1) -> None:
        super().__init__(channels, features, 3, stride=stride, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return self._convolved(input, self.weight, self.bias)

    def of_channels(self, x: Tensor, first: int) -> Tensor:
        """Return the part of the output that comes from some of the channels, and with the first one the bias.

        As a convolution is linear, the sum over all channels is the output.

        Args:
            x: these channels of the input (B, K, W, H, D).
            first: the index of the first of them.
        """
        if x.shape[1] == self.in_channels:
            return self(x)
        return self._convolved(x, self.weight[:, first : first + x.shape[1]], None if first else self.bias)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        B, C, W, H, D = x.shape
        # A network that is compiled is not compiled for a CPU or a batch of one alone, and what is traced or
        # distributed is no plain tensor.
        if type(x) is Tensor and not torch.compiler.is_compiling() and _single_on_cpu(x):
            few = min(C, len(weight)) < WINOGRAD_CHANNELS or W < 4 or W * H * D < WINOGRAD_VOXELS
            if not few and self.stride == (1, 1, 1):
                return Winograd.apply(x, weight, bias)
            if B == 1 and C * W * H <= SMALL_CONVOLUTION:
                # A batch of two is twice the work, but faster than im2col.
                return self._conv_forward(x.expand(2, -1, -1, -1, -1), weight, bias)[:1]
        return self._conv_forward(x, weight, bias)


class Pointwise(nn.Conv3d):
    """A 1×1×1 convolution, as a matrix product over the channels, which PyTorch computes faster on CPUs."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__(channels, features, 1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def joined(*volumes: Tensor) -> Tensor:
    """Concatenate volumes (B, C, W, H, D) along the channels, stored with the channels last.

    `torch.cat` does not see that a volume of one channel is stored so too, and would store the result otherwise.
    """
    return torch.cat([volume.movedim(1, -1) for volume in volumes], dim=-1).movedim(-1, 1)


def _single_on_cpu(x: Tensor) -> bool:
    """Return whether a tensor is computed with in fp32 on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
