"""Teacher to stored pseudo labels: one pass over the clean unlabelled images, shards with
checksums, one manifest."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from dalib.data.damaged import Ledger
from dalib.data.mixture import batches as read_batches
from dalib.data.mixture import fetch, pool_crop
from dalib.data.schema import Source
from dalib.errors import DataError, Stopped
from dalib.stopping import Stop, ignore_signals
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


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a pass of labelling was, and what held it up.

    Args:
        images: that were labelled; none where all shards were whole already.
        seconds: of the pass.
        waiting: seconds in which the network waited for images to be read.
    """

    images: int
    seconds: float
    waiting: float

    @property
    def share(self) -> float:
        """Of the time, spent waiting."""
        return self.waiting / self.seconds if self.images else 0.0

    def __str__(self) -> str:
        speed = self.images / self.seconds if self.images else 0.0
        return (
            f"labelled {self.images} images in {self.seconds:.0f} s ({speed:.1f} images/s), "
            f"{self.share:.0%} of it waiting for images to be read"
        )


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
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    stop: Stop | None = None,
    ledger: Ledger | None = None,
) -> Pace:
    """Write the teacher's disparity of every image of `source` to `out`, each map scaled to 0..1
    and kept in float16.

    Args:
        model: the teacher, or an engine that runs it.
        source: unlabelled images; they are not perturbed.
        out: folder of the shards. Shards that are already whole are kept, so a killed pass goes on
            where it stopped. Where labels were finished before, each shard is held against its
            checksum, and only those are made anew that are damaged or missing.
        teacher: hash of the teacher's weights, for the manifest.
        height, width: size of the images that the student will see, and of the labels.
        seen: height and width of the images that the teacher takes, of the same crop; by default
            the same. What it predicts has the student's size (`dalib.training.teacher.Teacher`).
        batch: images at a time.
        workers: processes that read images ahead; 0 reads them in a thread of this one.
        rank, world: this process and how many there are; each writes every `world`-th shard. Call
            `finish` when all are done.
        stop: asked at each batch; the shards that are whole stay.
        ledger: notes the images that a `Replacing` source replaced.

    Raises:
        DataError: an image cannot be read, or the disk refuses a shard; the message names it. Or
            `out` holds labels of another teacher, or of other images.
        Stopped: there was a request to stop.
    """
    # what is to be made
    before = _finished(out)
    if before is not None:
        _check_origin(out, before, teacher=teacher, data=source.fingerprint)
    shards = []
    for start in range(rank * SHARD, len(source), world * SHARD):
        end = min(start + SHARD, len(source))
        if not _is_whole(out, start, shape=(end - start, height, width), before=before):
            shards.append((start, end))
    batches = [(i, min(i + batch, end)) for start, end in shards for i in range(start, end, batch)]

    # one batch after the other, read ahead across the shards
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    waiting = 0.0
    rows, columns = seen or (height, width)
    reading = _read_ahead(_Images(source, batches, height=rows, width=columns), workers=workers)
    todo = iter(batches)
    for start, end in shards:
        maps = torch.empty(end - start, height, width, dtype=torch.float16)
        done = start
        while done < end:
            asked = time.perf_counter()
            read = next(reading)
            waiting += time.perf_counter() - asked
            reason = None if stop is None else stop.reason()
            if reason:
                raise Stopped(
                    f"{out}: labelling stopped by {reason}; whole shards are kept, run "
                    "again to go on"
                )
            first, done = next(todo)
            labels = unit_range(model.predict(read["image"]))
            maps[first - start : done - start] = labels.half().cpu()
            if ledger is not None and "read" in read:
                ledger.note("unlabelled", np.arange(first, done), read["read"])
        with whole(out / _file(start)) as partial:
            save_file({"disparity": maps}, partial, metadata={"teacher": teacher})
        _mark(out, start).unlink(missing_ok=True)
    return Pace(
        images=sum(end - start for start, end in shards),
        seconds=time.perf_counter() - begun,
        waiting=waiting,
    )


class _Images(torch.utils.data.Dataset):
    """The clean images of each batch of neighbours, with the crop that is theirs."""

    def __init__(
        self, source: Source, batches: Sequence[tuple[int, int]], *, height: int, width: int
    ):
        self.source = source
        self.batches = batches
        self.size = {"height": height, "width": width}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        found = fetch(self.source, np.arange(*self.batches[number]), crop=pool_crop, **self.size)
        return {key: found[key] for key in ("image", "read") if key in found}


def _read_ahead(images: _Images, *, workers: int) -> Iterator[dict[str, Tensor]]:
    """Each batch in order, the next ones read while one is in use: by so many processes, or by a
    thread."""
    if workers and len(images):
        loader = DataLoader(
            images,
            batch_size=None,
            num_workers=min(workers, len(images)),
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own, so that it does not draw from the global one
            worker_init_fn=ignore_signals,  # a request to stop is this process's to answer
        )
        yield from read_batches(loader)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for number in range(len(images)):
            ready = waiting
            waiting = reader.submit(images.__getitem__, number)
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
    before = _finished(out) or {"shards": []}
    known = {entry["file"]: entry for entry in before["shards"]}
    written = (out / MANIFEST).stat().st_mtime_ns if known else 0
    shards = []
    for start in range(0, len(source), SHARD):
        name = _file(start)
        look = (out / name).stat()
        # one that is older than the manifest has just been compared by `label`
        compared = name in known and look.st_mtime_ns < written
        checksum = known[name]["sha256"] if compared else sha256(out / name)
        shards.append({"file": name, "first": start, "bytes": look.st_size, "sha256": checksum})
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


def is_finished(out: Path) -> bool:
    """Whether there are labels with a manifest whose shards are all there, in their sizes, and none
    was found damaged since: one look at each. Where not, `label` and `finish` make anew what is
    missing."""
    manifest = _finished(out)
    if manifest is None:
        return False
    for entry in manifest["shards"]:
        try:
            size = (out / entry["file"]).stat().st_size
        except OSError:
            return False
        if size != entry.get("bytes", size) or _mark(out, entry["first"]).exists():
            return False
    return True


def _finished(out: Path) -> dict | None:
    """The manifest; None where there is none that can be read."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        wanted = ("teacher", "data", "count", "per_shard", "shards")
        return {key: manifest[key] for key in wanted}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _check_origin(out: Path, manifest: dict, **expected: str | None) -> None:
    """A `DataError` for labels of another teacher, or of other data."""
    for key, value in expected.items():
        if value is not None and manifest[key] != value:
            raise DataError(
                f"{out / MANIFEST}: made from {key} {manifest[key]}, not {value}; "
                f"delete {out} and label again"
            )


def _file(start: int) -> str:
    """The name of the shard that begins with this image."""
    return f"{start:09d}.safetensors"


def _mark(out: Path, start: int) -> Path:
    """An empty file beside a shard that was found damaged by somebody who only reads."""
    return out / f"{start:09d}.damaged"


def _is_whole(out: Path, start: int, *, shape: tuple[int, ...], before: dict | None) -> bool:
    """Whether a shard is there as it should be: with the checksum of the manifest, where there is
    one, or else of the right shape, since shards appear whole."""
    path = out / _file(start)
    if _shape(path) != shape:
        return False
    if before is None:
        return not _mark(out, start).exists()
    sums = {entry["file"]: entry["sha256"] for entry in before["shards"]}
    good = sums.get(path.name) == sha256(path)
    if good:
        _mark(out, start).unlink(missing_ok=True)  # it was the reading
    return good


def _shape(path: Path) -> tuple[int, ...] | None:
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

    A shard's checksum is compared when the shard is first read; one that differs is marked, so that
    labelling again makes it anew alone. Memory-mapped: only the rows asked for are read.
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
        data = source.fingerprint if source is not None else None
        _check_origin(path, self.manifest, teacher=teacher, data=data)
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
                with contextlib.suppress(OSError):  # a folder that cannot be written
                    _mark(self.path, entry["first"]).touch()
                raise DataError(
                    f"{path}: pseudo-label shard is missing or damaged (checksum differs); run "
                    "again, which makes this shard anew and keeps the others"
                )
            self._open[k] = safe_open(path, framework="pt").__enter__().get_slice("disparity")
        return self._open[k]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}  # a loader process opens its own files
