"""The photographs that pages show: a reader's own, or those of Python packages."""

import itertools

from dalib.data.photos import PhotoFolder
from dalib.data.sources import Motorcycle, SkimagePhotos


def samples(photos: str = "", *, most: int = 6) -> list[dict]:
    """The first photographs of a folder; without one, Motorcycle and scikit-image's."""
    if photos:
        return list(itertools.islice(PhotoFolder(photos), most))
    return [*Motorcycle(), *SkimagePhotos()][:most]
