"""The network of classes: its form, its file, and that nothing takes it for one of depth."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dalib.data.scenes import CLASSES
from dalib.errors import CheckpointError, ConfigError
from dalib.evaluation import predict_images
from dalib.models.checkpoints import load
from dalib.models.depth_anything import build, restore, save
from dalib.models.export import export_official, export_onnx, export_transformers
from dalib.models.inference import optimise
from dalib.models.segmenter import build_segmenter, restore_segmenter
from dalib.predict import Predictor


@pytest.fixture(scope="module")
def network():
    return build_segmenter("vitt", classes=CLASSES, pretrained=False, seed=3).eval()


def test_it_predicts_the_likeliest_class_of_each_pixel(network):
    images = torch.randint(0, 256, (2, 3, 28, 42), dtype=torch.uint8)
    logits, features = network(network.normalise(images))
    assert logits.shape == (2, len(CLASSES), 28, 42)
    assert features.shape[-2:] == (2, 3)
    assert network.kind == "classes"
    assert network.classes == CLASSES
    found = network.predict(images)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), logits.argmax(1))


def test_the_encoder_is_that_of_the_depth_network_of_the_same_seed(network):
    depth = build("vitt", pretrained=False, seed=3)
    for name, value in depth.encoder.state_dict().items():
        assert torch.equal(value, network.encoder.state_dict()[name]), name
    # the decoder is a depth decoder up to its head
    ours, theirs = (set(n.decoder.state_dict()) for n in (network, depth))
    assert {k for k in ours ^ theirs if not k.startswith("head.")} == set()


def test_a_file_says_its_classes_and_comes_back_whole(network, tmp_path):
    save(network, tmp_path / "m.safetensors")
    again = restore_segmenter(tmp_path / "m.safetensors", expect="vitt")
    assert again.classes == CLASSES
    assert again.sources == ((tmp_path / "m.safetensors").resolve(),)
    images = torch.randint(0, 256, (1, 3, 28, 28), dtype=torch.uint8)
    assert torch.equal(again.predict(images), network.predict(images))
    with pytest.raises(CheckpointError, match="encoder 'vitt' where 'lite0' was expected"):
        restore_segmenter(tmp_path / "m.safetensors", expect="lite0")


@pytest.mark.parametrize("read", [restore, load])
def test_nothing_takes_it_for_depth(read, network, tmp_path):
    save(network, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"m\.safetensors: holds a network of semantic segm"):
        read(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "use",
    [
        lambda network, path: Predictor(model=network),
        lambda network, path: optimise(network),
        lambda network, path: predict_images(network, [], short_side=28),
        lambda network, path: export_official(network, path / "m.pth"),
        lambda network, path: export_transformers(network, path / "m"),
        lambda network, path: export_onnx(network, path / "m.onnx"),
    ],
    ids=["predict", "optimise", "evaluate", "official", "transformers", "onnx"],
)
def test_what_works_with_depth_refuses_it(use, network, tmp_path):
    with pytest.raises(ConfigError, match="this network predicts classes, no depth"):
        use(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_depth_is_no_segmenter(tmp_path):
    save(build("vitt", pretrained=False, seed=0), tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match=r"d\.safetensors: holds a network of depth"):
        restore_segmenter(tmp_path / "d.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "sky"},
        {"classes": [1, 2]},
        {"classes": ["sky"]},
        {"encoder": "none"},
        {"layers": None},
    ],
)
def test_damaged_metadata_are_refused(change, network, tmp_path):
    save(network, tmp_path / "m.safetensors")
    stored = {**network.architecture, **change}
    stored = {k: v for k, v in stored.items() if v is not None}
    tensors = load_file(tmp_path / "m.safetensors")
    save_file(tensors, tmp_path / "m.safetensors", metadata={"dalib": json.dumps(stored)})
    with pytest.raises(CheckpointError, match=r"m\.safetensors: "):
        restore_segmenter(tmp_path / "m.safetensors")
    if change != {"layers": None}:
        with pytest.raises(CheckpointError, match=r"m\.safetensors: "):
            restore(tmp_path / "m.safetensors")


@pytest.mark.parametrize("names", [[], ["sky"], ["sky", "sky"], [f"c{k}" for k in range(256)]])
def test_classes_that_a_map_cannot_tell_apart_are_refused(names):
    with pytest.raises(ConfigError, match="classes: "):
        build_segmenter("vitt", classes=names, pretrained=False)
