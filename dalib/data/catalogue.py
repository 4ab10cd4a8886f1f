"""Sources by name, so that a config can say what to train on: `scenes:labelled`, `photos:FOLDER`,
`tars:GLOB`, `depth:FOLDER`, `hub:NAME?...`, `pool:photos`."""

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from dalib import paths
from dalib.config import RunConfig, check_names
from dalib.data import scenes
from dalib.data.damaged import guarded
from dalib.data.hub import HubDataset
from dalib.data.photos import PhotoFolder
from dalib.data.pools.sources import PoolPairs, PoolPhotos
from dalib.data.schema import Source, in_metres, without_metres
from dalib.data.sources import DepthManifest, ManifestPhotos, Motorcycle, SkimagePhotos
from dalib.data.subset import listed
from dalib.data.tars import TarShards
from dalib.errors import ConfigError, DataError

OPENERS: dict[str, Callable[..., Source]] = {
    "photos": PhotoFolder,
    "tars": TarShards,
    "depth": DepthManifest,
    "hub": HubDataset,
}
"""Kinds of sources that lie at a place of the user's; what they take by keyword are their
options."""
POOLS: dict[str, Callable[..., Source]] = {"photos": PoolPhotos, "rgbd": PoolPairs}
"""Public pools, which lie where `dalib.paths.pool` says; what they take by keyword are their
options."""
PLACES = {"hub": "NAME", "tars": "GLOB"}
"""What their places are, where that is no folder."""
BUILT_IN = {"scenes": scenes.SPLITS, "skimage": ("photos", "motorcycle")}
"""Kinds of sources that have a few known names, and no options."""
KNOWN = BUILT_IN | {"pool": POOLS}
"""Kinds of sources that have a few known names."""
NAMED = ("photos", "tars")
"""Kinds of sources whose samples have names, by which some may be chosen."""
LISTS = ("only", "without")
"""The options that choose them."""
LOOKS = 8
"""Images of a source whose labels are looked at before a run to metres."""
KINDS = ("scenes", *OPENERS, "pool", "skimage")


def open_source(name: str, *, count: int, height: int, width: int, draw: int = 0) -> Source:
    """Open a source by name.

    Args:
        name: `scenes:SPLIT` (materialised on disk on first use), `photos:FOLDER` (options
            domain, draft) or `photos:FOLDER/manifest.csv` (the images that it lists; option
            domain), `tars:GLOB` (tar shards such as `tars:pool/*.tar`; options domain, image,
            draft), `depth:FOLDER` (a folder with manifest.csv; options dataset, quality, split,
            offset_known), `pool:photos` (option shippable) and `pool:rgbd` (options split, quality),
            the public pools that `python -m dalib fetch` builds,
            `hub:NAME?image=COLUMN&depth=COLUMN` (options as in `HubDataset`), `skimage:photos` or
            `skimage:motorcycle`. Of `photos:` and `tars:` some may be chosen by a list of names
            (`dalib.data.subset`): `only=FILE`, or all but these, `without=FILE`. Options follow a
            question mark, as in a URL; yes or no are written as words.
        count: images to take of a procedural split; the others are taken whole.
        height, width: size that procedural scenes are rendered at.
        draw: which scenes of a procedural split (`dalib.data.scenes.Scenes`).

    Raises:
        ConfigError: an unknown kind, split or option, an option that is doubled or of the wrong
            type, no place.
        DataError: data that is not there or cannot be used.
    """
    kind, place, options = parse(name)
    if kind == "scenes":
        return scenes.materialise(split=place, count=count, height=height, width=width, draw=draw)
    if kind == "skimage":
        return SkimagePhotos() if place == "photos" else Motorcycle()
    lists = {word: options.pop(word) for word in LISTS if word in options}
    source = _opener(kind, place)(paths.pool(place) if kind == "pool" else place, **options)
    for word, path in lists.items():
        source = listed(source, Path(path), without=word == "without")
    return source


def parse(name: str) -> tuple[str, str, dict[str, Any]]:
    """Kind, place and options of a source's name, as `open_source` reads it; nothing is opened."""
    kind, colon, rest = name.partition(":")
    if name and not (colon and kind in KINDS) and Path(name).exists():
        raise ConfigError(f"source {name!r}: say what it holds: {_suggest(Path(name))}")
    check_names([kind], KINDS, what=f"kind of source in {name!r}:")
    place, mark, query = rest.partition("?")
    if kind in KNOWN:
        check_names([place], KNOWN[kind], what=f"name in source {name!r}:")
    if kind in BUILT_IN:
        if mark:
            raise ConfigError(
                f"source {name!r}: {kind} takes no options; leave out {mark + query!r}"
            )
        return kind, place, {}
    if not place.strip():
        raise ConfigError(
            f"source {name!r}: no place is given; write {kind}:{PLACES.get(kind, 'FOLDER')}"
        )
    opener = _opener(kind, place)
    hints = typing.get_type_hints(opener.__init__)
    keywords = inspect.signature(opener).parameters.values()
    known = {p.name: hints[p.name] for p in keywords if p.kind is p.KEYWORD_ONLY}
    if kind in NAMED:
        known |= dict.fromkeys(LISTS, str)
    options: dict[str, Any] = {}
    for word in query.split("&") if mark else []:
        option, _, value = word.partition("=")
        check_names([option], known, what=f"option in source {name!r}:")
        if option in options:
            raise ConfigError(f"source {name!r}: option {option} is given more than once; keep one")
        options[option] = _value(name, option, unquote_plus(value), known[option])
    return kind, place, options


def _suggest(path: Path) -> str:
    """How a place is named as a source, as far as one look tells."""
    if path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar"))):
        return f"tars:{path / '*.tar' if path.is_dir() else path}, tar shards"
    pairs = f"depth:{path}, images with depth by its manifest.csv"
    photographs = f"photos:{path}, photographs without depth"
    if path.suffix.lower() == ".csv" or (path / "manifest.csv").is_file():
        return f"{pairs}; or {photographs}"
    if path.is_dir():
        return f"{photographs}; or write a manifest.csv there first (dalib manifest)"
    return "a source is a folder, a manifest.csv or tar shards, and this is none of them"


def _opener(kind: str, place: str) -> Callable[..., Source]:
    """What opens a source: `photos:` of a manifest are the photographs that it lists."""
    if kind == "pool":
        return POOLS[place]
    if kind == "photos" and place.lower().endswith(".csv") and not Path(place).is_dir():
        return ManifestPhotos
    return OPENERS[kind]


def _value(name: str, option: str, text: str, hint: Any) -> Any:
    """An option as its type: yes or no, a positive number, a whole number, or text that is not
    empty."""
    kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    where = f"source {name!r}: option {option}"
    if bool in kinds:
        words = {"yes": True, "true": True, "no": False, "false": False}
        if text.lower() not in words:
            raise ConfigError(f"{where} is {text!r}; write {option}=yes or {option}=no")
        return words[text.lower()]
    if str in kinds:
        if not text:
            raise ConfigError(f"{where} is empty; write {option}=SOMETHING, or leave it out")
        return text
    try:
        value = float(text) if float in kinds else int(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise ConfigError(
            f"{where} is {text!r}; write a positive "
            f"{'number' if float in kinds else 'whole number'}"
        )
    return value


def check_sources(config: RunConfig) -> None:
    """Look at what a run will be trained on, before anything is trained; no scene is rendered.

    All names are read first, then each source is opened, the files that a manifest names must be
    there, and the first sample is read.

    Raises:
        ConfigError: as `open_source`.
        DataError: as `open_source`, or no ground truth (or classes, for `segmentation_weight`)
            where the run needs some.
    """
    needs = {"labelled": config.labelled_brings, "unlabelled": config.pool_brings}
    for names in config.sources.values():
        for name in names:
            parse(name)
    for role, names in config.sources.items():
        for name in names:
            _check_source(name, role=role, needs=needs[role], config=config)


def _check_source(name: str, *, role: str, needs: tuple[str, ...], config: RunConfig) -> None:
    kind, place, _ = parse(name)
    if kind == "scenes":  # which have everything; but are there so many?
        scenes.Scenes(split=place, count=config.counts[role], draw=config.drawn, **config.size)
        return
    source = open_source(name, count=1, height=1, width=1)
    if isinstance(source, DepthManifest):
        source.check_files()
    metres = role == "labelled" and config.needs_metres
    if metres and isinstance(source, DepthManifest):
        wrong = [part for part in source.by_dataset().items() if not part[1].is_in_metres()]
        if wrong:
            raise DataError(f"{role}: {name}: {without_metres(n for n, _ in wrong)}")
    sample = guarded(source, config)[0]
    if metres and not in_metres(sample):
        raise DataError(f"{role}: {name}: {without_metres([sample['domain']])}")
    _check_needs(name, sample, role=role, needs=needs)
    if metres:
        _check_reach(name, source, config)


def _check_reach(name: str, source: Source, config: RunConfig) -> None:
    """Refuse labels that all lie beyond what a network of metres reaches, by a look at a few."""
    looked = min(LOOKS, len(source))
    guard = guarded(source, config)
    for k in range(looked):
        sample = guard[k * len(source) // looked]
        near = sample["disparity"] >= 1 / config.max_depth
        if bool((sample["valid"] & near).any()):
            return
    raise DataError(
        f"labelled: {name}: of {looked} images looked at, none has a label within max_depth "
        f"{config.max_depth:g} m; raise max_depth, or correct the scale of the labels (depth_scale)"
    )


def _check_needs(name: str, sample: dict, *, role: str, needs: tuple[str, ...]) -> None:
    """Refuse a source whose first sample has not what its role needs."""
    for key in needs:
        if key in sample:
            continue
        if key == "semantics":
            setting = "task: segmentation" if role == "labelled" else "segmentation_weight"
            raise DataError(
                f"{role}: {name} has no classes, which {setting} needs; of the sources that there "
                "are, drawn scenes alone have them (scenes:labelled): name one"
            )
        instead = (
            "photographs alone belong under unlabelled"
            if role == "labelled"
            else "name another source"
        )
        raise DataError(f"{role}: {name} has no ground truth; {instead}")
