"""Pictures as people have them: odd metadata, profiles, frames and names cost a line, never the
folder; what is passed over is named."""

import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from helpers.commands import prediction
from helpers.networks import Brightness
from helpers.pictures import ADOBE_RGB, DAMAGED, DISPLAY_P3, SRGB, clip, exif, picture, profile
from numpy.testing import assert_allclose
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dalib import models
from dalib.__main__ import main
from dalib.data.files import open_image, read_rgb
from dalib.data.listing import endings, list_folder
from dalib.data.metadata import PictureWarning
from dalib.data.photos import PhotoFolder
from dalib.errors import DataError
from dalib.predict import Predictor, predict, write_folder, write_images
from dalib.predict.prepare import prepare

SILENT = {"report": lambda line: None}


@pytest.fixture
def run():
    return Predictor(model=Brightness(pair=True), short_side=16, device="cpu")


def split(size=(24, 16)) -> Image.Image:
    """Left half red."""
    result = Image.new("RGB", size)
    result.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return result


def both_ways(path) -> torch.Tensor:
    """A file as a training reads it, after a look that a prediction reads it equally."""
    for_training = read_rgb(path)
    prepared = prepare(path, short_side=min(for_training.shape[1:]), multiple=1)
    assert prepared.size == tuple(for_training.shape[1:])
    assert_allclose(prepared.image, for_training / 255, atol=1e-6)
    return for_training


class TestMetadata:
    @pytest.mark.filterwarnings("error:Corrupt EXIF:UserWarning:dalib")
    @pytest.mark.parametrize("damage", DAMAGED)
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
    def test_damaged_exif_is_ignored_with_a_line(self, tmp_path, run, ending, damage):
        split().save(tmp_path / f"a.{ending}", exif=DAMAGED[damage])
        result = write_folder(tmp_path, tmp_path / "out", run=run, **SILENT)
        assert result.written == ["a"]
        assert result.notes.lines() == [
            f"damaged EXIF tags, which were ignored: {tmp_path}/a.{ending}"
        ]
        with pytest.warns(PictureWarning, match="damaged EXIF"):
            image = both_ways(tmp_path / f"a.{ending}")
        assert image[0, 8, 4] > 200 > 50 > image[0, 8, 20]

    @pytest.mark.parametrize("value", [0, 9, 65535], ids=str)
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
    def test_an_orientation_that_is_none_turns_nothing(self, tmp_path, ending, value):
        split().save(tmp_path / f"a.{ending}", exif=exif(value))
        image = both_ways(tmp_path / f"a.{ending}")
        assert image.shape == (3, 16, 24)
        assert image[0, 8, 4] > 200 > 50 > image[0, 8, 20]

    @pytest.mark.parametrize(
        "block", [exif(b"6\0", 2, 2), exif(6, 3, 2), exif(6, 7), exif(6, 1), exif(6, 11)], ids=str
    )
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
    def test_an_orientation_of_another_type(self, tmp_path, run, ending, block):
        split().save(tmp_path / f"a.{ending}", exif=block)
        assert write_folder(tmp_path, tmp_path / "out", run=run, **SILENT).written == ["a"]
        both_ways(tmp_path / f"a.{ending}")

    @pytest.mark.parametrize(
        ("value", "turns"), [("6", False), (99, False), ((6, 6), True), (6.0, True)]
    )
    def test_an_orientation_of_another_type_in_a_tiff(self, tmp_path, value, turns):
        from PIL import TiffImagePlugin

        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.tagtype[0x0112] = {str: 2, tuple: 3, float: 12, int: 3}[type(value)]
        tags[0x0112] = value
        split().save(tmp_path / "a.tif", tiffinfo=tags)
        image = both_ways(tmp_path / "a.tif")
        assert image.shape == ((3, 24, 16) if turns else (3, 16, 24))
        assert image[0, 2, 2] > 200, "red on the left, or above"
        assert image[0, -2, -2] < 50

    def test_damaged_chunks_of_a_png(self, tmp_path, run):
        """A text that unpacks to more than Pillow allows, and one with a wrong checksum; the turn
        is still followed."""
        info = PngInfo()
        info.add_text("big", "x" * 2_000_000, zip=True)
        info.add_text("small", "hello")
        split().save(tmp_path / "big.png", pnginfo=info, exif=exif())
        info = PngInfo()
        info.add_text("small", "hello")
        split().save(tmp_path / "sum.png", pnginfo=info)
        data = (tmp_path / "sum.png").read_bytes()
        (tmp_path / "sum.png").write_bytes(data.replace(b"hello", b"hallo"))
        result = write_folder(tmp_path, tmp_path / "out", run=run, **SILENT)
        assert result.written == ["big", "sum"]
        assert "damaged metadata" in result.notes.lines()[0]
        with pytest.warns(PictureWarning, match="damaged metadata"):
            assert both_ways(tmp_path / "big.png").shape == (3, 24, 16)
        with pytest.warns(PictureWarning, match="damaged metadata"):
            assert both_ways(tmp_path / "sum.png").shape == (3, 16, 24)

    def test_said_once_for_each_file_however_often_it_is_read(self, tmp_path):
        split().save(tmp_path / "a.png", exif=DAMAGED["garbage"])
        source = PhotoFolder(tmp_path)
        with warnings.catch_warnings(record=True, action="always") as heard:
            for _ in range(5):
                source[0]
        assert [str(w.message) for w in heard] == [
            f"{tmp_path}/a.png: damaged EXIF tags, which were ignored"
        ]

    def test_damaged_pixels_stay_an_error(self, tmp_path):
        split((200, 200)).save(tmp_path / "a.png", exif=DAMAGED["garbage"])
        data = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
        for read in (read_rgb, open_image, lambda path: prepare(path, short_side=8, multiple=1)):
            with pytest.raises(DataError, match=r"a\.png: truncated, damaged"):
                read(tmp_path / "a.png")


class TestColours:
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("times", [1, 12], ids=["as it is", "averaged on the way"])
    def test_a_wide_profile_is_followed(self, tmp_path, ending, times):
        """Pure green of Adobe RGB lies outside sRGB; (0, 144, 0) is about sRGB's (0, 145, 0) with
        less red."""
        stored = Image.new("RGB", (24 * times, 16 * times), (200, 100, 50))
        stored.save(tmp_path / f"a.{ending}", icc_profile=profile(ADOBE_RGB), quality=100)
        image = read_rgb(tmp_path / f"a.{ending}")
        linear = (np.array([200, 100, 50]) / 255) ** 2.19921875
        xyz = linear @ np.array(ADOBE_RGB)
        rgb = np.linalg.solve(np.array(SRGB).T, xyz).clip(0, 1)
        wanted = 255 * np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
        assert_allclose(image.float().mean((1, 2)), wanted, atol=3)
        assert abs(wanted[0] - 200) > 15, "ignored, it would be far off"
        seen = prepare(tmp_path / f"a.{ending}", short_side=16, multiple=1)
        assert_allclose(255 * seen.image.mean((1, 2)), wanted, atol=3)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
    def test_no_profile_and_srgbs_leave_every_bit(self, tmp_path, mode):
        noise = Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
        ).convert("RGB")
        stored = noise.convert(mode)
        stored.save(tmp_path / "none.png")
        own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        stored.save(tmp_path / "srgb.png", icc_profile=own if mode not in ("L", "LA") else None)
        assert torch.equal(read_rgb(tmp_path / "none.png"), read_rgb(tmp_path / "srgb.png"))
        layers = stored.convert("RGBA")
        flat = np.asarray(
            Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
        )
        assert torch.equal(
            read_rgb(tmp_path / "none.png"), torch.from_numpy(flat.copy()).permute(2, 0, 1)
        )

    @pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
    def test_other_modes_and_their_opacity(self, tmp_path, mode):
        colours = Image.new("RGB", (24, 16), (200, 100, 50))
        if mode != "P":
            colours.putalpha(0)
        else:
            colours = colours.quantize(4)
        wide = profile(DISPLAY_P3) if mode != "LA" else profile(gamma=1.0)
        colours.convert(mode).save(tmp_path / "a.png", icc_profile=wide)
        image = read_rgb(tmp_path / "a.png")
        if mode == "P":
            assert image[0, 0, 0] > 208, "red of P3 is redder than sRGB's"
        else:
            assert (image == 255).all(), "what is transparent shows white"

    def test_grey(self, tmp_path):
        """Half of the light, stored linearly as 128, is 188 in sRGB."""
        for times in (1, 12):
            Image.new("L", (24 * times, 16 * times), 128).save(
                tmp_path / "a.png", icc_profile=profile(gamma=1.0)
            )
            assert abs(int(read_rgb(tmp_path / "a.png")[1, 3, 3]) - 188) <= 2
            assert (
                abs(
                    float(255 * prepare(tmp_path / "a.png", short_side=16, multiple=1).image.mean())
                    - 188
                )
                < 2.5
            )
        deep = Image.fromarray(np.full((16, 24), 128 * 257, np.uint16))
        deep.save(tmp_path / "b.png", icc_profile=profile(gamma=1.0))
        assert abs(int(read_rgb(tmp_path / "b.png")[1, 3, 3]) - 188) <= 2

    @pytest.mark.parametrize(
        ("mode", "damage"),
        [
            ("RGB", b"nothing"),
            ("RGB", profile(gamma=1.8)),
            ("L", profile(ADOBE_RGB)),
            ("CMYK", profile(ADOBE_RGB)),
        ],
        ids=["garbage", "grey's for colours", "colours' for grey", "RGB's for CMYK"],
    )
    def test_a_profile_that_cannot_be_used_is_ignored_with_a_line(
        self, tmp_path, run, mode, damage
    ):
        Image.new(mode, (24, 16)).save(tmp_path / "a.tif")
        plain = read_rgb(tmp_path / "a.tif")
        Image.new(mode, (24, 16)).save(tmp_path / "a.tif", icc_profile=damage)
        result = write_folder(tmp_path, tmp_path / "out", run=run, **SILENT)
        assert "a colour profile that cannot be used" in result.notes.lines()[0]
        with pytest.warns(PictureWarning, match="colour profile"):
            assert torch.equal(read_rgb(tmp_path / "a.tif"), plain)


class TestFormats:
    @pytest.mark.parametrize(
        "ending",
        [
            "jfif",
            "jpe",
            "jp2",
            "gif",
            "tga",
            "dib",
            "pbm",
            "pnm",
            "ppm",
            "pcx",
            "sgi",
            "qoi",
            "avif",
            "apng",
            "mpo",
        ],
    )
    def test_what_pillow_reads_is_predicted(self, tmp_path, run, ending):
        if f".{ending}" not in Image.registered_extensions():
            pytest.skip("this build of Pillow does not know it")
        stored = split().convert("1") if ending == "pbm" else split()
        stored.save(tmp_path / f"a.{ending}", format={"dib": "DIB", "qoi": "QOI"}.get(ending))
        assert write_folder(tmp_path, tmp_path / "out", run=run, **SILENT).written == ["a"]
        assert len(PhotoFolder(tmp_path)) == 1

    def test_everything_else_is_named_and_photographs_among_it_are_an_error(self, tmp_path, capsys):
        photos = tmp_path / "photos"
        (photos / "docs").mkdir(parents=True)
        picture().save(photos / "a.jpg")
        others = [
            "b.HEIC",
            "c.nef",
            "d.hdr",
            "e.pfm",
            "f.exr",
            "g.svg",
            "h.pdf",
            "i.mp4",
            "docs/j.txt",
            "k.mts",
            ".l.png",
        ]
        for name in others:
            (photos / name).write_bytes(b"x")
        models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
        words = prediction(photos, tmp_path / "out", tmp_path / "net.safetensors")
        assert main(words) == 1
        told = capsys.readouterr()
        assert "1 predicted" in told.out
        for name in others:
            assert name in told.out + told.err
        assert (
            "no known white (save them with 8 or 16 bits a channel): d.hdr, e.pfm, f.exr"
            in told.err
        )
        for name in ("b.HEIC", "c.nef", "d.hdr"):
            (photos / name).unlink()
        for name in ("e.pfm", "f.exr"):
            (photos / name).unlink()
        assert main(words) == 0, "clips and texts are no photographs without a map"
        assert (
            "clips, not predicted (name one by itself to predict it): i.mp4, k.mts"
            in capsys.readouterr().out
        )

    def test_ten_thousand_names_are_counted_and_not_listed(self, tmp_path):
        for i in range(300):
            (tmp_path / f"{i:03d}.heic").touch()
        (tmp_path / "a.png").touch()
        found = list_folder(tmp_path)
        assert found.missed.lines()[0].endswith(
            "000.heic, 001.heic, 002.heic, 003.heic, 004.heic and 295 more"
        )
        with pytest.warns(PictureWarning, match="and 295 more"):
            PhotoFolder(tmp_path)

    @pytest.mark.parametrize(
        ("name", "head", "message"),
        [
            ("a.nef", b"II*\0", "a camera's raw file; develop it"),
            ("a.jpg", b"\0\0\0\x18ftypheic", "is a HEIC picture"),
            ("a.hdr", b"#?RADIANCE\n", "no known white"),
            ("a.png", b"", "truncated, damaged or not an image"),
            (
                "a.eps",
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
                "not an image .Pillow knows no such format",
            ),
        ],
    )
    def test_one_alone_says_what_it_is(self, tmp_path, name, head, message):
        (tmp_path / name).write_bytes(head + bytes(40) if head else b"")
        with pytest.raises(DataError, match=rf"{name}: .*{message}"):
            predict(tmp_path / name, model=Brightness(pair=True), short_side=16, device="cpu")

    @pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif", "mpo", "avif"])
    def test_further_frames_are_told(self, tmp_path, run, ending):
        path = tmp_path / f"a.{ending}"
        split().save(path, save_all=True, append_images=[Image.new("RGB", (24, 16), "blue")] * 2)
        result = write_folder(tmp_path, tmp_path / "out", run=run, **SILENT)
        assert result.notes.lines() == [f"several frames, of which only the first was read: {path}"]
        with pytest.warns(PictureWarning, match="several frames"):
            image = read_rgb(path)
        assert image[0, 8, 4] > 200, "the first"

    @pytest.mark.parametrize(
        "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16"]
    )
    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 2), (24, 16)], ids=str)
    def test_every_mode_and_shape(self, mode, size):
        made = Image.new(mode, size)
        disparity = predict(made, model=Brightness(pair=True), short_side=8, device="cpu")
        assert disparity.shape == size[::-1]
        white = mode in ("LA", "RGBA", "CMYK")  # without ink, or transparent before white
        assert_allclose(disparity, torch.full(size[::-1], float(white)), atol=1e-6)


class TestNames:
    def test_names_that_are_no_utf8(self, tmp_path, capsys):
        photos = tmp_path / "photos"
        photos.mkdir()
        picture().save(photos / "plain.jpg")
        try:
            shutil.copy(photos / "plain.jpg", os.fsencode(photos) + b"/caf\xe9.jpg")
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        with open(os.fsencode(photos) + b"/bad\xe9.png", "wb") as file:
            file.write(b"no picture")
        models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
        words = prediction(photos, tmp_path / "out", tmp_path / "net.safetensors")
        for counts in ("2 predicted, 0 kept", "0 predicted, 2 kept"):
            assert main(words) == 1, "one of them is no picture"
            told = capsys.readouterr()
            assert counts in told.out
            assert r"bad\udce9.png: truncated" in told.err
        assert os.path.exists(os.fsencode(tmp_path / "out") + b"/caf\xe9.png")
        source = PhotoFolder(photos)
        int(source.fingerprint, 16)
        assert sorted(source[i]["name"] for i in (1, 2)) == [r"caf\udce9.jpg", "plain.jpg"]

    @pytest.mark.parametrize("formats", [("png16",), ("npy", "colour")])
    def test_a_name_as_long_as_the_disk_allows(self, tmp_path, run, formats):
        (tmp_path / "in").mkdir()
        for name in ("a", "n" * 246, "z"):
            picture().save(tmp_path / "in" / f"{name}.jpg")
        result = write_folder(tmp_path / "in", tmp_path / "out", run=run, formats=formats, **SILENT)
        assert {"a", "z"} <= set(result.written)
        if "colour" in formats:
            assert "no file can have this name" in result.failed["n" * 246]
        else:
            assert "n" * 246 in result.written

    def test_links_and_odd_files(self, tmp_path, run):
        photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
        (photos / "sub").mkdir(parents=True)
        elsewhere.mkdir()
        (photos / "folder.jpg").mkdir()
        picture().save(elsewhere / "b.png")
        picture().save(photos / "sub" / "a.png")
        (photos / "file.png").symlink_to(elsewhere / "b.png")
        (photos / "linked").symlink_to(elsewhere)
        (photos / "sub" / "round").symlink_to(photos)
        (photos / "sub" / "up").symlink_to(tmp_path)
        (elsewhere / "back").symlink_to(photos)
        (photos / "gone.png").symlink_to(tmp_path / "nothing")
        result = write_folder(photos, tmp_path / "out", run=run, **SILENT)
        assert result.written == ["file", "linked/b", "sub/a"]
        assert "links to nothing (correct or remove them): gone.png" in result.missed.lines()
        (line,) = [line for line in result.passed_over.lines() if "links to folders" in line]
        assert {"sub/round", "sub/up", "linked/back"} <= set(line.split(": ")[1].split(", "))

    def test_a_file_that_vanishes_or_cannot_be_read_fails_alone(self, tmp_path, run, monkeypatch):
        images = {name[0]: tmp_path / name for name in ("a.png", "b.png", "c.bmp")}
        for path in images.values():
            picture().save(path)
        images["b"].unlink()

        def load(self):
            raise IndexError("of a kind that nobody foresaw")

        monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", load, raising=False)
        result = write_images(images, tmp_path / "out", run=run, **SILENT)
        assert result.written == ["a"]
        assert "b.png" in result.failed["b"]
        assert "c.bmp: truncated, damaged" in result.failed["c"]


def test_no_ending_is_of_a_clip_or_a_drawing():
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp"} <= endings()
    assert not endings() & {
        ".pdf",
        ".eps",
        ".ps",
        ".svg",
        ".h5",
        ".mpg",
        ".mpeg",
        ".pfm",
        ".hdr",
        ".ico",
        ".wmf",
    }


def test_a_clip_among_photographs_is_named(tmp_path, run):
    pytest.importorskip("av")
    picture().save(tmp_path / "a.jpg")
    clip(tmp_path / "film.mp4", [(32, 48)] * 2)
    result = write_folder(tmp_path, tmp_path / "out", run=run, **SILENT)
    assert result.passed_over.lines() == [
        "clips, not predicted (name one by itself to predict it): film.mp4"
    ]
