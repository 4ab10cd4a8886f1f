"""Fine-tuning to metres from the command line and from Python: what it looks at, leaves, refuses."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.commands import main
from helpers.training import pairs, quiet
from safetensors.torch import load_file

from dalib import RunConfig, finetune, load
from dalib.adaptation.finetune import prepare
from dalib.blocks import GivenNetwork
from dalib.errors import ConfigError, DataError, UserError
from dalib.models import build, save
from dalib.models.export import export_official
from dalib.models.segmenter import build_segmenter

SMALL = {"height": 64, "width": 96, "steps": 2}
WORDS = ("--metric", "--max-depth", "10", "--steps", "2", "--height", "64", "--width", "96")


@pytest.fixture
def rooms(tmp_path):
    """Three images with disparity of known scale."""
    return pairs(tmp_path / "rooms", more=("scale_known",), entries=("yes",))


@pytest.fixture
def relative(tmp_path):
    path = tmp_path / "relative.safetensors"
    save(build("lite0", seed=5), path, about={"licence": "CC-BY-NC-4.0"})
    return path


@pytest.mark.slow
def test_the_command_leaves_a_network_and_a_record(rooms, relative, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["finetune", str(relative), str(rooms), str(out), *WORDS, "--test", str(rooms)]
    assert main([*words, "--plan"]) == 0
    said = capsys.readouterr().out
    assert "to 10; begins with the encoder of" in said
    assert "98.8% of the pixels have one, 98.8% within 10 m (3 of 3 images looked at)" in said
    assert "in metres, without alignment" in said
    assert not (out / "model.safetensors").exists()
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [str(out / "model.safetensors"), str(out / "run.json")]
    network = load(out / "model.safetensors")
    assert (network.kind, network.max_depth) == ("depth_m", 10.0)
    assert network.about["licence"] == "CC-BY-NC-4.0"
    assert network.about["trained"]["short_side"] == 64
    record = json.loads((out / "run.json").read_text())
    config = RunConfig.from_dict(record["config"])
    assert config.hash() == record["run"] == network.about["trained"]["run"]
    assert (config.task, config.start.part, config.steps) == ("metric", "encoder", 2)
    (scores,) = record["scores"].values()
    assert scores["images"] == 3
    assert 0 < scores["abs_rel"] < math.inf
    # again: nothing is trained, the same is left
    before = load_file(out / "model.safetensors")
    assert main(words) == 0
    assert (
        "step" not in capsys.readouterr().out.partition("trained already")[2].partition("rate")[0]
    )
    after = load_file(out / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weights) for name, weights in before.items())
    assert load(out / "model.safetensors").about == network.about


@pytest.mark.slow
def test_what_it_leaves_round_trips_through_v2s_layout(rooms, tmp_path):
    """A ViT goes out as a `.pth` of V2 and comes back, metres and all."""
    done = finetune(
        "vitt",
        f"depth:{rooms}",
        tmp_path / "out",
        max_depth=10,
        report=quiet,
        height=28,
        width=42,
        steps=1,
        changes={"batch": 2, "layers": "v2"},
    )
    network = load(done.network)
    images = torch.randint(0, 256, (1, 3, 28, 42), dtype=torch.uint8)
    shown = network.predict(images)
    again_path = tmp_path / "depth_anything_v2_metric.pth"
    export_official(network, again_path)
    again = load(again_path, layers="v2", max_depth=10.0)
    assert torch.allclose(again.predict(images), shown, atol=1e-5)


def test_a_metric_start_goes_on_as_a_whole(rooms, tmp_path):
    path = tmp_path / "metric.safetensors"
    save(build("lite0", seed=5, max_depth=80.0), path)
    ready = prepare(path, rooms, tmp_path / "out", max_depth=10, **SMALL)
    assert ready.plan.config.start.part == "network"
    assert prepare(
        path, rooms, tmp_path / "out", max_depth=10, part="encoder", **SMALL
    ).plan.config.start == GivenNetwork(
        weights=str(path), part="encoder", digest=ready.plan.config.start.digest
    )


def test_an_encoder_alone_is_a_start(rooms, tmp_path):
    ready = prepare(
        "lite0", [rooms, "scenes:labelled_room"], tmp_path / "out", max_depth=10, **SMALL
    )
    config = ready.plan.config
    assert (config.start, config.pretrained, len(config.labelled)) == ("encoder", True, 2)
    assert "begins with the pre-trained lite0" in "\n".join(ready.lines())


def test_the_plan_tells_sparse_labels(rooms, tmp_path, relative):
    """A hundredth of the pixels has one, 0 standing for none; how many count is a matter of reach."""
    for k in range(3):
        values = np.load(rooms / f"{k}.npy")
        depth = np.zeros_like(values)
        depth[::10, ::10] = 1 / np.maximum(values[::10, ::10], 0.1)
        np.save(rooms / f"{k}.npy", depth)
    manifest = rooms / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",disparity,", ",depth_m,"))
    ready = prepare(relative, rooms, tmp_path / "out", max_depth=10, **SMALL)
    (found,) = ready.labels
    assert 0.005 < found.valid < 0.02
    assert found.within == found.valid
    assert "of the pixels have one, sparse," in "\n".join(ready.lines())


def test_a_network_of_classes_gives_its_encoder(rooms, tmp_path):
    path = tmp_path / "classes.safetensors"
    save(build_segmenter("lite0", classes=("sky", "road"), pretrained=False, seed=5), path)
    ready = prepare(path, rooms, tmp_path / "out", max_depth=10, **SMALL)
    assert ready.plan.config.start.part == "encoder"
    assert "begins with the encoder of" in "\n".join(ready.lines())


def test_damaged_images_that_the_run_allows_are_passed_over(relative, tmp_path):
    rooms = pairs(tmp_path / "rooms", count=6, more=("scale_known",), entries=("yes",))
    (rooms / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png"):
        prepare(relative, rooms, tmp_path / "out", max_depth=10, **SMALL)
    allowed = {"changes": {"damaged_share": 0.5}}
    (found,) = prepare(relative, rooms, tmp_path / "out", max_depth=10, **SMALL, **allowed).labels
    assert (found.looked, found.empty) == (6, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_depth": 0}, "max_depth: 0.0 is not above 0"),
        ({"max_depth": float("nan")}, "max_depth: nan is not above 0"),
        ({"max_depth": 0.01}, "none has a label within max_depth 0.01 m"),
        ({"height": 64, "width": None}, "height, width: give both"),
        ({"part": "head"}, "unknown part of the start 'head'"),
        ({"changes": {"task": "disparity"}}, "task: is for finetune itself to say"),
        ({"changes": {"pseudo_labels": True}}, "pseudo_labels: task metric learns"),
        ({"changes": {"steps": 3}}, "steps: is given twice"),
        ({"changes": {"stepz": 3}}, "unknown setting 'stepz'"),
        ({"encoder_weights": "x.pth"}, "encoder_weights: the start brings its encoder"),
        ({"test": ["photos:nowhere"]}, "nowhere"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    rooms, relative, tmp_path, options, message
):
    with pytest.raises(UserError, match=message):
        prepare(relative, rooms, tmp_path / "out", **({"max_depth": 10} | SMALL | options))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_wrong_data_are_named(relative, tmp_path):
    for data, message in (
        ("", "data: an empty name"),
        ([], "data: empty"),
        (tmp_path / "nowhere", "no folder with a manifest.csv"),
        (pairs(tmp_path / "unknown"), "the labels of unknown are not in metres"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(relative, data, tmp_path / "out", max_depth=10, **SMALL)


def test_labels_that_cannot_be_scored_in_metres_are_refused_as_a_test(rooms, relative, tmp_path):
    unknown = pairs(tmp_path / "unknown")
    with pytest.raises(ConfigError, match=r"unknown.*no known scale"):
        prepare(relative, rooms, tmp_path / "out", max_depth=10, test=[str(unknown)], **SMALL)


@pytest.mark.slow
def test_nothing_is_written_over_unasked(rooms, relative, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"mine": 1}')
    with pytest.raises(
        ConfigError, match=r"run\.json: is there already, and finetune did not write"
    ):
        prepare(relative, rooms, out, max_depth=10, **SMALL)
    (out / "run.json").unlink()
    finetune(relative, rooms, out, max_depth=10, report=quiet, **SMALL)
    with pytest.raises(ConfigError, match="of other settings"):
        prepare(relative, rooms, out, max_depth=20, **SMALL)
    prepare(relative, rooms, out, max_depth=20, overwrite=True, **SMALL)
    with pytest.raises(ConfigError, match="is where the network will be written"):
        prepare(out / "model.safetensors", rooms, out, max_depth=20, overwrite=True, **SMALL)


def test_the_command_needs_its_words(rooms, relative, tmp_path, capsys):
    for words in (["--max-depth", "10"], ["--metric"]):
        with pytest.raises(SystemExit):
            main(["finetune", str(relative), str(rooms), str(tmp_path / "out"), *words])
        assert "required" in capsys.readouterr().err
