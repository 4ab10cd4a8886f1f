"""Kinds of records: every committed one reads as its kind, and composed again from its facts in any
order it is the same file, byte by byte."""

import json
import re
from pathlib import Path

import pytest

from dabook.pages import speed
from dabook.runs import bugs, certify, floors, records, robustness
from dalib import paths, provenance
from dalib.errors import DataError

HOMES = {
    "records": (records.RUN, "records/*/*.json"),
    "reruns": (records.RUN, "reruns/*.json"),
    "robustness": (robustness.KIND, "robustness/*.json"),
    "bugs": (bugs.KIND, "bugs/*.json"),
    "floors": (floors.KIND, "records/floors.json"),
    "certificates": (certify.KIND, "certificates/*.json"),
}
OLD = re.compile(r'^ "code_hash": ("\w+"),$', re.M)
FACTS = {
    "schema": 1,
    "hash": "ab",
    "training_hash": "c",
    "evaluation_hash": "d",
    "commit": "e",
    "dirty": False,
    "created": "2026-01-02T03:04:05Z",
    "device": "f",
    "device_type": "cpu",
    "versions": {},
    "experiment": "g",
    "row": "h",
    "label": "i",
    "profile": "j",
    "seed": 0,
    "teacher": None,
    "processes": 1,
    "threads": 1,
    "wall_seconds": 1,
    "peak_memory_mb": 1,
    "config": {},
    "images": {},
}


def as_today(text: str) -> str:
    """A file as today's code would write the same facts: two hashes where there was one, an empty
    object on one line."""
    text = OLD.sub(r' "training_hash": \1,\n "evaluation_hash": \1,', text)
    return text.replace("{\n\n }", "{}")


@pytest.mark.parametrize("home", HOMES)
def test_committed_records_read_and_are_written_as_they_lie(home):
    kind, pattern = HOMES[home]
    data = paths.root() / "data"
    files = [p for study in (data, data / "first_study") for p in sorted(study.glob(pattern))]
    assert files
    for file in files:
        record = records.read(file, kind)
        text = as_today(file.read_text(encoding="utf-8"))
        composed = records.compose(kind, dict(reversed(record.items())))
        if "instructions" not in record:  # earlier records do not say
            composed.pop("instructions", None)
        assert records.dump(composed) == text, file
        assert record == json.loads(text), file


@pytest.mark.parametrize("name", ["inference", "training", "where"])
def test_committed_benchmarks_read(name):
    assert speed.Benchmark.__required_keys__ <= speed.read(name).keys()


def test_what_is_left_open_is_found_out():
    facts = {k: v for k, v in FACTS.items() if k not in records.CIRCUMSTANCES}
    record = records.compose(records.RUN, facts)
    assert [k for k in records.Record.__annotations__ if k in record] == list(record)
    assert (record["commit"], record["dirty"]) == provenance.commit()
    assert record["instructions"] == provenance.instructions()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created"])
    assert records.compose(records.RUN, FACTS)["created"] == FACTS["created"]


def test_a_writer_may_neither_forget_nor_invent():
    with pytest.raises(TypeError, match=r"a record: unknown \['colour'\], missing \['images'\]"):
        records.compose(
            records.RUN, {k: v for k, v in FACTS.items() if k != "images"} | {"colour": 1}
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": []}, "images is list"),
        ({"seed": "0"}, "seed is str"),
        ({"seed": True}, "seed is bool"),
        ({"seed": 0.5}, "seed is float"),
        ({"dirty": 0}, "dirty is int"),
        ({"teacher": 3}, "teacher is int"),
        ({"wall_seconds": "long"}, "wall_seconds is str"),
        ({"schema": 2}, "its schema is 2"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, change, said):
    file = tmp_path / "one.json"
    file.write_text(json.dumps(FACTS))
    assert records.read(file) == FACTS
    file.write_text(json.dumps(FACTS | change))
    with pytest.raises(DataError, match=rf"one\.json: not a record of schema 1 \({said}\); delete"):
        records.read(file)


@pytest.mark.parametrize("kind", [kind for kind, _ in HOMES.values()], ids=list(HOMES))
def test_each_kind_says_what_to_do_about_a_file_that_is_none(tmp_path: Path, kind):
    file = tmp_path / "one.json"
    file.write_text('{"schema": 1}')
    with pytest.raises(DataError) as told:
        records.read(file, kind)
    assert f"one.json: not {kind.name} of schema 1 (missing: [" in str(told.value)
    assert str(told.value).endswith(kind.remedy)
    assert records.read_if_there(tmp_path / "none.json", kind) is None
