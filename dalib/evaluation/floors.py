"""Floors: predictions that look at no picture. A network has to beat all of them before its error
says anything about pictures.

Beside them the quadratic surface, which is no prediction: it is fitted to the truth of each image. It
has the layout of the scene, and no edge and no object in it; only a network below it has seen more
than that.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalib.data.schema import Source
from dalib.errors import DataError
from dalib.losses import normalise
from dalib.models.sizes import resize_disparity

Floor = Callable[[int, int], Tensor]
"""Height and width -> a disparity map of that size."""
MEAN_MAP = "mean map"
SURFACE = "quadratic surface"


def constant_floor(height: int, width: int) -> Float[Tensor, "H W"]:
    """A prediction that knows nothing: after alignment, the mean disparity of the image."""
    return torch.ones(height, width)


def ramp_floor(height: int, width: int) -> Float[Tensor, "H W"]:
    """A prediction that knows only that the bottom is near: disparity 0 in the top row to 1 in the
    bottom row."""
    return torch.linspace(0, 1, height)[:, None].expand(height, width).contiguous()


FLOORS: dict[str, Floor] = {"constant": constant_floor, "vertical ramp": ramp_floor}
"""The floors that need no data. The third, `mean_map`, is made of a labelled source."""


def mean_map(source: Source, *, batch_size: int = 100) -> Float[Tensor, "h w"]:
    """The average disparity of labelled images: what training labels alone say about a picture that
    nobody has looked at.

    Each map is first brought to shift 0 and scale 1 over its valid pixels, median and mean absolute
    deviation, as the affine-invariant loss does (`dalib.losses.normalise`). So every image weighs
    the same, where a plain average of disparity would be ruled by the few images with something
    close to the camera. The average is then taken pixel by pixel over the images whose pixel is
    valid; sky, at disparity 0, is valid.

    A network that sees no picture and learns by squared differences of such maps ends here. The
    loss of the paper takes absolute differences, whose optimum lies between this map and the median
    of each pixel; the median's errors differ from those of the mean in the second or third digit.

    Args:
        source: with ground truth, all images of one size; read in order, so that the result is the
            same every time.
        batch_size: images at a time.

    Returns:
        float32, up to scale and shift; 0, the median, where no image is valid.

    Raises:
        DataError: an image without ground truth, or of another size than the first.
    """
    total = None
    count = None
    for start in range(0, len(source), batch_size):
        samples = [source[i] for i in range(start, min(start + batch_size, len(source)))]
        for index, sample in enumerate(samples, start):
            if "disparity" not in sample:
                raise DataError(
                    f"image {index} of {source.domain}: no ground truth; a mean map "
                    "needs labelled images"
                )
            if total is not None and sample["disparity"].shape != total.shape:
                sizes = f"{tuple(sample['disparity'].shape)} and not {tuple(total.shape)}"
                raise DataError(
                    f"image {index} of {source.domain}: its map is {sizes}; bring all "
                    "images to one size"
                )
            disparity = sample["disparity"][None]
            valid = sample["valid"][None]
            normalised = normalise(disparity, valid)[0].double()  # 0 where nothing is valid
            total = normalised if total is None else total + normalised
            count = valid[0].double() if count is None else count + valid[0]
    if total is None:
        raise DataError(f"{source.domain}: no image; a mean map needs at least one")
    return (total / count.clamp(min=1)).float()


def mean_map_floor(disparity: Float[Tensor, "h w"]) -> Floor:
    """A mean map as a prediction of any size: resized bilinearly, whatever the picture's aspect."""
    return lambda height, width: resize_disparity(disparity[None], (height, width))[0]


def quadratic_surface(
    disparity: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> Float[Tensor, "H W"]:
    """The polynomial of second degree in column and row that is nearest to a disparity map, by least
    squares over its valid pixels: six numbers, the best of all smears.

    Args:
        disparity: the truth, in any unit; what stands where it is not valid does not matter.
        valid: the pixels that are fitted. Those that are scored, so that no alignment afterwards can
            bring the surface nearer to the truth.

    Returns:
        float64, everywhere; 0 without a valid pixel. Of fewer than six pixels, or of pixels that
        leave a direction open, the surface of the least coefficients.
    """
    height, width = disparity.shape
    y = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, dtype=torch.float64).expand(height, width)
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=-1)  # (H, W, 6)
    if not valid.any():
        return torch.zeros(height, width, dtype=torch.float64)
    truth = disparity[valid].double()[:, None]
    # gelsd: a least-squares solution also where the rank is below six
    found = torch.linalg.lstsq(terms[valid], truth, driver="gelsd").solution
    return (terms @ found)[..., 0]
