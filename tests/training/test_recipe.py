"""The recipe as a script calls it: `train` from a configuration, `label` from a network."""

import json

import numpy as np
import pytest
import torch
from helpers.training import Smooth, quiet
from PIL import Image

from dalib import paths
from dalib.config import RunConfig
from dalib.data.mixture import fetch
from dalib.errors import ConfigError, DataError
from dalib.models import build, load
from dalib.predict.fingerprint import fingerprint
from dalib.training.folder import folder
from dalib.training.pseudo import unit_range
from dalib.training.recipe import label, train

SIZE = {"height": 64, "width": 96}


@pytest.mark.slow
def test_train_makes_teacher_and_student_and_is_not_done_twice(launched, tiny_student):
    told, tiny_student = [], tiny_student.replace(steps=2)
    weights = train(tiny_student, report=told.append)
    assert list(launched) == [tiny_student.teacher_run().hash(), tiny_student.hash()]
    assert weights == paths.runs() / tiny_student.hash() / "model.safetensors"
    assert load(weights).architecture["encoder"] == "lite0"
    assert any(line.startswith("teacher: step 2/2") for line in told)
    assert any(line == "labelling 8 images" for line in told)
    assert train(tiny_student, report=quiet) == weights
    assert len(launched) == 2
    train(tiny_student, afresh=True, report=quiet)
    assert list(launched)[2:] == [tiny_student.hash()]


@pytest.mark.parametrize(
    ("change", "processes", "message"),
    [
        ({"labelled": ("depth:nowhere",)}, 1, "nowhere"),
        ({"unlabelled": ("photos:nowhere",)}, 1, "nowhere: no such folder"),
        ({"labelled": ("skimage:photos",)}, 1, "labelled: skimage:photos has no ground truth"),
        ({}, 0, "processes: 0 is not at least 1"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is(
    change, processes, message, launched, tiny_student
):
    with pytest.raises((ConfigError, DataError), match=message):
        train(tiny_student.replace(**change), processes=processes, report=quiet)
    assert launched == []
    assert not list(paths.runs().glob("*/*"))


# labels


@pytest.fixture(scope="module")
def teacher():
    return build("lite0", pretrained=False, seed=0)


def test_labels_are_what_the_teacher_says_of_each_image(teacher, tmp_path):
    """Of other size than the labels: the image of a sample is the crop that the teacher saw."""
    photographs = Smooth(count=5, height=80, width=160, labelled=False)
    pool = label(teacher, photographs, out=tmp_path, **SIZE)
    assert len(pool) == 5
    for sample in pool:
        assert sample["image"].shape == (3, 64, 96)
        assert sample["image"].dtype == torch.uint8
        expected = unit_range(teacher.predict(sample["image"][None]))[0]
        # kept in float16
        torch.testing.assert_close(sample["disparity"], expected, rtol=1e-3, atol=1e-3)
        assert sample["valid"].all()
        assert sample["domain"] == "smooth"
    batch = fetch(pool, np.array([3, 1]), **SIZE)
    assert torch.equal(batch["image"][1], pool[1]["image"])
    assert torch.equal(batch["disparity"][0], pool[3]["disparity"])


@pytest.mark.slow
def test_another_engine_labels_alike_and_apart(teacher, tmp_path):
    """In a folder of its own, within what float16 keeps, and it says what ran."""
    pytest.importorskip("openvino")
    photographs = Smooth(count=3, labelled=False)
    lines = []
    by_torch = label(teacher, photographs, out=tmp_path / "labels", **SIZE)
    by_openvino = label(
        teacher,
        photographs,
        out=tmp_path / "labels",
        engine="openvino",
        report=lines.append,
        **SIZE,
    )
    for k in range(3):
        one, other = by_torch[k]["disparity"], by_openvino[k]["disparity"]
        torch.testing.assert_close(other, one, rtol=2e-3, atol=2e-3)
    assert len(list((tmp_path / "labels").iterdir())) == 2
    assert by_torch.fingerprint != by_openvino.fingerprint
    assert lines[0].startswith("labelling by openvino: ")
    assert any("PyTorch" in line for line in lines[1:])


def test_an_unknown_engine_is_named(teacher, tmp_path):
    with pytest.raises(ConfigError, match="engine 'tensorrt': must be one of"):
        label(teacher, Smooth(count=3), out=tmp_path, engine="tensorrt", **SIZE)


def test_whole_labels_are_read_and_not_made_again(teacher, tmp_path, monkeypatch):
    photographs = Smooth(count=3, labelled=False)
    first = label(teacher, photographs, out=tmp_path, **SIZE)

    def never(images):
        raise AssertionError("labelled again")

    monkeypatch.setattr(teacher, "predict", never)
    again = label(teacher, photographs, out=tmp_path, **SIZE)
    assert torch.equal(again[2]["disparity"], first[2]["disparity"])
    assert again.fingerprint == first.fingerprint


def test_labels_of_another_teacher_size_or_source_are_never_met(teacher, tmp_path):
    photographs = Smooth(count=3, labelled=False)
    other = build("lite0", pretrained=False, seed=1)
    first = label(teacher, photographs, out=tmp_path, **SIZE)
    others = [
        label(other, photographs, out=tmp_path, **SIZE),
        label(teacher, photographs, out=tmp_path, height=32, width=96),
        label(teacher, Smooth(count=3, seed=5, labelled=False), out=tmp_path, **SIZE),
    ]
    folders = {pool.labels.path for pool in [first, *others]}
    assert len(folders) == 4 == len(list(tmp_path.iterdir()))
    assert not torch.equal(others[0][0]["disparity"], first[0]["disparity"])
    assert len({pool.fingerprint for pool in [first, *others]}) == 4


def test_a_source_may_be_named(teacher, tmp_path):
    pool = label(teacher, "skimage:photos", out=tmp_path, height=32, width=32)
    assert len(pool) == 5
    assert {sample["domain"] for sample in pool} == {"skimage"}


def test_a_networks_hash_changes_with_one_value(teacher):
    before = fingerprint(teacher)
    other = build("lite0", pretrained=False, seed=0)
    assert fingerprint(other) == before
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(other) != before


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"max_depth": 20.0}, SIZE, "predicts depth in metres"),
        ({"encoder": "vitt"}, SIZE, "64 x 96; this network takes multiples of 14 pixels"),
        ({}, {"height": 0, "width": 96}, "0 x 96"),
    ],
)
def test_what_cannot_be_labelled_is_said(model, size, message, tmp_path):
    network = build(pretrained=False, **model)
    with pytest.raises(ConfigError, match=message):
        label(network, Smooth(count=2, labelled=False), out=tmp_path, **size)
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_whole_needs_its_data_no_more(launched, tiny, monkeypatch):
    tiny = tiny.replace(steps=2)
    weights = train(tiny, report=quiet)
    monkeypatch.setattr("dalib.training.recipe.check_sources", lambda config: 1 / 0)
    assert train(tiny, report=quiet) == weights


@pytest.mark.slow
def test_a_run_says_which_data_and_pools_it_read(tmp_path):
    """Two photographs with a `pool.json` beside them, and the same without one."""
    for name in ("pool", "own"):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("RGB", (96, 64), (90 * k, 60, 20)).save(tmp_path / name / f"{k}.png")
    (tmp_path / "pool" / "pool.json").write_text('{"fingerprint": "f00d"}')
    config = RunConfig(
        labelled_images=2,
        unlabelled=(f"photos:{tmp_path}/pool", f"photos:{tmp_path}/own"),
        pseudo_labels=True,
        labelling="online",
        height=64,
        width=96,
        steps=1,
        batch=2,
    )
    weights = train(config, report=quiet)
    (role, said), *others = json.loads((weights.parent / "train.json").read_text())["data"].items()
    assert (role, others) == ("unlabelled", [])
    assert said["images"] == 4
    assert said["pools"] == {f"{tmp_path}/pool": "f00d"}
    assert len(said["fingerprint"]) == 16
    teacher = folder(config.teacher_run()) / "train.json"
    assert "data" not in json.loads(teacher.read_text())  # drawn scenes, alike everywhere
