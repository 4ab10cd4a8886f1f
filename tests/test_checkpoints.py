"""Whose weights these are shows from the file; what does not fit is refused with the list of what is missing."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dalib.errors import CheckpointError, ConfigError
from dalib.models import build, load, save
from dalib.models.export import export_official, export_transformers
from dalib.models.lively import enliven


@pytest.fixture(scope="module")
def network():
    """A small network that reads spread blocks, with weights that nothing reads beside it."""
    model = enliven(build("vitt", pretrained=False, layers="v2")).eval()
    unit = model.decoder.fuse[3].unit.state_dict()
    generator = torch.Generator().manual_seed(5)
    model.unused = {f"decoder.fuse.3.skip.{k}": torch.randn(v.shape, generator=generator) for k, v in unit.items()}
    model.unused["encoder.net.mask_token"] = torch.randn(1, 192, generator=generator)
    return model


@pytest.fixture(scope="module")
def released(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("released") / "depth_anything_v2_vits.pth"
    export_official(network, path)
    return path


@pytest.fixture
def tensors(released):
    return torch.load(released, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_round_trip_loses_nothing(network, released, tmp_path):
    """Official -> dalib -> our file -> transformers -> dalib -> official: every tensor bit for bit, the unused ones too."""
    model = load(released)
    assert model.architecture == {"encoder": "vitt", "layers": "v2", "position": "official", "max_depth": None}
    save(model, tmp_path / "ours.safetensors")
    with pytest.warns(UserWarning, match="resamples position embeddings by target size"):
        export_transformers(load(tmp_path / "ours.safetensors"), tmp_path / "folder")
    again = load(tmp_path / "folder")
    assert again.architecture == model.architecture | {"position": "transformers"}
    export_official(again, tmp_path / "again.pth")
    assert same(torch.load(tmp_path / "again.pth", weights_only=True), torch.load(released, weights_only=True))
    assert same(again.unused, network.unused)
    assert same(again.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("name", "layers", "max_depth"),
    [
        ("depth_anything_vits14", "v1", None),
        ("depth_anything_v2_vits", "v2", None),
        ("depth_anything_v2_metric_hypersim_vits", "v2", 20.0),
        ("depth_anything_v2_metric_vkitti_vits", "v2", 80.0),
    ],
)
def test_a_released_name_says_what_the_keys_do_not(name, layers, max_depth, tensors, tmp_path):
    torch.save(tensors, tmp_path / f"{name}.pth")
    model = load(tmp_path / f"{name}.pth")
    assert (model.architecture["layers"], model.architecture["max_depth"]) == (layers, max_depth)
    assert model.kind == ("disparity" if max_depth is None else "depth_m")
    assert not model.training


def test_another_name_needs_the_layers(tensors, tmp_path):
    path = tmp_path / "student.pth"
    torch.save(tensors, path)
    with pytest.raises(CheckpointError, match=r"student\.pth: the keys do not say which blocks.*layers='v1'"):
        load(path)
    assert load(path, layers="v1").encoder.blocks == [8, 9, 10, 11]
    assert load(path, layers="v2", max_depth=12.0).kind == "depth_m"


def test_the_position_is_an_option(released, tmp_path):
    assert load(released, position="transformers").architecture["position"] == "transformers"
    save(load(released), tmp_path / "ours.safetensors")
    other = load(tmp_path / "ours.safetensors", position="transformers")
    assert other.architecture["position"] == "transformers"
    assert same(other.state_dict(), load(released).state_dict())


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_what_does_not_fit_is_listed(damage, tensors, tmp_path):
    key = "depth_head.scratch.output_conv1.weight"
    if damage == "missing":
        del tensors[key]
    elif damage == "unexpected":
        tensors["depth_head.extra.weight"] = torch.ones(1)
    else:
        tensors[key] = tensors[key][:3]
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save(tensors, path)
    listed = "extra" if damage == "unexpected" else r"decoder\.conv\.weight"
    with pytest.raises(CheckpointError, match=rf"(?s)depth_anything_v2_vits\.pth.*{listed}"):
        load(path)


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("loading weights ran code",)


def test_unknown_and_unsafe_files(tmp_path):
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown network"):
        load(tmp_path / "a.pth")
    torch.save({"a": Harmful()}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match=r"code\.pth"):
        load(tmp_path / "code.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match=r"torn\.safetensors"):
        load(tmp_path / "torn.safetensors")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load(tmp_path / "gone.pth")


def test_a_hub_id_without_network(monkeypatch):
    import huggingface_hub

    def offline(name, **_):
        raise ConnectionError(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(CheckpointError, match=r"owner/name: .*could not be fetched.*ConnectionError"):
        load("owner/name")


def test_a_hub_id_is_a_folder_that_is_fetched(released, tmp_path, monkeypatch):
    import huggingface_hub

    export_transformers(load(released, position="transformers"), tmp_path / "snapshot")
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or tmp_path / "snapshot"
    )
    assert same(load("someone/depth").state_dict(), load(released).state_dict())
    assert asked == ["someone/depth"]


@pytest.mark.parametrize("naming", ["official", "timm"])
def test_plain_dinov2(naming, tensors, tmp_path):
    """The encoder alone: its weights are read, the decoder is new, and a warning says so."""
    encoder = {k.removeprefix("pretrained."): v for k, v in tensors.items() if k.startswith("pretrained.")}
    if naming == "timm":
        del encoder["mask_token"]
        save_file(encoder, path := tmp_path / "dinov2.safetensors")
    else:
        torch.save(encoder, path := tmp_path / "dinov2.pth")
    with pytest.warns(UserWarning, match="the decoder is new"):
        model = load(path)
    assert torch.equal(model.encoder.net.blocks[3].attn.qkv.weight, tensors["pretrained.blocks.3.attn.qkv.weight"])
    assert model.encoder.blocks == [8, 9, 10, 11]


def test_folders_are_checked(released, tmp_path):
    folder = tmp_path / "folder"
    export_transformers(load(released, position="transformers"), folder)
    with pytest.raises(ConfigError, match="layers: 'v1' was asked for"):
        load(folder, layers="v1")
    config = json.loads((folder / "config.json").read_text())
    for key, value, message in (
        ("num_attention_heads", 6, "num_attention_heads is 6 where Depth Anything has 3"),
        ("out_indices", [1, 2, 3, 4], "reads the blocks"),
    ):
        changed = config | {"backbone_config": config["backbone_config"] | {key: value}}
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=message):
            load(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "dpt"}))
    with pytest.raises(CheckpointError, match="model_type is 'dpt'"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no readable config\.json"):
        load(folder)


def test_query_key_and_value_are_one_matrix_here(released, tmp_path, tensors):
    export_transformers(load(released, position="transformers"), tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    parts = [theirs[f"backbone.encoder.layer.7.attention.attention.{p}.weight"] for p in ("query", "key", "value")]
    assert torch.equal(torch.cat(parts), tensors["pretrained.blocks.7.attn.qkv.weight"])
