"""Parity at the paper's sizes: ViT-S and ViT-B, both choices of layers, against `transformers` and
the float64 reference. The two largest sizes are S's alone: positions are interpolated alike in both,
and with B they are half of the time.
"""

import itertools

import pytest
import torch
from helpers.peers import BLOCKS, HEADS, distance, images, peer
from helpers.reference import depth_anything

from dalib.models import build, load
from dalib.models.lively import enliven
from dalib.models.names import to_official

SIZES = ((518, 518), (518, 686), (350, 476), (1036, 518))
LARGE = (SIZES[1], SIZES[3])
NETWORKS = tuple(itertools.product(("vits", "vitb"), BLOCKS))


def cases(networks):
    """Networks at sizes: the same object `network` for all of its sizes, so that pytest makes it once."""
    found = []
    for network, size in itertools.product(networks, SIZES):
        words = *([network] if isinstance(network, str) else network), "x".join(map(str, size))
        if words[0] != "vitb" or size not in LARGE:
            found.append(pytest.param(network, size, id="-".join(words)))
    return found


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    """The network of `transformers`, and ours that reads the folder which it wrote."""
    encoder, layers = request.param
    folder = tmp_path_factory.mktemp("peer")
    reference = peer(encoder, layers)
    reference.save_pretrained(folder)
    model = load(folder)
    assert model.architecture == {
        "encoder": encoder,
        "layers": layers,
        "position": "transformers",
        "max_depth": None,
    }
    return reference, model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "size"),
    cases(NETWORKS),
    indirect=["pair"],
)
@torch.inference_mode()
def test_transformers(pair, size):
    reference, model = pair
    x = images(*size)
    assert distance(model(x)[0], reference(x).predicted_depth) < 1e-4


@pytest.fixture(scope="module")
def ours(request):
    """Networks of both layers with one set of weights, and these under the released names."""
    encoder = request.param
    models = {layers: build(encoder, pretrained=False, layers=layers).eval() for layers in BLOCKS}
    weights = enliven(models["v1"]).state_dict()
    models["v2"].load_state_dict(weights)
    return models, to_official(weights, models["v1"].encoder.net.embed_dim), HEADS[encoder]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "size"),
    cases(("vits", "vitb")),
    indirect=["ours"],
)
@torch.inference_mode()
def test_official(ours, size):
    """One pass of the reference through the encoder serves both choices of layers."""
    models, tensors, heads = ours
    x = images(*size)
    expected = depth_anything(
        tensors, x, blocks=tuple(BLOCKS.values()), heads=heads, position="official"
    )
    for layers, reference in zip(BLOCKS, expected, strict=True):
        assert distance(models[layers](x)[0], reference) < 1e-4
