"""The same weights and the same input give the same output as `transformers` (run beside ours) and
as the official code (a float64 reference in `reference.py`; `benchmarks/parity.py` runs the
official code itself where there is a checkout).

Here on a narrow network; `test_parity_sizes.py` has the paper's networks and sizes.
"""

import pytest
import torch
import torch.nn.functional as F
from helpers.peers import BLOCKS, HEADS, distance, images, peer
from helpers.reference import depth_anything

from dalib.models import build, load
from dalib.models.export import export_official
from dalib.models.lively import enliven
from dalib.models.position import resample


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
    """Our network through a file under the released names, against the reference: one size shrinks
    the grid of position embeddings, one stretches it, one leaves a side as it is.
    """
    model = build(
        "vitt", pretrained=False, layers=layers, position=position, max_depth=max_depth
    ).eval()
    enliven(model)
    export_official(model, tmp_path / "weights.pth")
    tensors = torch.load(tmp_path / "weights.pth", weights_only=True)
    for size in ((70, 98), (28, 546), (518, 28)):
        x = images(*size)
        expected = depth_anything(
            tensors,
            x,
            blocks=[BLOCKS[layers]],
            heads=HEADS["vitt"],
            position=position,
            max_depth=max_depth,
        )[0]
        with torch.inference_mode():
            assert distance(model(x)[0], expected) < 1e-4


@pytest.mark.slow
def test_the_two_positions_differ():
    """By more than the tolerance, except at 518 x 518, where both leave the embeddings as they
    are."""
    official = enliven(build("vitt", pretrained=False)).eval()
    other = enliven(build("vitt", pretrained=False, position="transformers")).eval()
    with torch.inference_mode():
        x = images(70, 98)
        assert distance(other(x)[0], official(x)[0]) > 1e-2
        x = images(518, 518)
        assert torch.equal(other(x)[0], official(x)[0])


# position embeddings


def test_resample_by_hand():
    """Four cells to eight, a = -0.75: the third sample stands at 0.75, where the kernel weighs the
    taps at -1, 0, 1, 2 with w(1.75), w(0.75), w(0.25), w(1.25) = -0.03515625, 0.26171875,
    0.87890625, -0.10546875. The border is repeated.
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
    assert torch.equal(
        half, resample(cells.bfloat16().float(), (37, 37), (5, 6), position=position).bfloat16()
    )
