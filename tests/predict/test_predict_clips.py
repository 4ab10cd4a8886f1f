"""Clips as people have them: known by their content, and what comes before a damage is kept."""

import os
import struct

import numpy as np
import pytest
import torch
from helpers.networks import Brightness
from helpers.pictures import clip, picture

from dalib import models
from dalib.__main__ import main
from dalib.errors import ConfigError, DataError
from dalib.predict import Predictor, is_video, predict, write_video

av = pytest.importorskip("av")

SILENT = {"report": lambda line: None}
SMALL = (32, 48)


@pytest.fixture
def run():
    return Predictor(model=Brightness(pair=True), short_side=16, batch=4, device="cpu")


def names(folder) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


class TestWhatIsAClip:
    @pytest.mark.parametrize(
        ("ending", "kind", "codec"),
        [
            ("mts", "mpegts", "mpeg2video"),
            ("ts", "mpegts", "mpeg2video"),
            ("wmv", "asf", "wmv2"),
            ("3gp", "3gp", "mpeg4"),
            ("flv", "flv", "flv1"),
            ("ogv", "matroska", "mpeg4"),
            ("MP4", "mp4", "mpeg4"),
            ("data", "matroska", "mpeg4"),
            ("", "avi", "mpeg4"),
        ],
    )
    def test_whatever_its_ending(self, tmp_path, run, ending, kind, codec):
        path = tmp_path / f"film.{ending}".rstrip(".")
        with av.open(str(path), "w", format=kind) as container:
            stream = container.add_stream(codec, rate=24)
            stream.height, stream.width, stream.pix_fmt = *SMALL, "yuv420p"
            for i in range(6):
                pixels = np.full((*SMALL, 3), 30 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        assert is_video(path)
        write_video(path, tmp_path / "out", run=run, formats=("npy",), **SILENT)
        assert names(tmp_path / "out") == [
            *(f"film/{i:06d}.npy" for i in range(6)),
            "predictions.json",
        ]

    def test_an_animated_gif_is_one_and_other_pictures_are_none(self, tmp_path):
        frames = [picture(v) for v in (10, 90, 200)]
        for ending in ("gif", "png", "webp", "tif"):
            frames[0].save(
                tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=100
            )
            assert is_video(tmp_path / f"a.{ending}") == (ending == "gif")
        maps = list(
            predict(tmp_path / "a.gif", model=Brightness(pair=True), short_side=16, device="cpu")
        )
        assert [round(float(m.mean()) * 255, -1) for m in maps] == [10, 90, 200]
        picture().save(tmp_path / "still.gif")
        assert not is_video(tmp_path / "still.gif")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.txt", b"hello " * 99),
            ("a.nfo", b"hello " * 99),
            ("a.heic", b"\0\0\0\x18ftypheic" + bytes(99)),
            ("a", b""),
            ("a.jpg", b"\xff\xd8 nothing"),
            ("a.npy", b"\x93NUMPY" + bytes(99)),
        ],
    )
    def test_what_is_none(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        assert not is_video(tmp_path / name)

    @pytest.mark.parametrize(
        "name", [b"caf\xe9.mp4", b"a:b.mp4", b"-f.mp4", b"%03d.mp4", b"file:x.mp4"], ids=repr
    )
    def test_names_that_ffmpeg_would_take_for_something_else(self, tmp_path, run, name):
        clip(tmp_path / "film.mp4", [SMALL] * 2)
        path = tmp_path / os.fsdecode(name)
        try:
            os.rename(tmp_path / "film.mp4", path)
        except OSError:
            pytest.skip("this file system takes no such name")
        assert (
            len(write_video(path, tmp_path / "out", run=run, formats=("png16", "colour"), **SILENT))
            == 2
        )
        assert len(names(tmp_path / "out")) == 4


class TestOddClips:
    def test_sizes_that_change_on_the_way(self, tmp_path, run):
        """Two clips joined, as television does: each map has its frame's size, the coloured clip
        the first one's."""
        joined = tmp_path / "joined.ts"
        parts = [
            clip(tmp_path / f"{h}.ts", [(h, 48)] * 3, codec="mpeg2video", format="mpegts")
            for h in (32, 64)
        ]
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        write_video(joined, tmp_path / "out", run=run, formats=("npy", "colour"), **SILENT)
        shapes = [np.load(path).shape for path in sorted((tmp_path / "out" / "joined").iterdir())]
        assert shapes == sorted(shapes)
        assert set(shapes) == {(32, 48), (64, 48)}
        with av.open(str(tmp_path / "out" / "joined.colour.mp4")) as container:
            frames = list(container.decode(video=0))
        assert [(f.height, f.width) for f in frames] == [(32, 48)] * len(shapes)
        times = [f.time for f in frames]
        assert times == sorted(set(times)), "time goes on though it goes back in the second part"

    @pytest.mark.parametrize("shape", [(1, 3), (1, 1), (1, 40)], ids=str)
    def test_frames_too_small_for_a_coloured_clip_keep_their_maps(self, tmp_path, run, shape):
        clip(tmp_path / "tiny.mkv", [shape] * 2, codec="ffv1")
        with pytest.raises(
            ConfigError, match=rf"frames of {shape[1]} x {shape[0]} pixels .* its maps are in"
        ):
            write_video(
                tmp_path / "tiny.mkv",
                tmp_path / "out",
                run=run,
                formats=("npy", "colour"),
                **SILENT,
            )
        assert names(tmp_path / "out") == ["predictions.json", "tiny/000000.npy", "tiny/000001.npy"]
        assert np.load(tmp_path / "out" / "tiny" / "000000.npy").shape == shape

    def test_what_comes_before_a_damage_is_kept(self, tmp_path, capsys):
        noise = np.random.default_rng(0)
        path = tmp_path / "film.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=6)
            stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p"
            for _ in range(9):
                pixels = noise.integers(0, 256, (64, 96, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        data = bytearray(path.read_bytes())
        fifth = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"][5]
        data[fifth : fifth + 700] = bytes(700)
        path.write_bytes(data)
        models.save(models.build("lite0", seed=0), tmp_path / "net.safetensors")
        words = [
            "--weights",
            str(tmp_path / "net.safetensors"),
            "--device",
            "cpu",
            "--format",
            "npy",
            "colour",
        ]
        assert main(["predict", str(path), str(tmp_path / "out"), *words]) == 1
        told = capsys.readouterr().err
        assert "film.avi: damaged after frame 4" in told
        assert "what came before it is in" in told
        assert "Traceback" not in told
        assert [n for n in names(tmp_path / "out") if n.startswith("film/")] == [
            f"film/{i:06d}.npy" for i in range(5)
        ]
        with av.open(str(tmp_path / "out" / "film.colour.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5

    def test_sound_alone(self, tmp_path, run):
        with av.open(str(tmp_path / "sound.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with pytest.raises(DataError, match=r"sound\.mp4: holds no video"):
            write_video(tmp_path / "sound.mp4", tmp_path / "out", run=run, **SILENT)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("matrix", "corner"),
        [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
        ids=str,
    )
    def test_a_clip_is_turned_by_its_display_matrix(self, tmp_path, matrix, corner):
        """A quarter to the right, half a turn, a quarter to the left: where the top left corner,
        which is white, goes."""
        path = tmp_path / "film.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=6, options={"crf": "1"})
            stream.height, stream.width, stream.pix_fmt = *SMALL, "yuv420p"
            pixels = np.zeros((*SMALL, 3), np.uint8)
            pixels[:16, :24] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        data = bytearray(path.read_bytes())
        place = data.index(b"tkhd") + 4 + 40  # version and flags, then what lies before the matrix
        a, b, c, d = (int(v) * 65536 for v in matrix)
        data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(data)
        (disparity,) = predict(path, model=Brightness(pair=True), short_side=32, device="cpu")
        assert disparity.shape == ((32, 48) if matrix[0] else (48, 32))
        quarters = disparity.unflatten(0, (2, -1)).unflatten(2, (2, -1)).mean((1, 3))
        wanted = torch.zeros(2, 2)
        wanted[corner] = 1
        assert torch.allclose(quarters, wanted, atol=0.1)

    def test_text_in_another_encoding(self, tmp_path, run):
        clip(tmp_path / "film.avi", [SMALL] * 2)
        data = (tmp_path / "film.avi").read_bytes()
        start = data.index(b"Lavf")
        (tmp_path / "film.avi").write_bytes(data[:start] + b"\xe9\xff" + data[start + 2 :])
        (maps,) = write_video(
            tmp_path / "film.avi", tmp_path / "out", run=run, formats=("npy",), **SILENT
        )
        assert sorted(p.name for p in maps.iterdir()) == ["000000.npy", "000001.npy"]
        assert np.load(maps / "000001.npy").shape == SMALL
