"""A folder of photographs to a folder of maps: resumable, never half a file, and a damaged
photograph stops nobody else."""

import math
import os
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dalib.data.listing import PASSED_OVER, Groups, Listing, list_folder
from dalib.errors import ConfigError, DataError, DiskError
from dalib.predict.confidence import Calibration, disagreement
from dalib.predict.faults import finite, network_error
from dalib.predict.fingerprint import fingerprint
from dalib.predict.known import Known
from dalib.predict.ledger import Ledger, origin
from dalib.predict.metres import NO_BARS, ScaleShift
from dalib.predict.outputs import CLOUDS, COLOURS, ENDS, palette, save, targets
from dalib.predict.prepare import OwnMapError, Prepared, upright_size
from dalib.predict.run import Predictor
from dalib.predict.solid import NO_SHAPE, Solid

THREADS = 4  # that decode and write while the network runs
MEANING = {
    "disparity": "relative disparity: larger is nearer; scale and shift are unknown and each "
    "map's own",
    "depth_m": "depth in metres",
}
RAW = "raw"
"""In place of a calibration: the disagreement itself is written."""


@dataclass(kw_only=True)
class Report:
    """What became of the images, by name: written, kept from an earlier run, or failed, with the
    reason.

    `fits` are the scale and shift of those that were written in metres. `notes` say what of a file
    was ignored, `passed_over` what in the folder is no photograph, and `missed` which of its
    photographs are of a kind that nobody here reads.
    """

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    fits: dict[str, ScaleShift] = field(default_factory=dict)
    notes: Groups = field(default_factory=Groups)
    passed_over: Groups = field(default_factory=Groups)
    missed: Groups = field(default_factory=Groups)

    def add(self, found: Listing) -> None:
        """What else was in the folder."""
        self.passed_over.merge(found.passed_over)
        self.missed.merge(found.missed)

    def failures(self, most: int = 20) -> list[str]:
        """A line for each image that failed, up to so many, and for each kind of photograph that
        was missed."""
        lines = list(self.failed.values())[:most]
        if (more := len(self.failed) - len(lines)) > 0:
            lines.append(f"and {more} more")
        return lines + self.missed.lines()


# ---- which photograph gets which name


def photographs(folder: Path, out: Path) -> tuple[dict[str, Path], Listing]:
    """Name -> file of every photograph under a folder, what lies in `out` left aside; and what else
    is there.

    The name is the path within the folder, without its ending where that tells it apart.
    """
    if is_same(folder, out):
        raise ConfigError(
            f"{out}: is the folder of the photographs itself; name another one for the maps"
        )
    found = list_folder(folder)
    place = out.resolve()
    root = folder.resolve()
    if root in place.parents:
        start = place.relative_to(root).as_posix() + "/"
        for name in found.names:
            if name.startswith(start):
                found.passed_over.add(PASSED_OVER["out"], name)
        found.names = [name for name in found.names if not name.startswith(start)]
    if not found.names:
        there = "; ".join([*found.missed.lines(), *found.passed_over.lines()])
        raise DataError(
            f"{folder}: no photograph in this folder" + (f", only {there}" if there else "")
        )
    return {name: folder / file for file, name in distinct(found.names).items()}, found


def distinct(files: Iterable[str]) -> dict[str, str]:
    """File -> name, such that no two names lead to one map, on any file system and in any format.

    A name is the path without its ending; with it, where two would meet; and with a number, where
    two still do, as they may where case or accents are not told apart.
    """
    tries = dict.fromkeys(files, 0)

    def name(file: str) -> str:
        stage = tries[file]
        if stage == 0:
            return os.path.splitext(file)[0]
        return file if stage == 1 else f"{file}~{stage}"

    while True:
        places = {file: _places(name(file)) for file in tries}
        taken = Counter(place for each in places.values() for place in each)
        folders = {os.path.dirname(each[0]) for each in places.values()}
        folders |= {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
        meeting = [
            f
            for f, each in places.items()
            if any(taken[place] > 1 or place in folders for place in each)
        ]
        if not meeting:
            return {file: name(file) for file in tries}
        early = [file for file in meeting if tries[file] == 0]
        for file in early or meeting[1:] or meeting:
            tries[file] += 1


def _places(name: str) -> list[str]:
    """Where the maps of a name would lie, with what some file systems do not tell apart made
    equal."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return [folded + end for end in ENDS.values()]


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, by links or otherwise."""
    return one.exists() and other.exists() and os.path.samefile(one, other)


# ---- predicting and writing


def write_folder(folder: Path, out: Path, *, run: Predictor, **options) -> Report:
    """`write_images` for every photograph under a folder; the sub-folders are mirrored in `out`."""
    images, found = photographs(folder, out)
    result = write_images(images, out, run=run, **options)
    result.add(found)
    return result


def check_images(
    images: Mapping[str, Path],
    out: Path,
    *,
    formats: tuple[str, ...],
    short_side: int | None = None,
    **how: Any,
) -> None:
    """See that the maps of these images may be written to `out`: what can be known before a network
    is loaded.

    Args:
        images, out, formats: as for `write_images`.
        short_side: of the network's input, where it is known.
        how: the arguments of `how_made`, where they are known.

    Raises:
        ConfigError: `out` cannot be a folder for results, is a photograph's own, or holds a file
            that is in the way, or maps that were made otherwise.
        DataError: a single photograph that cannot be read, or whose camera cannot be.
    """
    with Ledger(out) as ledger:
        _checked(images, out, formats, ledger)
        mine = how_made(ledger, **how) if how else {}
        if short_side is not None:
            mine["short_side"] = short_side
        ledger.compare(mine)
    if len(images) == 1:  # of several the others go on
        size = upright_size(next(iter(images.values())))
        if how.get("solid") is not None:
            how["solid"].lens.camera(size)


def _checked(
    images: Mapping[str, Path], out: Path, formats: tuple[str, ...], ledger: Ledger
) -> dict[str, dict[str, Path]]:
    """Name -> format -> file, all of which may be written."""
    files = {name: targets(out / name, formats) for name in images}
    for folder in {os.path.dirname(path): path.parent for path in images.values()}.values():
        if is_same(folder, out):
            raise ConfigError(
                f"{out}: is the folder of the photographs itself; name another one for the maps"
            )
    if not ledger.is_new:
        ledger.check_folders(
            map(Path, {os.path.dirname(path) for each in files.values() for path in each.values()})
        )
        for name, path in images.items():
            ledger.check_files(files[name].values(), path)
    return files


def write_images(
    images: Mapping[str, Path],
    out: Path,
    *,
    run: Predictor,
    formats: tuple[str, ...] = ("png16",),
    colours: str = COLOURS,
    known: Known | None = None,
    solid: Solid | None = None,
    calibration: Calibration | str | None = None,
    report: Callable[[str], None] = print,
) -> Report:
    """Predict and write. An image whose files are all there, as they were written and made of it as
    it is now, is kept.

    Args:
        images: name, which is the path in `out` without an ending -> file.
        out: made where it is missing. `predictions.json` there says with what network and settings,
            and lists the files.
        run: the network.
        formats: any of `dalib.predict.outputs.ENDS`.
        colours: a Matplotlib colour map.
        known: distances in these images: the maps are then depth in metres.
        solid: how clouds of points are made, for the formats "ply" and "glb".
        calibration: of the format "confidence", or "raw" for the disagreement itself.
        report: gets a line every few seconds.

    Raises:
        ConfigError: `out` holds maps of another network or of other settings, or a file in the way
            that is not ours; another process writes there; an unknown format or colour map; a format
            without what it needs, or what no format needs.
        DataError: a file cannot be written.
    """
    if "colour" in formats:
        palette(colours)  # an unknown one should fail at once
    check_wanted(formats, known=known, solid=solid, calibration=calibration)
    check_network(run, formats, known=known, solid=solid, calibration=calibration)
    if known is not None:
        known.check(images)
    with Ledger(out) as ledger:
        files = _checked(images, out, formats, ledger)
        check_settings(ledger, run, colours, known=known, solid=solid, calibration=calibration)
        also = {name: {} if known is None else {"known": known.digest(name)} for name in images}
        result = Report(
            kept=[
                name
                for name, path in images.items()
                if ledger.is_kept(files[name].values(), path, also[name])
            ]
        )
        kept = set(result.kept)
        todo = {name: path for name, path in images.items() if name not in kept}
        ledger.claim(path for name in todo for path in files[name].values())
        further = Further(
            known=known,
            solid=solid if set(formats) & set(CLOUDS) else None,
            calibration=calibration,
            also=also,
            with_sigma="sigma" in formats,
        )
        how = {"kind": run.kind, "max_depth": run.max_depth, "colours": colours}
        _write(
            todo,
            files,
            run=run,
            how=how,
            further=further,
            ledger=ledger,
            result=result,
            report=report,
        )
    return result


@dataclass(frozen=True, kw_only=True)
class Further:
    """What is made of a map beside the map itself; `also` is what the ledger says of each image's
    distances."""

    known: Known | None
    solid: Solid | None
    calibration: Calibration | str | None
    also: Mapping[str, Mapping[str, str]]
    with_sigma: bool

    def of(
        self,
        item: Prepared,
        disparity: Float[Tensor, "h w"],
        apart: Float[Tensor, "h w"] | None,
        *,
        kind: str,
    ) -> dict:
        """What `save` takes beside the map."""
        found: dict = {}
        if self.known is not None:
            found["fit"] = self.known.fit(item.name, disparity, item.size)
            if self.with_sigma and math.isnan(found["fit"].errors[0]):
                raise DataError(f"{item.name}: {NO_BARS}")
        if self.solid is not None:
            found["cloud"] = self.solid.of(item, disparity, kind=kind, fit=found.get("fit"))
        if apart is not None:
            found["certainty"] = (
                (self.calibration.confidences(disparity, apart), "confidence")
                if isinstance(self.calibration, Calibration)
                else (apart, "disagreement")
            )
        return found


def _write(
    todo: Mapping[str, Path],
    files: Mapping[str, dict[str, Path]],
    *,
    run: Predictor,
    how: dict,
    further: Further,
    ledger: Ledger,
    result: Report,
    report: Callable[[str], None],
) -> None:
    """Predict the images of `todo`, decoding ahead and writing behind the network."""
    begun = told = time.perf_counter()
    passed_over = 0
    origins: dict[str, dict] = {}

    def prepare(name: str) -> Prepared:
        # before it is read, so that a later change makes the map an old one
        origins[name] = origin(todo[name])
        return run.prepare(todo[name], name=name)

    def prepared(pool: ThreadPoolExecutor) -> Iterator[Prepared]:
        nonlocal passed_over
        for name, item in _ahead(pool, prepare, todo):
            error = item.exception()
            if isinstance(error, OwnMapError):
                result.passed_over.add(PASSED_OVER["maps"], str(todo[name]))
                passed_over += 1
            elif isinstance(error, Exception):  # whatever it is: one file never ends a folder
                result.failed[name] = _reason(error, todo[name])
            elif error is not None:
                raise error
            else:
                for note in item.result().notes:
                    result.notes.add(note, str(todo[name]))
                yield item.result()

    def write(
        item: Prepared, disparity: Float[Tensor, "h w"], apart: Float[Tensor, "h w"] | None
    ) -> None:
        more = further.of(item, disparity, apart, kind=how["kind"])
        save(disparity, item.size, files[item.name], **how, **more)
        made_of = origins.pop(item.name) | dict(further.also[item.name])
        ledger.written(files[item.name].values(), made_of)
        if "fit" in more:
            result.fits[item.name] = more["fit"]

    with ThreadPoolExecutor(THREADS) as pool:
        writing: list[tuple[str, Future]] = []
        for group in run.batches(prepared(pool)):
            # while the group before is written
            maps = list(_maps(run, group, result, doubt=further.calibration is not None))
            for line in run.news():
                report(line)
            _settle(writing, result)
            writing = [(item.name, pool.submit(write, item, *found)) for item, *found in maps]
            done = len(result.written) + len(result.failed) + passed_over
            if done and time.perf_counter() - told > 2:
                told = time.perf_counter()
                rate = done / (told - begun)
                left = f"{(len(todo) - done) / rate:.0f} s left"
                kept = len(result.kept)
                report(f"{kept + done} of {kept + len(todo)} images, {rate:.1f}/s, {left}")
        _settle(writing, result)


def _maps(
    run: Predictor, group: list[Prepared], result: Report, *, doubt: bool
) -> Iterator[tuple[Prepared, Float[Tensor, "h w"], Float[Tensor, "h w"] | None]]:
    """The maps of a batch, and their disagreement where it is wanted; what the network cannot do
    fails by name. A batch that fails is tried image by image."""
    try:
        whole = _whole(group, run(group), result)
        apart = _apart(run, whole) if doubt and whole else [None] * len(whole)
    except RuntimeError as error:  # as PyTorch says that memory is short, or a compiler missing
        if len(group) > 1:
            for item in group:
                yield from _maps(run, [item], result, doubt=doubt)
        else:
            result.failed[group[0].name] = f"{group[0].name}: {network_error(error)}"
        return
    for (item, disparity), each in zip(whole, apart, strict=True):
        yield item, disparity, each


def _whole(
    group: list[Prepared], maps: list[Float[Tensor, "h w"]], result: Report
) -> list[tuple[Prepared, Float[Tensor, "h w"]]]:
    """The images whose maps are finite; the others fail by name."""
    found = []
    for item, disparity in zip(group, maps, strict=True):
        try:
            found.append((item, finite(disparity, item.name)))
        except DataError as error:
            result.failed[item.name] = str(error)
    return found


def _apart(
    run: Predictor, whole: list[tuple[Prepared, Float[Tensor, "h w"]]]
) -> list[Float[Tensor, "h w"]]:
    """The disagreement of each."""
    items, maps = zip(*whole, strict=True)
    return disagreement(run, items, maps)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"{path}: cannot be read ({type(error).__name__}: {error}); replace or remove it"


def _ahead(
    pool: ThreadPoolExecutor, call: Callable, names: Iterable[str]
) -> Iterator[tuple[str, Future]]:
    """Each name with its finished future, in order, a few calls ahead of what is taken."""
    waiting: deque[tuple[str, Future]] = deque()
    for name in names:
        waiting.append((name, pool.submit(call, name)))
        if len(waiting) > THREADS:
            yield waiting.popleft()
    yield from waiting


def _settle(writing: list[tuple[str, Future]], result: Report) -> None:
    """Wait for what is being written. A name that no file can have fails alone; a full disk ends
    the run."""
    for name, future in writing:
        try:
            future.result()
        except DiskError:
            raise
        except DataError as error:
            result.failed[name] = str(error)
        else:
            result.written.append(name)


# ---- what made the maps


def check_wanted(
    formats: tuple[str, ...],
    *,
    known: Known | None = None,
    solid: Solid | None = None,
    calibration: Calibration | str | None = None,
) -> None:
    """A `ConfigError` for a format without what it needs, or for what no format needs: what can be
    known before a network is loaded."""
    clouds = [name for name in formats if name in CLOUDS]
    if clouds and solid is None:
        raise ConfigError(
            f"format {clouds[0]}: a cloud needs the camera; give --fov (degrees across the longer "
            "side; a phone's main camera has 65 to 75), --focal or --intrinsics"
        )
    if solid is not None and not clouds:
        raise ConfigError(
            "a camera is given, but no cloud: add --format ply or glb, or leave it out"
        )
    if solid is not None and solid.guess is not None and known is not None:
        raise ConfigError("--guess: distances are known; leave it out")
    if "sigma" in formats and known is None:
        raise ConfigError("format sigma: needs known distances (--known or --sparse)")
    if "confidence" in formats and calibration is None:
        raise ConfigError(
            "format confidence: say --confidence CALIBRATION, made by python -m dalib calibrate, or "
            "--confidence raw"
        )
    if calibration is not None and "confidence" not in formats:
        raise ConfigError("a calibration is given, but the format confidence is not asked for")
    if isinstance(calibration, str) and calibration != RAW:
        raise ConfigError(f"calibration {calibration!r}: must be a Calibration or {RAW!r}")


def check_network(
    run: Predictor,
    formats: tuple[str, ...],
    *,
    known: Known | None = None,
    solid: Solid | None = None,
    calibration: Calibration | str | None = None,
) -> None:
    """A `ConfigError` for what this network cannot be asked for."""
    if run.kind != "disparity":
        if known is not None:
            raise ConfigError(
                "the network gives metres already; known distances are for one of relative disparity"
            )
        if solid is not None and solid.guess is not None:
            raise ConfigError("--guess: the network gives metres; leave it out")
        if calibration is not None:
            raise ConfigError("--confidence: is for networks of relative disparity, not of metres")
    elif solid is not None and known is None and solid.guess is None:
        raise ConfigError(NO_SHAPE)
    if isinstance(calibration, Calibration):
        calibration.check(run)


def check_settings(
    ledger: Ledger,
    run: Predictor,
    colours: str,
    *,
    known: Known | None = None,
    solid: Solid | None = None,
    calibration: Calibration | str | None = None,
) -> None:
    """Say beside the maps what made them, and refuse to mix them with those of something else."""
    mine = {"network": fingerprint(run.model), "short_side": run.short_side}
    how = how_made(
        ledger,
        dtype=run.dtype,
        engine=run.engine,
        colours=colours,
        known=known,
        solid=solid,
        calibration=calibration,
    )
    kind = "depth_m" if known is not None else run.kind
    about = {"kind": kind, "values": MEANING[kind], "max_depth": run.max_depth}
    ledger.check_settings(mine | how, about)


def how_made(
    ledger: Ledger,
    *,
    dtype: torch.dtype,
    engine: str | None,
    colours: str,
    known: Known | None = None,
    solid: Solid | None = None,
    calibration: Calibration | str | None = None,
) -> dict[str, str | None]:
    """What beside the network makes maps, as the ledger has it; the engine where it is known."""
    mine = {"dtype": str(dtype).removeprefix("torch."), "colours": colours}
    there = ledger.settings
    # maps of another engine differ in their last bits; folders of before know PyTorch alone
    if engine is not None and (engine != "torch" or "engine" in there):
        mine["engine"] = engine
        if there:
            there.setdefault("engine", "torch")
    # metres and relative disparity have the same names of files
    if known is not None or "metres" in there:
        mine["metres"] = None if known is None else known.describe()
        if there:
            there.setdefault("metres", None)
    # files of their own, which a run that does not write them leaves as they are
    for name, wanted in (
        ("cloud", None if solid is None else solid.describe()),
        ("confidence", _called(calibration)),
    ):
        if wanted is not None:
            mine[name] = wanted
            if there:
                there.setdefault(name, wanted)
        elif name in there:
            mine[name] = there[name]
    return mine


def _called(calibration: Calibration | str | None) -> str | None:
    """A calibration in a word."""
    if not isinstance(calibration, Calibration):
        return calibration
    tables = repr((calibration.common, calibration.scores, calibration.confidence))
    return blake2b(tables.encode(), digest_size=8).hexdigest()
