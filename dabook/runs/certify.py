"""Certificates: today's code held against the code of the records, bit by bit, so that a change of
form costs nobody a study.

Each kind of row, which is every row of `experiments.yaml` with its images and steps cut down to a
few, is trained under both commits and scored, by a script that knows nothing of either
(`dabook.runs.probe`). Where all is equal, a file in `data/certificates` says so, and
`dalib.certificates` lets records stay fresh.
"""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from dabook.runs import faulty, records
from dabook.runs.experiments import expand, experiments
from dalib import certificates, paths, provenance
from dalib.config import RunConfig
from dalib.errors import ConfigError, TrainingError
from dalib.writing import write_text

SHORT = {
    "seed": 0,
    "steps": 3,
    "batch": 4,
    "labelled_images": 24,
    "unlabelled_images": 24,
    "test_images": 2,
    "log_every": 1,
    "checkpoint_every": 2,
}
"""What makes a row short; the rest of its settings is what it is there for."""
PROBE = "probe.py"
SCORED = ("lite0", "vitt")
"""Of each of these encoders, the last row that has it is scored."""

Certificate = TypedDict(
    "Certificate",
    {
        "schema": int,
        "created": str,  # UTC, ISO 8601
        "from": dict[str, str],  # the older commit, and the hash of each part
        "to": dict[str, str],
        "equal": list[str],
        "differences": dict[str, str],
        "compared": dict[str, int],
        "added": list[str],
        "rows": list[str],
        "scored": list[str],
        "bugs": list[str],
        "real_sets": list[str],
        "device": str,
        "instructions": str,
        "versions": dict[str, str],
        "seconds": int,
    },
)
"""A comparison of two commits, as `certify` writes it and `dalib.certificates` reads it."""
KIND = records.Kind(form=Certificate, name="a certificate", remedy="restore it, or certify again")


def plan(profile: str = "study") -> dict:
    """The rows to run, those to score, and the faulty twins, each as the settings that are not at
    their defaults."""
    # hash -> name and config: rows that differ in length alone are one
    kinds: dict[str, tuple[str, RunConfig]] = {}
    for name in experiments():
        for row in expand(name, profile=profile, seeds=1).rows:
            config = _short(row.configs[0])
            kinds.setdefault(config.hash(), (f"{name}.{row.name}", config))
    rows = {name: _settings(config) for name, config in kinds.values()}
    # of disparity: what the scores under corruption are of, too
    last = {
        config.encoder: name
        for name, config in kinds.values()
        if config.encoder in SCORED and config.task == "disparity"
    }
    return {
        "rows": rows,
        "scored": {name: rows[name] for name in last.values()},
        "bugs": _bugs(profile),
    }


def _short(config: RunConfig) -> RunConfig:
    """A row of a few steps, and so the run that it begins with."""
    if config.start_run() is None:
        return config.replace(**SHORT)
    trained = {**config.start.trained, **SHORT}
    start = dataclasses.replace(config.start, trained=trained)
    return config.replace(start=start, **SHORT)


def _bugs(profile: str) -> dict[str, dict]:
    """Variant -> the short settings of the row of the main table that it is made of; none where
    there is no such table."""
    if "main_table" not in experiments():
        return {}
    table = {row.name: row for row in expand("main_table", profile=profile, seeds=1).rows}
    return {
        name: _settings(table[variant.row].configs[0].replace(**SHORT))
        for name, variant in faulty.VARIANTS.items()
        if variant.row in table
    }


def _settings(config: RunConfig) -> dict:
    """What differs from the defaults, and what makes a row short whatever the defaults are."""
    every = config.to_dict()
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    return {k: v for k, v in every.items() if v != plain[k] or k in SHORT}


def gather(commit: str, work: dict, *, report: Callable[[str], None] = print) -> dict:
    """The evidence of one commit: its code is unpacked beside the runs, and the plan is run in a
    process of its own.

    What was gathered before for this commit and plan is read again, not run again.
    """
    key = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:12]
    home = paths.runs() / "certify"
    home.mkdir(parents=True, exist_ok=True)
    kept = home / f"{commit}-{key}.json"
    if not kept.is_file():
        with tempfile.TemporaryDirectory(dir=home, prefix=f"{commit}-") as folder:
            tree = Path(folder, "code")
            _unpack(commit, tree)
            (tree.parent / "plan.json").write_text(json.dumps(work))
            _probe(
                tree,
                tree.parent / "plan.json",
                kept,
                report=lambda line: report(f"{commit}  {line}"),
            )
    return json.loads(kept.read_text())


def _unpack(commit: str, tree: Path) -> None:
    """The files of a commit."""
    archive = tree.with_suffix(".tar")
    _git("archive", "--format=tar", f"--output={archive.resolve()}", commit)
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
    archive.unlink()


def _probe(tree: Path, plan: Path, out: Path, *, report: Callable[[str], None]) -> None:
    """Run a tree's own probe, or today's where it has none, on one thread and with nothing of this
    process's folders."""
    own = next(
        (p for p in tree.rglob(PROBE) if "def left_in" in p.read_text(encoding="utf-8")), None
    )
    env = os.environ | {
        # older commits have the faulty twins there
        "PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "notebooks"))),
        "DALIB_ROOT": str(tree),
        "DALIB_RUNS": str(tree.parent / "runs"),
        "DALIB_REALDEPTH": str(paths.realdepth().resolve()),
        "OMP_NUM_THREADS": "1",
    }
    if not paths.realdepth().is_dir():
        env.pop("DALIB_REALDEPTH")
    command = [
        sys.executable,
        "-P",
        str(own or Path(__file__).with_name(PROBE)),
        str(plan),
        str(out),
    ]
    tail: list[str] = []
    with subprocess.Popen(
        command, env=env, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            tail = [*tail[-60:], line.rstrip()]
            if line.startswith("probe: "):
                report(line.removeprefix("probe: ").rstrip())
    if process.returncode:
        raise TrainingError(
            f"the probe ended with code {process.returncode} under {tree}:\n" + "\n".join(tail)
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the comparison of two versions came to."""

    equal: tuple[str, ...]  # parts, see `dalib.certificates.PARTS`
    differences: dict[str, str]  # part -> the first difference, in words
    added: tuple[str, ...]  # rows that the older code could not run: they have no records of it
    counts: dict[str, int]  # part -> numbers and digests compared


def compare(old: dict, new: dict) -> Verdict:
    """Hold the evidence of two versions against each other; what only the new one has is no
    difference."""
    differences = {}
    counts = Counter()
    added = tuple(name for name, row in old["training"].items() if "refused" in row)
    for part in certificates.PARTS:
        for name, before in old[part].items():
            if name in added:
                continue
            after = new[part].get(name, {})
            counts[part] += sum(1 for _ in _leaves(before))
            if part not in differences and (found := difference(before, after)):
                differences[part] = f"{name}: {found}"
    equal = tuple(p for p in certificates.PARTS if p not in differences and counts[p])
    return Verdict(equal=equal, differences=differences, added=added, counts=dict(counts))


def difference(before: dict, after: dict) -> str | None:
    """The first difference in words, steps before everything else; None where all that was there
    before is there now."""
    if "refused" in after:
        return f"refused by the new code: {after['refused']}"
    if "teacher" in before and (found := difference(before["teacher"], after.get("teacher", {}))):
        return f"its teacher: {found}"
    later = after.get("steps", [])
    for k, line in enumerate(before.get("steps", [])):
        other = later[k] if k < len(later) else {}
        for name, value in line.items():
            if not _same(value, other.get(name)):
                return f"step {line['step']}: {name} is {other.get(name)!r} where it was {value!r}"
    rest = {k: v for k, v in before.items() if k not in ("steps", "teacher")}
    for place, value in _leaves(rest):
        found = _at(after, place)
        if not _same(value, found):
            where = " ".join(map(str, place))
            if steps := before.get("steps"):
                where = f"after step {steps[-1]['step']}, all losses equal: {where}"
            return f"{where} is {found!r} where it was {value!r}"
    return None


def _leaves(tree, place: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """Every number and word of nested dictionaries and lists, with its place."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(tree, list):
        for key, value in enumerate(tree):
            yield from _leaves(value, (*place, key))
    else:
        yield place, tree


def _at(tree, place: tuple):
    for key in place:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _same(a, b) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return a == b or both_nan


def certify(
    *, since: str | None = None, profile: str = "study", report: Callable[[str], None] = print
) -> tuple[Path | None, Verdict]:
    """Compare a commit with today's, and write a certificate of the parts in which all bits are
    equal.

    Args:
        since: the older commit; by default that of the newest certificate, and before the first one
            that of the records.
        profile: whose rows are run.
        report: receives lines of progress.

    Returns:
        The certificate, None where no part is equal; and the verdict.

    Raises:
        ConfigError: uncommitted changes, which no certificate could name; or a commit that is not
            in this history.
        TrainingError: a version that does not run.
    """
    # which two commits
    today, dirty = provenance.commit()
    if dirty or today == "unknown":
        raise ConfigError(
            "certify: there are uncommitted changes, which no certificate can name; "
            "commit them first"
        )
    old_commit = _full(since or _newest())
    new_commit = _full(today)
    begun = time.perf_counter()

    # gather what both commits compute, and compare
    work = plan(profile)
    report(
        f"{len(work['rows'])} kinds of rows, {len(work['scored'])} scorings, {len(work['bugs'])} "
        "bugs, under two commits"
    )
    old = gather(old_commit, work, report=report)
    new = gather(new_commit, work, report=report)
    verdict = compare(old, new)
    if not verdict.equal:
        return None, verdict

    # write what is equal down
    real_sets = {name for scores in old["evaluation"].values() for name in scores.get("real", {})}
    facts = {
        "schema": certificates.SCHEMA,
        "from": {"commit": old_commit, **old["hashes"]},
        "to": {"commit": new_commit, **new["hashes"]},
        "equal": list(verdict.equal),
        "differences": verdict.differences,
        "compared": verdict.counts,
        "added": list(verdict.added),
        "rows": list(work["rows"]),
        "scored": list(work["scored"]),
        "bugs": list(work["bugs"]),
        "real_sets": sorted(real_sets),
        "seconds": round(time.perf_counter() - begun),
    }
    path = paths.certificates() / f"{old_commit}-{new_commit}.json"
    write_text(path, records.dump(records.compose(KIND, facts)))
    return path, verdict


def _newest() -> str:
    """The commit that the next certificate starts from."""
    if found := certificates.read():
        return found[-1]["to"]["commit"]
    made = [records.read(p) for p in sorted(paths.records().glob("*/*.json"))]
    if not made:
        raise ConfigError(
            "certify: there are no records to certify anything for; name a commit with --from"
        )
    return max(made, key=lambda record: record["created"])["commit"]


def _full(commit: str) -> str:
    """Twelve digits of a commit of this history."""
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()[:12]
    except subprocess.CalledProcessError:
        raise ConfigError(f"--from: {commit!r} is no commit of this history; see git log") from None


def _git(*words: str) -> str:
    command = ["git", "-C", str(paths.root()), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
