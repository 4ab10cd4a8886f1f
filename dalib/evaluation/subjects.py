"""What is evaluated: a network, a function of somebody's, or a folder of predictions, each as
something that gives maps for images and says what it is."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dalib.config import check_names
from dalib.errors import ConfigError, DataError, UserError
from dalib.evaluation.predictions import EIGHT_BITS, KINDS, Key, MapFolder, Matched
from dalib.evaluation.run import predict_maps
from dalib.evaluation.scores import OF_NETWORKS
from dalib.evaluation.sets import DataSet
from dalib.functions import find, refuse_other_arguments, told
from dalib.models.depth_anything import DepthAnything
from dalib.models.sizes import default_short_side

NAMED = 3


class Subject(ABC):
    """What is evaluated.

    Attributes:
        kind: of its predictions, one of `dalib.evaluation.predictions.KINDS`.
        alignment: the one that fits it where nobody says another; None for a protocol's own.
        batch: images that it is given at a time.
        device: where it runs.
        declared: whether somebody said its kind; a network says it itself.
    """

    kind: str
    declared: bool = True
    alignment: str | None = None
    batch: int = 1
    device: str = "cpu"

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What results say of it: its form, name, kind and hash."""

    def chosen(self, data: DataSet) -> list[int]:
        """The images of a data set that it has predictions for; looked at before anything is
        scored."""
        return list(range(len(data.keys)))

    @abstractmethod
    def maps(
        self, images: Sequence[UInt8[Tensor, "3 _ _"]], keys: Sequence[Key]
    ) -> list[Float[Tensor, "_ _"]]:
        """A map of each image, of any size, float32 on the CPU."""


# ---- networks


class Network(Subject):
    """A network as `dalib.models.load` gives it. What it predicts, it says itself; one of metric
    depth is scored without alignment unless another one is asked for.

    Args:
        model: the network, which is moved to the device.
        name: what it was loaded from.
        short_side: of its input; by default what `dalib.models.sizes` says.
        device: where it runs.
        batch: images at a time.
    """

    def __init__(
        self,
        model: DepthAnything,
        *,
        name: str,
        short_side: int | None = None,
        device: torch.device | str = "cpu",
        batch: int = 4,
    ):
        from dalib.predict.fingerprint import fingerprint

        kind = getattr(model, "kind", "disparity")
        if kind not in OF_NETWORKS:
            raise ConfigError(f"{name}: predicts {kind}, which is not scored here")
        self.kind = OF_NETWORKS[kind]
        self.declared = False
        self.alignment = "none" if self.kind == "depth" else None
        self.short_side = default_short_side(model) if short_side is None else short_side
        self.batch = batch
        self.device = str(device)
        self.name = name
        self.hash = fingerprint(model)
        self.architecture = dict(getattr(model, "architecture", {}))
        self.model = model.to(device)

    def about(self) -> dict[str, Any]:
        """See `Subject.about`."""
        return {
            "form": "weights",
            "name": self.name,
            "kind": self.kind,
            "hash": self.hash,
            "short_side": self.short_side,
            "architecture": self.architecture,
        }

    def maps(
        self, images: Sequence[UInt8[Tensor, "3 _ _"]], keys: Sequence[Key]
    ) -> list[Float[Tensor, "_ _"]]:
        """See `Subject.maps`."""
        return predict_maps(self.model, images, short_side=self.short_side, batch_size=self.batch)


# ---- functions


class Function(Subject):
    """A function of somebody's: one image in, its map out.

    Args:
        function: takes uint8 (H, W, 3), RGB, as a NumPy array; gives a map (h, w) as an array or a
            tensor, of any size and on any device.
        kind: of its maps.
        name: what results call it.
        digest: of the file that it stands in.
        file: that file, so that errors can name its line.
    """

    def __init__(
        self,
        function: Callable[[UInt8[np.ndarray, "H W 3"]], Any],
        *,
        kind: str,
        name: str,
        digest: str = "",
        file: Path | None = None,
    ):
        check_names([kind], KINDS, what="--kind:")
        self.function = function
        self.kind = kind
        self.name = name
        self.digest = digest
        self.file = file
        self.device = "its own"

    def about(self) -> dict[str, Any]:
        """See `Subject.about`. The hash is that of the source file alone: what the function loads
        is not in it, but in the hash of its maps."""
        return {"form": "call", "name": self.name, "kind": self.kind, "hash": self.digest}

    def maps(
        self, images: Sequence[UInt8[Tensor, "3 _ _"]], keys: Sequence[Key]
    ) -> list[Float[Tensor, "_ _"]]:
        """See `Subject.maps`."""
        return [self._map(image, key) for image, key in zip(images, keys, strict=True)]

    def _map(self, image: UInt8[Tensor, "3 H W"], key: Key) -> Float[Tensor, "h w"]:
        where = f"--call {self.name}: {key.dataset}, image {key.name!r}"
        try:
            given = self.function(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # of any kind: it is somebody else's code
            raise DataError(f"{where}: it raised {told(error, file=self.file)}") from error
        return as_map(given, where=where)


def as_map(given: object, *, where: str) -> Float[Tensor, "h w"]:
    """What somebody's function gave, as a float32 tensor on the CPU; axes of length 1 in front, or one
    at the end of a map (h, w, 1), are dropped. What an array masks out is NaN.

    Raises:
        DataError: no map (h, w) of numbers, or one of 8 bits a value.
    """
    values = _numbers(given, where)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or not values.size:
        raise DataError(
            f"{where}: it gave a map of shape {values.shape}; one image has one map (h, w)"
        )
    if values.dtype.kind in "iu" and values.dtype.itemsize == 1:
        raise DataError(
            f"{where}: it gave {EIGHT_BITS}. Return the map itself, before it becomes a picture"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is told by name, if it is scored
        single = values.astype(np.float32)
    if isinstance(values, np.ma.MaskedArray):
        single = single.filled(np.nan)
    return torch.from_numpy(np.ascontiguousarray(single))


def _numbers(given: object, where: str) -> np.ndarray:
    """Integers or floats of any shape, with their mask if they have one; a `DataError` for anything
    else."""
    try:
        if isinstance(given, Tensor):
            held = given.detach().cpu()
            array = (held.float() if held.dtype == torch.bfloat16 else held).numpy()
        else:
            array = np.asanyarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{where}: it gave {type(given).__name__} where a map (h, w) is meant ({told(error)})"
        ) from error
    if array.dtype.kind not in "iuf":
        is_array = isinstance(given, (Tensor, np.ndarray))
        what = f"an array of {array.dtype}" if is_array else type(given).__name__
        raise DataError(f"{where}: it gave {what} where a map (h, w) of numbers is meant")
    return array


def function_of(words: str, *, kind: str) -> Function:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names, see `dalib.functions.find`.

    Raises:
        CallError: no such module, file or function, one that cannot be imported, or one that cannot
            be called with an image alone.
    """
    found = find(words, option="--call")
    refuse_other_arguments(found.function, "an image", name=f"--call {words}")
    return Function(
        found.function, kind=kind, name=words, digest=_file_hash(found.file), file=found.file
    )


def _file_hash(file: Path | None) -> str:
    """16 hex digits over a module's file, "" where it has none."""
    if file is None or not file.is_file():
        return ""
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()


# ---- folders of predictions


class Predictions(Subject):
    """A folder of predictions.

    Args:
        folder: the maps.
        allow_missing: score the images that have one, where others have none.
    """

    def __init__(self, folder: MapFolder, *, allow_missing: bool = False):
        self.folder = folder
        self.kind = folder.kind
        self.allow_missing = allow_missing
        self.matched: dict[str, Matched] = {}

    def about(self) -> dict[str, Any]:
        """See `Subject.about`. Its hash is that of the maps, which results carry anyway."""
        return {
            "form": "predictions",
            "name": str(self.folder.folder),
            "kind": self.kind,
            "scale": self.folder.scale,
            "matched": {name: found.scheme for name, found in self.matched.items()},
        }

    def chosen(self, data: DataSet) -> list[int]:
        """See `Subject.chosen`.

        Raises:
            DataError: images without a prediction, unless they are allowed; it says how many, and
                which is the first.
        """
        found = self.folder.match(data.keys)
        self.matched[data.name] = found
        if found.missing and not self.allow_missing:
            first = ", ".join(found.missing[:NAMED])
            more = ", ..." if len(found.missing) > NAMED else ""
            raise DataError(
                f"{self.folder.folder}: {len(found.missing)} of {len(data.keys)} images of "
                f"{data.name} have no prediction (matched by {found.scheme}): {first}{more}; "
                "predict them, or say --allow-missing to score the others alone"
            )
        return [place for place, key in enumerate(data.keys) if key.name in found.files]

    def maps(
        self, images: Sequence[UInt8[Tensor, "3 _ _"]], keys: Sequence[Key]
    ) -> list[Float[Tensor, "_ _"]]:
        """See `Subject.maps`."""
        return [self.folder.read(self.matched[k.dataset].files[k.name]) for k in keys]
