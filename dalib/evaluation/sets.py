"""Data sets that something is to be scored on, by name: folders with a manifest, sources of the
catalogue, each with its protocol and what its images are called."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor

from dalib.config import RunConfig, check_names
from dalib.data import scenes
from dalib.data.catalogue import KINDS, open_source, parse
from dalib.data.schema import Sample, Source
from dalib.data.sources import DepthManifest
from dalib.errors import ConfigError, DataError
from dalib.evaluation.predictions import Key
from dalib.evaluation.protocols import PROTOCOLS, Protocol, collection

ALL_SCENES = "scenes"
"""A word for all drawn test domains."""
CUSTOMARY = {"scenes": "scenes", "skimage": "indoor"}
"""Kind of source -> the protocol that it is scored by where nothing else is said."""
FALLBACK = "relative"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set that is to be scored.

    Attributes:
        name: what results call it.
        source: its samples, with ground truth.
        protocol: by which it is scored.
        keys: what its images are called, in order.
        sequences: which sequence each image belongs to, "" for an image by itself.
        given: the words that named it.
        left_out: rows of a manifest that cannot be scored, for their disparity has an unknown
            offset.
    """

    name: str
    source: Source | Sequence[Sample]
    protocol: Protocol
    keys: tuple[Key, ...]
    sequences: tuple[str, ...]
    given: str
    left_out: int = 0


def open_sets(
    words: Sequence[str], *, protocol: str | None = None, count: int | None = None
) -> tuple[list[DataSet], list[str]]:
    """The data sets that are named, and lines for the reader: what is left out, and what was chosen.

    Args:
        words: each a folder with a `manifest.csv`, a manifest, `scenes` for all drawn test domains,
            or a source as `dalib.data.catalogue.open_source` reads it.
        protocol: for all of them; by default what each one's manifest declares, "scenes" for drawn
            scenes, "indoor" for scikit-image's Motorcycle, and "relative" for anything else.
        count: score only the first so many images of each. Drawn scenes are 100 by default.

    Raises:
        ConfigError: an unknown protocol or source, a count below 1, or two data sets of one name.
        DataError: data that is not there, cannot be used, or has no ground truth.
    """
    if protocol is not None:
        check_names([protocol], PROTOCOLS, what="--protocol:")
    if count is not None and count < 1:
        raise ConfigError(f"--count: {count} images; must be at least 1")
    if not words:
        raise ConfigError("--data: name what is to be scored, such as a folder with a manifest.csv")
    found: list[DataSet] = []
    notes: list[str] = []
    for word in words:
        sets, said = _opened(word, count=count, given=protocol is not None)
        found += sets
        notes += said
    if protocol is not None:
        found = [replace(each, protocol=PROTOCOLS[protocol]) for each in found]
    twice = [name for name, times in Counter(each.name for each in found).items() if times > 1]
    if twice:
        where = " and ".join(each.given for each in found if each.name == twice[0])
        raise ConfigError(
            f"--data: two data sets are called {twice[0]} ({where}); score them apart"
        )
    return [_first(each, count) for each in found], notes


def _opened(word: str, *, count: int | None, given: bool) -> tuple[list[DataSet], list[str]]:
    """The data sets behind one word."""
    if not word.strip():
        raise ConfigError("--data: an empty name; say what is to be scored")
    if word == ALL_SCENES and not Path(word).exists():
        names = [f"{ALL_SCENES}:{domain}" for domain in scenes.TEST_DOMAINS]
        return [_opened(name, count=count, given=given)[0][0] for name in names], []
    path = Path(word)
    if path.is_dir():
        if not (path / "manifest.csv").is_file():
            raise DataError(f"{path}: no manifest.csv in this folder; write one, or name another")
        return _of_folder(path, word)
    if path.is_file():
        return _of_manifest(DepthManifest(path), word, given=given)
    if word.partition(":")[0] not in KINDS:
        raise DataError(
            f"--data: {word}: no such folder or file, and no source by that name; a source is one "
            f"of {', '.join(f'{kind}:...' for kind in KINDS)}"
        )
    kind, place, _ = parse(word)
    if kind in ("photos", "tars") or (kind, place) == ("skimage", "photos"):
        raise DataError(f"--data: {word}: photographs without ground truth; nothing can be scored")
    size = {"height": RunConfig.height, "width": RunConfig.width}
    source = open_source(word, count=count or RunConfig.test_images, **size)
    if isinstance(source, DepthManifest):
        return _of_manifest(source, word, given=given)
    name = place if kind == "scenes" else source.domain
    chosen = CUSTOMARY.get(kind, FALLBACK)
    found = _data_set(name, source, PROTOCOLS[chosen], given=word)
    told = [] if given or kind in CUSTOMARY else [_chosen([name])]
    return [found], told


def _of_folder(folder: Path, word: str) -> tuple[list[DataSet], list[str]]:
    sets, notes = collection(folder)
    whole = DepthManifest(folder).by_dataset()
    return [
        _data_set(
            each.name,
            each.source,
            each.protocol,
            given=word,
            left_out=len(whole[each.name]) - len(each.source),
        )
        for each in sets
    ], notes


def _of_manifest(
    table: DepthManifest, word: str, *, given: bool
) -> tuple[list[DataSet], list[str]]:
    """The data sets of a manifest by any name, or of some rows of one; protocols are those of its
    folder, where that declares some."""
    folder = table.manifest.parent
    declared = {}
    if table.manifest.name == "manifest.csv":
        declared = {each.name: each.protocol for each in collection(folder)[0]}
    found = []
    unknown = []
    for name, part in table.by_dataset().items():
        source, left_out = part.with_known_offset()
        if source is None:
            continue
        if name not in declared:
            unknown.append(name)
        protocol = declared.get(name, PROTOCOLS[FALLBACK])
        found.append(_data_set(name, source, protocol, given=word, left_out=left_out))
    if not found:
        raise DataError(
            f"{table.manifest}: no row has a known offset, so none can be scored; see offset_known"
        )
    return found, [_chosen(unknown)] if unknown and not given else []


def _chosen(names: Sequence[str]) -> str:
    return (
        f"scored by the protocol {FALLBACK} (no crop, no cap), since nothing is declared: "
        f"{', '.join(names)}; say --protocol for another"
    )


def _data_set(
    name: str, source: Source, protocol: Protocol, *, given: str, left_out: int = 0
) -> DataSet:
    return DataSet(
        name=name,
        source=source,
        protocol=protocol,
        keys=keys_of(source, name),
        sequences=sequences_of(source),
        given=given,
        left_out=left_out,
    )


def _first(each: DataSet, count: int | None) -> DataSet:
    """Its first so many images."""
    if count is None or count >= len(each.keys):
        return each
    return replace(each, keys=each.keys[:count], sequences=each.sequences[:count])


def keys_of(source: Source | Sequence[Sample], dataset: str) -> tuple[Key, ...]:
    """What the images of a source are called; none is read.

    The rows of a manifest are called by their `id`, or by the name of their image's file, or,
    where several would have one name, by its path without its ending.

    Raises:
        DataError: two rows that cannot be told apart.
    """
    rows = getattr(source, "rows", None)
    if rows is None:
        name_of = getattr(source, "name_of", str)
        names = [name_of(index) for index in range(len(source))]
        paths = [name if Path(name).suffix else "" for name in names]
    else:
        paths = [_image_of(row) for row in rows]
        names = [row.get("id") or Path(row["image"]).stem for row in rows]
        if len(set(names)) < len(names) and not any(row.get("id") for row in rows):
            names = [os.path.splitext(path)[0] for path in paths]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        places = [str(k) for k, name in enumerate(names, start=1) if name == twice[0]]
        raise DataError(
            f"{dataset}: rows {' and '.join(places)} are both called {twice[0]}; give each row of "
            "the manifest an id of its own"
        )
    return tuple(
        Key(name=name, path=path, number=number, dataset=dataset)
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    )


def _image_of(row: dict[str, str]) -> str:
    """The file of a row's photograph, as `dalib.data.sources.read_row` takes it."""
    native = row.get("native_image") and row.get("native_depth")
    return row["native_image"] if native else row["image"]


def sequences_of(source: Source | Sequence[Sample]) -> tuple[str, ...]:
    """Which sequence each image belongs to: the column `sequence` of a manifest, "" without."""
    rows = getattr(source, "rows", None)
    if rows is None:
        return ("",) * len(source)
    return tuple(row.get("sequence", "") for row in rows)


def truth_hash(disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> str:
    """Twelve hex digits over one image's ground truth; what is not valid does not count."""
    known = disparity.masked_fill(~valid, 0).float().contiguous()
    total = hashlib.blake2b(repr(tuple(known.shape)).encode(), digest_size=6)
    total.update(known.numpy().tobytes())
    total.update(valid.contiguous().numpy().tobytes())
    return total.hexdigest()
