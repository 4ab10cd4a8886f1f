"""The form for inference gives what the network gives, and leaves the network alone."""

import pytest
import torch
from helpers.networks import apart, rgb

from dalib.evaluation.align import least_squares
from dalib.models import build
from dalib.models import inference as form
from dalib.models.inference import has_bfloat16, optimise
from dalib.models.lively import enliven


def network(name="vitt", **options):
    model = (
        build(name, seed=0)
        if name == "lite0"
        else enliven(build(name, pretrained=False, **options))
    )
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("vitt", {}, [(70, 98), (126, 42)]),
        ("vitt", {"layers": "v2", "position": "transformers", "max_depth": 20.0}, [(70, 98)]),
        ("vits", {"layers": "v2"}, [(70, 98)]),
        ("lite0", {}, [(96, 128), (64, 160)]),
    ],
)
@pytest.mark.parametrize("strip", [2**21, 1])
def test_equal_outputs(name, options, sizes, strip, monkeypatch):
    """In one strip, and in strips of 16 rows, whose seams must not show."""
    monkeypatch.setattr(form, "STRIP", strip)
    model = network(name, **options)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = optimise(model)
    for size in sizes:
        images = rgb(*size)
        assert apart(fast(images), model.predict(images)) < 1e-4
        assert torch.equal(fast(images.float() / 255), fast(images))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_batches_are_images_one_by_one():
    fast, images = optimise(network()), rgb(70, 98, 3)
    assert torch.equal(fast(images), torch.cat([fast(images[i : i + 1]) for i in range(3)]))


@pytest.mark.filterwarnings("ignore:bfloat16")
def test_bfloat16_deviates_little():
    """After alignment in disparity, on average by less than 1 % of the value, as in the
    benchmark."""
    model, images = network(), rgb(70, 98)
    reference, found = model.predict(images), optimise(model, dtype=torch.bfloat16)(images)
    assert found.dtype == torch.float32
    scale, shift = least_squares(found, reference, torch.ones_like(found, dtype=torch.bool))
    aligned = scale[:, None, None] * found + shift[:, None, None]
    assert 0 < float(((aligned - reference).abs() / reference).mean()) < 0.01


def test_emulated_bfloat16_is_warned_of(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert not has_bfloat16(torch.device("cpu"))
    with pytest.warns(UserWarning, match="only emulates it"):
        optimise(network(), dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert has_bfloat16(torch.device("cpu"))
