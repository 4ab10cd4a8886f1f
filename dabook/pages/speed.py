"""What was timed by hand, as the book shows it: `data/benchmarks/NAME.json`, written by
`benchmarks/NAME.py`."""

from html import escape
from typing import Any, TypedDict

from dabook.runs import records
from dabook.show.html import Html, html, number
from dalib import paths
from dalib.predict.engines import CONTENDERS


class Circumstances(TypedDict):
    """What every benchmark's record says of the machine and the code."""

    threads: int
    device: str
    bfloat16: bool
    versions: dict[str, str]
    commit: str
    dirty: bool
    created: str  # UTC, ISO 8601


class Benchmark(Circumstances):
    """What the record of a benchmark of one network has besides."""

    encoder: str
    seed: int


DATA = ("pools", "labelling")
"""The benchmarks of data, which are of no network or of several."""


def read(name: str) -> dict[str, Any]:
    """The record of a benchmark, `inference`, `where`, `training`, or one of `DATA`; a `DataError`
    where it is missing or damaged."""
    kind = records.Kind(
        form=Circumstances if name in DATA else Benchmark,
        name="a benchmark's record",
        remedy=f"run python benchmarks/{name}.py",
    )
    return records.read(paths.benchmarks() / f"{name}.json", kind)


def inference_table(record: dict) -> Html:
    """Seconds an image, on the clock and on the processor, speed against `transformers` in float32,
    memory and deviation of each contender, with provenance."""
    lines: dict[str, dict] = {}
    for row in record["rows"]:
        batch = f"batch of {row['batch']}"
        name = row["contender"]
        lines.setdefault(name, {}).update(
            {
                (batch, "s per image"): number(row["seconds"] / row["batch"], 2),
                (batch, "speed"): f"{number(row['speed against transformers'], 2)} ×",
                (batch, "MB"): number(row["peak MB"], 0),
            }
        )
        if "processor seconds" in row:
            each = row["processor seconds"] / row["batch"]
            lines[name][batch, "processor s"] = number(each, 2)
    for name, cells in lines.items():
        for heading, key in (("deviation, %", "AbsRel"), ("largest, %", "largest difference")):
            most = max(row[key] for row in record["rows"] if row["contender"] == name)
            cells["outputs", heading] = number(100 * most, 3)
    return html(lines, [escape(name) for name in lines], name="inference") + _provenance(record)


def work_table(record: dict) -> Html:
    """Milliseconds that our network spends on each kind of work for one image, in each precision
    recorded, with provenance."""
    each = {
        precision: times | {"all of it": sum(times.values())}
        for precision, times in record["ms"].items()
    }
    lines: dict[str, dict] = {kind: {} for kind in each["float32"]}
    for kind, cells in lines.items():
        for precision, times in each.items():
            cells[precision, "ms"] = number(times[kind], 0)
            cells[precision, "%"] = number(100 * times[kind] / times["all of it"], 0)
        if "bfloat16" in each:
            cells["bfloat16", "faster"] = (
                f"{number(each['float32'][kind] / each['bfloat16'][kind], 1)} ×"
            )
    return html(lines, [escape(kind) for kind in lines], name="work") + _provenance(record)


def training_table(record: dict) -> Html:
    """Milliseconds of a student's step and of its parts, each beside the first of its kind, with
    provenance."""
    lines = {}
    headings = []
    for kind, times in record["seconds"].items():
        first = next(iter(times.values()))
        for name, value in times.items():
            lines[name] = {
                "ms": number(1e3 * value, 1),
                "times the first": number(value / first, 2),
            }
            above = f'<span class="interval">{escape(kind)}</span><br>' if value is first else ""
            headings.append(above + escape(name))
    return html(lines, headings, name="training") + _provenance(record)


def pools_table(record: dict) -> Html:
    """What a pool costs to open, by its kind and its number of photographs: seconds, memory of a
    process of its own and memory that processes share, with provenance."""
    lines: dict[str, dict] = {}
    for row in record["rows"]:
        size = f"{row['images']:,} photographs"
        lines.setdefault(row["pool"], {}).update(
            {
                (size, "s to open"): number(row["seconds to open"], 2),
                (size, "own MB"): number(row["own MB"], 1),
                (size, "shared MB"): number(row["shared MB"], 1),
            }
        )
    return html(lines, [escape(name) for name in lines], name="pools") + _provenance(record)


def labelling_table(record: dict) -> Html:
    """Labelling against the bare forward pass of its teacher, by kind of image and number of
    processes that read, with provenance."""
    lines: dict[str, dict] = {}
    for row in record["rows"]:
        teacher = f"{row['encoder']}, {row['height']} × {row['width']}"
        cells = lines.setdefault(row["images"], {})
        processes = row["reading processes"]
        cells[teacher, f"{processes} reading"] = number(row["ratio to the bare forward"], 2)
        cells[teacher, "ms to read"] = number(row["processor ms to read one"], 1)
        cells[teacher, "ms to label"] = number(row["processor ms to label one"], 1)
    return html(lines, [escape(name) for name in lines], name="labelling") + _provenance(record)


def best_ratio(record: dict, encoder: str, images: str) -> float:
    """The best of labelling against the bare forward pass, over the numbers of reading
    processes."""
    rows = [r for r in record["rows"] if (r["encoder"], r["images"]) == (encoder, images)]
    return max(row["ratio to the bare forward"] for row in rows)


def pool_row(record: dict, pool: str, images: int) -> dict:
    """One line of the record of pools."""
    return next(r for r in record["rows"] if (r["pool"], r["images"]) == (pool, images))


def ratio(record: dict, name: str, other: str) -> float:
    """How many times longer one piece of training takes than another of its kind."""
    times = next(t for t in record["seconds"].values() if name in t)
    return times[name] / times[other]


def seconds(record: dict, name: str, *, batch: int) -> float:
    """Seconds that one contender takes for a batch."""
    return next(
        r["seconds"] for r in record["rows"] if (r["contender"], r["batch"]) == (name, batch)
    )


def speed(record: dict, name: str, *, batch: int, against: str = "transformers") -> float:
    """How many times faster one contender is than another."""
    return seconds(record, against, batch=batch) / seconds(record, name, batch=batch)


def engine_words(record: dict) -> str:
    """What `predict --engine auto` takes by this record, with how far it is ahead: in each
    precision, for one image."""
    parts = []
    for name, end in (("float32", ""), ("bfloat16", ", bfloat16")):
        ours = {c + end: engine for engine, c in CONTENDERS.items()}
        times = {
            ours[r["contender"]]: r["seconds"]
            for r in record["rows"]
            if r["batch"] == 1 and r["contender"] in ours
        }
        if times:
            best = min(times, key=times.get)
            ahead = seconds(record, "transformers", batch=1) / times[best]
            parts.append(f"{best} in {name} ({number(ahead, 2)} × transformers)")
    return " and ".join(parts)


def _provenance(record: dict) -> Html:
    versions = ", ".join(
        f"{k} {record['versions'][k]}"
        for k in ("torch", "timm", "transformers", "openvino", "onnxruntime")
        if k in record["versions"]
    )
    height = record.get("height", record.get("side"))
    width = record.get("width", record.get("side"))
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    bfloat16 = "computes" if record["bfloat16"] else "does not compute"
    weights = record.get("weights", "random")
    parts = [
        *(
            [
                f"{record['encoder']}, {height} × {width} pixels, {weights} weights, seed "
                f"{record['seed']}"
            ]
            if "encoder" in record
            else []
        ),
        *([escape(record["note"])] if "note" in record else []),
        *([f"medians of {record['rounds']} interleaved rounds"] if "rounds" in record else []),
        f"{escape(record['device'])}, {threads}; this processor {bfloat16} in bfloat16",
        versions,
        f"commit <code>{record['commit']}</code>{' with changes' if record['dirty'] else ''}, "
        f"{record['created']}",
    ]
    return Html(f'<p class="provenance">{" · ".join(parts)}</p>')
