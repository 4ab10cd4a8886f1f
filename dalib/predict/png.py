"""A PNG of one channel written in bands of rows, so that its memory does not grow with its height;
Pillow needs the whole picture."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import dalib


def write_png(
    path: Path,
    rows: Iterator[np.ndarray],
    size: tuple[int, int],
    *,
    depth: int,
    texts: dict[str, str],
    table: np.ndarray | None = None,
) -> None:
    """Grey, or with a palette. Follows the PNG specification, third edition; every row is stored as
    its change from the row above.

    Args:
        path: of the file, which is overwritten.
        rows: bands (rows, W) from top to bottom, of uint8 or uint16.
        size: (H, W).
        depth: bits of a value, 8 or 16.
        texts: text chunks by keyword, Latin-1.
        table: uint8 (256, 3), the palette; the values are its indices.
    """
    with path.open("wb") as file:

        def chunk(kind: bytes, data: bytes) -> None:
            file.write(
                struct.pack(">I", len(data))
                + kind
                + data
                + struct.pack(">I", zlib.crc32(kind + data))
            )

        file.write(b"\x89PNG\r\n\x1a\n")
        chunk(
            b"IHDR",
            struct.pack(">IIBBBBB", size[1], size[0], depth, 0 if table is None else 3, 0, 0, 0),
        )
        for key, text in {"Software": f"dalib {dalib.__version__}", **texts}.items():
            chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1"))
        if table is not None:
            chunk(b"PLTE", table.tobytes())
        packer = zlib.compressobj(4)
        last = np.zeros((1, size[1] * depth // 8), np.uint8)
        for band in rows:
            raw = band.astype(f">u{depth // 8}").view(np.uint8).reshape(len(band), -1)
            above = np.concatenate([last, raw[:-1]])
            # wraps at 256, as it should
            filtered = np.pad(raw - above, ((0, 0), (1, 0)), constant_values=2)
            chunk(b"IDAT", packer.compress(filtered.tobytes()))
            last = raw[-1:]
        chunk(b"IDAT", packer.flush())
        chunk(b"IEND", b"")
