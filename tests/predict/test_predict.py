"""Inference for people: what goes in upright comes out upright, at full size, whole, and as the
network gave it."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers.commands import prediction
from helpers.networks import Brightness
from numpy.testing import assert_allclose
from PIL import Image

from dalib import models, paths
from dalib.__main__ import main
from dalib.data.files import read_rgb
from dalib.data.maps import read_map
from dalib.errors import CheckpointError, ConfigError, DataError
from dalib.models.sizes import default_short_side, resize_disparity, resize_images, training_size
from dalib.predict import (
    Predictor,
    predict,
    read_png16,
    write_folder,
    write_images,
    write_video,
)
from dalib.predict.outputs import bands, indices, palette, save, shown_range, targets
from dalib.predict.prepare import LONGEST, inner_size, prepare
from dalib.predict.video import follow

SILENT = {"report": lambda line: None}
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def lite0():
    return models.build("lite0", seed=0).eval()


def corner(height: int, width: int) -> np.ndarray:
    """Black, with the top left quarter red: what tells every turn and mirroring apart on an oblong
    picture."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2, 0] = 255
    return array


def smooth(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, channels)).astype(np.uint8)
    layers = [
        Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC)
        for c in range(channels)
    ]
    return np.stack([np.asarray(layer) for layer in layers], -1)


def red(picture, *, short_side=32, **options):
    """What a network that returns the red channel says: the way there and back and nothing else."""
    return predict(
        picture, model=Brightness(pair=True), short_side=short_side, device="cpu", **options
    )


class TestReading:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("ending", ["jpg", "tiff", "png", "webp"])
    @pytest.mark.parametrize("times", [1, 12], ids=["as it is", "averaged on the way"])
    def test_every_orientation_comes_out_upright(self, tmp_path, orientation, ending, times):
        upright = Image.fromarray(corner(32 * times, 48 * times))
        # Pillow's Transpose that stores what the tag turns back
        undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
        stored = (
            upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
        )
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored.save(tmp_path / f"a.{ending}", exif=exif)
        disparity = red(tmp_path / f"a.{ending}")
        assert disparity.shape == (32 * times, 48 * times)
        quarters = (
            disparity.unfold(0, 16 * times, 16 * times)
            .unfold(1, 24 * times, 24 * times)
            .mean((2, 3))
        )
        assert_allclose(quarters, [[1, 0], [0, 0]], atol=0.1)

    @pytest.mark.parametrize("times", [1, 12], ids=["as it is", "averaged on the way"])
    def test_grey_16_bit_palette_one_bit_and_transparent(self, times):
        size = (48 * times, 32 * times)  # width, height
        grey = np.full((size[1], size[0]), 60 * 257, np.uint16)
        kinds = {
            "L": Image.new("L", size, 60),
            "16 bits": Image.fromarray(grey),
            "palette": Image.new("RGB", size, (60, 1, 2)).quantize(4),
            "transparent": Image.new("RGBA", size, (0, 0, 0, 195)),  # over white: 255 - 195 = 60
            "LA": Image.new("LA", size, (60, 255)),
            "CMYK": Image.new("CMYK", size, (195, 0, 0, 0)),
        }
        for kind, picture in kinds.items():
            assert_allclose(red(picture), 60 / 255, atol=0.006, err_msg=kind)
        assert_allclose(red(Image.new("1", size, 1)), 1, atol=1e-6)

    def test_file_picture_array_and_tensor_are_one(self, tmp_path, lite0):
        array = smooth(60, 80)
        Image.fromarray(array).save(tmp_path / "a.png")
        kinds = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array]
        maps = predict([*kinds, torch.from_numpy(array).movedim(-1, 0)], model=lite0, device="cpu")
        alone = predict(array, model=lite0, device="cpu")
        assert alone.std() > 0.01 * alone.abs().max() > 0
        for disparity in maps:
            assert_allclose(disparity, alone, atol=1e-5 * float(alone.abs().max()))

    @pytest.mark.parametrize("ending", ["jpg", "png"])
    def test_shrinking_by_blocks_first_hardly_changes_what_the_network_sees(self, tmp_path, ending):
        noisy = smooth(900, 1200).astype(int) + np.random.default_rng(1).integers(
            -40, 40, (900, 1200, 3)
        )
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
            tmp_path / f"a.{ending}", quality=95
        )
        seen = prepare(tmp_path / f"a.{ending}", short_side=64, multiple=8)
        direct = resize_images(read_rgb(tmp_path / f"a.{ending}")[None], (64, 88))[0]
        assert seen.size == (900, 1200)
        assert (seen.image - direct).abs().mean() < 0.5 / 255
        assert (seen.image - direct).abs().max() < 5 / 255

    def test_a_strip_is_run_smaller(self):
        assert inner_size(480, 640, short_side=518, multiple=14) == (518, 686)
        assert inner_size(1000, 8000, short_side=518, multiple=14) == (518, 4144)  # 8 * 518
        # 259 is no multiple of 14
        assert inner_size(1000, 16000, short_side=518, multiple=14) == (266, 4144)
        assert inner_size(1, 640, short_side=518, multiple=14) == (14, 3836)  # 6 * 640 = 3840
        assert max(inner_size(1, 100_000, short_side=96, multiple=32)) <= LONGEST * 96

    def test_errors_name_the_file(self, tmp_path):
        (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 nothing")
        with pytest.raises(DataError, match=r"bad\.jpg: truncated, damaged or not an image"):
            red(tmp_path / "bad.jpg")
        with pytest.raises(DataError, match=r"none\.jpg: no such file"):
            red(tmp_path / "none.jpg")
        with pytest.raises(DataError, match="image 1: a floating-point image"):
            red([corner(8, 8), Image.new("F", (8, 8))])

    def test_pictures_beyond_pillows_limit_are_refused_and_warnings_are_not_shown(
        self, tmp_path, monkeypatch, recwarn
    ):
        Image.new("L", (40, 50)).save(tmp_path / "a.png")
        # Pillow warns beyond it, and refuses beyond twice as many
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
        assert red(tmp_path / "a.png").shape == (50, 40)
        assert not recwarn.list
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
        with pytest.raises(DataError, match=r"a\.png: beyond Pillow's limit of 1800 pixels"):
            red(tmp_path / "a.png")


class TestRunning:
    def test_a_batch_is_one_by_one(self, lite0):
        pictures = [
            smooth(h, w, seed)
            for seed, (h, w) in enumerate([(60, 80), (90, 120), (80, 60), (61, 80), (60, 80)])
        ]
        together = predict(pictures, model=lite0, device="cpu", batch=3)
        for picture, disparity in zip(pictures, together, strict=True):
            alone = predict(picture, model=lite0, device="cpu", batch=1)
            assert disparity.shape == picture.shape[:2]
            assert_allclose(disparity, alone, atol=1e-5 * float(alone.abs().max()))

    def test_sizes_share_batches_and_few_wait(self):
        run = Predictor(model=Brightness(pair=False), short_side=16, batch=2, device="cpu")
        sides = [24, 32, 24, 40, 48, 56, 64, 72, 80, 88, 24]
        items = [run.prepare(np.zeros((16, w), np.uint8), name=str(i)) for i, w in enumerate(sides)]
        groups = [[item.name for item in group] for group in run.batches(items)]
        assert groups[0] == ["0", "2"]
        assert sorted((name for group in groups for name in group), key=int) == [
            str(i) for i in range(len(sides))
        ]
        assert groups[1] == ["1"], "eight images of eight sizes wait: the first goes alone"

    def test_default_short_sides(self, lite0):
        assert default_short_side(lite0) == 96
        assert default_short_side(Brightness(pair=True)) == 518

    @pytest.mark.parametrize("said", [192, "192", True, 0, None])
    def test_weights_may_say_at_which_size_they_learned(self, said):
        model = Brightness(pair=True)
        model.about = {"trained": {"short_side": said}}
        assert default_short_side(model) == (192 if said == 192 else 518)
        model.about = {"trained": "in the summer"}
        assert default_short_side(model) == 518

    def test_bfloat16_is_near_float32(self, lite0):
        full, half = (
            predict(smooth(60, 80), model=lite0, device="cpu", dtype=t)
            for t in (torch.float32, torch.bfloat16)
        )
        assert half.dtype == torch.float32
        assert 0 < (full - half).abs().max() < 0.05 * full.abs().max()

    def test_impossible_settings(self, lite0):
        with pytest.raises(ConfigError, match="batch 0"):
            Predictor(model=lite0, batch=0)
        with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
            Predictor(model=lite0, device="abacus")


class TestWriting:
    @pytest.mark.parametrize(
        ("inner", "size"),
        [((5, 7), (23, 31)), ((30, 20), (7, 50)), ((4, 6), (4, 6)), ((2, 9), (1, 40))],
    )
    @pytest.mark.parametrize("band", [1, 100, 2**22])
    def test_bands_are_the_whole_map_resized(self, inner, size, band, monkeypatch):
        monkeypatch.setattr("dalib.predict.outputs.BAND", band)
        disparity = torch.rand(inner, generator=torch.Generator().manual_seed(0))
        whole = resize_disparity(disparity[None], size)[0]
        assert_allclose(np.concatenate(list(bands(disparity, size))), whole, atol=3e-6)

    def test_sixteen_bits_and_back(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dalib.predict.outputs.BAND", 64)
        disparity = 5 + 3 * torch.rand(6, 9, generator=torch.Generator().manual_seed(1))
        save(disparity, (24, 33), targets(tmp_path / "a.b", ("png16", "npy")))
        full = resize_disparity(disparity[None], (24, 33))[0]
        again, kind = read_png16(tmp_path / "a.b.png")
        assert kind == "disparity"
        assert_allclose(again, full, atol=float(disparity.max() - disparity.min()) / 131070 * 1.01)
        assert_allclose(np.load(tmp_path / "a.b.npy"), full, atol=1e-6)
        assert read_map(tmp_path / "a.b.png").max() <= 65535

    def test_by_hand(self, tmp_path):
        save(torch.tensor([[1.0, 2.0], [3.0, 1.5]]), (2, 2), targets(tmp_path / "a", ("png16",)))
        picture = Image.open(tmp_path / "a.png")
        assert picture.mode == "I;16"
        # 65535 / 2 = 32767.5; / 4 = 16383.75
        assert np.asarray(picture).tolist() == [[0, 32768], [65535, 16384]]
        assert (picture.text["minimum"], picture.text["maximum"], picture.text["kind"]) == (
            "1.0",
            "3.0",
            "disparity",
        )

    @pytest.mark.parametrize(
        ("max_depth", "stored"),
        [(20.0, [1500, 65535]), (None, [1500, 65535]), (80.0, [384, 20480])],
    )
    def test_metres_in_millimetres_or_256ths(self, tmp_path, max_depth, stored):
        save(
            torch.tensor([[1.5, 80.0]]),
            (1, 2),
            targets(tmp_path / "a", ("png16",)),
            kind="depth_m",
            max_depth=max_depth,
        )
        assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [stored]
        again, kind = read_png16(tmp_path / "a.png")
        assert kind == "depth_m"
        assert again[0, 0] == 1.5

    def test_a_constant_map(self, tmp_path):
        save(torch.full((3, 4), 0.25), (6, 8), targets(tmp_path / "a", ("png16", "colour")))
        assert (read_png16(tmp_path / "a.png")[0] == 0.25).all()
        assert Image.open(tmp_path / "a.colour.png").convert("RGB").size == (8, 6)

    def test_colours_are_matplotlibs_and_near_is_high_for_both_kinds(self, tmp_path):
        disparity = torch.linspace(0, 1, 101)[None]
        assert shown_range(disparity, "disparity") == pytest.approx((0.02, 0.98))
        assert indices(
            np.array([[0.0, 0.02, 0.5, 0.98, 2]]), "disparity", (0.02, 0.98)
        ).tolist() == [[0, 0, 128, 255, 255]]
        assert indices(np.array([[1.0, 2.0, 4.0]]), "depth_m", (0.25, 1.0)).tolist() == [
            [255, 85, 0]
        ]
        save(disparity, (1, 101), targets(tmp_path / "a", ("colour",)), colours="inferno")
        pixels = np.asarray(Image.open(tmp_path / "a.colour.png").convert("RGB"))
        assert (pixels[0, [0, 100]] == palette("inferno")[[0, 255]]).all()
        assert palette("gray")[[0, 128, 255]].tolist() == [[0] * 3, [128] * 3, [255] * 3]

    def test_other_pngs_are_not_read_as_ours(self, tmp_path):
        Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match=r"a\.png: no 16-bit PNG of dalib\.predict"):
            read_png16(tmp_path / "a.png")

    def test_unknown_names(self, tmp_path):
        with pytest.raises(
            ConfigError, match="format: exr unknown; choose from png16, npy, colour"
        ):
            targets(tmp_path / "a", ("npy", "exr"))
        with pytest.raises(ConfigError, match="'plaid' is no Matplotlib colour map"):
            palette("plaid")


def mixed(folder, count: int = 96):
    """Small files of every kind that people have, in three folders."""
    for i in range(count):
        height, width = [(24, 36), (36, 24), (30, 30), (17, 51)][i % 4]
        path = folder / ["", "holiday", "holiday/second day"][i % 3]
        path.mkdir(parents=True, exist_ok=True)
        kind = i % 8
        grey, colour = (
            Image.fromarray(smooth(height, width, i, 1)[..., 0]),
            Image.fromarray(smooth(height, width, i)),
        )
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        if kind == 0:
            colour.save(path / f"{i}.jpg")
        elif kind == 1:
            colour.save(path / f"{i}.JPG", exif=exif)
        elif kind == 2:
            colour.save(path / f"{i}.png")
        elif kind == 3:
            colour.save(path / f"{i}.webp")
        elif kind == 4:
            grey.save(path / f"{i}.tiff")
        elif kind == 5:
            Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(path / f"{i}.png")
        elif kind == 6:
            colour.putalpha(grey)
            colour.save(path / f"{i}.png")
        else:
            colour.quantize(16).save(path / f"{i}.png", transparency=0)


def files(folder) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


class TestMetric:
    def test_a_network_of_metric_depth_writes_metres(self, tmp_path):
        """Its map in the PNG is the one in memory, in steps of 1/256 m because it reaches 80 m."""
        model = models.DepthAnything(encoder="lite0", max_depth=80.0).eval()
        run = Predictor(model=model, short_side=64, device="cpu")
        Image.fromarray(smooth(64, 96)).save(tmp_path / "a.png")
        write_images({"a": tmp_path / "a.png"}, tmp_path / "out", run=run, **SILENT)
        depth_m, kind = read_png16(tmp_path / "out" / "a.png")
        assert (
            kind
            == json.loads((tmp_path / "out" / "predictions.json").read_text())["kind"]
            == "depth_m"
        )
        assert_allclose(
            depth_m,
            predict(tmp_path / "a.png", model=model, short_side=64, device="cpu"),
            atol=1 / 500,
        )


AND_PEAK = """
import resource, sys
from dalib.__main__ import main
code = main(sys.argv[1:])
if sys.platform == "darwin":
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
else:  # there, that begins at what the parent had when it forked
    peak = 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", peak)
sys.exit(code)
"""  # the command line, and the greatest memory of its process in bytes


class TestFolder:
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_a_hundred_mixed_files(self, tmp_path, lite0, capsys):
        """Two broken, one of 100 megapixels, one a pixel high; in a process of its own, whose
        memory is measured."""
        photos, out = tmp_path / "photos", tmp_path / "out"
        mixed(photos)
        (photos / "holiday" / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes()[:300])
        (photos / "text.png").write_text("no picture")
        Image.new("RGB", (10_000, 10_000), (90, 60, 30)).save(
            photos / "enormous.png", compress_level=1
        )
        Image.fromarray(smooth(1, 400)).save(photos / "line.png")
        assert len(files(photos)) == 100
        models.save(lite0, tmp_path / "net.safetensors")
        words = [
            str(photos),
            str(out),
            "--weights",
            str(tmp_path / "net.safetensors"),
            "--device",
            "cpu",
            "--batch",
            "8",
        ]
        done = subprocess.run(
            [sys.executable, "-c", AND_PEAK, "predict", *words], capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr
        assert "98 predicted, 0 kept from before, 2 failed" in done.stdout
        assert "broken.jpg: truncated" in done.stderr
        assert "text.png: truncated" in done.stderr
        assert "Traceback" not in done.stderr
        assert int(done.stdout.split("peak")[1]) < 4 * 2**30
        assert len(files(out)) == 99
        assert {"enormous.png", "line.png", "holiday/1.png", "predictions.json"} <= files(out)
        assert Image.open(out / "enormous.png").size == (10_000, 10_000)
        assert Image.open(out / "line.png").size == (400, 1)
        assert Image.open(out / "holiday" / "1.png").size == (36, 24), (
            "stored upright as 24 wide, turned by its tag"
        )
        assert main(["predict", *words]) == 1, "the broken ones are tried again"
        assert "0 predicted, 98 kept from before, 2 failed" in capsys.readouterr().out

    def test_kept_unless_the_image_is_newer_or_a_format_is_missing(self, tmp_path):
        (tmp_path / "in").mkdir()
        for name in "abc":
            Image.fromarray(corner(16, 24)).save(tmp_path / "in" / f"{name}.png")
        run = Predictor(model=Brightness(pair=True), short_side=16, device="cpu")
        once = write_folder(tmp_path / "in", tmp_path / "out", run=run, **SILENT)
        assert once.written == ["a", "b", "c"]
        later = time.time() + 10
        os.utime(tmp_path / "in" / "b.png", (later, later))
        again = write_folder(tmp_path / "in", tmp_path / "out", run=run, **SILENT)
        assert (again.written, again.kept) == (["b"], ["a", "c"])
        more = write_folder(
            tmp_path / "in", tmp_path / "out", run=run, formats=("png16", "npy"), **SILENT
        )
        assert more.written == ["a", "b", "c"]

    def test_maps_of_two_networks_are_not_mixed(self, tmp_path, lite0):
        Image.fromarray(corner(16, 24)).save(tmp_path / "a.png")
        images = {"a": tmp_path / "a.png"}
        write_images(images, tmp_path / "out", run=Predictor(model=lite0, device="cpu"), **SILENT)
        assert (
            json.loads((tmp_path / "out" / "predictions.json").read_text())["kind"] == "disparity"
        )
        for other in (
            Predictor(model=lite0, short_side=64, device="cpu"),
            Predictor(model=models.build("lite0", seed=1), device="cpu"),
        ):
            with pytest.raises(ConfigError, match="holds maps made otherwise"):
                write_images(images, tmp_path / "out", run=other, **SILENT)

    def test_two_files_of_one_name_keep_their_endings(self, tmp_path):
        photos = tmp_path / "in"
        photos.mkdir()
        for name in ("a.png", "a.jpg", "b.c.png", "d.png"):
            Image.fromarray(corner(16, 24)).save(photos / name)
        run = Predictor(model=Brightness(pair=True), short_side=16, device="cpu")
        write_folder(photos, photos / "maps", run=run, **SILENT)
        write_folder(photos, photos / "maps", run=run, **SILENT)  # its own maps are no photographs
        assert files(photos / "maps") == {
            "a.png.png",
            "a.jpg.png",
            "b.c.png",
            "d.png",
            "predictions.json",
        }
        with pytest.raises(ConfigError, match="the folder of the photographs itself"):
            write_folder(photos, photos, run=run)

    def test_a_map_that_is_not_finite_fails_alone(self, tmp_path):
        class Broken(Brightness):
            def forward(self, images):
                maps = super().forward(images)
                return torch.where(maps.mean((1, 2), keepdim=True) > 0.9, torch.nan, maps)

        images = {}
        for name, value in (("white", 255), ("grey", 99)):
            Image.new("L", (24, 16), value).save(tmp_path / f"{name}.png")
            images[name] = tmp_path / f"{name}.png"
        run = Predictor(model=Broken(pair=False), short_side=16, device="cpu")
        result = write_images(images, tmp_path / "out", run=run, **SILENT)
        assert result.written == ["grey"]
        assert "white: the network gave NaN" in result.failed["white"]

    def test_a_disk_that_is_full_stops_with_the_file_and_leaves_none(self, tmp_path, monkeypatch):
        def full(self, *args, **kwargs):
            raise OSError(28, "No space left on device")

        run = Predictor(model=Brightness(pair=True), short_side=16, device="cpu")
        Image.fromarray(corner(16, 24)).save(tmp_path / "a.png")
        write_images({"a": tmp_path / "a.png"}, tmp_path / "out", run=run, **SILENT)
        before = (tmp_path / "out" / "a.png").read_bytes()
        later = time.time() + 10
        os.utime(tmp_path / "a.png", (later, later))
        monkeypatch.setattr("dalib.predict.outputs.write_png", full)
        with pytest.raises(DataError, match=r"a\.png: could not be written .*No space left"):
            write_images({"a": tmp_path / "a.png"}, tmp_path / "out", run=run, **SILENT)
        assert (tmp_path / "out" / "a.png").read_bytes() == before
        assert files(tmp_path / "out") == {"a.png", "predictions.json"}

    @pytest.mark.slow
    def test_killed_in_the_middle_it_goes_on_where_it_was(self, tmp_path, lite0):
        photos, out = tmp_path / "in", tmp_path / "out"
        photos.mkdir()
        for i in range(32):
            Image.fromarray(smooth(300, 400, i)).save(photos / f"{i}.jpg")
        models.save(lite0, tmp_path / "net.safetensors")
        words = prediction(photos, out, tmp_path / "net.safetensors")
        child = subprocess.Popen([sys.executable, "-m", "dalib", *words], stdout=subprocess.DEVNULL)
        while child.poll() is None and len(list(out.glob("*.png"))) < 5:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        there = list(out.glob("*.png"))
        assert 5 <= len(there) < 32
        for path in there:
            assert read_png16(path)[0].shape == (300, 400)
        assert main(words) == 0
        assert files(out) == {"predictions.json", *(f"{i}.png" for i in range(32))}


@pytest.fixture
def clip(tmp_path):
    """Ten frames of 32 x 48 at uneven times: white on the left, from black to grey on the right."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for i, hundredths in enumerate([0, 4, 8, 12, 30, 34, 38, 42, 46, 50]):
            array = np.full((32, 48, 3), 10 * i, np.uint8)
            array[:, :24] = 255
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = hundredths, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class TestVideo:
    def test_frame_by_frame(self, clip):
        maps = list(red(clip, batch=4))
        assert len(maps) == 10
        for i, disparity in enumerate(maps):
            assert disparity.shape == (32, 48)
            assert_allclose(disparity[8:24, 30:42], 10 * i / 255, atol=0.03)
            assert_allclose(disparity[8:24, 6:18], 1, atol=0.03)

    def test_written_with_its_times_and_steady_colours(self, clip, tmp_path):
        import av

        run = Predictor(model=Brightness(pair=True), short_side=32, batch=4, device="cpu")
        made = write_video(
            clip, tmp_path / "out", run=run, formats=("colour", "npy"), colours="gray", **SILENT
        )
        assert [p.name for p in made] == ["clip.colour.mp4", "clip"]
        assert files(tmp_path / "out") == {
            "predictions.json",
            "clip.colour.mp4",
            *(f"clip/{i:06d}.npy" for i in range(10)),
        }
        with av.open(str(made[0])) as container:
            frames = list(container.decode(video=0))
        assert [round(float(f.time), 2) for f in frames] == [
            0,
            0.04,
            0.08,
            0.12,
            0.3,
            0.34,
            0.38,
            0.42,
            0.46,
            0.5,
        ]
        right = np.array([f.to_ndarray(format="rgb24")[8:24, 30:42].mean() for f in frames])
        assert right[0] < 4
        assert 20 < right[-1] < 80, (
            "scaled frame by frame it would be black throughout, and unscaled it is 90"
        )

    def test_a_failed_clip_leaves_nothing(self, clip, tmp_path):
        class Broken(Brightness):
            def forward(self, images):
                return super().forward(images) * (torch.nan if self.seen else 1)

        run = Predictor(model=Broken(pair=False), short_side=32, batch=4, device="cpu")
        with pytest.raises(DataError, match=r"clip\.mp4, frame 0: the network gave NaN"):
            write_video(clip, tmp_path / "out", run=run, formats=("colour", "npy"), **SILENT)
        assert not files(tmp_path / "out")

    def test_the_range_follows_with_a_memory_of_a_second(self):
        assert follow(None, (1.0, 2.0), 0.0) == (1.0, 2.0)
        ends = (0.0, 1.0)
        for _ in range(50):
            ends = follow(ends, (1.0, 3.0), 0.02)
        assert ends == pytest.approx((1 - np.exp(-1), 1 + 2 * (1 - np.exp(-1))))

    def test_no_video(self, tmp_path, monkeypatch):
        (tmp_path / "a.mp4").write_text("no video")
        with pytest.raises(DataError, match=r"a\.mp4: damaged or no video"):
            list(red(tmp_path / "a.mp4"))
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(ConfigError, match=r"python -m pip install av"):
            list(red(tmp_path / "a.mp4"))


class TestCommandLine:
    def test_without_weights(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(paths, "shipped_weights", lambda: tmp_path / "none.safetensors")
        Image.fromarray(corner(16, 24)).save(tmp_path / "a.png")
        assert main(["predict", str(tmp_path / "a.png"), str(tmp_path / "out")]) == 1
        assert "weights: name a file, a folder or a hub id (--weights)" in capsys.readouterr().err

    def test_the_student_of_make_book_at_its_training_size(self, runs, tmp_path, lite0, capsys):
        from dabook.__main__ import main as book
        from dabook.runs import networks
        from dabook.runs.experiments import expand
        from dalib.training import launch

        with pytest.raises(CheckpointError):
            networks.student()
        plan = expand("main_table", profile="quick", seeds=1)
        for row in ("labelled_only", "full"):
            folder = launch.folder(plan[row].configs[0])
            models.save(lite0, folder / launch.WEIGHTS)
            assert networks.student() == folder / launch.WEIGHTS
            (folder / "job.json").write_text(json.dumps({"config": plan[row].configs[0].to_dict()}))
        assert training_size(networks.student()) == 64
        assert training_size(tmp_path / "elsewhere.pth") is None
        Image.fromarray(corner(16, 24)).save(tmp_path / "a.png")
        words = [
            str(tmp_path / "a.png"),
            str(tmp_path / "out"),
            "--format",
            "png16",
            "npy",
            "colour",
            "--device",
            "cpu",
        ]
        assert book(["student"]) == 0
        words += ["--weights", capsys.readouterr().out.strip()]
        assert main(["predict", *words]) == 0
        assert files(tmp_path / "out") == {"a.png", "a.npy", "a.colour.png", "predictions.json"}
        assert json.loads((tmp_path / "out" / "predictions.json").read_text())["short_side"] == 64
