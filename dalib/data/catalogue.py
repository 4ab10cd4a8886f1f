"""Sources by name, so that a config can say what to train on: `scenes:labelled`, `photos:FOLDER`, `depth:FOLDER`, `hub:NAME?...`."""

from urllib.parse import parse_qsl

from dalib.config import check_names
from dalib.data import scenes
from dalib.data.hub import HubDataset
from dalib.data.schema import Source
from dalib.data.sources import DepthManifest, Motorcycle, PhotoFolder, SkimagePhotos

KINDS = ("scenes", "photos", "depth", "hub", "skimage")
_NUMBERS = {"depth_scale": float}


def open_source(name: str, *, count: int, height: int, width: int) -> Source:
    """Open a source by name.

    Args:
        name: `scenes:SPLIT` (materialised on disk on first use), `photos:FOLDER`, `depth:FOLDER` (a folder with
            manifest.csv; options dataset, quality), `hub:NAME?image=COLUMN&depth=COLUMN` (options as in `HubDataset`),
            `skimage:photos` or `skimage:motorcycle`. Options follow a question mark, as in a URL.
        count: images to take of a procedural split; the others are taken whole.
        height, width: size that procedural scenes are rendered at.

    Raises `ConfigError` for an unknown kind or split, `DataError` for data that is not there.
    """
    kind, _, rest = name.partition(":")
    check_names([kind], KINDS, what="kind of source")
    place, _, query = rest.partition("?")
    options = {k: _NUMBERS.get(k, str)(v) for k, v in parse_qsl(query)}
    if kind == "scenes":
        check_names([place], scenes.SPLITS, what="split of scenes")
        return scenes.materialise(split=place, count=count, height=height, width=width)
    if kind == "skimage":
        check_names([place], ("photos", "motorcycle"), what="scikit-image source")
        return SkimagePhotos() if place == "photos" else Motorcycle()
    return {"photos": PhotoFolder, "depth": DepthManifest, "hub": HubDataset}[kind](place, **options)
