"""What `predict`, `calibrate` and `export` refuse without a network is refused before one is
fetched, which may take an hour, and nothing is left where the results would be."""

import json
import re

import numpy as np
import pytest
from helpers.commands import main
from helpers.training import pairs
from PIL import Image

from dalib.errors import ConfigError, DataError
from dalib.models import build, save
from dalib.predict import Known
from dalib.predict.prepare import upright_size

NEVER_READ = ("--weights", "nowhere.pth", "--device", "cpu")
TWO = ("3,3,1", "9,9,2")
CLOUD = ("--format", "ply", "--fov", "60")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3).astype("u1")).save(
        path
    )
    return path


def refused(words, tmp_path, capsys) -> str:
    """What a command says that ends with 1, with no network read and nothing left behind."""
    before = sorted(tmp_path.rglob("*"))
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert "nowhere.pth" not in said
    assert sorted(tmp_path.rglob("*")) == before
    return said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--known", "-1,3,1", "9,9,2"), "point -1,3,1: lies outside the image"),
        (
            ("--known", "3,3,1", "99,9,2"),
            "point 99,9,2: lies outside .* 96 pixels wide and 64 high",
        ),
        (("--known", "3,3,1"), "one known distance fixes scale or shift"),
        (("--known", *TWO, "--robust"), "2 points are too few"),
        (("--known", *TWO, "--robust", "--shift", "-1e-3"), "--robust: needs the shift"),
        (("--known", *TWO, "--relative-sigma", "0.7"), "70 % of a distance"),
        (("--known", *TWO, "--sigma", "0.9"), "90 % of a distance"),
        (("--known", *TWO, "--format", "sigma"), "the error bars are unknown"),
        (("--known", "3,3,1", "--shift", "0", "--format", "sigma"), "the error bars are unknown"),
        (("--known", *TWO, *CLOUD, "--guess", "5"), "--guess: distances are known"),
        (("--format", "ply", "--intrinsics", "90,90,960,32", "--guess", "5"), "cx 960"),
        (("--format", "ply", "--intrinsics", "-90,90,48,32", "--guess", "5"), "a focal length"),
        (("--shift", "-1e-3"), "give some with --known or --sparse"),
    ],
)
def test_options_that_no_network_is_needed_for(photo, tmp_path, capsys, options, message):
    words = ["predict", photo, tmp_path / "new" / "out", *NEVER_READ, *options]
    said = refused(words, tmp_path, capsys)
    assert re.search(message, said)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((64, 96), np.uint16), "no distance is known in it"),
        (np.pad([[1000]], ((3, 60), (3, 92))).astype(np.uint16), "one known distance fixes"),
        (np.full((96, 64), 1000, np.uint16), "its photograph 96 x 64 upright"),
    ],
)
def test_sparse_maps_that_no_network_is_needed_for(photo, tmp_path, capsys, values, message):
    Image.fromarray(values).save(tmp_path / "sparse.png")
    words = ["predict", photo, tmp_path / "out", *NEVER_READ, "--sparse", tmp_path / "sparse.png"]
    assert message in refused([*words, "--sparse-scale", "1000"], tmp_path, capsys)


def test_a_photograph_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    words = ["predict", tmp_path / "broken.jpg", tmp_path / "out", *NEVER_READ]
    assert "broken.jpg: truncated, damaged" in refused(words, tmp_path, capsys)


def test_one_photograph_of_a_folder_that_can_be_fitted_is_enough(photo, tmp_path):
    """Of several the others fail by themselves, when it is their turn."""
    images = {"a": photo, "b": photo}
    wrong, right = ((3, 3, 1),), ((3, 3, 1), (9, 9, 2))
    Known(points={"a": wrong, "b": right}).look(images)
    with pytest.raises(DataError, match=r"(?s)^a: one known.*\nb: one known"):
        Known(points={"a": wrong, "b": wrong}).look(images)
    with pytest.raises(ConfigError, match=r"--robust: needs the shift"):
        Known(points={"a": right}, robust=True, shift=0)


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("end", ["jpg", "png", "tif"])
def test_the_size_of_an_upright_photograph_by_its_header(tmp_path, turn, end):
    tags = Image.Exif()
    tags[274] = turn
    path = tmp_path / f"photo.{end}"
    Image.new("RGB", (96, 64)).save(path, exif=tags)
    assert upright_size(path) == ((96, 64) if turn >= 5 else (64, 96))


@pytest.mark.slow
def test_maps_that_were_made_otherwise(photo, tmp_path, capsys):
    weights = tmp_path / "net.safetensors"
    save(build("lite0", pretrained=False, seed=5), weights)
    out = tmp_path / "out"
    made = ["--weights", str(weights), "--device", "cpu", "--short-side", "64"]
    assert main(["predict", str(photo), str(out), *made]) == 0
    for now in (
        ("--known", *TWO),
        ("--dtype", "bf16"),
        ("--colours", "gray"),
        ("--short-side", "32"),
    ):
        said = refused(["predict", photo, out, *NEVER_READ, *now], tmp_path, capsys)
        assert "holds maps made otherwise" in said, now


def test_a_calibration_of_another_size(photo, tmp_path, capsys):
    tables = {"scores": [1.0, 2.0], "confidence": [0.9, 0.5], "error": [0.1, 0.2]}
    facts = {"kind": "dalib calibration", "within": 1.25, "floor": 0.05, "common": 0.1}
    facts["views"] = ["mirrored", "darker", "lighter", "right", "left", "larger"]
    about = {"network": "0" * 16, "short_side": 64, "about": {}}
    (tmp_path / "c.json").write_text(json.dumps(facts | tables | about))
    words = ["predict", photo, tmp_path / "out", *NEVER_READ, "--confidence", tmp_path / "c.json"]
    said = refused([*words, "--short-side", "96"], tmp_path, capsys)
    assert "the calibration is of a short side of 64, not 96" in said


@pytest.mark.parametrize("option", [("--shift", "0"), ("--sigma", "1"), ("--robust",)])
def test_a_video_has_no_scale_whichever_word_asks_for_it(tmp_path, capsys, monkeypatch, option):
    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.setattr("dalib.predict.is_video", lambda path: True)
    words = ["predict", tmp_path / "clip.mp4", tmp_path / "out", *NEVER_READ, *option]
    assert "are for photographs" in refused(words, tmp_path, capsys)


# calibrate and export


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("photos:photos", "no ground truth"),
        ("depth:nowhere", "nowhere"),
        ("depth:few", "3 images are too few to calibrate by"),
        ("depth:shifted", "has an unknown offset"),
    ],
)
def test_images_that_cannot_be_calibrated_on(tmp_path, capsys, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for k in range(10):
        Image.new("RGB", (96, 64), (k, k, k)).save(tmp_path / "photos" / f"{k}.png")
    pairs(tmp_path / "few", count=3)
    pairs(tmp_path / "shifted", count=10, more=("offset_known",), entries=("no",))
    words = ["calibrate", data, tmp_path / "out.json", *NEVER_READ]
    assert message in refused(words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("folder", "folder: a folder where a file is to be written"),
        ("file/out.json", "file: a file where a folder is to be written"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "depth:rooms", "PLACE", *NEVER_READ, "--overwrite"),
        ("export", "nowhere.pth", "PLACE", "--to", "onnx", "--overwrite"),
    ],
)
def test_a_place_that_no_file_can_be_written_to(tmp_path, capsys, monkeypatch, place, why, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    place = tmp_path / place
    said = refused([place if word == "PLACE" else word for word in words], tmp_path, capsys)
    assert f"{tmp_path / why}" in said


@pytest.mark.parametrize("to", ["onnx", "official", "transformers"])
def test_an_export_over_what_is_there(tmp_path, capsys, to):
    out = tmp_path / "out"
    if to == "transformers":
        out.mkdir()
        out = out / "config.json"
    out.write_text("mine")
    place = out.parent if to == "transformers" else out
    said = refused(["export", "nowhere.pth", place, "--to", to], tmp_path, capsys)
    assert "is there already" in said
    assert out.read_text() == "mine"


def test_a_network_of_metres_before_its_images(tmp_path, capsys):
    rooms = pairs(tmp_path / "rooms", count=10)
    weights = tmp_path / "metres.safetensors"
    save(build("lite0", pretrained=False, max_depth=10.0), weights)
    words = ["calibrate", f"depth:{rooms}", tmp_path / "new" / "out.json", "--weights", weights]
    said = refused([*words, "--device", "cpu"], tmp_path, capsys)
    assert "is for networks of relative disparity" in said
