"""What training costs: counts worked out by hand."""

import pytest
import torch
from torch.nn import functional as F

from dabook.pages import costs
from dalib.training.costs import measure


def test_flops_of_a_linear_layer():
    """(5, 7) x (7, 3): 2 * 5 * 7 * 3 = 210; backward to the weights and to the input, as much again
    each."""
    x, weight = torch.ones(5, 7, requires_grad=True), torch.ones(3, 7, requires_grad=True)
    assert measure(lambda: F.linear(x, weight))[0] == 210
    assert measure(lambda: F.linear(x, weight).sum().backward())[0] == 3 * 210


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_flops_of_convolutions(groups, stride, transposed):
    """Forward 2 products a weight at each place, 6 / groups x 12 x 3 x 3 weights; backward as many
    for the images and for the weights. Of a convolution the places are those of its result, of a
    transposed one those of its images."""
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    layer = kind(6, 12, 3, stride=stride, padding=1, groups=groups, bias=False)
    images = torch.ones(2, 6, 8, 10, requires_grad=True)
    places = 80 if transposed or stride == 1 else 20
    forward = 2 * 2 * places * 12 * (6 // groups) * 9
    assert measure(lambda: layer(images))[0] == forward
    assert measure(lambda: layer(images).sum().backward())[0] == 3 * forward
    assert measure(lambda: layer(images.detach()).sum().backward())[0] == 2 * forward


def test_flops_of_attention():
    """Two heads, 4 queries, 6 keys of width 8: scores 2 * 2 * 4 * 6 * 8 = 768, and as much for
    their product with the values."""
    q, k = torch.ones(1, 2, 4, 8), torch.ones(1, 2, 6, 8)
    assert measure(lambda: F.scaled_dot_product_attention(q, k, k))[0] == 2 * 768


def test_bytes_at_the_fullest_moment():
    """1,000 floats are there; two results of 4,000 bytes each live together, the third takes the
    place of the first."""
    x = torch.ones(1000)

    def work():
        a = x + 1
        b = a * 2
        del a
        return b - 1

    assert measure(work, x)[1] == 3 * 4000


@pytest.mark.parametrize(("name", "published", "unread"), [("vits", 24.8, 64), ("vitb", 97.5, 128)])
def test_parameters_are_the_papers(name, published, unread):
    """The released files hold besides what nothing reads: one residual unit (two 3x3 convolutions)
    and the mask token."""
    width = {"vits": 384, "vitb": 768}[name]
    total = costs.parameters(name) + 2 * (9 * unread * unread + unread) + width
    assert round(total / 1e6, 1) == published


def test_a_vit_by_hand():
    """ViT-S at 518: 1,370 tokens of width 384, 12 blocks. A block: 12 * 384^2 products a token, and
    attention 2 * 1370 * 384."""
    tokens, width = 37 * 37 + 1, 384
    block = 2 * tokens * (12 * width**2) + 2 * 2 * tokens * tokens * width
    patches = 2 * 37 * 37 * width * 3 * 14 * 14
    assert costs.forward_flops("vits", encoder_only=True) == pytest.approx(
        12 * block + patches, rel=1e-3
    )


@pytest.mark.slow
def test_checkpointing_trades_work_for_memory():
    kept, again = (
        costs.training("vits", labelled=1, ratio=2, checkpointing=c) for c in (False, True)
    )
    assert again.bytes < kept.bytes
    # the encoder once more for three images
    blocks = 3 * costs.forward_flops("vits", encoder_only=True)
    assert again.flops - kept.flops == pytest.approx(blocks, rel=0.02)


def test_gpu_days():
    """312 TFLOP/s at a quarter: 78e12 a second, 6.7392e18 a day."""
    run = costs.PaperRun(
        teacher=6_739_200_000_000_000_000, student=6_739_200_000_000_000_000, stored_labels=0
    )
    assert run.gpu_days(utilisation=0.25) == pytest.approx(2)
