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
from dalib.evaluation.pairs import PAIR_RULES, PairRule, Pairs, read_pairs
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
        pairs: of photographs with marked pairs in place of depth: those of each image. `source`
            then holds the photographs' files, and `protocol` is a rule for pairs.
    """

    name: str
    source: Source | Sequence[Sample] | Sequence[Path]
    protocol: Protocol | PairRule
    keys: tuple[Key, ...]
    sequences: tuple[str, ...]
    given: str
    left_out: int = 0
    pairs: tuple[Pairs, ...] = ()


def open_sets(
    words: Sequence[str], *, protocol: str | None = None, count: int | None = None
) -> tuple[list[DataSet], list[str]]:
    """The data sets that are named, and lines for the reader: what is left out, and what was chosen.

    Args:
        words: each a folder with a `manifest.csv`, a manifest by any name, a file of marked pairs
            (`dalib.evaluation.pairs`), `scenes` for all drawn test domains, or a source as
            `dalib.data.catalogue.open_source` reads it.
        protocol: for all of them; by default what each one's manifest declares, "scenes" for drawn
            scenes, "indoor" for scikit-image's Motorcycle, "da2k" for pairs in JSON, "marked_pairs"
            for those in a CSV, and "relative" for anything else.
        count: score only the first so many images of each. Drawn scenes are 100 by default.

    Raises:
        ConfigError: an unknown protocol or source, one that is not for this kind of data, a count
            below 1, or two data sets of one name.
        DataError: data that is not there, cannot be used, or has no ground truth.
    """
    if protocol is not None:
        check_names([protocol], [*PROTOCOLS, *PAIR_RULES], what="--protocol:")
    if count is not None and count < 1:
        raise ConfigError(f"--count: {count} images; must be at least 1")
    if not words:
        raise ConfigError("--data: name what is to be scored, such as a folder with a manifest.csv")
    found: list[DataSet] = []
    notes: list[str] = []
    for word in words:
        sets, said = _opened(word, protocol=protocol, count=count)
        found += sets
        notes += said
    twice = [name for name, times in Counter(each.name for each in found).items() if times > 1]
    if twice:
        where = " and ".join(each.given for each in found if each.name == twice[0])
        raise ConfigError(
            f"--data: two data sets are called {twice[0]} ({where}); score them apart"
        )
    return [_first(each, count) for each in found], notes


def _opened(
    word: str, *, protocol: str | None, count: int | None
) -> tuple[list[DataSet], list[str]]:
    """The data sets behind one word."""
    if not word.strip():
        raise ConfigError("--data: an empty name; say what is to be scored")
    path = Path(word)
    if path.is_file() and is_pairs(path):
        return [_of_pairs(path, word, protocol)], []
    if protocol in PAIR_RULES:
        raise ConfigError(
            f"--protocol {protocol}: is for marked pairs, and {word} is none; leave it out, or take "
            f"one of {', '.join(PROTOCOLS)}"
        )
    if path.is_dir() and not (path / "manifest.csv").is_file():
        raise DataError(f"{path}: no manifest.csv in this folder; write one, or name another")
    if path.exists():
        return _of_manifest(DepthManifest(path), word, protocol)
    if word == ALL_SCENES:
        names = [f"{ALL_SCENES}:{domain}" for domain in scenes.TEST_DOMAINS]
        return [_of_source(name, protocol, count)[0][0] for name in names], []
    if word.partition(":")[0] not in KINDS:
        raise DataError(
            f"--data: {word}: no such folder or file, and no source by that name; a source is one "
            f"of {', '.join(f'{kind}:...' for kind in KINDS)}"
        )
    return _of_source(word, protocol, count)


def _of_source(
    word: str, protocol: str | None, count: int | None
) -> tuple[list[DataSet], list[str]]:
    """A source of the catalogue."""
    kind, place, _ = parse(word)
    if kind in ("photos", "tars") or (kind, place) in (("skimage", "photos"), ("pool", "photos")):
        raise DataError(f"--data: {word}: photographs without ground truth; nothing can be scored")
    size = {"height": RunConfig.height, "width": RunConfig.width}
    source = open_source(word, count=count or RunConfig.test_images, **size)
    if isinstance(source, DepthManifest):
        return _of_manifest(source, word, protocol)
    name = place if kind == "scenes" else source.domain
    usual = CUSTOMARY.get(kind, FALLBACK)
    found = data_set(name, source, PROTOCOLS[protocol or usual], given=word)
    if protocol is not None or kind in CUSTOMARY:
        return [found], []
    return [found], [
        f"{word}: scored by the protocol {FALLBACK} (no crop, no cap), since none is declared; "
        "choose another with --protocol"
    ]


def _of_manifest(
    table: DepthManifest, word: str, protocol: str | None
) -> tuple[list[DataSet], list[str]]:
    """The data sets of a manifest, or of some rows of one."""
    sets, notes = collection(table, protocol=protocol)
    protocols = {each.name: each.protocol for each in sets}
    found = []
    for name, part in table.by_dataset().items():
        source, left_out = part.with_known_offset()
        if source is not None:
            source.check_files()
            here = protocols[name]
            found.append(data_set(name, source, here, given=word, left_out=left_out))
    order = list(protocols)
    return sorted(found, key=lambda each: order.index(each.name)), notes


def is_pairs(path: Path) -> bool:
    """Whether a file holds marked pairs: JSON, or a CSV that names points."""
    if path.suffix.lower() == ".json":
        return True
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return {"near_x", "far_x"} <= {word.strip(' "\r\n') for word in first.split(",")}


def _of_pairs(path: Path, word: str, protocol: str | None) -> DataSet:
    """Photographs with marked pairs, which lie beside the file that lists them."""
    if protocol is not None and protocol not in PAIR_RULES:
        raise ConfigError(
            f"--protocol {protocol}: is for maps of depth, and {word} holds marked pairs; leave it "
            f"out, or take one of {', '.join(PAIR_RULES)}"
        )
    usual = "da2k" if path.suffix.lower() == ".json" else "marked_pairs"
    pairs = tuple(read_pairs(path))
    missing = [each.image for each in pairs if not (path.parent / each.image).is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of its images are not there, such as "
            f"{path.parent / missing[0]}; correct the paths, which start where the file lies"
        )
    name = path.stem
    keys = tuple(
        Key(name=os.path.splitext(each.image)[0], path=each.image, number=number, dataset=name)
        for number, each in enumerate(pairs)
    )
    _refuse_doubles([key.name for key in keys], name)
    return DataSet(
        name=name,
        source=[path.parent / each.image for each in pairs],
        protocol=PAIR_RULES[protocol or usual],
        keys=keys,
        sequences=("",) * len(pairs),
        given=word,
        pairs=pairs,
    )


def data_set(
    name: str,
    source: Source | Sequence[Sample],
    protocol: Protocol,
    *,
    given: str = "",
    left_out: int = 0,
) -> DataSet:
    """A source, or any sequence of samples, as something to be scored; see `DataSet`.

    Raises:
        DataError: two rows of a manifest that cannot be told apart.
    """
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
    if not isinstance(source, DepthManifest):
        name_of = getattr(source, "name_of", str)
        names = [name_of(index) for index in range(len(source))]
        paths = [name if Path(name).suffix else "" for name in names]
    else:
        rows = source.rows
        paths = [_image_of(row) for row in rows]
        names = [row.get("id") or Path(row["image"]).stem for row in rows]
        if len(set(names)) < len(names) and not any(row.get("id") for row in rows):
            names = [os.path.splitext(path)[0] for path in paths]
    _refuse_doubles(names, dataset)
    return tuple(
        Key(name=name, path=path, number=number, dataset=dataset)
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    )


def _refuse_doubles(names: Sequence[str], dataset: str) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        places = [str(k) for k, name in enumerate(names, start=1) if name == twice[0]]
        raise DataError(
            f"{dataset}: images {' and '.join(places)} are both called {twice[0]}; give each row of "
            "the manifest an id of its own"
        )


def _image_of(row: dict[str, str]) -> str:
    """The file of a row's photograph, as `dalib.data.sources.read_row` takes it."""
    native = row.get("native_image") and row.get("native_depth")
    return row["native_image"] if native else row["image"]


def sequences_of(source: Source | Sequence[Sample]) -> tuple[str, ...]:
    """Which sequence each image belongs to: the column `sequence` of a manifest, "" without."""
    if not isinstance(source, DepthManifest):
        return ("",) * len(source)
    return tuple(row.get("sequence", "") for row in source.rows)


def truth_hash(disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> str:
    """Twelve hex digits over one image's ground truth; what is not valid does not count."""
    known = disparity.masked_fill(~valid, 0).float().contiguous()
    total = hashlib.blake2b(repr(tuple(known.shape)).encode(), digest_size=6)
    total.update(known.numpy().tobytes())
    total.update(valid.contiguous().numpy().tobytes())
    return total.hexdigest()
