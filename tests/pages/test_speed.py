"""The recorded timings, and how the book shows them."""

import pytest

from dabook.pages import speed
from dalib import paths
from dalib.errors import DataError
from dalib.predict.engines import KINDS

ROW = {"largest difference": 1e-6, "AbsRel": 0.00123, "peak MB": 250.4}


def record():
    seconds = {
        ("dalib", 1): 0.5,
        ("transformers", 1): 0.6,
        ("dalib", 4): 2.0,
        ("transformers", 4): 3.0,
    }
    rows = [
        {
            "contender": n,
            "batch": b,
            "seconds": s,
            "speed against transformers": seconds["transformers", b] / s,
        }
        | ROW
        for (n, b), s in seconds.items()
    ]
    head = {
        "encoder": "vits",
        "side": 518,
        "seed": 0,
        "rounds": 7,
        "threads": 2,
        "device": "A <chip>",
        "bfloat16": False,
    }
    versions = {"torch": "2", "timm": "1", "transformers": "5"}
    return head | {
        "versions": versions,
        "commit": "abc",
        "dirty": True,
        "created": "today",
        "rows": rows,
    }


def test_speed_by_hand():
    assert speed.speed(record(), "dalib", batch=1) == pytest.approx(1.2)
    assert speed.speed(record(), "transformers", batch=4, against="dalib") == pytest.approx(2 / 3)


def test_processor_time_and_the_largest_deviation_are_shown():
    found = record()
    for row in found["rows"]:
        row |= {"processor seconds": 3 * row["seconds"], "largest difference": 0.1385}
    text = speed.inference_table(found).text
    for part in ("processor s", "1.80", "2.25", "13.850"):
        assert part in text, part
    assert "processor s" not in speed.inference_table(record()).text


def test_what_auto_takes_by_hand():
    found = record()
    found["rows"].append(found["rows"][0] | {"contender": "OpenVINO", "seconds": 0.4})
    assert speed.engine_words(found) == "openvino in float32 (1.50 × transformers)"
    found["rows"].append(found["rows"][0] | {"contender": "dalib, bfloat16", "seconds": 0.2})
    assert speed.engine_words(found).endswith(" and torch in bfloat16 (3.00 × transformers)")


def test_table_says_what_was_measured_and_where():
    text = speed.inference_table(record()).text
    for part in (
        "0.50",
        "1.20 ×",
        "0.75",
        "1.50 ×",
        "250",
        "0.123",
        "A &lt;chip&gt;",
        "does not compute",
        "with changes",
    ):
        assert part in text, part


def test_work_is_shown_in_milliseconds_percent_and_ratio():
    ms = {
        "float32": {"linear layers": 300.0, "the rest": 100.0},
        "bfloat16": {"linear layers": 100.0, "the rest": 61.0},
    }
    text = speed.work_table(record() | {"ms": ms}).text
    for part in ("300", "75", "400", "62", "3.0 ×", "1.6 ×", "2.5 ×"):
        assert f">{part}<" in text, part
    assert "faster" not in speed.work_table(record() | {"ms": {"float32": ms["float32"]}}).text


def test_training_is_shown_beside_the_first_of_its_kind():
    of = {
        "a step": {"bare": 0.5, "whole": 0.55, "planar": 0.88},
        "labels <all>": {"forward": 2.0, "stored": 2.1},
    }
    found = record() | {"seconds": of, "height": 96, "width": 128, "weights": "ImageNet"}
    text = speed.training_table(found).text
    for part in ("500.0", "1.10", "1.76", "2100.0", "1.05", "labels &lt;all&gt;"):
        assert text.count(f">{part}<") == 1, part
    assert "96 × 128 pixels, ImageNet weights" in text
    assert speed.ratio(found, "planar", "whole") == pytest.approx(1.6)
    assert speed.ratio(found, "stored", "forward") == pytest.approx(1.05)


def test_a_missing_record_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "benchmarks", lambda: tmp_path)
    with pytest.raises(
        DataError,
        match=r"inference\.json: not a readable record .* python benchmarks/inference\.py",
    ):
        speed.read("inference")


def test_the_committed_records_are_whole():
    """Equal outputs, both batch sizes, every contender; what the page quotes is there."""
    found = speed.read("inference")
    names = {r["contender"] for r in found["rows"]}
    assert {"dalib", "transformers", "official code", "OpenVINO", "ONNX Runtime"} <= names
    assert {"openvino", "onnxruntime"} <= found["versions"].keys()
    assert found["processor kind"] in KINDS
    assert {(r["contender"], r["batch"]) for r in found["rows"]} == {
        (n, b) for n in names for b in (1, 4)
    }
    assert all(
        r["largest difference"] < 1e-4
        for r in found["rows"]
        if not r["contender"].endswith(("bfloat16", "int8"))
    )
    assert {"OpenVINO, int8", "ONNX Runtime, int8"} <= names
    where = speed.read("where")
    assert set(where["ms"]) == {"float32", "bfloat16"}
    assert (
        where["ms"]["float32"].keys()
        == where["ms"]["bfloat16"].keys()
        > {"linear layers", "attention"}
    )
    assert set(where["linear layer, GFLOP/s"]) == {"float32", "bfloat16"}
    steps = speed.read("training")
    assert {"encoder", "height", "width", "seed", "rounds"} <= steps.keys()
    assert speed.ratio(steps, "pseudo labels, stored", "the teacher's forward alone") > 0
    for name in ("a student's step", "with planar networks", "in bfloat16"):
        assert speed.ratio(steps, name, "bare forward and backward") > 0
    assert speed.ratio(steps, "image by image", "perturbing a batch") > 0


def data_record(rows):
    return {k: v for k, v in record().items() if k not in ("encoder", "side", "seed", "rows")} | {
        "rows": rows
    }


def test_pools_and_labelling_by_hand():
    pools = data_record(
        [
            {"pool": pool, "images": n, "seconds to open": s, "own MB": 2 * s, "shared MB": 0.5}
            for pool, n, s in (("folder <plain>", 10, 1.25), ("folder <plain>", 1000, 4.5))
        ]
    )
    text = speed.pools_table(pools).text
    for part in (
        "folder &lt;plain&gt;",
        "1,000 photographs",
        "1.25",
        "4.50",
        "9.0",
        "A &lt;chip&gt;",
    ):
        assert part in text, part
    assert speed.pool_row(pools, "folder <plain>", 1000)["own MB"] == 9

    labelling = data_record(
        [
            {
                "encoder": encoder,
                "height": 96,
                "width": 128,
                "images": "large",
                "reading processes": n,
                "ratio to the bare forward": ratio,
                "processor ms to read one": 45.2,
                "processor ms to label one": 4.4,
            }
            for encoder, n, ratio in (("lite0", 0, 0.1), ("lite0", 2, 0.31), ("vits", 0, 0.93))
        ]
    ) | {"note": "made <in haste>"}
    text = speed.labelling_table(labelling).text
    for part in ("lite0, 96 × 128", "2 reading", "0.31", "45.2", "made &lt;in haste&gt;"):
        assert part in text, part
    assert speed.best_ratio(labelling, "lite0", "large") == 0.31
    assert speed.best_ratio(labelling, "vits", "large") == 0.93


@pytest.mark.parametrize("name", speed.DATA)
def test_the_records_of_data_are_there(name):
    assert speed.read(name)["rows"]
