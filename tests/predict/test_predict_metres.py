"""`predict` in metres, as clouds and with confidence: what the files hold, what is kept, and what is
refused in words before a network is loaded."""

import json
import re

import numpy as np
import pytest
import torch
from helpers.commands import main, prediction
from helpers.networks import Brightness
from numpy.testing import assert_allclose
from PIL import Image

from dalib import models
from dalib.errors import ConfigError, DataError
from dalib.geometry import Lens
from dalib.predict import (
    Known,
    Predictor,
    Solid,
    find_sparse,
    predict,
    read_png16,
    read_points,
    write_folder,
    write_images,
)
from dalib.predict.known import read_sparse

NEVER_READ = ["--weights", "nowhere.pth", "--device", "cpu"]
POINTS = ["4,4,1", "60,40,4", "30,20,1.8"]


def ramp(height=48, width=64, *, low=20, high=220) -> Image.Image:
    """Red falls from left to right: near is left for a network that takes red for disparity."""
    row = np.linspace(high, low, width).round().astype(np.uint8)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = row
    pixels[..., 1] = np.arange(height, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    ramp().save(folder / "a.png")
    ramp(low=60).save(folder / "b" / "c.png")
    return folder


@pytest.fixture
def run():
    return Predictor(model=Brightness(pair=False), short_side=48, device="cpu")


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    models.save(models.build("lite0", seed=0), path)
    return path


def silent(images, out, **options):
    return write_images(images, out, report=lambda line: None, **options)


# ---- what the files hold


def test_metres_and_their_error_bars_in_files(photos, tmp_path, run):
    known = Known(points={"a": ((0, 20, 1.0), (63, 20, 5.0), (31, 20, 2.0))}, sigma_m=0.01)
    images = {"a": photos / "a.png"}
    result = silent(
        images, tmp_path / "out", run=run, formats=("png16", "npy", "sigma"), known=known
    )
    fit = result.fits["a"]
    relative = predict(photos / "a.png", model=Brightness(pair=False), short_side=48, device="cpu")
    depth = np.load(tmp_path / "out" / "a.npy")
    assert_allclose(depth, fit.depth(relative), rtol=1e-6)
    assert_allclose(np.load(tmp_path / "out" / "a.sigma.npy"), fit.error(relative), rtol=1e-6)
    assert depth[20, 0] == pytest.approx(1.0, abs=0.1)
    stored, kind = read_png16(tmp_path / "out" / "a.png")
    assert kind == "depth_m"
    assert_allclose(stored, depth, atol=0.0006)
    texts = Image.open(tmp_path / "out" / "a.png").text
    assert float(texts["scale"]) == fit.scale
    assert float(texts["shift_error"]) == fit.errors[1]
    note = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert note["metres"] == "known distances, sigma 0.01 m"
    assert note["kind"] == "depth_m"


def test_what_is_infinitely_far_in_files(photos, tmp_path, run):
    """Two points near the left edge: the line crosses zero before the right one."""
    known = Known(points={"a": ((0, 20, 1.0), (31, 20, 4.0))})
    silent(
        {"a": photos / "a.png"}, tmp_path / "out", run=run, formats=("png16", "npy"), known=known
    )
    depth = np.load(tmp_path / "out" / "a.npy")
    assert np.isinf(depth[:, -1]).all()
    stored = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (stored[np.isinf(depth)] == 65535).all()
    assert (stored[np.isfinite(depth)] < 65535).all()
    read, _ = read_png16(tmp_path / "out" / "a.png")
    assert_allclose(np.isinf(read.numpy()), np.isinf(depth))
    far = np.isfinite(depth) & (depth < 255)
    assert_allclose(read.numpy()[far], depth[far], atol=1 / 256)


def test_a_cloud_has_a_point_for_each_value_of_the_network(photos, tmp_path, run):
    trimesh = pytest.importorskip("trimesh")
    known = Known(points={"a": ((0, 20, 1.0), (63, 20, 5.0))})
    solid = Solid(lens=Lens(fov=90))
    formats = ("ply", "glb", "npy")
    silent(
        {"a": photos / "a.png"},
        tmp_path / "out",
        run=run,
        formats=formats,
        known=known,
        solid=solid,
    )
    depth = np.load(tmp_path / "out" / "a.npy")
    read = trimesh.load(tmp_path / "out" / "a.ply")
    assert len(read.vertices) == depth.size
    assert_allclose(read.vertices[:, 2], depth.ravel(), rtol=1e-5)
    assert_allclose(read.vertices[0, 0], (0 - 31.5) / 32 * depth[0, 0], rtol=1e-5)
    assert_allclose(read.colors[:, :3].reshape(48, 64, 3), np.asarray(ramp()), atol=0)
    assert (tmp_path / "out" / "a.glb").read_bytes()[:4] == b"glTF"
    note = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert note["cloud"] == "fov 90"


def test_a_guessed_cloud_and_what_is_dropped_of_it(photos, tmp_path, run):
    images = {"a": photos / "a.png"}
    sizes = {}
    for name, options in {"all": {}, "near": {"farthest": 2.0}, "smooth": {"edges": 0.08}}.items():
        solid = Solid(lens=Lens(focal=60), guess=8, **options)
        silent(images, tmp_path / name, run=run, formats=("png16", "ply"), solid=solid)
        header = (tmp_path / name / "a.ply").read_bytes().split(b"end_header")[0].decode()
        assert "unit: distance of the nearest thing, guessed" in header
        sizes[name] = int(re.search(r"vertex (\d+)", header)[1])
    assert sizes["all"] == 48 * 64
    assert 0 < sizes["near"] < sizes["all"]
    assert 0 < sizes["smooth"] < sizes["all"]
    assert read_png16(tmp_path / "all" / "a.png")[1] == "disparity"


def test_the_disagreement_itself(photos, tmp_path, run):
    """Red alone decides, so the mirror image agrees, and the darker one does not everywhere."""
    formats = ("png16", "confidence")
    silent({"a": photos / "a.png"}, tmp_path / "out", run=run, formats=formats, calibration="raw")
    values, kind = read_png16(tmp_path / "out" / "a.confidence.png")
    assert kind == "disagreement"
    assert tuple(values.shape) == (48, 64)
    assert 0 < values.max() < 0.5


def test_a_map_that_is_not_a_number_fails_alone_with_confidence_too(photos, tmp_path):
    class Blind(Brightness):
        """NaN where the image begins dark: that of `b/c` does not."""

        def forward(self, images):
            found = super().forward(images).clone()
            found[found[:, 0, -1] < 0.2] = torch.nan
            return found

    run = Predictor(model=Blind(pair=False), short_side=48, device="cpu")
    result = write_folder(
        photos,
        tmp_path / "out",
        run=run,
        formats=("confidence",),
        calibration="raw",
        report=lambda line: None,
    )
    assert result.written == ["b/c"]
    assert "NaN or infinite values" in result.failed["a"]


# ---- a folder, and again


def write_csv(path, lines, header="image,x,y,metres"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.mark.slow
def test_a_folder_by_a_table_and_only_what_changed_again(photos, tmp_path, lite0, capsys):
    table = write_csv(
        tmp_path / "known.csv",
        ["a.png,4,4,2", "a.png,60,44,6", "a.png,30,10,3", "b/c.png,4,4,2", "b/c,60,44,6"],
    )
    # whichever way round this network has it, one of both tables fits
    words = [*prediction(photos, tmp_path / "out", lite0), "--known", str(table)]
    first = main(words)
    told = capsys.readouterr()
    if first:
        assert "near and far are the wrong way round" in told.err
        rows = (
            table.read_text()
            .replace(",2\n", ",X\n")
            .replace(",6\n", ",2\n")
            .replace(",X\n", ",6\n")
        )
        table.write_text(rows)
        first = main(words)
        told = capsys.readouterr()
    assert first == 0
    assert "error bars unknown" in told.out
    assert main(words) == 0
    assert "0 predicted, 2 kept" in capsys.readouterr().out
    table.write_text(table.read_text().replace("a.png,30,10,3", "a.png,30,10,3.1"))
    assert main(words) == 0
    assert "1 predicted, 1 kept" in capsys.readouterr().out
    # without known distances the same names would hold another thing
    assert main(prediction(photos, tmp_path / "out", lite0)) == 1
    assert "holds maps made otherwise (metres known distances)" in capsys.readouterr().err


def test_maps_of_before_are_not_taken_for_metres(photos, tmp_path, run):
    images = {"a": photos / "a.png"}
    silent(images, tmp_path / "out", run=run)
    known = Known(points={"a": ((0, 20, 1.0), (63, 20, 5.0))})
    with pytest.raises(ConfigError, match=r"holds maps made otherwise \(metres None\)"):
        silent(images, tmp_path / "out", run=run, known=known)


def test_clouds_and_confidence_join_maps_that_are_there(photos, tmp_path, run):
    images = {"a": photos / "a.png"}
    silent(images, tmp_path / "out", run=run)
    solid = Solid(lens=Lens(fov=60), guess=5)
    silent(images, tmp_path / "out", run=run, formats=("png16", "ply"), solid=solid)
    assert silent(images, tmp_path / "out", run=run).kept == ["a"], "the plain maps are still good"
    other = Solid(lens=Lens(fov=70), guess=5)
    with pytest.raises(ConfigError, match="cloud fov 60, guess 5"):
        silent(images, tmp_path / "out", run=run, formats=("ply",), solid=other)


def test_one_image_that_cannot_be_fitted_fails_alone(photos, tmp_path, run):
    known = Known(points={"a": ((0, 20, 5.0), (63, 20, 1.0)), "b/c": ((0, 20, 1.0), (63, 20, 5.0))})
    result = write_folder(photos, tmp_path / "out", run=run, known=known, report=lambda line: None)
    assert result.written == ["b/c"]
    assert result.failed["a"].startswith("a: the fitted scale is -")
    outside = Known(points={"a": ((64, 20, 5.0), (0, 20, 1.0)), "b/c": ((0, 0, 1), (63, 0, 5))})
    result = write_folder(
        photos, tmp_path / "two", run=run, known=outside, report=lambda line: None
    )
    assert "a: point 64,20,5: lies outside the image, which is 64 pixels wide" in result.failed["a"]
    bars = write_folder(
        photos, tmp_path / "3", run=run, known=outside, formats=("sigma",), report=lambda line: None
    )
    assert bars.failed["b/c"].startswith("b/c: the error bars are unknown")


# ---- sparse maps


def test_a_sparse_map_of_each_kind(photos, tmp_path, run):
    relative = predict(photos / "a.png", model=Brightness(pair=False), short_side=48, device="cpu")
    truth = 1 / (0.8 * relative.double().numpy() + 0.1)
    there = np.random.default_rng(0).random(truth.shape) < 0.1
    (tmp_path / "sparse").mkdir()
    maps = {
        "mm.png": ((1000 * truth).round().astype(np.uint16) * there, 1000),
        "kitti.png": ((256 * truth).round().astype(np.uint16) * there, 256),
        "float.npy": (np.where(there, truth, np.nan).astype(np.float32), 1),
    }
    for name, (values, scale) in maps.items():
        place = tmp_path / "sparse" / name
        np.save(place, values) if name.endswith("npy") else Image.fromarray(values).save(place)
        known = Known(sparse={"a": place}, sparse_scale=scale, robust=True)
        result = silent({"a": photos / "a.png"}, tmp_path / name, run=run, known=known)
        assert not result.failed
        assert result.fits["a"].scale == pytest.approx(0.8, rel=0.02), name
        assert result.fits["a"].shift == pytest.approx(0.1, abs=0.01), name
        assert result.fits["a"].points + result.fits["a"].left_out == there.sum()


def test_sparse_maps_that_cannot_be_used(photos, tmp_path):
    images = {"a": photos / "a.png", "b/c": photos / "b" / "c.png"}
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_sparse(tmp_path / "nowhere", images)
    one = tmp_path / "one.npy"
    np.save(one, np.ones((48, 64)))
    with pytest.raises(DataError, match="is one file for 2 photographs"):
        find_sparse(one, images)
    folder = tmp_path / "s"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((48, 64)))
    assert find_sparse(folder, images) == {"a": folder / "a.npy"}
    with pytest.raises(DataError, match=re.escape("in 1 images (b/c)")):
        Known(sparse=find_sparse(folder, images), sparse_scale=1).check(images)
    Image.fromarray(np.ones((48, 64), np.uint16)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"has a\.png and a\.npy for a; keep one"):
        find_sparse(folder, images)
    for values, words in (
        (np.ones((48, 63)), "is 63 x 48 pixels, its photograph 64 x 48 upright"),
        (np.zeros((48, 64)), "no distance is known in it"),
        (np.ones((48, 64), np.uint8), "has 8 bits, too few for distances"),
        (np.full((48, 64), -1.0), "negative values"),
        (np.full((48, 64), np.inf), "NaN or infinite"),
    ):
        np.save(one, values)
        with pytest.raises(DataError, match=words):
            read_sparse(one, scale=1, size=(48, 64))


@pytest.mark.parametrize(("scale", "told"), [(1, True), (1000, False), (10**6, True)])
def test_distances_in_another_unit_are_asked_about(scale, told, tmp_path, caplog):
    Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(tmp_path / "mm.png")
    read_sparse(tmp_path / "mm.png", scale=scale, size=(48, 64))
    assert ("is --sparse-scale" in caplog.text) == told


def test_one_error_is_stated_once(photos, capsys):
    with pytest.raises(ConfigError, match="--sigma and --relative-sigma"):
        Known(points={"a": ((1, 1, 2.0), (5, 5, 3.0))}, sigma_m=0.1, sigma_relative=0.1)


# ---- what is refused, in one line and before a network is loaded


def refused(capsys, *words) -> str:
    assert main(["predict", *map(str, words)]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, "one line"
    return told.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--known", "1,2"], "--known '1,2': must be x,y,metres"),
        (["--known", "a,b,c", "1,2,3"], "--known 'a,b,c': must be x,y,metres"),
        (["--known", "1,2,nan"], "every number must be finite"),
        (["--known", "1,2,-3", "1,2,3"], "a distance must be positive"),
        (["--known", "1,2,0"], "a distance must be positive"),
        (["--known", "gone.csv"], "gone.csv: no such file"),
        (["--known", *POINTS, "--sigma", "0"], "--sigma 0.0: must be a positive number"),
        (["--known", *POINTS, "--relative-sigma", "-1"], "--relative-sigma -1.0: must be a pos"),
        (["--known", *POINTS, "--shift", "nan"], "--shift nan: must be a finite"),
        (["--known", *POINTS, "--sparse-scale", "1"], "--sparse-scale: is for --sparse"),
        (["--known", *POINTS, "--sparse", "x"], "--known and --sparse: give one"),
        (["--sparse", "gone", "--sparse-scale", "1"], "gone: no such file or folder"),
        (["--sparse", "."], "has no map of any of these photographs"),
        (["--sparse", ""], "--sparse is empty"),
        (["--sigma", "1"], "give some with --known or --sparse"),
        (["--robust"], "give some with --known or --sparse"),
        (["--format", "sigma"], "format sigma: needs known distances"),
        (["--format", "ply"], "format ply: a cloud needs the camera"),
        (["--format", "glb", "--guess", "5"], "give one of --fov"),
        (["--format", "ply", "--fov", "60", "--focal", "3"], "not --fov and --focal"),
        (["--format", "ply", "--fov", "0"], "--fov 0.0: must lie between"),
        (["--format", "ply", "--intrinsics", "1,2,3"], "must be four numbers"),
        (
            ["--format", "ply", "--fov", "60", "--guess", "1"],
            "--guess 1.0: must be a number above 1",
        ),
        (["--format", "ply", "--fov", "60", "--drop-edges", "0"], "--drop-edges 0.0: must be"),
        (["--format", "ply", "--fov", "60", "--farthest", "-2"], "--farthest -2.0: must be"),
        (["--fov", "60"], "are for clouds of points: add --format ply or glb"),
        (["--format", "confidence"], "say --confidence CALIBRATION"),
        (["--confidence", "gone.json"], "gone.json: no such file"),
        (["--confidence", ""], "--confidence is empty"),
    ],
)
def test_wrong_words(photos, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, photos / "a.png", tmp_path / "out", *NEVER_READ, *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lines", "header", "words"),
    [
        ([], "image,x,y,metres", "has no row"),
        (["a.png,1,1,1"], "image,x,y", "missing column metres; it has image, x, y"),
        (["1,1,1"], "x,y,metres", "missing column image"),
        (["z.png,1,1,1"], "image,x,y,metres", "line 2: no photograph is called 'z.png'"),
        ([",1,1,1"], "image,x,y,metres", "line 2: no photograph is called ''"),
        (["a.png,1,1,1", "a.png,1,x,1"], "image,x,y,metres", "line 3: must be x,y,metres"),
        (["a.png,1,1"], "image,x,y,metres", "line 2: must be x,y,metres"),
        (["a.png,1,1,-1"], "image,x,y,metres", "line 2: a distance must be positive"),
        (["a.png,1,1,1,0"], "image,x,y,metres,sigma", "line 2: sigma '0' must be a positive"),
        (["a.png,1,1,1,"], "image,x,y,metres,sigma", "line 2: sigma '' must be a positive"),
        (["a.png,1,1,1", "a.png,9,9,2"], "image,x,y,metres", "in 1 images (b/c)"),
    ],
)
def test_tables_that_cannot_be_used(photos, tmp_path, capsys, lines, header, words):
    table = write_csv(tmp_path / "known.csv", lines, header)
    assert words in refused(capsys, photos, tmp_path / "out", *NEVER_READ, "--known", table)


def test_points_of_a_folder_come_in_a_table(photos, tmp_path, capsys):
    told = refused(capsys, photos, tmp_path / "out", *NEVER_READ, "--known", *POINTS)
    assert "for a folder name one CSV" in told


def test_a_table_of_one_photograph_needs_no_names(photos, tmp_path):
    images = {"a": photos / "a.png"}
    table = write_csv(tmp_path / "k.csv", ["1,2,3,0.1", "4,5,6,0.2"], "x,y,metres,sigma")
    points, sigmas = read_points(table, images)
    assert points == {"a": ((1, 2, 3), (4, 5, 6))}
    assert sigmas == {"a": (0.1, 0.2)}
    with pytest.raises(ConfigError, match="the table has a column sigma"):
        Known(points=points, sigmas=sigmas, sigma_m=0.1)


def test_what_this_network_cannot_be_asked_for(photos, tmp_path, run, lite0, capsys):
    images = {"a": photos / "a.png"}
    solid = Solid(lens=Lens(fov=60))
    with pytest.raises(ConfigError, match="has no shape until its shift is known"):
        silent(images, tmp_path / "out", run=run, formats=("ply",), solid=solid)
    known = Known(points={"a": ((0, 0, 1.0), (63, 20, 5.0))})
    guess = Solid(lens=Lens(fov=60), guess=4)
    with pytest.raises(ConfigError, match="--guess: distances are known"):
        silent(images, tmp_path / "out", run=run, formats=("ply",), solid=guess, known=known)
    run.kind = "depth_m"
    with pytest.raises(ConfigError, match="gives metres already"):
        silent(images, tmp_path / "out", run=run, known=known)
    with pytest.raises(ConfigError, match="--guess: the network gives metres"):
        silent(images, tmp_path / "out", run=run, formats=("ply",), solid=guess)
    with pytest.raises(ConfigError, match="not of metres"):
        silent(images, tmp_path / "out", run=run, formats=("confidence",), calibration="raw")
    assert not (tmp_path / "out").exists()


def test_a_metric_network_has_clouds(photos, tmp_path, run):
    run.kind = "depth_m"
    silent(
        {"a": photos / "a.png"},
        tmp_path / "out",
        run=run,
        formats=("ply",),
        solid=Solid(lens=Lens(fov=60)),
    )
    assert b"unit: metres" in (tmp_path / "out" / "a.ply").read_bytes()


def test_a_principal_point_of_another_size_fails_by_name(photos, tmp_path, run):
    solid = Solid(lens=Lens(intrinsics=(500, 500, 320, 240)), guess=4)
    result = silent(
        {"a": photos / "a.png"}, tmp_path / "out", run=run, formats=("ply",), solid=solid
    )
    assert "a: cx 320: the principal point lies outside an image of 64 x 48" in result.failed["a"]
