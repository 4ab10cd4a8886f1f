"""A folder of photographs to a folder of maps: resumable, never half a file, and a damaged photograph stops nobody else."""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
from torch import nn

from dalib.data.sources import PhotoFolder
from dalib.errors import ConfigError, DataError
from dalib.predict.outputs import COLOURS, palette, save, targets, whole
from dalib.predict.prepare import Prepared
from dalib.predict.run import Predictor, finite

NOTE = "predictions.json"
THREADS = 4  # that decode and write while the network runs
MEANING = {
    "disparity": "relative disparity: larger is nearer; scale and shift are unknown and each map's own",
    "depth_m": "depth in metres",
}


@dataclass(kw_only=True)
class Report:
    """What became of the images, by name: written, kept from an earlier run, or failed, with the reason."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def photographs(folder: Path, out: Path) -> dict[str, Path]:
    """Name -> file of every photograph under a folder, what lies in `out` left aside.

    The name is the path within the folder, without its ending where that tells it apart.
    """
    if folder.resolve() == out.resolve():
        raise ConfigError(f"{out}: is the folder of the photographs itself; name another one for the maps")
    files = [
        Path(n) for n in PhotoFolder(folder).names.to_pylist() if out.resolve() not in (folder / n).resolve().parents
    ]
    if not files:
        raise DataError(f"{folder}: no photograph in this folder, apart from what lies in {out}")
    written = Counter(str(t).lower() for f in files for t in _all_targets(f.with_suffix("")))
    alone = {f: all(written[str(t).lower()] == 1 for t in _all_targets(f.with_suffix(""))) for f in files}
    return {(f.with_suffix("") if alone[f] else f).as_posix(): folder / f for f in files}


def write_folder(folder: Path, out: Path, *, run: Predictor, **options) -> Report:
    """`write_images` for every photograph under a folder; the sub-folders are mirrored in `out`."""
    return write_images(photographs(folder, out), out, run=run, **options)


def write_images(
    images: Mapping[str, Path],
    out: Path,
    *,
    run: Predictor,
    formats: tuple[str, ...] = ("png16",),
    colours: str = COLOURS,
    report: Callable[[str], None] = print,
) -> Report:
    """Predict and write. An image whose files are all there and newer than itself is kept.

    Args:
        images: name, which is the path in `out` without an ending -> file.
        out: made where it is missing. `predictions.json` there says with what network and settings.
        run: the network.
        formats: any of "png16", "npy", "colour", see `dalib.predict.outputs`.
        colours: a Matplotlib colour map.
        report: gets a line every few seconds.

    Raises:
        ConfigError: `out` holds maps of another network or of other settings; an unknown format or colour map.
        DataError: a file cannot be written.
    """
    files, result, begun = {name: targets(out / name, formats) for name in images}, Report(), time.perf_counter()
    if "colour" in formats:
        palette(colours)  # an unknown one should fail at once
    _note(out / NOTE, run, colours)
    result.kept += (name for name, path in images.items() if _is_newer(files[name].values(), path))
    todo, told = [name for name in images if name not in set(result.kept)], begun
    how = {"kind": run.kind, "max_depth": run.max_depth, "colours": colours}

    def prepared(pool: ThreadPoolExecutor) -> Iterator[Prepared]:
        for name, item in _ahead(pool, lambda name: run.prepare(images[name], name=name), todo):
            if error := item.exception():
                if not isinstance(error, DataError):
                    raise error
                result.failed[name] = str(error)
            else:
                yield item.result()

    with ThreadPoolExecutor(THREADS) as pool:
        writing: list[tuple[str, Future]] = []
        for group in run.batches(prepared(pool)):
            maps = run(group)  # while the group before is written
            _settle(writing, result)
            writing = []
            for item, disparity in zip(group, maps, strict=True):
                try:
                    finite(disparity, item.name)
                except DataError as error:
                    result.failed[item.name] = str(error)
                else:
                    task = pool.submit(save, disparity, item.size, files[item.name], **how)
                    writing.append((item.name, task))
            done = len(result.written) + len(result.failed)
            if done and time.perf_counter() - told > 2:
                told = time.perf_counter()
                rate = done / (told - begun)
                left = f"{(len(todo) - done) / rate:.0f} s left"
                report(f"{len(result.kept) + done} of {len(images)} images, {rate:.1f}/s, {left}")
        _settle(writing, result)
    return result


def _all_targets(stem: Path) -> Iterable[Path]:
    return targets(stem, ("png16", "npy", "colour")).values()


def _is_newer(files: Iterable[Path], image: Path) -> bool:
    try:
        return all(f.stat().st_mtime >= image.stat().st_mtime for f in files)
    except FileNotFoundError:
        return False


def _ahead(pool: ThreadPoolExecutor, call: Callable, names: Iterable[str]) -> Iterator[tuple[str, Future]]:
    """Each name with its finished future, in order, a few calls ahead of what is taken."""
    waiting: deque[tuple[str, Future]] = deque()
    for name in names:
        waiting.append((name, pool.submit(call, name)))
        if len(waiting) > THREADS:
            yield waiting.popleft()
    yield from waiting


def _settle(writing: list[tuple[str, Future]], result: Report) -> None:
    for name, future in writing:
        future.result()
        result.written.append(name)


def _note(path: Path, run: Predictor, colours: str) -> None:
    """Say beside the maps what made them, and refuse to mix them with those of something else."""
    mine = {
        "network": fingerprint(run.model),
        "short_side": run.short_side,
        "dtype": str(run.dtype).removeprefix("torch."),
        "colours": colours,
    }
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = mine
    except ValueError as error:
        raise DataError(f"{path}: not readable ({error}); remove it, or choose another folder") from error
    if other := ", ".join(f"{k} {there.get(k)}" for k in mine if there.get(k) != mine[k]):
        raise ConfigError(f"{path.parent}: holds maps made otherwise ({other}); choose another folder, or empty it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        about = {"kind": run.kind, "values": MEANING[run.kind], "max_depth": run.max_depth}
        unfinished.write_text(json.dumps(mine | about, indent=1) + "\n", encoding="utf-8")


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits over the names and bits of all weights, and how a network of ours is built: which blocks it reads, too."""
    built = sorted(getattr(model, "architecture", {}).items())
    total = blake2b(repr(built).encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().view(-1)
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
