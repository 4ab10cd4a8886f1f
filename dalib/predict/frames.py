"""The frames of a video file, one by one, and the map that a network gives each of them."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalib.data.listing import CLIPS, ending
from dalib.data.metadata import has_frames, open_header
from dalib.errors import ConfigError, DataError
from dalib.predict.faults import finite, network_error
from dalib.predict.prepare import Picture, Prepared, refusal

STILLS = ("_pipe", "image2", "tty")
"""FFmpeg's readers of single pictures, and of text as if a terminal showed it: what they open is no
clip."""


@dataclass(frozen=True, kw_only=True)
class Frame(Prepared):
    """A frame and when it is shown, in seconds from the first one."""

    time: Fraction


@runtime_checkable
class Network(Protocol):
    """What runs on frames, such as `dalib.predict.Predictor`."""

    batch: int

    def prepare(self, picture: Picture, *, name: str) -> Prepared:
        """An image at the network's size."""

    def __call__(self, items: Sequence[Prepared]) -> list[Float[Tensor, "h w"]]:
        """The maps of images of one size."""


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
        av = need_av()
        with _opened(path) as container:
            return bool(container.streams.video) and not container.format.name.endswith(STILLS)
    except (ConfigError, av.FFmpegError):
        return False


def video_maps(path: Path, run: Network) -> Iterator[tuple[Frame, Float[Tensor, "h w"]]]:
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


def need_av():
    """PyAV; a `ConfigError` where it is not installed."""
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
        return need_av().open(path.open("rb"), metadata_errors="replace")
    return need_av().open(name, metadata_errors="replace")


def _frames(path: Path, run: Network) -> Iterator[Frame]:
    av = need_av()
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path")
    first = None
    count = 0
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
