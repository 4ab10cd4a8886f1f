"""Picture files with something odd about them, made for tests: colour profiles, damaged tags,
clips."""

import struct
from fractions import Fraction

import numpy as np
from PIL import Image

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""XYZ of the red, green and blue primary, adapted to D50 as profiles have them."""


def profile(primaries=None, *, gamma: float = 2.2) -> bytes:
    """An ICC profile, version 2: three primaries with one gamma, or grey with a gamma alone."""
    space = b"RGB " if primaries else b"GRAY"
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 2) + b"x\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
    }
    tags[b"wtpt"] = _xyz((0.9642, 1.0, 0.8249))
    if primaries:
        tags |= {
            key: _xyz(value)
            for key, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
        }
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        value += bytes(-len(value) % 4)
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        start + len(body),
        b"none",
        0x02400000,
        b"mntr",
        space,
        b"XYZ ",
        bytes(12),
        b"acsp",
    )
    head += bytes(68 - len(head)) + struct.pack(">iii", 63190, 65536, 54061)  # the illuminant, D50
    return head + bytes(128 - len(head)) + table + body


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(v * 65536) for v in values))


def exif(orientation=6, kind: int = 3, count: int = 1) -> bytes:
    """A block of one entry: an orientation of any type."""
    value = orientation if isinstance(orientation, bytes) else struct.pack("<I", orientation)
    entry = struct.pack("<HHI", 0x0112, kind, count) + value.ljust(4, b"\0")[:4]
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


DAMAGED = {
    "garbage": b"Exif\0\0" + bytes(range(200, 240)),
    "empty": b"Exif\0\0II*\0",
    "ends early": exif()[:20],
    "points beyond the end": b"Exif\0\0II*\0" + struct.pack("<I", 2**31),
    "value beyond the end": exif(orientation=2**30, kind=2, count=90),
    "count without end": exif(orientation=2**20, kind=5, count=2**31 - 1),
}


def clip(path, shapes, *, codec: str = "mpeg4", **how):
    """A clip of frames of these (height, width), brighter from one to the next."""
    import av

    with av.open(str(path), "w", **how) as container:
        stream = container.add_stream(codec, rate=6)
        stream.height, stream.width, stream.pix_fmt = (
            *shapes[0],
            "gray" if codec == "ffv1" else "yuv420p",
        )
        stream.codec_context.time_base = Fraction(1, 6)
        for i, shape in enumerate(shapes):
            pixels = np.full((*shape, 3), 20 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def picture(value: int = 90, size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.new("RGB", size, (value, 30, 200))
