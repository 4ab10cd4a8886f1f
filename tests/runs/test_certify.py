"""Certificates: a change of form is carried, a change of substance is refused with its row and
step, in a checkout of their own."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from helpers import ROOT

from dabook.runs import certify
from dalib import certificates, paths, provenance
from dalib.errors import ConfigError, DataError

TREE = {
    "profiles": {
        "study": {"seeds": 1, "record": "committed", "set": {"height": 64, "width": 96}},
        "tiny": {
            "seeds": 1,
            "record": "local",
            "set": {
                "height": 64,
                "width": 96,
                "steps": 2,
                "batch": 2,
                "labelled_images": 8,
                "test_images": 2,
            },
        },
    },
    "experiments": {
        "mine": {
            "question": "?",
            "rows": {
                "plain": {"label": "Plain"},
                "naive": {"label": "Naive", "set": {"pseudo_labels": True}},
            },
        }
    },
}
RENAMED = (
    ("rates = [", "speeds = ["),
    ("zip(optimiser.param_groups, rates", "zip(optimiser.param_groups, speeds"),
)
OTHER_LOSS = """

_before = affine_invariant


def affine_invariant(pred, target, valid):
    return 1.001 * _before(pred, target, valid)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A small study in a history of its own: one commit, two rows."""
    root = tmp_path_factory.mktemp("certify") / "root"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dalib", root / "dalib", ignore=ignore)
    shutil.copytree(ROOT / "dabook", root / "dabook", ignore=ignore)
    (root / "experiments.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    (root / ".gitignore").write_text("runs\n__pycache__\n")
    git(root, "init", "--quiet")
    commit(root, "as it was")
    return root


def git(root, *words):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", root, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(root, message):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD")[:12]


def dabook(root, *words):
    env = {k: v for k, v in os.environ.items() if not k.startswith("DALIB_")}
    env |= {"PYTHONPATH": str(root), "DALIB_RUNS": str(root / "runs"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dabook", *words], cwd=root, env=env, capture_output=True, text=True
    )


def edit(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.slow
def test_a_renamed_local_and_a_moved_function_are_carried_and_a_changed_loss_is_refused(checkout):
    first = git(checkout, "rev-parse", "HEAD")[:12]
    train = checkout / "dalib" / "training" / "train.py"
    edit(train, *RENAMED)
    whole = train.read_text()
    start = whole.index("def schedule(")
    end = len(whole)  # it stands last
    (train.parent / "rates.py").write_text(whole[start:end].rstrip() + "\n")
    moved = "from dalib.training.rates import schedule\nfrom dalib.training.step import"
    train.write_text(whole[:start] + whole[end:])
    edit(train, ("from dalib.training.step import", moved))
    second = commit(checkout, "another form")
    done = dabook(checkout, "certify", "--from", first)
    assert done.returncode == 0, done.stdout + done.stderr
    certificate = json.loads(
        (checkout / "data" / "certificates" / f"{first}-{second}.json").read_text()
    )
    assert certificate["equal"] == ["training", "evaluation", "robustness"]
    assert certificate["rows"] == ["mine.plain", "mine.naive"]
    assert certificate["from"]["training"] != certificate["to"]["training"]
    assert certificate["from"]["evaluation"] == certificate["to"]["evaluation"]

    losses = checkout / "dalib" / "losses.py"
    losses.write_text(losses.read_text() + OTHER_LOSS)
    third = commit(checkout, "another loss")
    done = dabook(checkout, "certify")  # from the newest certificate on
    assert done.returncode == 1
    assert "training differs. mine.plain: step 1: loss is " in done.stderr
    assert (
        not (checkout / "data" / "certificates" / f"{second}-{third}.json").exists()
        or "training"
        not in json.loads(
            (checkout / "data" / "certificates" / f"{second}-{third}.json").read_text()
        )["equal"]
    )


@pytest.mark.slow
def test_an_edit_of_the_evaluation_scores_the_weights_again_and_deletes_nothing(checkout):
    words = ("row", "mine", "plain", "--profile", "tiny")
    assert dabook(checkout, *words).returncode == 0
    (record,) = (checkout / "runs" / "records" / "mine").glob("*.json")
    before, folder = json.loads(record.read_text()), checkout / "runs" / record.stem
    files = {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.suffix != ".json"
    }
    files |= {
        folder / "train.json": (
            (folder / "train.json").stat().st_mtime_ns,
            (folder / "train.json").read_bytes(),
        )
    }
    (folder / "of the user").touch()
    protocols = checkout / "dalib" / "evaluation" / "protocols.py"
    protocols.write_text(protocols.read_text() + '\n\nANOTHER = "protocol"\n')
    done = dabook(checkout, *words)
    assert done.returncode == 0, done.stderr
    after = json.loads(record.read_text())
    assert after["training_hash"] == before["training_hash"]
    assert after["evaluation_hash"] != before["evaluation_hash"]
    assert after["images"] == before["images"]
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files} == files
    assert (folder / "of the user").exists()


# the comparison


def evidence(**changed):
    """Of two rows and one scoring; an entry of `changed` goes into the second row."""
    step = {"step": 1, "loss": 0.5}
    row = {"steps": [step, step | {"step": 2}], "tensors": {"model.safetensors": ["ab"]}}
    scores = {"plain": {"images": {"night": {"abs_rel": [0.25, float("nan")]}}}}
    rows = {"plain": row, "naive": row | {"teacher": row} | changed}
    return {"training": rows, "evaluation": scores, "robustness": {}, "bugs": {}}


def test_what_is_equal_and_what_is_only_new():
    verdict = certify.compare(evidence(), evidence(more=[1]))
    assert verdict.equal == ("training", "evaluation")
    assert verdict.differences == {}
    assert verdict.counts["evaluation"] == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": [{"step": 1, "loss": 0.5}]}, "naive: step 2: step is None where it was 2"),
        (
            {"steps": [{"step": 1, "loss": 0.5000001}] * 2},
            "naive: step 1: loss is 0.5000001 where it was 0.5",
        ),
        (
            {"tensors": {"model.safetensors": ["cd"]}},
            "naive: after step 2, all losses equal: tensors model.safetensors 0",
        ),
        ({"teacher": {}}, "naive: its teacher: step 1: step is None"),
        ({"refused": "drop: unknown"}, "naive: refused by the new code: drop: unknown"),
    ],
)
def test_the_first_difference_is_named(changed, words):
    verdict = certify.compare(evidence(), evidence(**changed))
    assert verdict.equal == ("evaluation",)
    assert verdict.differences["training"].startswith(words)


def test_rows_that_the_older_code_refuses_are_new():
    old = evidence()
    old["training"]["naive"] = {"refused": "unknown setting"}
    verdict = certify.compare(old, evidence())
    assert verdict.added == ("naive",)
    assert verdict.equal == ("training", "evaluation")


def test_every_row_of_the_study_is_among_the_kinds():
    """Rows that differ in nothing but what makes them short are one kind."""
    kinds = certify.plan()["rows"]
    assert {
        "main_table.full",
        "student.stable_first",
        "vit.perturbed",
        "oracle.oracle_naive",
        "dropping.region",
    } <= kinds.keys()
    assert "pool.pool_250" not in kinds
    assert all(settings["steps"] == certify.SHORT["steps"] for settings in kinds.values())
    assert kinds["vit.perturbed"]["encoder"] == "vitt"


def test_uncommitted_changes_are_refused(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: ("0123456789ab", True))
    with pytest.raises(ConfigError, match="commit them first"):
        certify.certify(since="HEAD")


def test_a_damaged_certificate_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    paths.certificates().mkdir(parents=True)
    for text in ("{", "[]", '{"schema": 0}', '{"schema": 1}'):
        (paths.certificates() / "a-b.json").write_text(text)
        with pytest.raises(DataError, match=r"a-b\.json: not a .*certificate"):
            certificates.unchanged("training", "old", "new")


def test_without_a_certificate_only_the_same_code_is_unchanged(tmp_path, monkeypatch):
    monkeypatch.setenv("DALIB_ROOT", str(tmp_path))
    assert certificates.read() == []
    assert certificates.joined("training", "old") == {"old"}
    assert certificates.unchanged("training", "old", "old")
    assert not certificates.unchanged("training", "old", "new")
    with pytest.raises(ConfigError, match="no records to certify anything for; name a commit"):
        certify._newest()


def test_the_chain_of_the_first_study_is_not_read(monkeypatch):
    """Its records are compared with no code of today."""
    monkeypatch.setenv("DALIB_ROOT", str(ROOT))
    first = {p.name for p in (paths.first_study() / "certificates").glob("*.json")}
    read = {f"{c['from']['commit']}-{c['to']['commit']}.json" for c in certificates.read()}
    assert first
    assert not first & read


def test_the_committed_certificates_join_the_records_to_commits_of_this_history():
    """Each names two commits, and the parts that it calls equal."""
    history = subprocess.run(
        ["git", "-C", ROOT, "rev-list", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    files = sorted((ROOT / "data").rglob("certificates/*.json"))
    assert files
    for path in files:
        certificate = json.loads(path.read_text())
        assert set(certificate["equal"]) <= set(certificates.PARTS)
        assert path.stem == f"{certificate['from']['commit']}-{certificate['to']['commit']}"
        for side in ("from", "to"):
            assert certificate[side]["commit"] in history
