"""Folders of predictions that any software has made: which file belongs to which image, what its
values are, and whether they can be what they are said to be."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dalib.config import check_names
from dalib.data.files import UNREADABLE, open_image
from dalib.data.maps import read_map
from dalib.data.readers import Address, read_values
from dalib.errors import ConfigError, DataError

KINDS = ("disparity", "depth", "log_depth")
"""What a prediction may be: larger where nearer; z-depth; its natural logarithm."""
READ = (".npy", ".png", ".pfm", ".exr", ".tif", ".tiff", ".pgm")
"""Endings of the files that are predictions. A picture for people, such as `NAME.colour.png`, is
none of an image NAME, for it has another name."""
SAID = {"disparity": "disparity", "depth_m": "depth"}
"""What a 16-bit PNG of `dalib predict` says of itself -> its kind."""
EIGHT_BITS = "8 bits a value, as pictures for people have; too few to be scored"
SHOWN = 3
"""Names that a message lists."""


# ---- which file belongs to which image


@dataclass(frozen=True, kw_only=True)
class Key:
    """What one image of a data set may be called by other software.

    Attributes:
        name: what results call it.
        path: its file below the data set's folder, with "/", such as "rooms/0001.jpg"; "" for an
            image that is no file.
        number: its place in the data set, from 0.
        dataset: the data set's name.
    """

    name: str
    path: str
    number: int
    dataset: str


SCHEMES = {
    "the path of the image": lambda key: os.path.splitext(key.path)[0],
    "the path of the image with its ending": lambda key: key.path,
    "DATA SET/NAME": lambda key: f"{key.dataset}/{key.name}",
    "NAME": lambda key: key.name,
    "the file name of the image": lambda key: Path(key.path).stem,
    "DATA SET/NUMBER": lambda key: f"{key.dataset}/{key.number}",
    "NUMBER": lambda key: str(key.number),
}
"""How a folder of predictions may call its files, in the order in which they are tried."""
ANYWHERE = "the file name of the image"
"""The scheme in which sub-folders do not matter."""
NUMBERED = ("DATA SET/NUMBER", "NUMBER")
"""The schemes in which 7, 07 and 000007 are one."""


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Which file belongs to which image of one data set.

    Attributes:
        files: image's name -> its file, for those that have one.
        missing: names of the images that have none.
        scheme: how the files are called, one of `SCHEMES`.
    """

    files: dict[str, Path]
    missing: tuple[str, ...]
    scheme: str


class MapFolder:
    """A folder of predictions.

    Args:
        folder: with its sub-folders. Files are .npy, 16-bit PNG, PFM, TIFF, PGM, or EXR (where
            OpenEXR is installed), one map (h, w) each; others are passed over.
        kind: one of `KINDS`, of all files.
        scale: a stored whole number is `value * scale`, as the column `depth_scale` of a manifest
            has it. Needed for PNG and other files of whole numbers, but for disparity, which counts
            up to scale anyway, and for the PNG of `python -m dalib predict`, which say it
            themselves. 1 for floats.

    Raises:
        ConfigError: an unknown kind, or a scale that is no positive number.
        DataError: no such folder, or no prediction in it.
    """

    def __init__(self, folder: str | Path, *, kind: str, scale: float | int | None = None):
        check_names([kind], KINDS, what="kind of the predictions:")
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ConfigError(f"--scale: {scale} is not a positive number (value = stored / scale)")
        if not str(folder).strip():
            raise ConfigError("the folder of the predictions is an empty name; say where they are")
        self.folder = Path(folder)
        self.kind = kind
        self.scale = scale
        if not self.folder.is_dir():
            what = "is a file and no folder" if self.folder.exists() else "there is no such folder"
            raise DataError(f"{folder}: {what}; name the folder of the predictions")
        self.files = self._listed()
        if not self.files:
            others = sorted({x.suffix.lower() for x in self.folder.iterdir() if x.is_file()} - {""})
            held = f", which holds {', '.join(others[:SHOWN])}" if others else ""
            raise DataError(
                f"{folder}: no prediction in this folder{held}; there should be one of "
                f"{', '.join(READ)} for each image"
            )

    def _listed(self) -> dict[str, Path]:
        """Path below the folder without its ending -> file."""
        found: dict[str, Path] = {}
        seen = {os.path.realpath(self.folder)}
        for root, folders, names in os.walk(self.folder, followlinks=True):
            inside = {name: os.path.realpath(Path(root) / name) for name in sorted(folders)}
            # a link back to a folder above would never end
            folders[:] = [n for n, at in inside.items() if not n.startswith(".") and at not in seen]
            seen.update(inside.values())
            for name in sorted(names):
                path = Path(root) / name
                if path.suffix.lower() not in READ or name.startswith("."):
                    continue
                stem = path.relative_to(self.folder).as_posix()[: -len(path.suffix)]
                if stem in found:
                    raise DataError(
                        f"{self.folder}: {found[stem].name} and {name} are two predictions of one "
                        f"name ({stem}); keep one of them"
                    )
                found[stem] = path
        return found

    def match(self, keys: Sequence[Key]) -> Matched:
        """Find each image's file: by that one of `SCHEMES` which finds most, the first where
        several do.

        Raises:
            DataError: no file belongs to any image, or one that belongs to two, or two that belong
                to one.
        """
        best: dict[str, str] = {}
        chosen = ""
        doubles: dict[str, list[str]] = {}
        for scheme in SCHEMES:
            table, twice = self._table(scheme)
            called = {key.name: _called(scheme, key) for key in keys}
            found = {name: table[word] for name, word in called.items() if word in table}
            if len(found) > len(best):
                best, chosen, doubles = found, scheme, twice
        if not best:
            raise DataError(
                f"{self.folder}: none of its {len(self.files)} predictions (such as "
                f"{next(iter(self.files))}) is called like an image (such as "
                f"{keys[0].path or keys[0].name}); name them after the images, sub-folders "
                "included"
            )
        self._refuse_doubles(best, doubles, scheme=chosen)
        files = {name: self.files[stem] for name, stem in best.items()}
        missing = tuple(key.name for key in keys if key.name not in files)
        return Matched(files=files, missing=missing, scheme=chosen)

    def _table(self, scheme: str) -> tuple[dict[str, str], dict[str, list[str]]]:
        """What a scheme calls the files -> the first such file; and where there are several, all."""
        table: dict[str, list[str]] = {}
        for stem in self.files:
            table.setdefault(_word(scheme, stem), []).append(stem)
        first = {word: stems[0] for word, stems in table.items()}
        return first, {stems[0]: stems for stems in table.values() if len(stems) > 1}

    def _refuse_doubles(
        self, found: Mapping[str, str], doubles: Mapping[str, list[str]], *, scheme: str
    ) -> None:
        users: dict[str, str] = {}
        for name, stem in found.items():
            if stem in doubles:
                raise DataError(
                    f"{self.folder}: {' and '.join(doubles[stem][:SHOWN])} could all be the "
                    f"prediction of {name} (matched by {scheme}); keep one, or name them after the "
                    "images, sub-folders included"
                )
            if stem in users:
                raise DataError(
                    f"{self.folder}: {stem} would be the prediction of both {users[stem]} and "
                    f"{name} (matched by {scheme}); name predictions after the images, "
                    "sub-folders included"
                )
            users[stem] = name

    # ---- what a file holds

    def read(self, path: Path) -> Float[Tensor, "h w"]:
        """The map of a file, in its kind.

        Raises:
            ConfigError: whole numbers without a scale, or a PNG that says another kind of itself.
            DataError: a damaged file, or one of another format, of 8 bits, or of several channels.
        """
        if path.suffix.lower() == ".png" and (said := _own_words(path)):
            return self._of_predict(path, said)
        if path.suffix.lower() == ".exr":
            values, _ = read_values(Address(path), reader="exr", size=(0, 0))
        else:
            values = read_map(path)
        if values.size == 0:
            raise DataError(f"{path}: an empty map of {values.shape}; predict the image again")
        whole = values.dtype.kind in "iu"
        if whole and values.dtype.itemsize == 1:
            raise DataError(
                f"{path}: {EIGHT_BITS}. Save the map itself, with numpy.save or as a 16-bit PNG"
            )
        if whole and self.scale is None and self.kind != "disparity":
            raise ConfigError(
                f"{path}: holds whole numbers; say by which number they are to be divided "
                f"(--scale 1000 for millimetres) to become {self.kind}"
            )
        scale = 1 if self.scale is None else self.scale
        return torch.from_numpy((values.astype(np.float64) / scale).astype(np.float32))

    def _of_predict(self, path: Path, said: str) -> Float[Tensor, "h w"]:
        from dalib.predict.outputs import read_png16

        if SAID.get(said) != self.kind:
            raise ConfigError(
                f"{path}: says of itself that it is {SAID.get(said, said)}, and --kind says "
                f"{self.kind}; correct one of them"
            )
        if self.scale is not None:
            raise ConfigError(f"{path}: states its scale itself; leave --scale out")
        return read_png16(path)[0]


def _word(scheme: str, stem: str) -> str:
    """What a scheme compares of a file's path without its ending."""
    if scheme == ANYWHERE:
        return stem.rpartition("/")[2]
    return _plain_number(stem) if scheme in NUMBERED else stem


def _called(scheme: str, key: Key) -> str:
    """What a scheme calls an image, "" where it has no word for it."""
    word = SCHEMES[scheme](key).replace(os.sep, "/").removeprefix("./")
    return _plain_number(word) if scheme in NUMBERED else word


def _plain_number(stem: str) -> str:
    folder, mark, last = stem.rpartition("/")
    number = last.isascii() and last.isdecimal()
    return f"{folder}{mark}{int(last)}" if number else stem


def _own_words(path: Path) -> str:
    """What a PNG of `dalib predict` says of its kind; "" for any other."""
    try:
        texts = getattr(open_image(path), "text", {})
    except UNREADABLE:
        return ""  # what is wrong with it is said where it is read
    ours = {"minimum", "depth_scale"} & texts.keys()
    return str(texts["kind"]) if "kind" in texts and ours else ""


# ---- whether values can be what they are said to be

LOG_RANGE = math.log(1e6)
"""Natural logarithms of one image's nearest and farthest depth that are farther apart than this (a
millimetre and a kilometre) are no logarithms of depth."""


def check_values(
    values: Float[Tensor, "H W"], counts: Tensor, *, kind: str, free: bool, where: str
) -> None:
    """A `DataError` for a map that cannot be of its kind.

    Args:
        values: the map at the truth's size.
        counts: bool (H, W), the pixels that are scored.
        kind: one of `KINDS`.
        free: whether scale and shift in this very space are fitted, so that any values can be meant.
        where: what the message calls it.
    """
    seen = values[counts]
    if not seen.numel():
        return
    if bad := int((~torch.isfinite(seen)).sum()):
        raise DataError(
            f"{where}: {bad} of {seen.numel()} values that are scored are NaN or infinite; see what "
            "the model gives there"
        )
    if free:
        return
    if kind == "depth" and (bad := int((seen <= 0).sum())):
        raise DataError(
            f"{where}: {bad} of {seen.numel()} values that are scored are not above 0, which no "
            "depth is; correct them, or say what they are (--kind)"
        )
    if kind == "log_depth":
        low, high = float(seen.min()), float(seen.max())
        if high - low > LOG_RANGE or max(abs(low), abs(high)) > 2 * LOG_RANGE:
            raise DataError(
                f"{where}: values from {low:.4g} to {high:.4g} are no natural logarithms of depth; "
                "say what they are (--kind)"
            )


def direction(values: Float[Tensor, "H W"], true: Float[Tensor, "H W"], counts: Tensor) -> float:
    """Pearson's correlation of a map with the true disparity over the pixels that are scored: above
    0 for a disparity that is of any use, below 0 for a depth. NaN where either is constant."""
    a = values[counts].double()
    b = true[counts].double()
    if a.numel() < 2:
        return math.nan
    a = a - a.mean()
    b = b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else math.nan
