"""Scenes rendered once and kept on disk as a `datasets` data set: fixed-size binary columns,
memory-mapped, read without decoding.

A cache lives at `paths.cache()/<split>-draw<draw>-<fingerprint>`, where the fingerprint covers split,
draw, size, count and the renderer's code. It appears by one rename, carries a checksum per file, and is made
again with a message when it is damaged.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dalib import paths
from dalib.data.scenes.splits import Scenes, Split, render, renderer_hash
from dalib.errors import DataError

log = logging.getLogger(__name__)
PART = 24  # scenes per task
COMMAND = "from dalib.data.scenes.cache import _serve; _serve()"
COLUMNS = {"image": np.uint8, "disparity": np.float32, "semantics": np.uint8}


class CachedScenes(Scenes):
    """The same samples as `Scenes`, read from a materialised cache at `folder`."""

    def __init__(
        self,
        *,
        split: Split | str,
        count: int,
        height: int = 96,
        width: int = 128,
        draw: int = 0,
        folder: Path,
    ) -> None:
        super().__init__(split=split, count=count, height=height, width=width, draw=draw)
        self.folder = folder
        self._open()

    def _open(self) -> None:
        from datasets import load_from_disk

        self.dataset = load_from_disk(str(self.folder))
        if len(self.dataset) != self.count:
            raise DataError(
                f"{self.folder} holds {len(self.dataset)} scenes, {self.count} were expected"
            )
        shapes = {"image": (3, self.height, self.width)}
        self._starts, self._views = [0], {name: [] for name in COLUMNS}
        for name, dtype in COLUMNS.items():
            shape = shapes.get(name, (self.height, self.width))
            for chunk in self.dataset.data.column(name).chunks:
                flat = np.frombuffer(chunk.buffers()[2], dtype=np.uint8)
                first = np.frombuffer(chunk.buffers()[1], dtype=np.int32)[chunk.offset]
                size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                self._views[name].append(
                    flat[first : first + len(chunk) * size].view(dtype).reshape(len(chunk), *shape)
                )
        for view in self._views["image"]:
            self._starts.append(self._starts[-1] + len(view))

    def __getstate__(self) -> dict:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("dataset", "_views")
        }

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def get_batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor | list[str]]:
        self._check(indices)
        indices = np.asarray(indices, dtype=np.int64)
        chunk = np.searchsorted(self._starts, indices, side="right") - 1
        rows = [(int(c), int(i) - self._starts[c]) for c, i in zip(chunk, indices, strict=True)]
        batch = {
            name: torch.from_numpy(np.stack([views[c][r] for c, r in rows]))
            for name, views in self._views.items()
        }
        return batch | {
            "valid": torch.ones_like(batch["disparity"], dtype=torch.bool),
            "domain": [self.split.name] * len(rows),
        }


def _columns(
    split: Split, height: int, width: int, indices: Sequence[int]
) -> dict[str, list[bytes]]:
    batch = render(split, indices, height=height, width=width)
    return {name: [row.numpy().tobytes() for row in batch[name]] for name in COLUMNS}


def _serve() -> None:
    """A worker: reads its job from standard input and writes rendered parts to standard output."""
    work, parts = pickle.load(sys.stdin.buffer)
    for part in parts:
        pickle.dump(work(part), sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


def _parts(source: Scenes, workers: int) -> Iterator[dict[str, list[bytes]]]:
    """Rendered parts in order. Workers are plain child processes with pipes: safe in notebooks,
    scripts and after any use of threads."""
    every = [range(k, min(k + PART, source.count)) for k in range(0, source.count, PART)]
    parts = [source.numbers(part) for part in every]
    work = partial(_columns, source.split, source.height, source.width)
    if workers < 2 or len(parts) < 4:
        yield from map(work, parts)
        return
    search = os.pathsep.join(
        filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")))
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    command = [sys.executable, "-c", COMMAND]
    crew = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        for _ in range(workers)
    ]
    try:
        for k, worker in enumerate(crew):
            worker.stdin.write(pickle.dumps((work, parts[k::workers])))
            worker.stdin.close()
        for k in range(len(parts)):
            yield pickle.load(crew[k % workers].stdout)
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise DataError(
            f"a process that renders split {source.split.name!r} ended early; its own message "
            "stands above"
        ) from error
    finally:
        for worker in crew:
            worker.kill()
            worker.stdout.close()
            worker.wait()


def _checksums(folder: Path) -> dict[str, int]:
    sums = {}
    for file in sorted(folder.glob("*.arrow")):
        value = 0
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                value = zlib.crc32(block, value)
        sums[file.name] = value
    return sums


def _write(source: Scenes, folder: Path, workers: int) -> None:
    from datasets import Dataset, Features, Value, disable_progress_bars, enable_progress_bars
    from datasets.arrow_writer import ArrowWriter

    started = time.monotonic()
    done = 0
    told = time.monotonic()
    stream = folder.with_suffix(".stream")
    with ArrowWriter(
        path=str(stream),
        features=Features({name: Value("binary") for name in COLUMNS}),
        writer_batch_size=480,
    ) as writer:
        for part in _parts(source, workers):
            writer.write_batch(part)
            done += len(part["image"])
            if time.monotonic() - told > 5 or (done == source.count and told > started):
                told = time.monotonic()
                rate, left = done / (told - started), source.count - done
                log.info(
                    "%s: %d of %d scenes, %.0f/s, %.0f s left",
                    source.split.name,
                    done,
                    source.count,
                    rate,
                    left / rate,
                )
        writer.finalize()
    disable_progress_bars()
    try:
        Dataset.from_file(str(stream)).save_to_disk(str(folder))
    finally:
        enable_progress_bars()
    stream.unlink()
    (folder / "dalib.json").write_text(
        json.dumps(
            {
                "fingerprint": source.fingerprint,
                "renderer": renderer_hash(),
                "files": _checksums(folder),
            }
        )
    )


def _fault(folder: Path, source: Scenes) -> str | None:
    """What is wrong with a cache, or None."""
    try:
        stated = json.loads((folder / "dalib.json").read_text())
    except (OSError, ValueError) as error:
        return f"its manifest dalib.json cannot be read ({error})"
    if stated.get("fingerprint") != source.fingerprint:
        return "its manifest belongs to other scenes"
    found = _checksums(folder)
    wrong = sorted(
        name
        for name in stated["files"].keys() | found.keys()
        if stated["files"].get(name) != found.get(name)
    )
    return f"{', '.join(wrong)}: missing or not what was written" if wrong else None


def materialise(
    *,
    split: Split | str,
    count: int,
    height: int = 96,
    width: int = 128,
    draw: int = 0,
    workers: int | None = None,
) -> CachedScenes:
    """The first `count` scenes of a draw of a split (see `Scenes`) from the on-disk cache, rendered
    first by `workers` processes (default 2) if need be."""
    source = Scenes(split=split, count=count, height=height, width=width, draw=draw)
    folder = paths.cache() / f"{source.split.name}-draw{draw}-{source.fingerprint}"
    arguments = {
        "split": source.split,
        "count": count,
        "height": height,
        "width": width,
        "draw": draw,
        "folder": folder,
    }
    if folder.exists():
        if not (fault := _fault(folder, source)):
            return CachedScenes(**arguments)
        log.warning("the cache %s is damaged: %s. Rendering it again.", folder, fault)
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(source, scratch / "set", min(2, os.cpu_count() or 1) if workers is None else workers)
        with suppress(OSError):  # another process was faster: its cache holds the same bits
            (scratch / "set").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return CachedScenes(**arguments)
