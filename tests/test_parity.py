"""The same weights and the same input give the same output as `transformers` (run beside ours) and as the official code (a
float64 reference in `reference.py`; `benchmarks/parity.py` runs the official code itself where there is a checkout)."""

import pytest
import torch
import torch.nn.functional as F
from reference import depth_anything
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

from dalib.models import build, load
from dalib.models.encoder import PRESETS
from dalib.models.export import export_official
from dalib.models.lively import enliven
from dalib.models.position import resample

BLOCKS = {"v1": (8, 9, 10, 11), "v2": (2, 5, 8, 11)}  # of twelve
SIZES = ((518, 518), (518, 686), (350, 476), (1036, 518))


def distance(found, reference):
    """Largest difference as a share of the range of a reference that varies."""
    span = reference.max() - reference.min()
    assert reference.std() > 0.01 * span > 0
    assert (reference > 0).float().mean() > 0.5
    return float((found - reference).abs().max() / span)


def images(height, width, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height + width))


def peer(encoder, layers, **changes):
    """transformers' network by its own configuration, with lively weights."""
    width, heads = {"vitt": (192, 3), "vits": (384, 6), "vitb": (768, 12)}[encoder]
    config = DepthAnythingConfig(
        backbone_config={
            "model_type": "dinov2",
            "image_size": 518,
            "hidden_size": width,
            "num_attention_heads": heads,
            "out_indices": [block + 1 for block in BLOCKS[layers]],
            "reshape_hidden_states": False,
        },
        reassemble_hidden_size=width,
        neck_hidden_sizes=list(PRESETS[encoder].out_channels),
        fusion_hidden_size=PRESETS[encoder].features,
        **changes,
    )
    return enliven(DepthAnythingForDepthEstimation(config)).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "layers", "sizes"),
    [("vits", "v1", SIZES), ("vits", "v2", SIZES), ("vitb", "v1", SIZES[2:3]), ("vitb", "v2", SIZES[:1])],
)
def test_transformers(encoder, layers, sizes, tmp_path):
    """transformers writes a folder, we read it, and the outputs agree at every size."""
    reference = peer(encoder, layers)
    reference.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.architecture == {
        "encoder": encoder,
        "layers": layers,
        "position": "transformers",
        "max_depth": None,
    }
    with torch.inference_mode():
        for size in sizes:
            x = images(*size)
            assert distance(model(x)[0], reference(x).predicted_depth) < 1e-4


def test_transformers_metric(tmp_path):
    reference = peer("vitt", "v2", depth_estimation_type="metric", max_depth=80)
    reference.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.kind == "depth_m"
    with torch.inference_mode():
        x = images(70, 98, count=2)
        expected = reference(x).predicted_depth
        assert 1 < expected.max() < 80
        assert distance(model(x)[0], expected) < 1e-4


@pytest.mark.parametrize("position", ["official", "transformers"])
@pytest.mark.parametrize(("layers", "max_depth"), [("v1", None), ("v2", None), ("v2", 20.0)])
def test_official(position, layers, max_depth, tmp_path):
    """Our network through a file under the released names, against the reference: one size shrinks the grid of position
    embeddings, one stretches it, one leaves a side as it is.
    """
    model = build("vitt", pretrained=False, layers=layers, position=position, max_depth=max_depth).eval()
    enliven(model)
    export_official(model, tmp_path / "weights.pth")
    tensors = torch.load(tmp_path / "weights.pth", weights_only=True)
    for size in ((70, 98), (28, 546), (518, 28)):
        x = images(*size)
        expected = depth_anything(tensors, x, blocks=BLOCKS[layers], heads=3, position=position, max_depth=max_depth)
        with torch.inference_mode():
            assert distance(model(x)[0], expected) < 1e-4


def test_the_two_positions_differ():
    """By more than the tolerance, except at 518 x 518, where both leave the embeddings as they are."""
    official = enliven(build("vitt", pretrained=False)).eval()
    other = enliven(build("vitt", pretrained=False, position="transformers")).eval()
    with torch.inference_mode():
        x = images(70, 98)
        assert distance(other(x)[0], official(x)[0]) > 1e-2
        x = images(518, 518)
        assert torch.equal(other(x)[0], official(x)[0])


# position embeddings


def test_resample_by_hand():
    """Four cells to eight, a = -0.75: the third sample stands at 0.75, where the kernel weighs the taps at -1, 0, 1, 2 with
    w(1.75), w(0.75), w(0.25), w(1.25) = -0.03515625, 0.26171875, 0.87890625, -0.10546875. The border is repeated.
    """
    cells = torch.eye(4)[None]  # channel c is 1 in cell c
    third = resample(cells, (1, 4), (1, 8), position="transformers")[0, 2]
    assert third.tolist() == [0.26171875 - 0.03515625, 0.87890625, -0.10546875, 0]


@pytest.mark.parametrize("size", [(37, 49), (25, 34), (74, 37), (1, 2), (53, 29)])
def test_resample_is_torchs_interpolation(size):
    cells = torch.randn(1, 37 * 37, 4, generator=torch.Generator().manual_seed(0))
    grid = cells.unflatten(1, (37, 37)).permute(0, 3, 1, 2).double()
    factors = tuple((n + 0.1) / 37 for n in size)
    expected = {
        "official": F.interpolate(grid, scale_factor=factors, mode="bicubic"),
        "transformers": F.interpolate(grid, size=size, mode="bicubic"),
    }
    for position, value in expected.items():
        found = resample(cells, (37, 37), size, position=position)
        assert found.shape == (1, size[0] * size[1], 4)
        assert torch.allclose(found.double(), value.flatten(2).transpose(1, 2), atol=1e-4)


@pytest.mark.parametrize("position", ["official", "transformers"])
def test_resample_at_the_grids_own_size(position):
    cells = torch.randn(1, 37 * 37, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(cells, (37, 37), (37, 37), position=position), cells)
    half = resample(cells.bfloat16(), (37, 37), (5, 6), position=position)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, resample(cells.bfloat16().float(), (37, 37), (5, 6), position=position).bfloat16())
