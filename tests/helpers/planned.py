"""A small study with a plan in a git repository of its own: two questions, one of whose rows they
share."""

import shutil
import subprocess
from pathlib import Path

import yaml

from dabook.runs import plan, records
from dabook.runs.experiments import expand
from dalib import provenance
from helpers import fabricated

EXPERIMENTS = {
    "profiles": {"study": {"seeds": 2, "record": "committed", "set": {"steps": 40, "batch": 4}}},
    "experiments": {
        "ideas": {
            "question": "Which?",
            "rows": {
                "naive": {"label": "b", "set": {"pseudo_labels": True, "teacher": {"steps": 7}}},
                "blurred": {
                    "label": "c",
                    "set": {
                        "pseudo_labels": True,
                        "perturb": ["blur"],
                        "teacher": {"steps": 7},
                    },
                },
                "labelled_only": {"label": "a"},
            },
        },
        "longer": {
            "question": "How long?",
            "seeds": {"study": 1},
            "rows": {
                "labelled_only": {"label": "a"},
                "twice": {"label": "d", "set": {"steps": 80}},
            },
        },
    },
}
PLAN = """# The plan, written by hand.
about: A study of two questions.
budget:
  settings: {steps: 40, batch: 4}   # as in experiments.yaml
  why: More steps change nothing.
tried:
  - {what: 80 steps, result: the same error, decision: 40 steps}
processor: {device_type: DEVICE, instructions: INSTRUCTIONS}
questions:
  - experiment: ideas
    seeds: 2
    seconds: {naive: 300, blurred: 400, labelled_only: 100}
    why: The main table.
  - {experiment: longer, seeds: 1, seconds: 200, why: Whether it is enough.}
cut:
  - {what: Larger images., why: They take too long.}
"""


def text() -> str:
    """The plan for the processor of this machine."""
    here = {"DEVICE": provenance.device_type(), "INSTRUCTIONS": provenance.instructions()}
    found = PLAN
    for word, value in here.items():
        found = found.replace(word, value)
    return found


def write(folder: Path, *, more: str = "") -> Path:
    """A folder with the two files; `more` stands at the end of the plan."""
    (folder / "data" / "records").mkdir(parents=True)
    (folder / "experiments.yaml").write_text(yaml.safe_dump(EXPERIMENTS, sort_keys=False))
    (folder / plan.FILE).write_text(text() + more)
    return folder


def git(folder: Path, *words: str) -> str:
    """What a git command says there."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    """Commit all that is there (in a new repository, if need be); twelve digits of the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
        git(folder, "config", "user.name", "test")
        git(folder, "config", "user.email", "test@example.org")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")[:12]


def record(experiment: str, row: str, seed: int, /, **changes) -> dict:
    """A made-up record of this study, with these changes, written nowhere."""
    found = expand(experiment, profile=plan.PROFILE, seed=seed)[row]
    return fabricated.record(found, found.configs[0], level=0.2) | changes


def keep(*args, **changes) -> Path:
    """The same, among the records of the current root; returns its file."""
    fabricated.refuse_the_checkout()
    return records.write(record(*args, **changes), committed=True)


def forget(folder: Path) -> None:
    """Remove all records there."""
    shutil.rmtree(folder / "data" / "records")
    (folder / "data" / "records").mkdir()
