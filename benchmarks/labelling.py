"""Labelling against the bare forward pass of the teacher: does reading keep up?

python benchmarks/labelling.py                    writes data/benchmarks/labelling.json
python benchmarks/labelling.py --rounds 1 --images 16 --encoders lite0     a first look

For drawn scenes, small photographs (256 x 384, JPEG) and large ones (1500 x 2250, JPEG, noise and
photographs of scikit-image enlarged), read by a thread of the labelling process, or by processes of
their own; large ones also at a fraction of their size (draft=yes). Every way once per round, so that
whatever else the machine does hits all of them alike; the record holds medians, and of each the
ratio to the bare forward pass on the same images in the same rounds.

Beside the ratios, which are those of this machine's cores, stands what does not depend on them:
seconds of one processor that an image takes to read and to label. A network that labels k times as
many images per second as one processor reads needs k processes that read. Every pass here begins
with processes to start and a first batch to read, which a pass over thousands of images does not
notice: take enough of them.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from timing import keep, medians

from dalib.data.catalogue import open_source
from dalib.data.mixture import Concat, fetch, pool_crop
from dalib.data.schema import Source
from dalib.models import DepthAnything, build
from dalib.training import pseudo

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SIDES = {"lite0": (96, 128), "vits": (224, 224)}
SLOWER = {"lite0": 1, "vits": 2}  # so many times fewer images, that both take minutes
SMALL, LARGE = (256, 384), (1500, 2250)
BATCH = 8


def write_photographs(folder: Path, size: tuple[int, int], images: int) -> Path:
    """JPEG files of a size, none like another."""
    folder.mkdir()
    height, width = size
    random = np.random.default_rng(0)
    for number in range(images):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        enlarged = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = random.normal(0, 6, (height, width, 1))
        pixels = (enlarged + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=90)
    return folder


class First(Concat):
    """The first images of a source."""

    def __init__(self, source: Source, images: int) -> None:
        super().__init__(source)
        self.ends = np.array([images])


def processor_seconds(call: Callable[[], object], *, times: int = 3) -> float:
    """Median seconds of one processor that a call takes in one thread."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return statistics.median(found)


def measured(
    model: DepthAnything,
    sources: dict[str, Source],
    *,
    size: dict[str, int],
    workers: tuple[int, ...],
    rounds: int,
    folder: Path,
) -> list[dict]:
    """One row for each source and number of reading processes."""
    rows = []
    number = count()
    for kind, source in sources.items():
        batches = [np.arange(i, i + BATCH) for i in range(0, len(source), BATCH)]

        def read(source: Source = source, batches: list[np.ndarray] = batches) -> list:
            return [fetch(source, b, crop=pool_crop, **size)["image"] for b in batches]

        ready = read()

        def bare(ready: list = ready) -> None:
            for images in ready:
                model.predict(images)

        waits: dict[int, list[float]] = {n: [] for n in workers}

        def label(processes: int, source: Source = source, waits: dict = waits) -> None:
            out = folder / str(next(number))
            given = {"out": out, "teacher": "t", **size}
            pace = pseudo.label(model, source, batch=BATCH, workers=processes, **given)
            pseudo.finish(source=source, **given)
            waits[processes].append(pace.share)

        calls = {"bare": bare} | {str(n): partial(label, n) for n in workers}
        seconds = medians(calls, rounds=rounds, warmup=1)
        alone = {
            "to read": processor_seconds(read) / len(source),
            "to label": processor_seconds(bare) / len(source),
        }
        for processes in workers:
            rows.append(
                {
                    "images": kind,
                    "reading processes": processes,
                    "ratio to the bare forward": round(
                        seconds["bare"] / seconds[str(processes)], 3
                    ),
                    "share of waiting": round(statistics.median(waits[processes]), 3),
                    "images per second": round(len(source) / seconds[str(processes)], 2),
                    "processor ms to read one": round(1e3 * alone["to read"], 2),
                    "processor ms to label one": round(1e3 * alone["to label"], 2),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of the network (default: 1)")
    parser.add_argument("--record", default="labelling", help="name of the record")
    parser.add_argument("--note", help="what a reader should know of the circumstances")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        small = write_photographs(root / "small", SMALL, options.images)
        large = write_photographs(root / "large", LARGE, options.images)
        os.environ["DALIB_RUNS"] = str(root / "runs")
        for encoder in options.encoders:
            size = dict(zip(("height", "width"), SIDES[encoder], strict=True))
            names = {
                "drawn scenes": "scenes:unlabelled",
                "photographs of 256 x 384": f"photos:{small}",
                "photographs of 1500 x 2250": f"photos:{large}",
                "photographs of 1500 x 2250, draft": f"photos:{large}?draft=yes",
            }
            images = options.images // SLOWER[encoder]
            sources = {
                kind: First(open_source(name, count=images, **size), images)
                for kind, name in names.items()
            }
            model = build(encoder, pretrained=False, seed=0)
            model = model.to(memory_format=torch.channels_last).eval()
            found = measured(
                model,
                sources,
                size=size,
                workers=tuple(options.workers),
                rounds=options.rounds,
                folder=root / f"labels-{encoder}",
            )
            rows += [{"encoder": encoder, **size, "count": images} | row for row in found]
    facts = {
        "batch": BATCH,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "load before": round(load, 2),
    }
    note = {"note": options.note} if options.note else {}
    keep(options.record, facts | note | {"rows": rows})


if __name__ == "__main__":
    main()
