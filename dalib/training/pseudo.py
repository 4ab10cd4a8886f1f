"""Teacher to stored pseudo labels: one pass over the clean unlabelled images, shards with
checksums, one manifest."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dalib.data.mixture import fetch, pool_crop
from dalib.data.schema import Source
from dalib.errors import DataError, Stopped
from dalib.stopping import Stop
from dalib.writing import whole, write_text

SHARD = 1024  # images per file
MANIFEST = "manifest.json"


@runtime_checkable
class Labeller(Protocol):
    """What labels images: a network, a `dalib.training.teacher.Teacher`, or a
    `dalib.predict.engines.Engine` that runs one."""

    def eval(self) -> object:
        """Into the state in which it predicts."""

    def predict(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Disparity, as `DepthAnything.predict`."""


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label(
    model: Labeller,
    source: Source,
    *,
    out: Path,
    teacher: str,
    height: int,
    width: int,
    seen: tuple[int, int] | None = None,
    batch: int = 32,
    rank: int = 0,
    world: int = 1,
    stop: Stop | None = None,
) -> None:
    """Write the teacher's disparity of every image of `source` to `out`, each map scaled to 0..1
    and kept in float16.

    Args:
        model: the teacher, or an engine that runs it.
        source: unlabelled images; they are not perturbed.
        out: folder of the shards. Shards that are already whole are kept, so a killed pass goes on
            where it stopped.
        teacher: hash of the teacher's weights, for the manifest.
        height, width: size of the images that the student will see, and of the labels.
        seen: height and width of the images that the teacher takes, of the same crop; by default
            the same. What it predicts has the student's size (`dalib.training.teacher.Teacher`).
        rank, world: this process and how many there are; each writes every `world`-th shard. Call
            `finish` when all are done.
        stop: asked at each batch; the shards that are whole stay.

    Raises:
        DataError: an image cannot be read, or the disk refuses a shard; the message names it.
        Stopped: there was a request to stop.
    """

    rows, columns = seen or (height, width)

    def images_of(indices: np.ndarray) -> Tensor:
        crop = pool_crop(indices)
        return fetch(source, indices, height=rows, width=columns, crop=crop)["image"]

    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    for start in range(rank * SHARD, len(source), world * SHARD):
        end = min(start + SHARD, len(source))
        path = out / f"{start:09d}.safetensors"
        if path.exists() and _rows(path) == (end - start, height, width):
            continue
        batches = [np.arange(i, min(i + batch, end)) for i in range(start, end, batch)]
        maps = torch.empty(end - start, height, width, dtype=torch.float16)
        for indices, images in zip(batches, _ahead(images_of, batches), strict=True):
            reason = None if stop is None else stop.reason()
            if reason:
                raise Stopped(
                    f"{out}: labelling stopped by {reason}; whole shards are kept, run "
                    "again to go on"
                )
            maps[indices - start] = unit_range(model.predict(images)).half().cpu()
        with whole(path) as partial:
            save_file({"disparity": maps}, partial, metadata={"teacher": teacher})


def _ahead(read: Callable[[np.ndarray], Tensor], batches: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Each batch as `read` gives it, the next one read in a thread while this one is in use."""
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for batch in batches:
            ready = waiting
            waiting = reader.submit(read, batch)
            if ready is not None:
                yield ready.result()
        if waiting is not None:
            yield waiting.result()


def unit_range(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Each map to 0..1 by its own extremes (section 3.1); a constant map to 0."""
    low = maps.amin((1, 2), keepdim=True)
    high = maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def finish(out: Path, *, teacher: str, source: Source, height: int, width: int) -> None:
    """Write the manifest: who made the labels, of what, how many, and each shard's checksum. Only
    now do they count as whole."""
    shards = []
    for start in range(0, len(source), SHARD):
        name = f"{start:09d}.safetensors"
        shards.append({"file": name, "first": start, "sha256": sha256(out / name)})
    manifest = {
        "teacher": teacher,
        "data": source.fingerprint,
        "count": len(source),
        "height": height,
        "width": width,
        "per_shard": SHARD,
        "shards": shards,
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))


def _rows(path: Path) -> tuple[int, ...] | None:
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(file.get_slice("disparity").get_shape())
    except (SafetensorError, OSError):
        return None


@runtime_checkable
class Labels(Protocol):
    """Disparity by index, as training reads it."""

    def get_batch(self, indices: np.ndarray) -> Float[Tensor, "b h w"]:
        """Disparity in 0..1 (float32) of the images with these indices."""


class PseudoLabels:
    """Stored pseudo labels, read by index.

    Args:
        path: folder that `label` and `finish` wrote.
        teacher, source: what the labels must come from; a mismatch is a `DataError`.

    A shard's checksum is compared when the shard is first read. Memory-mapped: only the rows asked
    for are read.
    """

    def __init__(self, path: Path, *, teacher: str | None = None, source: Source | None = None):
        self.path = path
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            self.manifest = {
                k: manifest[k] for k in ("teacher", "data", "count", "per_shard", "shards")
            }
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path / MANIFEST}: no readable manifest ({error}); delete {path} and label again"
            ) from error
        expected = {"teacher": teacher, "data": source.fingerprint if source is not None else None}
        for key, value in expected.items():
            if value is not None and self.manifest[key] != value:
                raise DataError(
                    f"{path / MANIFEST}: made from {key} {self.manifest[key]}, not {value}; "
                    f"delete {path} and label again"
                )
        self._open: dict[int, object] = {}

    def __len__(self) -> int:
        return self.manifest["count"]

    def get_batch(self, indices: np.ndarray) -> Float[Tensor, "b h w"]:
        """Disparity in 0..1 (float32) of the images with these indices."""
        shard, row = np.divmod(np.asarray(indices), self.manifest["per_shard"])
        return torch.stack(
            [self._shard(int(s))[int(r)] for s, r in zip(shard, row, strict=True)]
        ).float()

    def _shard(self, k: int):
        if k not in self._open:
            entry = self.manifest["shards"][k]
            path = self.path / entry["file"]
            if not path.exists() or sha256(path) != entry["sha256"]:
                raise DataError(
                    f"{path}: pseudo-label shard is missing or damaged (checksum differs); delete "
                    f"{self.path} and label again"
                )
            self._open[k] = safe_open(path, framework="pt").__enter__().get_slice("disparity")
        return self._open[k]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}  # a loader process opens its own files
