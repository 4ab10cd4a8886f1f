"""The gradients of depthwise convolutions on small maps: by hand, and against PyTorch's own."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dalib.models import build, quick

SMALL = [
    # channels, rows, columns, kernel, stride, "same" as timm's
    (6, 2, 3, 5, 1, False),
    (6, 2, 3, 3, 1, False),
    (4, 4, 6, 5, 1, False),
    (4, 4, 6, 5, 2, True),
    (4, 5, 7, 5, 2, True),
    (3, 4, 5, 7, 1, False),
]


def taken(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if "forward" in vars(module)]


def plain(net: nn.Module) -> nn.Module:
    """A copy with PyTorch's own forward everywhere."""
    net = copy.deepcopy(net)
    for module in net.modules():
        vars(module).pop("forward", None)
    return net


@pytest.mark.parametrize(("channels", "rows", "columns", "kernel", "stride", "same"), SMALL)
@pytest.mark.parametrize("bias", [True, False])
def test_all_gradients_are_pytorchs(channels, rows, columns, kernel, stride, same, bias):
    generator = torch.Generator().manual_seed(0)
    kind, padding = (Conv2dSame, 0) if same else (nn.Conv2d, kernel // 2)
    conv = kind(channels, channels, kernel, stride, padding, groups=channels, bias=bias)
    images = torch.randn(5, channels, rows, columns, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    reference = plain(conv)
    quick.quicken(conv)
    assert len(taken(conv)) == 1
    found = []
    for each in (conv, reference):
        seen = images.clone().requires_grad_()
        out = each(seen)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        (out * weights).sum().backward()
        grads = [p.grad for p in each.parameters()]
        found.append((out, seen.grad, *grads))
    assert "_Depthwise" in type(found[0][0].grad_fn).__name__
    assert len(found[0]) == (4 if bias else 3)
    assert torch.equal(found[0][0], found[1][0])
    for own, theirs in zip(*found, strict=True):
        assert own.shape == theirs.shape
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


def test_weight_gradient_by_hand():
    """One image of 1 x 2 pixels (2, 5) and a kernel of 1 x 5 around each: the output's gradient is
    (1, 10), so that the weight at offset -1 joins output 1 with pixel 0, and so on."""
    conv = quick.quicken(nn.Conv2d(2, 2, (1, 5), padding=(0, 2), groups=2))
    images = torch.tensor([2.0, 5.0]).expand(1, 2, 1, 2)
    (conv(images) * torch.tensor([1.0, 10.0])).sum().backward()
    # offsets -2..2: none; 10 * 2; 1 * 2 + 10 * 5; 1 * 5; none
    assert conv.weight.grad[0].flatten().tolist() == [0, 20, 52, 5, 0]
    assert conv.bias.grad.tolist() == [11, 11]


def test_only_what_it_can_do_is_taken():
    net = nn.Sequential(
        nn.Conv2d(4, 4, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 8, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2, groups=4, dilation=2),
        nn.Conv2d(4, 4, 5, padding=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 5, padding="same", groups=4),
        nn.Conv2d(1, 1, 5, padding=2),
    )
    assert taken(quick.quicken(net)) == [net[0]]


def test_no_gradient_and_large_maps_and_autocast_are_pytorchs():
    conv = quick.quicken(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    small, large = torch.rand(2, 4, 3, 4), torch.rand(2, 4, 30, 40)
    name = "_Depthwise"
    assert name in type(conv(small).grad_fn).__name__
    assert name not in type(conv(large).grad_fn).__name__
    with torch.no_grad():
        assert conv(small).grad_fn is None
    with torch.autocast("cpu", torch.bfloat16):
        assert name not in type(conv(small).grad_fn).__name__


@pytest.mark.slow
def test_a_network_keeps_its_weights_and_gradients():
    model = build("lite0", pretrained=False, seed=0).train()
    assert len(taken(model)) == 16  # one depthwise convolution in each block
    reference = plain(model)
    assert list(model.state_dict()) == list(reference.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for each in (model, reference):
        disparity, features = each(images)
        (disparity.mean() + features.pow(2).mean()).backward()
    for (name, own), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert float((own.grad - theirs.grad).abs().max()) <= 1e-4 * scale + 1e-12, name
    again = copy.deepcopy(model)  # a copy computes with its own weights
    assert all(module.forward.__self__ is module for module in taken(again))


def test_a_step_is_counted_without_data_and_then_taken_with_them():
    """What the first keeps must not reach the second."""
    quick.places.cache_clear()
    with FakeTensorMode():
        conv = quick.quicken(nn.Conv2d(4, 4, 5, padding=2, groups=4))
        conv(torch.empty(2, 4, 3, 4)).sum().backward()
    conv = quick.quicken(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    conv(torch.ones(2, 4, 3, 4)).sum().backward()
    assert conv.weight.grad[0, 0, 2].tolist() == [12, 18, 24, 18, 12]
