"""Whose weights these are shows from the file; what does not fit is refused with the list of what
is missing."""

import argparse
import collections
import datetime
import io
import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dalib.errors import CheckpointError, ConfigError
from dalib.models import build, load, save
from dalib.models.export import export_official, export_transformers
from dalib.models.lively import enliven
from dalib.training.checkpoint import keep


@pytest.fixture(scope="module")
def network():
    """A small network that reads spread blocks, with weights that nothing reads beside it."""
    model = enliven(build("vitt", pretrained=False, layers="v2")).eval()
    unit = model.decoder.fuse[3].unit.state_dict()
    generator = torch.Generator().manual_seed(5)
    model.unused = {
        f"decoder.fuse.3.skip.{k}": torch.randn(v.shape, generator=generator)
        for k, v in unit.items()
    }
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
    """Official -> dalib -> our file -> transformers -> dalib -> official: every tensor bit for bit,
    the unused ones too."""
    model = load(released)
    assert model.architecture == {
        "encoder": "vitt",
        "layers": "v2",
        "position": "official",
        "max_depth": None,
    }
    save(model, tmp_path / "ours.safetensors")
    with pytest.warns(UserWarning, match="resamples position embeddings by target size"):
        export_transformers(load(tmp_path / "ours.safetensors"), tmp_path / "folder")
    again = load(tmp_path / "folder")
    assert again.architecture == model.architecture | {"position": "transformers"}
    export_official(again, tmp_path / "again.pth")
    assert same(
        torch.load(tmp_path / "again.pth", weights_only=True),
        torch.load(released, weights_only=True),
    )
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
    with pytest.raises(
        CheckpointError, match=r"student\.pth: the keys do not say which blocks.*layers='v1'"
    ):
        load(path)
    assert load(path, layers="v1").encoder.blocks == [8, 9, 10, 11]
    assert load(path, layers="v2", max_depth=12.0).kind == "depth_m"


# relative or metric: the keys are the same, and a map of the one read as the other has near and far
# exchanged


@pytest.mark.parametrize(
    ("extra", "given", "expected"),
    [
        ({}, {}, "relative=True .*or max_depth in metres"),
        ({}, {"relative": True}, None),
        ({}, {"max_depth": 30.0}, 30.0),
        ({"max_depth": 20.0}, {}, 20.0),
        ({"args": argparse.Namespace(max_depth=80, lr=1e-4)}, {}, 80.0),
        ({"hyper_parameters": {"model": {"max_depth": np.float64(12)}}}, {}, 12.0),
        ({"max_depth": 20.0}, {"relative": True}, None),
        ({"max_depth": 20.0, "args": {"max_depth": 80}}, {}, "say 20 m and 80 m"),
        ({"max_depth": 0}, {}, "its max_depth is 0, which is no depth"),
        ({"max_depth": "far"}, {}, "its max_depth is 'far'"),
        ({"max_depth": float("nan")}, {}, "its max_depth is nan"),
    ],
)
def test_a_v2_network_of_unknown_name_says_what_it_predicts_or_is_refused(
    extra, given, expected, tensors, tmp_path
):
    torch.save({"model": tensors, "epoch": 3} | extra, tmp_path / "latest.pth")
    if isinstance(expected, str):
        with pytest.raises(CheckpointError, match=rf"latest\.pth: .*{expected}"):
            load(tmp_path / "latest.pth", layers="v2", **given)
        return
    model = load(tmp_path / "latest.pth", layers="v2", **given)
    assert (model.max_depth, model.kind) == (
        expected,
        "disparity" if expected is None else "depth_m",
    )


@pytest.mark.parametrize("reach", [0.0, -1.0, float("nan"), float("inf")])
def test_a_max_depth_that_is_none(reach, released):
    with pytest.raises(ConfigError, match=r"max_depth: .* is no depth in metres"):
        load(released, max_depth=reach)


def test_a_released_name_that_contradicts_the_file(tensors, tmp_path):
    torch.save({"model": tensors, "max_depth": 20.0}, tmp_path / "depth_anything_v2_vits.pth")
    with pytest.raises(CheckpointError, match="relative=True"):
        load(tmp_path / "depth_anything_v2_vits.pth")


# what training scripts keep


def prefixed(prefix, tensors):
    return {prefix + k: v for k, v in tensors.items()}


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("loading weights ran code",)


class Metric:
    """An object of a class of somebody's own among the entries."""


WRAPPED = {
    "model_state_dict": lambda t: {
        "model_state_dict": t,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2, 2)}}},
    },
    "lightning": lambda t: {
        "state_dict": prefixed("net.", t) | {"loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 1e-4},
    },
    "compiled": lambda t: {"model": prefixed("_orig_mod.", t)},
    "averaged": lambda t: {"n_averaged": torch.tensor(4), **prefixed("module.", t)},
    "ema alone": lambda t: {"ema": prefixed("module.", t), "model": None},
    "two levels": lambda t: {"checkpoint": {"weights": {"ema_model": t}}},
    "numpy numbers": lambda t: {
        "model": t,
        "best": np.float64(0.1),
        "step": np.int64(4),
        "loss": np.float32(1),
    },
    "options": lambda t: {"model": t, "args": argparse.Namespace(lr=1e-4, out=Path("runs"))},
    "numpy arrays": lambda t: {k: v.numpy() if k.endswith("bias") else v for k, v in t.items()},
    "another class": lambda t: {"model": t, "metric": Metric(), "when": datetime.date(2024, 1, 1)},
    "counts": lambda t: {"model": t, "seen": collections.defaultdict(list, a=[1])},
    "pair": lambda t: (t, 7),
    "named moments": lambda t: {
        "model": t,
        "optimizer": {"state": {k: {"exp_avg": v} for k, v in t.items()}},
    },
    "half precision": lambda t: {k: v.half() for k, v in t.items()},
    "bfloat16": lambda t: {k: v.bfloat16() for k, v in t.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_training_files_are_read(wrapping, tensors, tmp_path):
    torch.save(WRAPPED[wrapping](tensors), tmp_path / "last.ckpt")
    model = load(tmp_path / "last.ckpt", layers="v1")
    kept = {"half precision": torch.float16, "bfloat16": torch.bfloat16}.get(
        wrapping, torch.float32
    )
    for ours, theirs in (
        ("encoder.net.cls_token", "pretrained.cls_token"),
        ("decoder.conv.bias", "depth_head.scratch.output_conv1.bias"),
    ):
        assert torch.equal(model.state_dict()[ours], tensors[theirs].to(kept).float())


def test_a_line_says_which_entry_was_taken(tensors, tmp_path, caplog):
    torch.save({"epoch": 3, **WRAPPED["lightning"](tensors)}, tmp_path / "last.ckpt")
    with caplog.at_level(logging.INFO):
        load(tmp_path / "last.ckpt", layers="v1")
    assert "the weights are those of its entry state_dict.net" in caplog.text
    assert "left out: state_dict.loss.weight" in caplog.text


@pytest.mark.parametrize("form", ["nested", "flat"])
def test_of_several_networks_one_is_named(form, tensors, tmp_path):
    both = {"teacher": tensors, "student": {k: v * 2 for k, v in tensors.items()}}
    if form == "flat":
        both = {
            "state_dict": prefixed("teacher.", both["teacher"])
            | prefixed("student.", both["student"])
        }
    torch.save(both, path := tmp_path / "both.pth")
    with pytest.raises(
        CheckpointError,
        match=r"both\.pth: holds several networks: .*teacher, .*student; .*--entry .*student",
    ):
        load(path, layers="v1")
    for entry, factor in (("teacher", 1), ("student", 2)):
        got = load(path, layers="v1", entry=entry).encoder.net.cls_token
        assert torch.equal(got, factor * tensors["pretrained.cls_token"])
    with pytest.raises(
        CheckpointError, match=r"entry 'ema' is none of those that it has: .*teacher"
    ):
        load(path, layers="v1", entry="ema")


def test_an_entry_of_a_file_without_entries(released, network, tmp_path):
    with pytest.raises(
        CheckpointError, match="entry 'student' is none of those that it has: the file itself"
    ):
        load(released, entry="student")
    save(network, tmp_path / "ours.safetensors")
    with pytest.raises(ConfigError, match=r"entry: 'student' was asked for, but .*ours"):
        load(tmp_path / "ours.safetensors", entry="student")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (lambda n: n, "a whole object of class dalib.models.depth_anything.DepthAnything"),
        (
            lambda n: {"model": torch.nn.Linear(2, 2), "epoch": 1},
            "model \\(a whole object of class torch.nn.modules.linear.Linear",
        ),
        (
            lambda n: {"epoch": 3, "args": {"lr": 1}},
            "no tensors of a network, but epoch \\(int\\), args",
        ),
        (lambda n: torch.ones(2), "a single tensor"),
        (lambda n: [], "something else than a state dict"),
        (lambda n: {"a.weight": torch.ones(2)}, "unknown network"),
        (lambda n: {"a": Harmful()}, "(a whole object of class|running code out of it).*[Ff]ail"),
    ],
)
def test_what_holds_no_weights_is_described_and_no_code_is_advised(held, said, network, tmp_path):
    torch.save(held(network), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth: .*{said}") as caught:
        load(tmp_path / "odd.pth", layers="v1")
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_old_pickle_is_not_run_either(tensors, tmp_path):
    torch.save(
        {"model": tensors, "m": Metric()},
        tmp_path / "old.pth",
        _use_new_zipfile_serialization=False,
    )
    with pytest.raises(
        CheckpointError,
        match=r"old\.pth: could only be read by running code out of it \(.*Metric\)",
    ) as caught:
        load(tmp_path / "old.pth", layers="v1")
    assert "weights_only" not in str(caught.value)


def test_the_state_of_a_run(tmp_path):
    """A run's checkpoint has our names and no metadata: the architecture stands in the run's
    config.json."""
    model = build("lite0", seed=4)
    keep(tmp_path, model, torch.optim.AdamW(model.parameters()), step=5, stamp="x")
    (tmp_path / "config.json").write_text(json.dumps({"encoder": "lite0", "layers": "v1"}))
    again = load(tmp_path / "checkpoint" / "step-000000005.pt")
    assert same(again.state_dict(), model.state_dict())
    assert again.kind == "disparity"


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_the_state_of_a_run_without_its_folder(name, tmp_path):
    """Which of the two CNNs it is can be seen in the names."""
    model = build(name, seed=4, pretrained=False)
    keep(tmp_path, model, torch.optim.AdamW(model.parameters()), step=5, stamp="x")
    again = load(tmp_path / "checkpoint" / "step-000000005.pt")
    assert again.architecture["encoder"] == name
    assert same(again.state_dict(), model.state_dict())


# files that are no weights


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"x")
    return stream.getvalue()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 99\n",
            "a Git LFS pointer",
        ),
        (b"\n<!DOCTYPE html><html>sign in</html>", "a web page"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"404: Not Found\n", "a text and no weights"),
        (b"\x1f\x8b\x08" + bytes(30), "an archive of another kind"),
        (zipped("weights/model.pth"), "an archive of another kind"),
        (zipped("a.npy"), "NumPy arrays"),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), "an HDF5 file"),
        (b"\x10\0\0\0\0\0\0\0{", "cut off"),
        (bytes(range(64)), "neither safetensors nor what torch.save writes"),
        (b"\x80\x02garbage", "damaged"),
    ],
)
def test_a_file_that_is_no_weights_is_named_for_what_it_is(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: .*{said}"):
        load(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_pth(share, released, tmp_path):
    data = released.read_bytes()
    (tmp_path / "half.pth").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"half\.pth: .*cut off or damaged"):
        load(tmp_path / "half.pth", layers="v2")


def test_quantised_weights_are_refused(tensors, tmp_path):
    tensors["pretrained.blocks.0.mlp.fc1.weight"] = tensors[
        "pretrained.blocks.0.mlp.fc1.weight"
    ].to(torch.int8)
    torch.save(tensors, tmp_path / "depth_anything_v2_vits.pth")
    with pytest.raises(CheckpointError, match=r"quantised.*fc1\.weight torch\.int8"):
        load(tmp_path / "depth_anything_v2_vits.pth")


# folders


@pytest.fixture(scope="module")
def folder(released, tmp_path_factory):
    path = tmp_path_factory.mktemp("folders") / "whole"
    export_transformers(load(released, position="transformers"), path)
    return path


def changed(folder, tmp_path, content):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return copy


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", "true", '"depth_anything"', "[" * 100_000]
)
def test_a_config_of_another_shape(content, folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(changed(folder, tmp_path, content))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("backbone_config", v) for v in (None, [], "dinov2", 3, True, {})),
        *(("backbone_config.num_hidden_layers", v) for v in ("12", 12.5, None, True, [12])),
        *(
            ("backbone_config.out_indices", v)
            for v in (12, "9", ["9", "10", "11", "12"], [True], {}, [1.0])
        ),
        ("backbone_config.num_attention_heads", "3"),
        ("depth_estimation_type", "both"),
        ("depth_estimation_type", ["metric"]),
        *(("max_depth", v) for v in (None, 0, -20, float("nan"), float("inf"), "20", True, [20])),
        ("model_type", 7),
    ],
)
def test_a_wrong_field_of_a_config_is_named(field, value, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {
        "depth_estimation_type": "metric",
        "max_depth": 20,
    }
    *way, last = field.split(".")
    (config[way[0]] if way else config)[last] = value
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{field}"):
        load(changed(folder, tmp_path, config))


def test_names_of_stages(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"] |= {
        "out_indices": None,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
    }
    assert load(changed(folder, tmp_path, config)).architecture["layers"] == "v2"
    config["backbone_config"]["out_features"] = ["last", "first"]
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"config\.json: backbone_config\.out_features is \['last', 'first'\]"
    ):
        load(tmp_path / "copy")


def test_a_second_file_beside_the_weights_changes_nothing(folder, tmp_path):
    shutil.copytree(folder, copy := tmp_path / "copy")
    own = load_file(copy / "model.safetensors")
    save_file({k: v + 1 for k, v in own.items()}, copy / "zz_ema.safetensors")
    (copy / "adapter.safetensors").write_bytes(b"no weights")
    assert same(load(copy).state_dict(), load(folder).state_dict())
    # asked for by its name, it is this one and not the folder's
    shifted = load(copy / "zz_ema.safetensors")
    assert torch.equal(shifted.encoder.net.cls_token, load(folder).encoder.net.cls_token + 1)


def test_shards_by_their_index_and_pickled_weights(folder, tmp_path):
    shutil.copytree(folder, copy := tmp_path / "copy")
    own = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"copy: holds neither model\.safetensors nor"):
        load(copy)
    torch.save(own, copy / "pytorch_model.bin")
    assert same(load(copy).state_dict(), load(folder).state_dict())
    names = sorted(own)
    shards = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for name, keys in shards.items():
        save_file({k: own[k] for k in keys}, copy / name)
    index = copy / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {k: name for name, keys in shards.items() for k in keys}})
    )
    assert same(load(copy).state_dict(), load(folder).state_dict())
    for bad in (
        [],
        {"weight_map": []},
        {"weight_map": {"a": "../a.safetensors"}},
        {"weight_map": {"a": "gone.safetensors"}},
    ):
        index.write_text(json.dumps(bad))
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load(copy)


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
    with pytest.raises(
        CheckpointError, match=r"owner/name: .*could not be fetched.*ConnectionError"
    ):
        load("owner/name")


def test_a_hub_id_is_a_folder_that_is_fetched(released, tmp_path, monkeypatch):
    import huggingface_hub

    export_transformers(load(released, position="transformers"), tmp_path / "snapshot")
    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, **_: asked.append(name) or tmp_path / "snapshot",
    )
    assert same(load("someone/depth").state_dict(), load(released).state_dict())
    assert asked == ["someone/depth"]


@pytest.mark.parametrize("naming", ["official", "timm"])
def test_plain_dinov2(naming, tensors, tmp_path):
    """The encoder alone: its weights are read, the decoder is new, and a warning says so."""
    encoder = {
        k.removeprefix("pretrained."): v for k, v in tensors.items() if k.startswith("pretrained.")
    }
    if naming == "timm":
        del encoder["mask_token"]
        save_file(encoder, path := tmp_path / "dinov2.safetensors")
    else:
        torch.save(encoder, path := tmp_path / "dinov2.pth")
    with pytest.warns(UserWarning, match="the decoder is new"):
        model = load(path)
    assert torch.equal(
        model.encoder.net.blocks[3].attn.qkv.weight, tensors["pretrained.blocks.3.attn.qkv.weight"]
    )
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
    parts = [
        theirs[f"backbone.encoder.layer.7.attention.attention.{p}.weight"]
        for p in ("query", "key", "value")
    ]
    assert torch.equal(torch.cat(parts), tensors["pretrained.blocks.7.attn.qkv.weight"])
