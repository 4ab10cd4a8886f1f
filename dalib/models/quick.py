"""Depthwise convolutions whose weights learn quickly on small maps.

The deepest maps of a CNN have few pixels: 2 x 3 for an image of 64 x 96. There PyTorch's gradient of
a depthwise convolution's weights takes thirty times as long on a CPU as the convolution itself,
with kernels of more than 3 x 3 and wherever the kernel is higher than the map. Here it is
made of matrix products instead, the same up to rounding. Forward and the gradient of the images are
PyTorch's.
"""

import types
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

PAIRS = 2500
"""Pairs of an output and an input pixel up to which the matrix products are the quicker way
(`benchmarks/depthwise.py`)."""


def quicken(net: nn.Module) -> nn.Module:
    """The same network, with each depthwise convolution computed by `convolve`; parameters and
    their names stay."""
    for conv in net.modules():
        is_plain = type(conv) in (nn.Conv2d, Conv2dSame) and conv.dilation == (1, 1)
        zeros = is_plain and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        if zeros and 1 < conv.groups == conv.in_channels == conv.out_channels:
            conv.forward = types.MethodType(convolve, conv)
    return net


def convolve(conv: nn.Conv2d, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """What `conv` gives, a depthwise convolution; its weights get their gradient from matrix
    products where that is quicker."""
    if not _learns_on_cpu(conv, images):
        return type(conv).forward(conv, images)
    if isinstance(conv, Conv2dSame):
        images = pad_same(images, list(conv.kernel_size), list(conv.stride))
    size = tuple(images.shape[-2:])
    if _pays(size, conv.kernel_size, conv.stride, conv.padding):
        return _Depthwise.apply(images, conv.weight, conv.bias, conv.stride, conv.padding)
    return F.conv2d(images, conv.weight, conv.bias, conv.stride, conv.padding, 1, conv.groups)


def _learns_on_cpu(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether a gradient of the weights will be asked for, in float32 and on the CPU; what
    `torch.compile` and exports trace, and what `costs` counts on tensors without values, stays
    PyTorch's."""
    learns = torch.is_grad_enabled() and conv.weight.requires_grad
    has_values = type(images) is Tensor
    plain = has_values and images.device.type == "cpu" and images.dtype == torch.float32
    return (
        learns
        and plain
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _pays(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> bool:
    rows, columns = _size_out(size, kernel, stride, padding)
    is_slow = max(kernel) > 3 or size[0] + 2 * padding[0] < 2 * kernel[0] - 1
    return is_slow and rows * columns * size[0] * size[1] <= PAIRS


def _size_out(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> tuple[int, int]:
    sides = zip(size, kernel, stride, padding, strict=True)
    rows, columns = ((n + 2 * p - k) // s + 1 for n, k, s, p in sides)
    return rows, columns


@cache
def places(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[np.ndarray, "pairs taps"]:
    """Which weight joins each pair of an output pixel and an input pixel: 1 in its column, and a row
    of zeros where none does. Pairs run through the outputs, and within each through the inputs.

    An array, for a tensor that is kept would belong to the mode that it was made in
    (`dalib.training.costs` counts with tensors that have no data).
    """
    outputs = _size_out(size, kernel, stride, padding)
    joined = np.zeros((*outputs, *size, *kernel), np.float32)
    for y in range(joined.shape[0]):
        for x in range(joined.shape[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    row = y * stride[0] + i - padding[0]
                    column = x * stride[1] + j - padding[1]
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        joined[y, x, row, column, i, j] = 1
    return joined.reshape(-1, kernel[0] * kernel[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images, weight, bias, stride, padding):
        ctx.save_for_backward(images, weight)
        ctx.how = stride, padding
        ctx.has_bias = bias is not None
        return F.conv2d(images, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx, grad):
        images, weight = ctx.saved_tensors
        stride, padding = ctx.how
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            given = grad, images, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight)
            of_images = torch.ops.aten.convolution_backward(*given, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(grad, images, weight, stride, padding)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3))
        return of_images, of_weight, of_bias, None, None


def _of_weight(
    grad: Float[Tensor, "b c h2 w2"],
    images: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c 1 k l"],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "c 1 k l"]:
    """For each channel, the products of all output and input pixels, summed over the images; then
    each weight's sum over the pairs that it joins."""
    outputs = grad.flatten(2).permute(1, 2, 0).contiguous()  # (c, h2 * w2, b)
    inputs = images.flatten(2).permute(1, 0, 2).contiguous()  # (c, b, h * w)
    products = torch.bmm(outputs, inputs).flatten(1)  # (c, h2 * w2 * h * w)
    joined = places(tuple(images.shape[-2:]), tuple(weight.shape[-2:]), stride, padding)
    return (products @ torch.from_numpy(joined)).view_as(weight)
