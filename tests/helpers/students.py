"""What tests of students share: a checkout of their own with tiny recipes, a pool of a few photographs,
real images to be scored on, and a record that is made up."""

import csv
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dalib import paths
from dalib.data.pools.facts import read_pool

REPO = Path(__file__).resolve().parents[2]
TINY = {
    "height": 48,
    "width": 64,
    "labelled_images": 8,
    "unlabelled_images": 4,
    "test_images": 2,
    "pseudo_labels": True,
    "steps": 2,
    "batch": 2,
    "unlabelled_ratio": 1,
    "teacher": {"steps": 1},
}
"""A student of seconds."""
SHIPPED = {"labelled": ["scenes:labelled"], "unlabelled": ["pool:photos?shippable=yes"]}
RESEARCH = {
    "labelled": ["scenes:labelled", {"source": "pool:rgbd?split=train", "weight": 2}],
    "unlabelled": ["scenes:unlabelled", "pool:photos"],
}
PAGES = {"README.md": "# A book\n", "book/intro.md": "# An introduction\n"}


def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch, **students: dict) -> Path:
    """An empty checkout whose `students.yaml` has these settings over `TINY`, and whose package is
    where a student would be put."""
    shutil.copytree(REPO / "data" / "pools", folder / "data" / "pools")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        marks = "".join(
            f"<!-- {mark} -->\n<!-- /{mark} -->\n" for mark in ("student", "main-table")
        )
        (folder / name).write_text(text + marks + "The end.\n")
    (folder / "book" / "_static").mkdir()
    declare(folder, **(students or {"research": RESEARCH, "shipped": SHIPPED}))
    monkeypatch.setenv("DALIB_ROOT", str(folder))
    weights = folder / "dalib" / "weights" / "student.safetensors"
    monkeypatch.setattr(paths, "shipped_weights", lambda: weights)
    return folder


def declare(folder: Path, **students: dict) -> None:
    """Write `students.yaml`: settings of each student over `TINY`."""
    named = {
        name: {"label": f"{name.capitalize()} student", "ship": name == "shipped", "set": settings}
        for name, settings in students.items()
    }
    tree = {"shared": TINY, "students": named}
    (folder / "students.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def noise(number: int) -> Image.Image:
    """A picture of noise, the same for the same number."""
    drawn = np.random.default_rng(number).integers(0, 256, (50, 70, 3), np.uint8)
    return Image.fromarray(drawn)


def table(path: Path, rows: list[dict[str, str]]) -> None:
    """A CSV of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def photographs(folder: Path, monkeypatch: pytest.MonkeyPatch, **counts: int) -> Path:
    """A pool `photos` with so many rows of the recorded one by what is said of shipping them (yes, no,
    unclear), and with `foreign` photographs that its table does not know."""
    known = read_pool("photos").rows
    chosen = [("stranger-" + f"{n:012x}", "") for n in range(counts.pop("foreign", 0))]
    for ship, count in counts.items():
        chosen += [(r.key, r.blob) for r in known if r.origin.ship == ship][:count]
    with_shard = [{"key": key, "shard": "photos-0000.tar", "blob": blob} for key, blob in chosen]
    table(folder / "manifest.csv", with_shard)
    with tarfile.open(folder / "photos-0000.tar", "w") as shard:
        for number, (key, _) in enumerate(chosen):
            stored = io.BytesIO()
            noise(number).save(stored, "JPEG")
            entry = tarfile.TarInfo(f"{key}.jpg")
            entry.size = stored.tell()
            shard.addfile(entry, io.BytesIO(stored.getvalue()))
    monkeypatch.setenv("DALIB_PHOTOS", str(folder))
    return folder


def pairs(folder: Path, monkeypatch: pytest.MonkeyPatch, *, count: int = 2) -> Path:
    """A pool `rgbd` with rows of the recorded one."""
    rows = [row for row in read_pool("rgbd").rows if row.facts["split"] == "train"][:count]
    table(folder / "manifest.csv", [_pair(folder, row.key, n) for n, row in enumerate(rows)])
    monkeypatch.setenv("DALIB_RGBD", str(folder))
    return folder


def _pair(folder: Path, name: str, number: int) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    noise(number).save(folder / f"{number}.png")
    depth = np.linspace(900, 4000 + number, 50 * 70).reshape(50, 70).astype(np.uint16)
    Image.fromarray(depth).save(folder / f"{number}d.png")
    files = {"id": name, "image": f"{number}.png", "depth": f"{number}d.png"}
    more = {"kind": "depth_m", "depth_scale": "1000", "split": "train", "quality": "A"}
    return files | more | {"offset_known": "yes"}


def real(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real images to be scored on, of two data sets and both halves, with marked pairs."""
    rows = [
        _pair(folder, f"image {number}", number) | {"dataset": name}
        for number, name in enumerate(("nyuv2", "nyuv2", "tum"))
    ]
    table(folder / "manifest.csv", rows)
    points = {"near_x": "0.5", "far_x": "0.5"}
    marked = [
        {"image": "0.png", **points, "near_y": "0.9", "far_y": "0.1"},
        {"image": "0.png", **points, "near_y": "0.2", "far_y": "0.8"},
        {"image": "1.png", **points, "near_y": "0.3", "far_y": "0.7"},
    ]
    table(folder / "ordinal.csv", marked)
    monkeypatch.setenv("DALIB_REALDEPTH", str(folder))
    return folder


def record(name: str = "shipped", *, level: float = 0.2, images: int = 6) -> dict:
    """A made-up record of a student: AbsRel about `level` on real images, twice that on drawn ones."""
    from dalib.data.scenes import TEST_DOMAINS

    def scores(middle: float) -> dict:
        spread = np.random.default_rng(7).normal(0, middle / 10, images)
        return {"abs_rel": [round(float(middle + s), 5) for s in spread]}

    def scored(middle: float) -> dict:
        sets = {"nyuv2": "table", "kitti": "table", "tum": "tune"}
        return {
            "images": {d: scores(2 * middle) for d in (*TEST_DOMAINS, "validation")},
            "real": {
                d: {"half": half, "names": [f"{d} {k}" for k in range(images)]} | scores(middle)
                for d, half in sets.items()
            },
        }

    def marked(right: list[float]) -> dict:
        hard = [True, True, False, False, False]
        return {"marked": {"images": ["a", "a", "b", "c", "c"], "right": right, "hard": hard}}

    part = {
        "dataset": "Open photographs",
        "repository": "somebody/photographs",
        "commit": "0123456789abcdef",
        "licence": "CC BY 2.0",
        "ship": "yes",
        "images": 677,
    }
    ship = name == "shipped"
    weights = {
        "bytes": 6_510_000,
        "sha256": "ab" * 32,
        "parameters": 3_200_123,
        "precision": "float16" if ship else "float32",
    }
    config = {"encoder": "lite0", "height": 192, "width": 256, "steps": 4321, "batch": 8}
    return {
        "schema": 1,
        "student": name,
        "label": f"{name.capitalize()} student",
        "ship": ship,
        "seed": 0,
        "hash": "c0ffee123456",
        "teacher": "deadbeef0000",
        "training_hash": "1234567890ab",
        "evaluation_hash": "ba0987654321",
        "commit": "feedface",
        "dirty": False,
        "created": "2027-01-02T03:04:05Z",
        "device": "a processor",
        "device_type": "cpu",
        "instructions": "AVX512",
        "versions": {"torch": "2.14.1"},
        "processes": 1,
        "threads": 2,
        "wall_seconds": {"student": 7200.0, "teacher": 3600.0},
        "peak_memory_mb": 2000,
        "weights": weights,
        "config": config | {"unlabelled_ratio": 2},
        "seen": [
            {
                "run": "student",
                "role": "unlabelled",
                "source": "pool:photos?shippable=yes",
                "weight": 1,
                "parts": [part],
            }
        ],
        "began_with": [
            {
                "name": "EfficientNet-Lite0, ImageNet",
                "licence": "Apache-2.0",
                "source": "https://example.org/lite0",
                "note": "",
                "commercial": True,
            }
        ],
        "data": {},
        "scored_on": {},
        **scored(level),
        **marked([1.0, 0.0, 1.0, 1.0, 1.0]),
        "floors": {
            "constant": scored(0.5),
            "vertical ramp": scored(0.3) | marked([0.0, 0.0, 1.0, 1.0, 1.0]),
            "quadratic surface": scored(0.25),
        },
    }
