"""A video file to a coloured video, and to one map per frame where asked for; streamed, so that its
length costs no memory.

The colours of a frame span the 2nd to the 98th percentile of its disparity. Taken frame by frame
they would flicker, over the whole clip they would need two passes: here both ends follow the frames
as an exponential mean with a memory of `MEMORY_S` seconds. A cut to another scene is caught up with
in about that time. Relative disparity has a scale and a shift of its own in each frame; steady
colours make it look steadier than it is.
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np

from dalib.data.metadata import shown
from dalib.errors import ConfigError, DataError, DiskError
from dalib.models.sizes import resize_disparity
from dalib.predict.folder import check_settings, is_same
from dalib.predict.frames import need_av, video_maps
from dalib.predict.ledger import Ledger, origin
from dalib.predict.outputs import COLOURS, OF_FRAMES, indices, palette, save, shown_range, targets
from dalib.predict.run import Predictor
from dalib.writing import whole

MEMORY_S = 1.0


def check_video(path: Path, out: Path, *, formats: tuple[str, ...]) -> None:
    """See that the maps of a clip may be written to `out`: what can be known before a network is
    loaded.

    Raises:
        ConfigError: PyAV is missing; `out` cannot be a folder for results, is the clip's own, or
            holds what is not ours where the maps have to go.
    """
    need_av()
    with Ledger(out) as ledger:
        _checked(path, out, formats, ledger)


def _checked(
    path: Path, out: Path, formats: tuple[str, ...], ledger: Ledger
) -> tuple[Path, Path, tuple[str, ...]]:
    """The folder of maps, the coloured clip, and the formats that are written frame by frame."""
    targets(path, formats)  # an unknown format should fail at once
    if others := ", ".join(name for name in formats if name not in OF_FRAMES):
        raise ConfigError(
            f"format {others}: is for photographs, not for a video; take its frames as images"
        )
    if is_same(path.parent, out):
        raise ConfigError(f"{out}: is the folder of the clip itself; name another one for its maps")
    folder = out / path.stem
    clip = out / f"{path.stem}.colour.mp4"
    per_frame = tuple(name for name in formats if name != "colour")
    if "colour" in formats:
        ledger.check_files([clip], path)
    if per_frame and os.path.lexists(folder):
        ledger.check_folders([folder])
        if not folder.is_dir():
            raise ConfigError(
                f"{folder}: is there already, and no folder for the maps of {path}; "
                "choose another one"
            )
        ledger.check_files(sorted(folder.iterdir()), path)
    return folder, clip, per_frame


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

    The coloured video appears when it is complete, a frame's map as soon as it is predicted. It has
    the clip's frame times, no sound, and even sides (H.264 needs them: an odd last row or column is
    dropped); if the clip changes its size on the way, it keeps the first. Maps that an earlier run
    made of this clip are removed first.

    Args:
        path: the clip.
        out: the folder for the results. `predictions.json` there lists them.
        run: the network.
        formats: any of "colour", "png16", "npy".
        colours: a Matplotlib colour map.
        report: gets a line every few seconds.

    Returns:
        What was written.

    Raises:
        ConfigError: `out` holds what is not ours in these places, or maps that were made otherwise;
            frames too small to be shown.
        DataError: a clip that is damaged. What came before the damage is written.
    """
    table = palette(colours) if "colour" in formats else None
    name = shown(path.name)
    with Ledger(out) as ledger:
        folder, clip, per_frame = _checked(path, out, formats, ledger)
        check_settings(ledger, run, colours)
        made_of = origin(path)
        if per_frame:
            ledger.remove(ledger.ours(folder))

        # the first frame, by which it shows whether there is anything to colour
        frames = video_maps(path, run)
        first = next(frames)
        failure: Exception | None = None
        if table is not None and min(first[0].size) < 2:
            size = " x ".join(map(str, reversed(first[0].size)))
            kept = f"; its maps are in {folder}" if per_frame else ""
            failure = ConfigError(
                f"{path}: frames of {size} pixels are too small for --format colour, leave it "
                f"out{kept}"
            )
            table = None

        # frame by frame
        told = begun = time.perf_counter()
        count = 0
        ends = None
        before = Fraction(0)
        with ExitStack() as stack:
            if table is not None:
                ledger.claim([clip])
                partial = stack.enter_context(whole(clip))
                coloured = stack.enter_context(_ColouredClip(partial, table))
            try:
                for frame, disparity in chain([first], frames):
                    for line in run.news():
                        report(line)
                    if per_frame:
                        files = targets(folder / f"{count:06d}", per_frame)
                        ledger.claim(files.values())
                        save(disparity, frame.size, files, kind=run.kind, max_depth=run.max_depth)
                        ledger.written(files.values(), made_of)
                    if table is not None:
                        seen = shown_range(disparity, run.kind)
                        ends = follow(ends, seen, float(frame.time - before))
                        before = frame.time
                        full = resize_disparity(disparity[None], frame.size)[0]
                        coloured.add(indices(full.numpy(), run.kind, ends), frame.time)
                    count += 1
                    if time.perf_counter() - told > 2:
                        told = time.perf_counter()
                        speed = f"{count / (told - begun):.1f}/s"
                        report(
                            f"{name}: {count} frames, {float(frame.time):.1f} s of the clip, "
                            f"{speed}"
                        )
            except DiskError:
                raise
            except DataError as error:
                failure = DataError(f"{error}; what came before it is in {out}: {count} frames")
        if table is not None:
            ledger.written([clip], made_of)
    if failure:
        raise failure
    return [clip] * (table is not None) + [folder] * bool(per_frame)


def follow(
    ends: tuple[float, float] | None, seen: tuple[float, float], seconds: float
) -> tuple[float, float]:
    """The running range after a frame that shows `seen`, `seconds` after the one before it."""
    if ends is None:
        return seen
    keep = math.exp(-max(seconds, 0) / MEMORY_S)
    return tuple(keep * old + (1 - keep) * new for old, new in zip(ends, seen, strict=True))


class _ColouredClip:
    """H.264 in MP4, in ticks of 1/90000 s, so that frames keep their times. A context manager."""

    TICK = Fraction(1, 90_000)

    def __init__(self, path: Path, table: np.ndarray) -> None:
        self.table = table
        self.stream = None
        self.last = -1
        self.container = need_av().open(os.path.abspath(path), "w", format="mp4")

    def __enter__(self) -> "_ColouredClip":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._encode(None)
        finally:
            self.container.close()

    def add(self, places: np.ndarray, time: Fraction) -> None:
        """One frame: colour indices (H, W), shown at `time` or, where clips were joined and time
        goes back, just behind the last."""
        height, width = (side - side % 2 for side in places.shape)
        if self.stream is None:
            self.stream = self.container.add_stream("libx264", options={"crf": "18"})
            self.stream.width = width
            self.stream.height = height
            self.stream.pix_fmt = "yuv420p"
            self.stream.codec_context.time_base = self.TICK
        pixels = np.ascontiguousarray(self.table[places[:height, :width]])
        picture = need_av().VideoFrame.from_ndarray(pixels, format="rgb24")
        if (width, height) != (self.stream.width, self.stream.height):
            picture = picture.reformat(width=self.stream.width, height=self.stream.height)
        self.last = max(round(time / self.TICK), self.last + 1)
        picture.pts = self.last
        picture.time_base = self.TICK
        self._encode(picture)

    def _encode(self, picture) -> None:
        """A frame, or None for those that the encoder still holds."""
        try:
            self.container.mux(self.stream.encode(picture))
        except need_av().FFmpegError as error:
            if isinstance(error, OSError):  # of the disk
                raise
            size = f"{self.stream.width} x {self.stream.height}"
            raise DataError(
                f"frames of {size} pixels cannot be encoded ({error}); leave out the format colour"
            ) from error
