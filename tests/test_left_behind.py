"""A command that refuses, and one that only plans, leaves the disk as it was."""

import shutil

import numpy as np
import pytest
from helpers.commands import main
from helpers.training import pairs
from PIL import Image

from dalib.errors import DiskError
from dalib.models import build, save
from dalib.writing import check_place, nothing_left, whole

SIZE = ("--height", "64", "--width", "96")
METRES = ("--metric", "--max-depth", "10", "--steps", "2", *SIZE)
LEARN = ("--teacher", "net.safetensors", "--steps", "2", *SIZE)
NOT_THERE = ("--set", "trackers=[wandb]")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    save(build("lite0", pretrained=False, seed=5), path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, weights):
    """A folder to work in, with photographs, images with depth, a network and settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DALIB_RUNS", str(tmp_path / "all" / "runs"))
    (tmp_path / "photos").mkdir()
    for k in range(12):
        patches = np.random.default_rng(k).integers(0, 256, (4, 6, 3), np.uint8)
        picture = Image.fromarray(patches).resize((96, 64), Image.Resampling.NEAREST)
        picture.save(tmp_path / "photos" / f"{k}.png")
    pairs(tmp_path / "rooms", more=("scale_known",), entries=("yes",))
    (tmp_path / "net.safetensors").symlink_to(weights)
    (tmp_path / "run.yaml").write_text(
        "labelled: ['depth:rooms']\nheight: 64\nwidth: 96\nsteps: 2\nencoder: lite0\n"
    )
    return tmp_path


def left_by(words, place, *, code) -> set:
    """What is there after a command that was not there before."""
    before = set(place.rglob("*"))
    assert main(list(words)) == code
    return set(place.rglob("*")) - before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("check-data", "depth:nowhere", "--out", "new/out"),
        ("label", "photos:nowhere", "new/out", "--teacher", "net.safetensors", *SIZE),
        ("train", "run.yaml", "--set", "labelled=['depth:nowhere']"),
        ("predict", "photos", "new/out", "--weights", "nowhere.pth", "--device", "cpu"),
        ("calibrate", "depth:nowhere", "new/out", "--weights", "net.safetensors"),
        ("export", "nowhere.pth", "new/out", "--to", "onnx"),
        ("finetune", "net.safetensors", "rooms", "new/out", *METRES, *NOT_THERE),
        ("adapt", "photos", "new/out", *LEARN, *NOT_THERE),
    ],
    ids=lambda words: words[0],
)
def test_a_refusal_leaves_nothing(place, words):
    assert not left_by(words, place, code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "net.safetensors", "rooms", "new/out", *METRES, "--max-depth", "0.01"),
        ("finetune", "net.safetensors", "rooms", "new/out", *METRES, "--test", "photos:nowhere"),
        ("finetune", "net.safetensors", "rooms", "new/out", *METRES, "--processes", "999"),
        ("finetune", "vitt", "rooms", "new/out", *METRES, "--encoder-weights", "nowhere.pth"),
        ("adapt", "photos", "new/out", *LEARN, "--processes", "999"),
        ("adapt", "photos", "new/out", *LEARN, "--labelled", "depth:nowhere"),
        ("label", "tars:nowhere", "new/out", "--teacher", "net.safetensors", *SIZE),
        (
            "label",
            "run.yaml",
            "--set",
            "unlabelled=['photos:nowhere']",
            "--set",
            "pseudo_labels=true",
        ),
        ("check-data", "photos:photos", "--against", "depth:nowhere", "--out", "new/out"),
        ("train", "run.yaml", *NOT_THERE),
    ],
    ids=lambda words: words[0],
)
def test_a_later_refusal_leaves_nothing_either(place, words):
    assert not left_by(words, place, code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("finetune", "net.safetensors", "rooms", "new/out", *METRES),
        ("adapt", "photos", "new/out", *LEARN),
        ("train", "run.yaml"),
    ],
    ids=lambda words: words[0],
)
def test_a_plan_leaves_nothing_and_takes_nothing_away(place, words):
    assert not left_by([*words, "--plan"], place, code=0)
    (place / "new" / "out" / "runs").mkdir(parents=True)
    (place / "all" / "runs").mkdir(parents=True)
    assert not left_by([*words, "--plan"], place, code=0)
    assert (place / "new" / "out" / "runs").is_dir()
    assert (place / "all" / "runs").is_dir()


class Trouble(Exception):  # noqa: N818  (no error: a test's own)
    pass


def test_what_was_there_stays(tmp_path):
    old, new = tmp_path / "old", tmp_path / "a" / "b" / "new"
    old.mkdir()

    def failing(name):
        with nothing_left(old, new, new.parent / "file"):
            new.mkdir(parents=True, exist_ok=True)
            (new.parent / "file").write_text("made")
            if name:
                (new / name).write_text("made by somebody else")
            raise Trouble

    with pytest.raises(Trouble):
        failing(None)
    assert list(tmp_path.rglob("*")) == [old]
    with pytest.raises(Trouble):
        failing("result")
    assert sorted(tmp_path.rglob("*")) == [new.parent.parent, new.parent, new, new / "result", old]


def test_what_is_made_without_trouble_stays_unless_it_is_a_plan(tmp_path):
    for always in (False, True):
        place = tmp_path / str(always) / "new"
        with nothing_left(place, always=always):
            place.mkdir(parents=True)
        assert place.exists() == (not always)
    check_place(tmp_path / "c" / "d" / "file.json")
    assert not (tmp_path / "c").exists()


def test_a_full_disk_is_called_so_whatever_the_writer_says(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, words in ((0, "No space left"), (10**9, "unexpected pos 64 vs 0")):
        full = usage._replace(free=free)
        monkeypatch.setattr("dalib.writing.shutil.disk_usage", lambda _, full=full: full)
        with pytest.raises(DiskError, match=words), whole(tmp_path / "x", also=(RuntimeError,)):
            raise RuntimeError("unexpected pos 64 vs 0")
