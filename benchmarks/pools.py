"""Opening a pool of 10 thousand, 100 thousand and a million photographs: seconds, and memory of each
process.

python benchmarks/pools.py                    writes data/benchmarks/pools.json
python benchmarks/pools.py --sizes 10000      a first look

Each measurement is a process of its own (Linux). Folders hold a thousand names each, which are links
to a few tiny pictures; shards hold ten thousand members. What is read are places all over the pool,
drawn at random. Own memory is what no other process shares (RssAnon): beside it stand the pages of
the mapped file that were touched, which the system shares and takes back when it needs them. A
plain listing is what every process of a run had before listings were kept.
"""

import argparse
import gc
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from timing import keep

from dalib.data.files import digest
from dalib.data.listing import list_folder
from dalib.data.photos import PhotoFolder
from dalib.data.tars import TarShards

SIZES = (10_000, 100_000, 1_000_000)
FOLDER, SHARD = 1000, 10_000
LINKS = 10_000  # of one file; some file systems allow few
READ = 2000
HOUR_NS = 3600 * 10**9


def picture(number: int) -> bytes:
    """A file of a few dozen bytes."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, count: int) -> None:
    """So many names of tiny pictures, as if nobody had touched them for an hour."""
    for first in range(0, count, FOLDER):
        folder = root / f"{first // FOLDER:05d}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + FOLDER, count)):
            if number % LINKS == 0:
                of_all = root.with_name(f"{root.name}-{number}.png")
                of_all.write_bytes(picture(number // LINKS))
            os.link(of_all, folder / f"{number:09d}-photograph.png")
    then = time.time_ns() - HOUR_NS
    for place in (root, *root.iterdir()):
        os.utime(place, ns=(then, then))


def write_shards(root: Path, count: int) -> None:
    """As many in tar shards."""
    root.mkdir()
    data = picture(0)
    padding = bytes(-len(data) % 512)
    for first in range(0, count, SHARD):
        with (root / f"{first // SHARD:05d}.tar").open("wb") as file:
            for number in range(first, min(first + SHARD, count)):
                member = tarfile.TarInfo(f"{number:09d}-photograph.png")
                member.size = len(data)
                file.write(member.tobuf(tarfile.USTAR_FORMAT) + data + padding)
            file.write(bytes(1024))


class Plain:
    """As a folder was opened before its listing was kept."""

    def __init__(self, path: Path) -> None:
        names = list_folder(path).names
        self.path = path
        self.names = pa.array([os.fsencode(name) for name in names], pa.large_binary())
        self.fingerprint = digest(part for name in names for part in (name, path / name))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        return (self.path / os.fsdecode(self.names[index].as_py())).read_bytes()


OPENERS: dict[str, Callable[[Path], object]] = {
    "folder, plain": Plain,
    "folder, first time": PhotoFolder,
    "folder, kept": PhotoFolder,
    "shards, first time": TarShards,
    "shards, indexed": TarShards,
}


def memory() -> dict[str, float]:
    """MB of this process by kind, and its peak since `clear_refs`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    kinds = ("RssAnon", "RssFile", "VmHWM", "VmRSS")
    return {kind: int(found[kind].split()[0]) / 1024 for kind in kinds}


def alone(kind: str, path: Path) -> None:
    """Open a pool, read some of it, and print what that took. A tiny one comes first, for what is
    loaded on first use."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "folder", 3)
        write_shards(Path(folder) / "shards", 3)
        PhotoFolder(Path(folder) / "folder")[0]
        TarShards(Path(folder) / "shards")[0]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = memory()

    begun = time.perf_counter()
    source = OPENERS[kind](path)
    print_of_all = source.fingerprint
    opened = time.perf_counter() - begun
    peak = memory()["VmHWM"] - before["VmRSS"]

    places = np.random.default_rng(0).integers(0, len(source), READ).tolist()
    begun = time.perf_counter()
    for place in places:
        source[place]
    read = time.perf_counter() - begun
    after = memory()
    facts = {
        "seconds to open": round(opened, 3),
        "peak MB while opening": round(peak, 1),
        "own MB": round(after["RssAnon"] - before["RssAnon"], 1),
        "shared MB": round(after["RssFile"] - before["RssFile"], 1),
        "ms to read one": round(1e3 * read / READ, 3),
        "fingerprint": print_of_all,
    }
    print(json.dumps(facts))


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--record", default="pools", help="name of the record")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone[0], Path(options.alone[1]))
        return
    load = os.getloadavg()[0]
    rows = []
    for count in options.sizes:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            write_folder(root / "folder", count)
            write_shards(root / "shards", count)
            os.environ["DALIB_RUNS"] = str(root / "runs")
            for kind in OPENERS:
                path = root / kind.partition(",")[0]
                words = [sys.executable, __file__, "--alone", kind, str(path)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                rows.append({"pool": kind, "images": count} | json.loads(done.stdout))
                print(rows[-1], flush=True)
        prints = {
            row.pop("fingerprint") for row in rows[-len(OPENERS) :] if "folder" in row["pool"]
        }
        assert len(prints) == 1, "a kept listing has the fingerprint of a plain one"
        for row in rows:
            row.pop("fingerprint", None)
    facts = {"folder": FOLDER, "shard": SHARD, "read": READ, "load before": round(load, 2)}
    keep(options.record, facts | {"rows": rows})


if __name__ == "__main__":
    main()
