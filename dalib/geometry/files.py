"""Clouds as files: PLY and binary glTF (GLB), written by hand, since both are a header and two
arrays.

- **PLY** (`binary_little_endian`): x, y, z as float32 and red, green, blue as bytes (sRGB), point by
  point, in the camera's coordinates of OpenCV: x right, y down, z forward.
- **GLB** (glTF 2.0, sections 3.7.2 and 4.4): one mesh of one primitive of mode POINTS. glTF has y
  up and a camera that looks along -z, so points are (x, -y, -z). Its vertex colours are *linear*,
  not sRGB: they are decoded, and stored in 16 bits, since 8 would band the dark ones. The material
  is unlit (KHR_materials_unlit): colours are those of the photograph.
"""

import json
import struct
from pathlib import Path

import numpy as np

import dalib
from dalib.geometry.clouds import Cloud

_FLOAT, _UINT16, _POINTS, _ARRAY_BUFFER = 5126, 5123, 0, 34962  # glTF's codes


def write_ply(path: Path, cloud: Cloud, *, unit: str = "metres") -> None:
    """Write a cloud as PLY; `unit` is said in the header. What stands at `path` is overwritten."""
    points = cloud.points.numpy()
    vertices = np.empty(
        len(cloud),
        [(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")],
    )
    for k, axis in enumerate("xyz"):
        vertices[axis] = points[:, k]
    for k, colour in enumerate(("red", "green", "blue")):
        vertices[colour] = cloud.colours[:, k].numpy()
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment dalib {dalib.__version__}: x right, y down, z forward; unit: {unit}",
        f"element vertex {len(cloud)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        "end_header",
    ]
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())


def write_glb(path: Path, cloud: Cloud, *, unit: str = "metres") -> None:
    """Write a cloud as binary glTF; `unit` is said in `asset.extras` (glTF itself knows metres
    only). What stands at `path` is overwritten."""
    points = cloud.points.numpy() * np.array([1, -1, -1], np.float32)
    points = np.ascontiguousarray(points, "<f4")
    colours = np.full((len(cloud), 4), 65535, "<u2")
    colours[:, :3] = (65535 * _linear(cloud.colours.numpy())).round()
    parts = [points.tobytes(), colours.tobytes()]  # 12 and 8 bytes a point: all aligned to 4
    about = {
        "asset": {
            "version": "2.0",
            "generator": f"dalib {dalib.__version__}",
            "extras": {"unit": unit, "axes": "x right, y up, the camera looks along -z"},
        },
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "cloud"}],
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": {"POSITION": 0, "COLOR_0": 1},
                        "material": 0,
                        "mode": _POINTS,
                    }
                ]
            }
        ],
        "materials": [
            {
                "name": "unlit",
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": _FLOAT,
                "count": len(cloud),
                "type": "VEC3",
                "min": points.min(0).tolist(),
                "max": points.max(0).tolist(),
            },
            {
                "bufferView": 1,
                "componentType": _UINT16,
                "normalized": True,
                "count": len(cloud),
                "type": "VEC4",
            },
        ],
        "bufferViews": [
            {
                "buffer": 0,
                "byteOffset": offset,
                "byteLength": len(part),
                "target": _ARRAY_BUFFER,
            }
            for offset, part in zip((0, len(parts[0])), parts, strict=True)
        ],
        "buffers": [{"byteLength": sum(map(len, parts))}],
    }
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(parts)
    with path.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(data)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(data), b"BIN\0") + data)


def _linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB bytes -> linear 0..1 (IEC 61966-2-1)."""
    unit = srgb.astype(np.float64) / 255
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
