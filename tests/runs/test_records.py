"""Records and the runner: written whole or not at all, fresh, stale and foreign, and exactly what
is missing is run."""

import json
import math
import resource
import subprocess
import sys

import pytest
import yaml

from dabook.runs import records, runner
from dabook.runs.experiments import expand
from dalib import paths, provenance, writing
from dalib.errors import ConfigError, DataError
from dalib.evaluation.metrics import METRICS
from dalib.training.folder import read_json

TREE = {
    "profiles": {
        "quick": {"seeds": 1, "record": "local", "set": {"steps": 2, "batch": 4}},
        "study": {"seeds": 2, "record": "committed", "set": {"batch": 4}},
    },
    "experiments": {
        "first": {
            "question": "?",
            "rows": {
                "plain": {"label": "Plain"},
                "naive": {"label": "Naive", "set": {"pseudo_labels": True}},
                "blurred": {
                    "label": "Blurred",
                    "set": {"pseudo_labels": True, "perturb": ["blur"]},
                },
            },
        },
        "second": {
            "question": "?",
            "rows": {"none": {"label": "Shared", "set": {"pseudo_labels": True}}},
        },
    },
}
TRAINING = {
    "stamp": "c0de",
    "processes": 2,
    "threads": 1,
    "wall_seconds": 3.5,
    "peak_memory_mb": 321,
}


def scores(value=0.25):
    numbers = {m: [value, value + 0.5, math.nan] for m in METRICS}
    return {
        "images": {"night": numbers, "validation": numbers},
        "real": {"nyu": {"names": ["a", "b", "c"], "half": "table"} | numbers},
    }


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A checkout of its own, with code that hashes to c0de."""
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    monkeypatch.setattr(provenance, "code_hash", lambda part: "c0de")
    return tmp_path


@pytest.fixture
def counted(monkeypatch):
    """The runner with training and evaluation replaced: lists what was trained and what was
    evaluated, by hash."""
    trained, evaluated = [], []

    def ensure(config, *, processes=1, afresh=False, report=print, **_):
        out = runner.launch.folder(config)
        code = provenance.code_hash("training")
        if afresh or read_json(out / "train.json").get("stamp") != code:
            if config.pseudo_labels:
                ensure(config.teacher_run())
            trained.append(config.hash())
            out.mkdir(parents=True, exist_ok=True)
            (out / "weights").touch()
            (out / "train.json").write_text(json.dumps(TRAINING | {"stamp": code}))
        return out / "weights"

    def evaluate(model, config):
        evaluated.append(config.hash())
        return scores()

    monkeypatch.setattr(runner.launch, "ensure_weights", ensure)
    monkeypatch.setattr(runner.tasks.Task, "restore", lambda task, path: None)
    monkeypatch.setattr(runner, "evaluate", evaluate)
    return trained, evaluated


def sample(profile="quick", row="naive", seed=0, experiment="first"):
    found = expand(experiment, profile=profile, seeds=seed + 1)[row]
    return found, found.configs[seed]


def made(value=0.25, **options):
    row, config = sample(**options)
    return records.make(row, config, training=TRAINING, scores=scores(value))


def quiet(_):
    pass


# one record


def test_a_record_says_where_it_comes_from():
    record = made(seed=0)
    row, config = sample()
    expected = {
        "schema": 1,
        "experiment": "first",
        "row": "naive",
        "label": "Naive",
        "profile": "quick",
        "seed": 0,
        "hash": config.hash(),
        "teacher": config.teacher_run().hash(),
        "training_hash": "c0de",
        "evaluation_hash": "c0de",
        "processes": 2,
        "threads": 1,
        "wall_seconds": 3.5,
        "peak_memory_mb": 321,
        "config": config.to_dict(),
    }
    assert {k: record[k] for k in expected} == expected
    assert {
        "commit",
        "dirty",
        "created",
        "device",
        "device_type",
        "versions",
        "images",
        "real",
    } <= set(record)
    assert record["versions"]["torch"].split("+")[0].count(".") == 2
    assert made(row="plain")["teacher"] is None
    assert row.name == "naive"


def test_round_trip():
    record = made()
    path = records.write(record, committed=False)
    assert path == paths.local_records() / "first" / f"{record['hash']}.json"
    again = records.read(path)
    assert json.dumps(again) == json.dumps(record)  # NaN is not equal to itself
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_committed_records_lie_elsewhere():
    record = made(profile="study")
    assert (
        records.write(record, committed=True)
        == paths.records() / "first" / f"{record['hash']}.json"
    )
    assert not paths.local_records().exists()


def test_a_diff_shows_which_domain_changed():
    """One line per list of numbers: another value in one domain changes one line per metric."""
    before = records.write(made(), committed=False).read_text().splitlines()
    other = made()
    other["created"] = json.loads("\n".join(before))["created"]
    other["images"]["night"] = other["images"]["night"] | {"abs_rel": [0.5, 0.5, 0.5]}
    after = records.write(other, committed=False).read_text().splitlines()
    assert len(before) == len(after)
    assert [b for a, b in zip(before, after, strict=True) if a != b] == [
        '   "abs_rel": [0.5, 0.5, 0.5],'
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"3",
        b"{}",
        b'"x"',
        b"\xff\xfe\x00",
        b'{"schema": 0, "hash": 1, "code_hash": 1, "config": 1, "images": 1}',
    ],
)
def test_a_damaged_record_is_named(content):
    path = records.write(made(), committed=False)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{path.name}: not a .*record.*delete it and run its row again"
    ):
        records.find(sample()[1], committed=False)


# a full disk


def test_a_full_disk_leaves_the_old_record(monkeypatch):
    """ENOSPC where it usually comes: when what was written has to reach the disk."""
    path = records.write(made(0.25), committed=False)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(
        DataError, match=rf"{path.name}: could not be written .*No space left.*untouched"
    ):
        records.write(made(0.75), committed=False)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    monkeypatch.undo()


REFUSED = """
import resource, signal, sys
from pathlib import Path
from dalib.evaluation.metrics import METRICS
from dalib.errors import DataError
from dalib.writing import write_text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_text(Path(sys.argv[1]), "x" * 20000)
except DataError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_refused_write_leaves_the_old_record():
    """The system itself refuses: no file may grow beyond 5,000 bytes, and the write fails half
    way."""
    path = records.write(made(), committed=False)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(path)], capture_output=True, text=True, check=True
    )
    assert f"{path}: could not be written" in done.stdout
    assert "File too large" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_during_a_run_is_run_again(counted, monkeypatch):
    """No record, so the row counts as missing; it is evaluated again, not trained again."""
    trained, evaluated = counted
    with monkeypatch.context() as patch:
        patch.setattr(
            writing.os,
            "fsync",
            lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        with pytest.raises(DataError, match="No space left"):
            runner.run("second", profile="quick", report=quiet)
    found = runner.run("second", profile="quick", report=quiet)
    assert [e.status for e in found] == ["fresh"]
    assert len(trained) == 2  # teacher and student, once
    assert len(evaluated) == 2


# which rows are run


def hashes(entries):
    return [e.config.hash() for e in entries]


def test_only_what_is_missing_is_run(counted):
    trained, evaluated = counted
    found = runner.run("first", profile="quick", report=quiet)
    assert [(e.row.name, e.status) for e in found] == [
        ("plain", "fresh"),
        ("naive", "fresh"),
        ("blurred", "fresh"),
    ]
    plain, naive, blurred = hashes(found)
    teacher = found[1].config.teacher_run().hash()  # of both students, and of no row
    assert evaluated == [plain, naive, blurred]
    assert trained == [plain, teacher, naive, blurred]
    runner.run("first", profile="quick", report=quiet)
    assert len(evaluated) == 3
    runner.run("first", profile="quick", seeds=2, report=quiet)
    assert len(evaluated) == 6
    assert all(
        r["seed"] == 1
        for r in map(records.read, paths.local_records().glob("first/*.json"))
        if r["hash"] in evaluated[3:]
    )


@pytest.mark.parametrize("row", ["plain", "naive", "blurred"])
def test_deleting_a_record_scores_exactly_that_row_again(row, counted):
    """Its weights are scored as they are; the other rows' records and all weights are left
    alone."""
    trained, evaluated = counted
    found = runner.run("first", profile="quick", report=quiet)
    chosen = next(e.config.hash() for e in found if e.row.name == row)
    (paths.local_records() / "first" / f"{chosen}.json").unlink()
    assert [
        e.row.name
        for e in records.entries(expand("first", profile="quick"))
        if e.status == "missing"
    ] == [row]
    del trained[:], evaluated[:]
    again = runner.run("first", profile="quick", report=quiet)
    assert [e.status for e in again] == ["fresh"] * 3
    assert trained == []
    assert evaluated == [chosen]
    assert evaluated == [chosen]


def test_without_training_the_entries_come_as_they_are(counted):
    """What is missing stays missing, and what is recorded is there."""
    found = runner.run("first", profile="quick", train=False, report=quiet)
    assert [e.status for e in found] == ["missing"] * 3
    runner.run("second", profile="quick", report=quiet)
    found = runner.run("first", profile="quick", train=False, report=quiet)
    assert [e.status for e in found] == ["missing", "fresh", "missing"]
    assert len(counted[1]) == 1


def test_a_shared_row_is_run_once(counted):
    """`second.none` and `first.naive` are the same run: whichever comes first is found by the
    other."""
    trained, evaluated = counted
    runner.run("second", profile="quick", report=quiet)
    assert len(evaluated) == 1
    assert records.entries(expand("first", profile="quick"))[1].status == "fresh"
    runner.run("first", profile="quick", report=quiet)
    assert len(evaluated) == len(set(evaluated)) == 3
    assert len(trained) == 4  # and the teacher


def test_stale_rows_are_marked_and_run_again(counted, monkeypatch):
    runner.run("first", profile="quick", report=quiet)
    monkeypatch.setattr(provenance, "code_hash", lambda part: "0ther")
    experiment = expand("first", profile="quick")
    assert [e.status for e in records.entries(experiment)] == ["stale"] * 3
    assert records.frame(records.entries(experiment))["stale"].all()
    counted[1].clear()
    assert [e.status for e in runner.run("first", profile="quick", report=quiet)] == ["fresh"] * 3
    assert len(counted[1]) == 3
    assert not records.frame(records.entries(experiment))["stale"].any()


def test_an_edit_of_the_evaluation_scores_again_and_trains_nothing(counted, monkeypatch):
    trained, evaluated = counted
    runner.run("first", profile="quick", report=quiet)
    files = {p: p.stat().st_mtime_ns for p in paths.runs().rglob("weights")}
    del trained[:], evaluated[:]
    hashes = {"training": "c0de", "evaluation": "0ther"}
    monkeypatch.setattr(provenance, "code_hash", hashes.get)
    found = runner.run("first", profile="quick", report=quiet)
    assert (len(trained), len(evaluated)) == (0, 3)
    assert {(e.status, e.record["training_hash"], e.record["evaluation_hash"]) for e in found} == {
        ("fresh", "c0de", "0ther")
    }
    assert {p: p.stat().st_mtime_ns for p in paths.runs().rglob("weights")} == files


def test_an_older_record_has_one_hash_for_both():
    path = records.write(made(), committed=False)
    old = json.loads(path.read_text())
    old["code_hash"] = old.pop("training_hash")
    del old["evaluation_hash"]
    path.write_text(json.dumps(old))
    record = records.read(path)
    assert (record["training_hash"], record["evaluation_hash"], records.code(record)) == (
        "c0de",
        "c0de",
        "c0de",
    )
    assert "code_hash" not in record
    assert records.is_fresh(record)


def test_a_fresh_record_goes_before_a_stale_one_of_another_experiment(counted, monkeypatch):
    """The shared row was run under both codes, for different tables; it is fresh for both and not
    run for ever."""
    runner.run("first", profile="quick", report=quiet)
    monkeypatch.setattr(provenance, "code_hash", lambda part: "0ther")
    for _ in range(2):
        assert [e.status for e in runner.run("second", profile="quick", report=quiet)] == ["fresh"]
    assert len(counted[1]) == 4


def test_foreign_records_are_found(counted):
    """Rows that experiments.yaml no longer asks for; more seeds than the profile has are not
    foreign, however many."""
    runner.run("first", profile="quick", seeds=3, report=quiet)
    experiment = expand("first", profile="quick")
    row, config = sample()
    for strange in (config.replace(seed=10**9), config.replace(steps=77)):
        path = records.write(
            records.make(row, strange, training=TRAINING, scores=scores()), committed=False
        )
    found = records.foreign(experiment)
    assert found.unknown == {path: "no row of experiments.yaml asks for it"}
    assert found.of_profile == {}


def test_records_of_another_profile_are_its_own(counted):
    row, config = sample(profile="study")
    tree = yaml.safe_load((paths.root() / "experiments.yaml").read_text())
    tree["profiles"]["large"] = {"seeds": 1, "record": "committed", "set": {"batch": 64}}
    (paths.root() / "experiments.yaml").write_text(yaml.safe_dump(tree))
    for seed in (0, 1, 5):
        record = records.make(row, config.replace(seed=seed), training=TRAINING, scores=scores())
        records.write(record, committed=True)
    found = records.foreign(expand("first", profile="large"))
    assert (found.unknown, found.of_profile) == ({}, {"study": 3})
    found = records.foreign(expand("first", profile="study"))
    assert (found.unknown, found.of_profile) == ({}, {})


@pytest.mark.parametrize("text", ["", "[1]", "{}", "not JSON", '{"seed": 0}', "null", "\udce4"])
def test_what_is_no_record_is_listed_and_ends_nothing(counted, text):
    runner.run("first", profile="quick", report=quiet)
    experiment = expand("first", profile="quick")
    path = records.folder(committed=False) / "first" / "notes.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert records.foreign(experiment).unknown == {
        path: "no readable record; look at it before you delete it"
    }
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_failed_evaluation_leaves_no_record(counted, monkeypatch):
    def broken(model, config):
        raise ValueError("prediction is NaN")

    monkeypatch.setattr(runner, "evaluate", broken)
    with pytest.raises(ValueError, match="prediction is NaN"):
        runner.run("second", profile="quick", report=quiet)
    assert not list(paths.runs().rglob("records/**/*.json"))
    assert [e.status for e in records.entries(expand("second", profile="quick"))] == ["missing"]


def test_progress_names_row_seed_and_time(counted):
    lines = []
    runner.run("first", profile="quick", report=lines.append)
    assert lines[0] == "[1/3] first.plain seed 0"
    assert lines[1].startswith("[2/3] first.naive seed 0  about ")
    assert lines[1].endswith(" s left in all")


# the tidy table


def test_frame_by_hand(counted):
    found = runner.run("first", profile="quick", report=quiet)
    table = records.frame(found)
    assert len(table) == 3 * 3 * 3  # rows, domains, images
    assert table["group"].value_counts().to_dict() == {"test": 9, "validation": 9, "real": 9}
    one = table[(table["row"] == "naive") & (table["domain"] == "nyu")]
    assert one["abs_rel"].tolist()[:2] == [0.25, 0.75]
    assert math.isnan(one["abs_rel"].tolist()[2])
    assert (one["half"] == "table").all()
    assert one["image"].tolist() == [0, 1, 2]
    assert set(one["label"]) == {"Naive"}


def test_missing_rows_are_left_out_of_the_table(counted):
    runner.run("second", profile="quick", report=quiet)
    assert set(records.frame(records.entries(expand("first", profile="quick")))["row"]) == {"naive"}


def test_kinds_of_device_are_not_mixed(counted):
    found = runner.run("first", profile="quick", report=quiet)
    found[0].record["device_type"] = "cuda"
    with pytest.raises(ConfigError, match=r"records of cpu and cuda cannot stand in one table"):
        records.frame(found)
