"""A video file to a coloured video, and to one map per frame where asked for; streamed, so that its length costs no memory.

The colours of a frame span the 2nd to the 98th percentile of its disparity. Taken frame by frame they would flicker, over the
whole clip they would need two passes: here both ends follow the frames as an exponential mean with a memory of `MEMORY_S`
seconds. A cut to another scene is caught up with in about that time. Relative disparity has a scale and a shift of its own in
each frame; steady colours make it look steadier than it is.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalib.errors import ConfigError, DataError
from dalib.evaluation.run import resize_disparity
from dalib.predict.outputs import COLOURS, indices, palette, save, shown_range, targets, whole
from dalib.predict.prepare import Prepared
from dalib.predict.run import Predictor, finite

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
MEMORY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Frame(Prepared):
    """A frame and when it is shown, in seconds from the first one."""

    time: Fraction


def is_video(path: str | Path) -> bool:
    """Whether a name ends as a video's."""
    return Path(path).suffix.lower() in SUFFIXES


def video_maps(path: Path, run: Predictor) -> Iterator[tuple[Frame, Float[Tensor, "h w"]]]:
    """Each frame, upright, with its map at the network's size.

    Raises:
        ConfigError: PyAV is missing.
        DataError: a file that is missing, damaged, or holds no video.
    """
    frames = _frames(path, run)
    while group := list(islice(frames, run.batch)):
        for frame, disparity in zip(group, run(group), strict=True):
            yield frame, finite(disparity, frame.name)


def write_video(
    path: Path,
    out: Path,
    *,
    run: Predictor,
    formats: tuple[str, ...] = ("colour",),
    colours: str = COLOURS,
    report: Callable[[str], None] = print,
) -> list[Path]:
    """Write `NAME.colour.mp4`, and for "png16" and "npy" a folder `NAME` of one file per frame.

    Each appears when the whole clip is done. The coloured video has the clip's frame times, no sound, and even sides (H.264 needs
    them: an odd last row or column is dropped).

    Args:
        path: the clip.
        out: the folder for the results.
        run: the network.
        formats: any of "colour", "png16", "npy".
        colours: a Matplotlib colour map.
        report: gets a line every few seconds.

    Returns:
        What was written.
    """
    per_frame, table = tuple(f for f in formats if f != "colour"), palette(colours) if "colour" in formats else None
    targets(path, formats)  # an unknown format should fail at once
    folder, clip = out / path.stem, out / f"{path.stem}.colour.mp4"
    partial_folder = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)

    def frames() -> Iterator[tuple[Frame, np.ndarray]]:
        """Colour indices (H, W) of each frame; the maps are written on the way."""
        ends, before, told, begun = None, Fraction(0), time.perf_counter(), time.perf_counter()
        for i, (frame, disparity) in enumerate(video_maps(path, run)):
            if per_frame:
                files = targets(partial_folder / f"{i:06d}", per_frame)
                save(disparity, frame.size, files, kind=run.kind, max_depth=run.max_depth)
            if table is not None:
                ends = follow(ends, shown_range(disparity, run.kind), float(frame.time - before))
                before = frame.time
                full = resize_disparity(disparity[None], frame.size)[0]
                yield frame, indices(full.numpy(), run.kind, ends)
            if time.perf_counter() - told > 2:
                told = time.perf_counter()
                report(
                    f"{path.name}: {i + 1} frames, {float(frame.time):.1f} s of the clip, {(i + 1) / (told - begun):.1f}/s"
                )

    try:
        if table is None:
            for _ in frames():
                pass
        else:
            with whole(clip) as unfinished:
                _encode(unfinished, frames(), table)
        if per_frame:
            shutil.rmtree(folder, ignore_errors=True)
            partial_folder.rename(folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return [clip] * (table is not None) + [folder] * bool(per_frame)


def follow(ends: tuple[float, float] | None, seen: tuple[float, float], seconds: float) -> tuple[float, float]:
    """The running range after a frame that shows `seen`, `seconds` after the one before it."""
    if ends is None:
        return seen
    keep = math.exp(-max(seconds, 0) / MEMORY_S)
    return tuple(keep * old + (1 - keep) * new for old, new in zip(ends, seen, strict=True))


def _av():
    try:
        import av
    except ImportError as error:
        raise ConfigError("video needs PyAV, which is not installed: python -m pip install av") from error
    return av


def _frames(path: Path, run: Predictor) -> Iterator[Frame]:
    av = _av()
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video; name a clip, or an image")
            stream, first = container.streams.video[0], None
            stream.thread_type = "AUTO"
            gap = 1 / (stream.average_rate or Fraction(25))
            for i, frame in enumerate(container.decode(stream)):
                moment = i * gap if frame.pts is None else frame.pts * frame.time_base
                first = moment if first is None else first
                upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))  # anticlockwise
                item = run.prepare(np.ascontiguousarray(upright), name=f"{path.name}, frame {i}")
                yield Frame(name=item.name, image=item.image, size=item.size, time=Fraction(moment - first))
    except av.FFmpegError as error:
        raise DataError(f"{path}: damaged or no video ({error}); replace it") from error
    if first is None:
        raise DataError(f"{path}: holds no frame; replace it")


def _encode(path: Path, frames: Iterator[tuple[Frame, np.ndarray]], table: np.ndarray) -> None:
    """H.264 in MP4, in ticks of 1/90000 s, so that frames keep their times."""
    av, tick = _av(), Fraction(1, 90_000)
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for frame, places in frames:
            height, width = (side - side % 2 for side in places.shape)
            if stream is None:
                stream = container.add_stream("libx264", options={"crf": "18"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = tick
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(table[places[:height, :width]]), format="rgb24")
            picture.pts, picture.time_base = round(frame.time / tick), tick
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
