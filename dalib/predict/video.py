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
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalib.data.listing import CLIPS, ending
from dalib.data.metadata import has_frames, open_header, shown
from dalib.errors import ConfigError, DataError, DiskError
from dalib.evaluation.run import resize_disparity
from dalib.predict.folder import check_settings, is_same
from dalib.predict.ledger import Ledger, origin
from dalib.predict.outputs import COLOURS, indices, palette, save, shown_range, targets
from dalib.predict.prepare import Prepared, refusal
from dalib.predict.run import Predictor, finite, network_error
from dalib.writing import whole

MEMORY_S = 1.0
STILLS = ("_pipe", "image2", "tty")
"""FFmpeg's readers of single pictures, and of text as if a terminal showed it: what they open is no
clip."""


@dataclass(frozen=True, kw_only=True)
class Frame(Prepared):
    """A frame and when it is shown, in seconds from the first one."""

    time: Fraction


def is_video(path: str | Path) -> bool:
    """Whether a file is a clip: by its ending where that is a clip's, else by what Pillow and PyAV
    say of its content.

    An animated GIF is one; other pictures of several frames are photographs.
    """
    path = Path(path)
    if not path.is_file():
        return False
    if ending(path.name) in CLIPS:
        return True
    try:
        with warnings.catch_warnings(action="ignore"), open_header(path) as picture:
            return picture.format == "GIF" and has_frames(picture)
    except Exception:  # no picture, or a damaged one
        return refusal(path) is None and _holds_video(path)


def _holds_video(path: Path) -> bool:
    """Whether PyAV, if it is there, finds a video in a file."""
    try:
        av = _av()
        with _opened(path) as container:
            return bool(container.streams.video) and not container.format.name.endswith(STILLS)
    except (ConfigError, av.FFmpegError):
        return False


def video_maps(path: Path, run: Predictor) -> Iterator[tuple[Frame, Float[Tensor, "h w"]]]:
    """Each frame, upright, with its map at the network's size.

    Raises:
        ConfigError: PyAV is missing.
        DataError: a file that is missing, damaged, or holds no video. The frames before the damage
            come first.
    """
    for group in _batches(_frames(path, run), run.batch):
        try:
            maps = run(group)
        except RuntimeError as error:
            raise DataError(f"{group[0].name}: {network_error(error)}") from error
        for frame, disparity in zip(group, maps, strict=True):
            yield frame, finite(disparity, frame.name)


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    """Frames that follow each other and have one network size. What came before an error is not
    lost by it."""
    group: list[Frame] = []
    failure = None
    try:
        for frame in frames:
            if group and (len(group) == size or frame.image.shape != group[0].image.shape):
                yield group
                group = []
            group.append(frame)
    except DataError as error:
        failure = error
    if group:
        yield group
    if failure:
        raise failure


def check_video(path: Path, out: Path, *, formats: tuple[str, ...]) -> None:
    """See that the maps of a clip may be written to `out`: what can be known before a network is
    loaded.

    Raises:
        ConfigError: PyAV is missing; `out` cannot be a folder for results, is the clip's own, or
            holds what is not ours where the maps have to go.
    """
    _av()
    with Ledger(out) as ledger:
        _checked(path, out, formats, ledger)


def _checked(
    path: Path, out: Path, formats: tuple[str, ...], ledger: Ledger
) -> tuple[Path, Path, tuple[str, ...]]:
    """The folder of maps, the coloured clip, and the formats that are written frame by frame."""
    targets(path, formats)  # an unknown format should fail at once
    if is_same(path.parent, out):
        raise ConfigError(f"{out}: is the folder of the clip itself; name another one for its maps")
    folder, clip = out / path.stem, out / f"{path.stem}.colour.mp4"
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
        told = begun = time.perf_counter()
        count, ends, before = 0, None, Fraction(0)
        with ExitStack() as stack:
            if table is not None:
                ledger.claim([clip])
                coloured = stack.enter_context(
                    _ColouredClip(stack.enter_context(whole(clip)), table)
                )
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
                        ends = follow(
                            ends, shown_range(disparity, run.kind), float(frame.time - before)
                        )
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


def _av():
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            "video needs PyAV, which is not installed: python -m pip install av"
        ) from error
    return av


def _opened(path: Path):
    """A container. An absolute path is no protocol of FFmpeg's; a name that is not UTF-8 is opened
    for it."""
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return _av().open(path.open("rb"), metadata_errors="replace")
    return _av().open(name, metadata_errors="replace")


def _frames(path: Path, run: Predictor) -> Iterator[Frame]:
    av = _av()
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path")
    first, count = None, 0
    try:
        with _opened(path) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video; name a clip, or an image")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            gap = 1 / (stream.average_rate or Fraction(25))
            for frame in container.decode(stream):
                moment = count * gap if frame.pts is None else frame.pts * frame.time_base
                first = moment if first is None else first
                # anticlockwise
                upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                item = run.prepare(
                    np.ascontiguousarray(upright), name=f"{path.name}, frame {count}"
                )
                count += 1
                yield Frame(
                    name=item.name, image=item.image, size=item.size, time=Fraction(moment - first)
                )
    except av.FFmpegError as error:
        where = f"damaged after frame {count - 1}" if count else "damaged or no video"
        raise DataError(f"{path}: {where} ({error}); replace it") from error
    if first is None:
        raise DataError(f"{path}: holds no frame; replace it")


class _ColouredClip:
    """H.264 in MP4, in ticks of 1/90000 s, so that frames keep their times. A context manager."""

    TICK = Fraction(1, 90_000)

    def __init__(self, path: Path, table: np.ndarray) -> None:
        self.table = table
        self.stream = None
        self.last = -1
        self.container = _av().open(os.path.abspath(path), "w", format="mp4")

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
            self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
            self.stream.codec_context.time_base = self.TICK
        pixels = np.ascontiguousarray(self.table[places[:height, :width]])
        picture = _av().VideoFrame.from_ndarray(pixels, format="rgb24")
        if (width, height) != (self.stream.width, self.stream.height):
            picture = picture.reformat(width=self.stream.width, height=self.stream.height)
        self.last = max(round(time / self.TICK), self.last + 1)
        picture.pts, picture.time_base = self.last, self.TICK
        self._encode(picture)

    def _encode(self, picture) -> None:
        """A frame, or None for those that the encoder still holds."""
        try:
            self.container.mux(self.stream.encode(picture))
        except _av().FFmpegError as error:
            if isinstance(error, OSError):  # of the disk
                raise
            size = f"{self.stream.width} x {self.stream.height}"
            raise DataError(
                f"frames of {size} pixels cannot be encoded ({error}); leave out the format colour"
            ) from error
