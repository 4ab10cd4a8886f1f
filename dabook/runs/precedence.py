"""Whether the plan came first: every record is one of its runs, made by a commit after the one that
froze what it asks."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from dabook.runs import records
from dabook.runs.plan import FILE, Plan, Question, digest
from dabook.runs.records import Record
from dalib import certificates, paths, strict_yaml
from dalib.errors import ConfigError


def git(*words: str | Path) -> str:
    """What a git command of the checkout says; `ConfigError` with git's own words where it
    fails."""
    try:
        done = subprocess.run(
            ["git", "-C", paths.root(), *words], capture_output=True, text=True, check=True
        )
    except OSError as error:
        raise ConfigError(f"git: cannot be started ({error.strerror or error})") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise ConfigError(f"git {words[0]}: {said}") from error
    return done.stdout.rstrip()


def has_history() -> bool:
    """Whether the checkout is one of git's, with all its commits."""
    try:
        top = Path(git("rev-parse", "--show-toplevel")).resolve()
        return top == paths.root().resolve() and git("rev-parse", "--is-shallow-repository") == (
            "false"
        )
    except ConfigError:
        return False


def unplanned(plan: Plan | None) -> list[str]:
    """What is wrong with the records by the plan alone, a line for each, in words.

    A record belongs to a question, row and seed of the plan, was made by the frozen science (or by
    code certified to give the same bits) and on the plan's kind of processor. Rows and seeds of a
    question that an amendment names may be older than the plan's.
    """
    questions = {} if plan is None else {q.experiment: q for q in plan.questions}
    runs = {name: _runs(question) for name, question in questions.items()}
    found = []
    for record in _records():
        if plan is None:
            found.append(f"{_name(record)}: there is no plan ({FILE})")
            continue
        name = record["experiment"]
        amended = plan.amended(name)
        if name not in questions and not amended:
            found.append(f"{_name(record)}: {name} is no question of the plan")
        elif _run(record) not in runs.get(name, ()) and not amended:
            found.append(f"{_name(record)}: the plan has no such row and seed with its settings")
        found += [f"{_name(record)}: {what}" for what in _circumstances(record, plan)]
    return found


def _circumstances(record: Mapping, plan: Plan) -> Iterator[str]:
    """What of a record's code and processor is not the plan's."""
    for part, frozen in (plan.science or {}).items():
        code = record[f"{part}_hash"]
        if not certificates.unchanged(part, code, frozen):
            yield f"its {part} is {code}, frozen was {frozen}"
    for key, wanted in plan.processor.items():
        if record.get(key) != wanted:
            yield f"its {key} is {record.get(key)}, the plan's {wanted}"


def early(plan: Plan | None) -> list[str]:
    """The records whose commit does not come after the commit that froze the present rows of their
    question (nor is that commit), a line for each, in words. Of a question that an amendment names,
    any commit that froze it counts.

    Raises `ConfigError` outside git.
    """
    here = list(_records())
    if not here:
        return []
    frozen = _frozen()
    head = git("rev-parse", "HEAD")
    first_of = {name: _first(name, plan, frozen) for name in {r["experiment"] for r in here}}
    found = []
    for record in here:
        name = record["experiment"]
        first = first_of[name]
        if first is None:
            found.append(f"{_name(record)}: no commit froze the rows of {name}")
        elif record["commit"] not in _since(first, head):
            found.append(
                f"{_name(record)}: its commit {record['commit']} does not come after {first[:12]}, "
                "which froze the plan"
            )
    return found


def _first(name: str, plan: Plan | None, frozen: list[tuple[str, dict]]) -> str | None:
    """The oldest commit that froze a question as the plan has it now; None where none did. Of one
    that an amendment names, the oldest that froze it at all."""
    if plan is None:
        return None
    if plan.amended(name):
        return next((commit for commit, rows in frozen if name in rows), None)
    wanted = next((digest(q) for q in plan.questions if q.experiment == name), None)
    if wanted is None:
        return None
    return next((commit for commit, rows in frozen if rows.get(name) == wanted), None)


def _frozen() -> list[tuple[str, dict]]:
    """The commits that changed the plan, oldest first, each with its frozen rows."""
    found = []
    for commit in git("log", "--reverse", "--format=%H", "--", FILE).split():
        try:
            tree = strict_yaml.parse(git("show", f"{commit}:./{FILE}"), FILE)
        except ConfigError:  # deleted in this commit, or not yet readable
            continue
        rows = tree.get("rows") if isinstance(tree, dict) else None
        found.append((commit, rows if isinstance(rows, dict) else {}))
    return found


@cache
def _since(commit: str, head: str) -> frozenset[str]:
    """A commit and those of the history of `head` that come after it, twelve digits of each."""
    after = git("rev-list", "--ancestry-path", f"{commit}..{head}").split()
    return frozenset(each[:12] for each in (commit, *after))


def _records() -> Iterator[Record]:
    for path in sorted(paths.records().glob("*/*.json")):
        yield records.read(path)


def _name(record: Mapping) -> str:
    return f"{record['experiment']}/{record['hash']}.json"


def _run(record: Mapping) -> tuple[str, int, str]:
    return record["row"], record["seed"], record["hash"]


def _runs(question: Question) -> set[tuple[str, int, str]]:
    return {
        (row.name, config.seed, config.hash())
        for row in question.expand().rows
        for config in row.configs
    }
