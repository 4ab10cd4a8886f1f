"""Packed blocks against float64, and where they are put in."""

import math

import pytest
import timm
import torch
from torch import nn

from dalib.models import build, packed
from dalib.models.inference import optimise
from dalib.models.lively import enliven

CPU = torch.device("cpu")
PRECISIONS = [
    pytest.param(
        dtype,
        marks=pytest.mark.skipif(not packed.available(CPU, dtype), reason="no packed layers here"),
    )
    for dtype in (torch.float32, torch.bfloat16)
]


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def softmax_attention(q, k, v):
    """In float64, of scores that count powers of two."""
    scores = math.log(2) * q.double() @ k.double().transpose(-2, -1)
    return torch.softmax(scores, -1) @ v.double()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_linear(dtype, bias):
    layer = enliven(nn.Linear(24, 40, bias=bias)).to(dtype)
    x, plus = randn(2, 17, 24, dtype=dtype), randn(2, 17, 40, seed=1, dtype=dtype)
    expected = layer.double()(x.double())
    layer.to(dtype)
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.01}
    plain, after = packed.Linear(layer, dtype=dtype), packed.Linear(layer, dtype=dtype, gelu=True)
    assert plain(x).dtype == dtype
    assert torch.allclose(plain(x).double(), expected, **near)
    assert torch.allclose(plain(x, plus=plus).double(), expected + plus.double(), **near)
    gelu = 0.5 * expected * (1 + torch.erf(expected / math.sqrt(2)))
    assert torch.allclose(after(x).double(), gelu, **near)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_attention(rows, monkeypatch):
    """In one piece and in several, of queries that stand as in a joint projection."""
    q, k, v = randn(2, 50, 3, 4, 16).permute(2, 0, 3, 1, 4)
    monkeypatch.setattr(packed, "SCORES", rows * 50 * q.element_size())
    assert torch.allclose(packed.attention(q, k, v).double(), softmax_attention(q, k, v), atol=1e-5)


def test_attention_by_hand():
    """Scores 0 and 1 weigh 1 and 2: (1 * 3 + 2 * 6) / 3 = 5."""
    q, k, v = (torch.tensor(x).view(1, 1, -1, 1) for x in ([1.0, 1.0], [0.0, 1.0], [3.0, 6.0]))
    assert packed.attention(q, k, v).flatten().tolist() == [5.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("score", [-2000.0, -125.0, 125.0, 2000.0])
def test_attention_of_scores_beyond_the_powers(score, dtype):
    """A shift of all scores changes nothing, also where 2^score is 0 or infinite."""
    q, k, v = (randn(1, 2, 30, 8, seed=s).clamp(-1, 1) for s in range(3))
    q[..., 0], k[..., 0] = score, 1.0  # adds the same score to all
    found = packed.attention(*(t.to(dtype) for t in (q, k, v)))
    shifted = softmax_attention(q[..., 1:], k[..., 1:], v)
    assert found.isfinite().all()
    # bfloat16 rounds scores near 2000 to multiples of 8, and only PyTorch's kernel keeps them in
    # float32
    assert torch.allclose(found.double(), shifted, atol=2e-3 if dtype == torch.float32 else 0.05)


def test_packable():
    plain = {"embed_dim": 48, "num_heads": 3, "depth": 1, "num_classes": 0}

    def answer(name="vit_small_patch14_dinov2.lvd142m", **options):
        return packed.packable(timm.create_model(name, **plain | options).blocks[0])

    assert answer(init_values=0)
    assert not answer()  # LayerScale that nobody folded
    assert not answer(init_values=0, qk_norm=True)
    assert not answer("vit_giant_patch14_dinov2.lvd142m", init_values=0)  # SwiGLU
    assert not answer(init_values=0, act_layer=nn.ReLU)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_where_blocks_are_packed(dtype):
    """In the copy for inference alone; not where they are to be compiled."""
    model = enliven(build("vitt", pretrained=False)).eval()

    def count(network):
        return sum(isinstance(m, packed.Block) for m in network.modules())

    assert count(optimise(model, dtype=dtype)) == 12
    assert count(model) == 0
    assert count(optimise(model, dtype=dtype, compile=True)) == 0
    assert count(optimise(build("lite0", pretrained=False), dtype=dtype)) == 0


def test_where_packing_is_not_available(monkeypatch):
    assert not packed.available(torch.device("cuda"), torch.float32)
    assert not packed.available(CPU, torch.float16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert not packed.available(CPU, torch.bfloat16)
    monkeypatch.setattr(packed.platform, "machine", lambda: "aarch64")
    assert not packed.available(CPU, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS)
@torch.inference_mode()
def test_the_plain_path_gives_the_same(dtype, monkeypatch):
    model = enliven(build("vitt", pretrained=False, layers="v2")).eval()
    images = torch.rand(1, 3, 70, 98, generator=torch.Generator().manual_seed(0))
    found = optimise(model, dtype=dtype)(images)
    monkeypatch.setattr(packed, "available", lambda device, dtype: False)
    plain = optimise(model, dtype=dtype)
    assert not any(isinstance(m, packed.Block) for m in plain.modules())
    near = (found - plain(images)).abs().max() / found.std()
    assert near < (1e-4 if dtype == torch.float32 else 0.2)


@pytest.mark.parametrize(
    ("has", "slow"),
    [
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_f": True, "cpu_name": "Intel(R) Xeon(R)"}, False),
        ({"avx512_f": False, "cpu_name": "AMD Ryzen"}, False),
        ({}, False),
    ],
)
def test_where_mkl_leaves_avx512_unused(monkeypatch, has, slow):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert packed.mkl_is_slow() == slow


@pytest.mark.skipif(not packed.available(CPU, torch.float32), reason="no packed layers here")
@torch.inference_mode()
def test_both_ways_of_attention_in_float32(monkeypatch):
    """The block takes the one that `mkl_is_slow` says, and the map is the same."""
    model = enliven(build("vitt", pretrained=False, layers="v2")).eval()
    images = torch.rand(1, 3, 70, 98, generator=torch.Generator().manual_seed(0))
    found = {}
    for slow in (True, False):
        monkeypatch.setattr(packed, "mkl_is_slow", lambda slow=slow: slow)
        network = optimise(model)
        assert all(m.split == slow for m in network.modules() if isinstance(m, packed.Block))
        found[slow] = network(images)
    assert (found[True] - found[False]).abs().max() / found[False].std() < 1e-4
