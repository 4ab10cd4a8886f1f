"""Image and depth files as arrays of one kind, and the one place where depth becomes disparity."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from dalib.data.colours import to_srgb
from dalib.data.metadata import (
    DAMAGED_EXTRAS,
    Tell,
    decode,
    explain,
    open_header,
    orientation,
    shown,
    turned,
    warn_once,
    without_extras,
)
from dalib.errors import DataError

UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow and numpy raise for files that are truncated, damaged, or something else
altogether."""


Size = tuple[int, int]
"""(height, width) in pixels."""


def open_image(
    path: Path, *, tell: Tell | None = None, draft_for: Size | None = None
) -> Image.Image:
    """A fully decoded image; a missing or damaged file is a `DataError` that names it.

    Damaged metadata beside good pixels are ignored. `tell` hears of that; by default it is a
    warning, once per file. `draft_for`: see `decode_image`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; correct the path or remove its entry")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise explain(path, error) from error
    return decode_image(data, name=str(path), tell=tell, draft_for=draft_for)


def decode_image(
    data: bytes, *, name: str, tell: Tell | None = None, draft_for: Size | None = None
) -> Image.Image:
    """As `open_image`, from a file's content; errors call it `name`.

    With `draft_for`, a JPEG is decoded at a fraction of its size where that is enough for such an
    image, see `draft_scale`: several times faster, and other pixels than those of the full picture
    shrunk. Other formats are decoded in full.
    """
    tell = tell or warn_once(shown(name))
    try:
        try:
            picture = open_header(io.BytesIO(data))
            _draft(picture, draft_for)
            decode(picture, tell=tell)
        except Image.DecompressionBombError:
            raise
        except Exception:
            if (bare := without_extras(data)) is None:
                raise
            picture = open_header(io.BytesIO(bare))
            _draft(picture, draft_for)
            decode(picture, tell=tell)
            tell(DAMAGED_EXTRAS)
    except Exception as error:  # what a damaged file makes Pillow raise is of any kind
        raise explain(name, error) from error
    return picture


def draft_scale(stored: Size, wanted: Size) -> int:
    """By how much a JPEG may be shrunk as it is decoded, 1, 2, 4 or 8: the most that leaves twice
    the pixels in each direction that an image needs which is to cover the wanted size.

    A rule of the sizes alone. Twice, so that the resampling that follows still decides how sharp
    the image is, and not the decoder.

    Args:
        stored: (height, width) of the file, upright.
        wanted: (height, width) that it is to cover.
    """
    ratio = max(w / s for w, s in zip(wanted, stored, strict=True))
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or 2 * ratio * scale <= 1)


def _draft(picture: Image.Image, wanted: Size | None) -> None:
    """Have a JPEG decoded at a fraction of its size, if that is enough."""
    if wanted is None or picture.format not in ("JPEG", "MPO"):
        return
    columns, rows = picture.size
    lies = orientation(picture, tell=lambda _: None) >= 5  # a quarter turn
    scale = draft_scale((columns, rows) if lies else (rows, columns), wanted)
    if scale > 1:
        # Pillow takes the largest fraction that is no smaller than this
        picture.draft(None, (max(1, columns // scale), max(1, rows // scale)))


def to_rgb(
    picture: Image.Image | np.ndarray, *, name: str, tell: Tell | None = None
) -> UInt8[Tensor, "3 H W"]:
    """Any photograph as 8-bit sRGB, upright.

    EXIF rotation is applied, a colour profile followed, grey repeated, transparency laid over
    white, 16 bits rounded to 8. An array is (H, W) or (H, W, 1 | 3 | 4), of integers in 0..255 or,
    where its type is wider and so are its values, 0..65535. `tell` hears of damaged tags and
    profiles, which are ignored; by default it is a warning, once per name.
    """
    tell = tell or warn_once(shown(name))
    if isinstance(picture, np.ndarray):
        array = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
        if (
            array.dtype.kind not in "iu"
            or array.shape[2:] not in ((), (3,), (4,))
            or array.ndim < 2
        ):
            have = f"{array.dtype} {picture.shape}"
            raise DataError(
                f"{name}: an image must be integers (H, W) or (H, W, 1 | 3 | 4), not "
                f"{have}; convert it"
            )
        deep = array.dtype == np.uint16 or array.max(initial=0) > 255
        picture = Image.fromarray(_to_8_bits(array) if deep else array.clip(0).astype(np.uint8))
    picture = turned(picture, orientation(picture, tell=tell))
    if picture.mode.startswith("I"):
        profile = picture.info.get("icc_profile")
        picture = Image.fromarray(_to_8_bits(np.asarray(picture)))
        picture.info["icc_profile"] = profile
    if picture.mode == "F":
        raise DataError(
            f"{name}: a floating-point image has no known white; save it with 8 or 16 "
            "bits a channel"
        )
    picture = to_srgb(picture, tell=tell)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    # (H, W, 3) -> (3, H, W)
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, rounded to the nearest."""
    return ((array.astype(np.int64).clip(0, 65535) + 128) // 257).astype(np.uint8)


def read_rgb(path: Path, *, draft_for: Size | None = None) -> UInt8[Tensor, "3 H W"]:
    """A photograph from a file, as `to_rgb` gives it; `draft_for` as in `decode_image`."""
    tell = warn_once(shown(path))
    picture = open_image(path, tell=tell, draft_for=draft_for)
    return to_rgb(picture, name=str(path), tell=tell)


def to_disparity(
    values: np.ndarray,
    *,
    kind: str,
    scale: float | int,
    name: str,
    mask: np.ndarray | None = None,
    bits: int | None = None,
    invalid: tuple[float, ...] | None = None,
    sky: np.ndarray | None = None,
    cosines: np.ndarray | None = None,
) -> tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """Stored depth or disparity -> (disparity, valid). Every real source goes through here; nothing
    else inverts depth.

    Args:
        values: (H, W), as stored.
        kind: "depth_m" (`values / scale` is z-depth in metres) or "disparity" (it is proportional
            to 1/z).
        scale: divisor of the stored values.
        name: what errors call this map.
        mask: (H, W), False where there is no ground truth, whatever `values` holds there. Without
            it, 0 means none.
        bits: of a stored value, as declared. Depth in 8 bits passes only with it, since such maps
            are mostly pictures of nearness.
        invalid: further stored values that mean "no ground truth"; empty: none does, not even 0. A
            declaration is taken as complete; without one (None), the greatest value that a file can
            hold is refused, since it is mostly a hole.
        sky: (H, W), True where the scene is infinitely far, whatever `values` holds there; but where
            `mask` is False nothing is known, be it sky or not.
        cosines: (H, W), z-depth / distance, where the values of "depth_m" are distances along the
            rays of the pixels.

    Returns:
        Disparity, float32 (H, W), in 1/m for "depth_m" and 0 where not valid; and validity, bool
        (H, W). The sky is valid with disparity 0. So is a disparity of 0 inside a mask, or where
        `invalid` is empty.

    Raises:
        DataError: unknown kind, scale not positive, sizes that differ, undeclared 8-bit depth or
            greatest values, a value that is NaN, infinite or negative where there should be ground
            truth, or no valid pixel at all.
    """
    if kind not in ("depth_m", "disparity"):
        raise DataError(f"{name}: unknown kind {kind!r}; it must be 'depth_m' or 'disparity'")
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"{name}: depth_scale is {scale}; it must be a positive number")
    for what, other in (("mask", mask), ("mask of sky", sky)):
        if other is not None and other.shape != values.shape:
            raise DataError(
                f"{name}: a {what} of size {other.shape} for a map of size {values.shape}; make "
                "them equal"
            )
    if cosines is not None and kind != "depth_m":
        raise DataError(f"{name}: only depth is a distance along the ray, not {kind}")
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: a depth map holds integers or floats, not {values.dtype}; convert it"
        )
    _check_bits(values, bits, kind=kind, name=name)
    known = np.ones(values.shape, bool) if mask is None else mask.astype(bool)
    far = np.zeros(values.shape, bool) if sky is None else sky.astype(bool) & known
    known &= ~far
    for value in invalid or ():
        known &= ~(np.isnan(values) if np.isnan(value) else values == value)
    stored = values.astype(np.float64) / scale
    if cosines is not None:
        stored *= cosines
    for bad, what in ((~np.isfinite(stored), "NaN or infinite"), (stored < 0, "negative")):
        if count := int((bad & known).sum()):
            raise DataError(
                f"{name}: {count} {what} values of {kind}; store 0 or mask them where "
                "nothing is known"
            )
    if invalid is None:
        _check_greatest(values[known], kind=kind, scale=scale, name=name)
    zero_is_far = kind == "disparity" and (mask is not None or invalid == ())
    valid = known if zero_is_far else known & (stored > 0)
    if not (valid | far).any():
        raise DataError(f"{name}: no valid value of {kind}; repair the map or leave this image out")
    disparity = np.zeros(stored.shape, np.float32)
    disparity[valid] = 1.0 / stored[valid] if kind == "depth_m" else stored[valid]
    return torch.from_numpy(disparity), torch.from_numpy(valid | far)


def _check_bits(values: np.ndarray, bits: int | None, *, kind: str, name: str) -> None:
    """Refuse depth of 8 bits a value, stretched to 16 or not, unless it is declared; and a
    declaration that is not true."""
    if bits is not None and values.size and values.max() >= 2**bits:
        raise DataError(
            f"{name}: bits is {bits}, but the map holds {values.max():g}; correct the declaration"
        )
    if kind == "disparity":
        return
    small = values.dtype.itemsize == 1
    if small and (bits is None or bits > 8):
        raise DataError(
            f"{name}: 8 bits a value, as pictures of nearness have (white is near); declare kind "
            "disparity,"
            " or, if it is depth all the same, bits 8"
        )
    if not small and bits is None and _is_stretched(values):
        raise DataError(
            f"{name}: its 16-bit values are 8-bit ones, stretched, as in pictures of nearness "
            "(white is near);"
            " declare kind disparity, or, if it is depth all the same, bits 16"
        )


def _is_stretched(values: np.ndarray) -> bool:
    """Whether these are 8-bit values times 256 or 257, and enough different ones that this is no
    accident."""
    if values.dtype.kind == "f":
        return False
    return any(not (values % step).any() and len(np.unique(values)) > 16 for step in (256, 257))


def _check_greatest(values: np.ndarray, *, kind: str, scale: float | int, name: str) -> None:
    """Refuse values that mostly stand for "nothing was measured here": the greatest of a type, or
    absurdly far ones.

    In disparity the greatest value is near, and a map that fills its range rises to it step by
    step; there it is refused only if it stands apart from all others.
    """
    if not values.size:
        return
    top = float(values.max())
    limits = {2.0**15 - 1, 2.0**16 - 1}
    if values.dtype.kind == "f":
        limits |= {float(np.finfo(dtype).max) for dtype in (np.float16, np.float32, np.float64)} | {
            65.535
        }
    else:
        limits |= {float(np.iinfo(values.dtype).max)}
    greatest = any(abs(top - limit) <= 1e-6 * limit for limit in limits)
    below = float(values[values < values.max()].max(initial=0))
    apart = below < 0.75 * top
    if kind == "depth_m":
        full = top >= 1023 and np.log2(top + 1).is_integer()  # all bits of 10, 12 or 14
        suspect = (
            greatest
            or top / scale >= 1e5
            or (full and apart and np.mean(values == values.max()) >= 0.01)
        )
    else:
        suspect = apart and (greatest or top / scale >= 1e9)
    if suspect:
        word = str(values.max())
        count = int((values == values.max()).sum())
        raise DataError(
            f"{name}: {count} values of {kind} are {word}, which mostly marks holes; declare it "
            f"as invalid {word},"
            " or, if every value is meant, as invalid none"
        )


def same_size(image: Tensor, disparity: Tensor, *, name: str) -> None:
    """A `DataError` unless image (3, H, W) and map (H, W) cover the same pixels."""
    h, w = image.shape[-2:]
    rows, columns = disparity.shape[-2:]
    if (h, w) != (rows, columns):
        raise DataError(
            f"{name}: the map is {columns}x{rows} but its image {w}x{h}; resize the "
            "map or correct its row"
        )


def digest(parts: Iterable[str | Path]) -> str:
    """16 hexadecimal digits that change when a string does, or the size or time of change of a
    file.

    Like make and rsync, this trusts the clock: it costs one look per file, and not a reading of all
    of them. A copy that keeps times (`cp -p`, `rsync -a`) keeps its digest.
    """
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Path):
            try:
                look = part.stat()
            except OSError as error:
                raise DataError(
                    f"{part}: cannot be read ({error}); correct the path or remove its entry"
                ) from error
            part = f"{look.st_size} {look.st_mtime_ns}"
        total.update(part.encode() + b"\0")
    return total.hexdigest()
