"""The recorded study in the background: the plan's runs in their order, several at once, each in a
process of its own, until they are recorded or the hours are over.

Whatever ends it early, the next call goes on: a run that was stopped has saved its state, one that
is recorded is not run again.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from dabook.runs import allocation, records
from dabook.runs.jobs import HOUR, Job, Pace, jobs, seconds_left
from dabook.runs.plan import FILE, PROFILE, Plan, changes, contradictions, read, rows_now
from dabook.runs.precedence import git
from dalib import certificates, locking, paths, provenance
from dalib.config import RunConfig, check_names
from dalib.errors import ConfigError, Stopped, TrainingError, UserError
from dalib.progress import Report
from dalib.stopping import Stop, listening
from dalib.training.folder import DONE, folder, read_json

POLL = 1.0  # seconds between two looks at what runs
COMMIT_EVERY = 20 * 60.0  # seconds
GRACE = 300.0  # seconds in which a run that is asked to stop saves its state
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RECORDS = "data/records/*.json"  # in git's patterns * matches folders too; no file half written


# what has to be so before the first run


def check(plan: Plan) -> None:
    """Raise `ConfigError`, with all reasons, where the study may not go on: a plan that is not
    frozen or not committed, or is not what would run; changed files; another processor."""
    found = [*contradictions(plan), *changes(plan).values(), *_uncommitted(), *_processor(plan)]
    if found:
        raise ConfigError("the study does not start:\n" + "\n".join(found))


def _uncommitted() -> Iterator[str]:
    """What of the plan and of the code is in no commit, in words."""
    try:
        plan = git("status", "--porcelain", "--untracked-files=all", "--", FILE)
        code = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!data")
    except ConfigError as error:
        yield f"records name the commit of their code, which is not to be had here ({error})"
        return
    if plan:
        yield f"{FILE} is not committed as it stands; commit it"
    if code:
        names = ", ".join(line[3:] for line in code.splitlines()[:5])
        yield f"tracked files are changed ({names}); commit them, or undo the changes"


def _processor(plan: Plan) -> Iterator[str]:
    here = {"device_type": provenance.device_type(), "instructions": provenance.instructions()}
    for key, wanted in plan.processor.items():
        if here[key] != wanted:
            yield f"{key} is {here[key]} here; the plan's records are of {wanted}"


def _changed(plan: Plan, since: str) -> list[str]:
    """What forbids to start another process, which would read the files as they are now, in words.

    Args:
        plan: as it was read at the start.
        since: the commit at which all was checked. Later ones may change what is no science.
    """
    found = list(_uncommitted())
    try:
        if not git("diff", "--name-only", since, "HEAD", "--", ".", ":!data/records"):
            return found
    except ConfigError as error:
        return [*found, str(error)]
    for part, frozen in plan.science.items():
        code = provenance.files_hash(provenance.science(part))
        if not certificates.unchanged(part, frozen, code):
            found.append(f"the science has changed: {part} is {code} now, frozen was {frozen}")
    if read() != plan or rows_now(plan) != plan.rows:
        found.append("the plan or its rows have changed")
    return found


@contextmanager
def _alone() -> Iterator[None]:
    """One study at a time in a folder of runs."""
    path = paths.writable_runs() / "locks" / "study"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not locking.lock(file.fileno()):
            file.seek(0)
            raise ConfigError(
                f"a study runs here already ({_holder(file)}); wait for it, or stop it"
            )
        file.truncate(0)
        file.write(json.dumps(locking.me()))
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    try:
        return locking.named(json.load(file))
    except (ValueError, TypeError, KeyError):
        return "another process"


# the study


def command(job: Job) -> list[str]:
    """How a run is started."""
    words = ["-m", "dabook", "row", *job.key, "--profile", PROFILE, "--seed", str(job.config.seed)]
    return [sys.executable, *words]


def run(
    questions: Sequence[str] = (),
    *,
    hours: float | None = None,
    lanes: int | None = None,
    commit: bool = False,
    say: Report = print,
    command: Callable[[Job], list[str]] = command,
) -> None:
    """Run what the plan asks for and what has no fresh record.

    Args:
        questions: of the plan, to run these alone; all where none is named. The order stays the
            plan's.
        hours: after which it ends. No run begins that would not be done by then; one that is not
            done saves its state. None: no limit.
        lanes: runs at once, of one thread each; by default the number of cores.
        commit: commit the records, every `COMMIT_EVERY` seconds and at the end.
        say: receives a line for each run that has ended, and what else there is to say.
        command: how a run is started.

    Raises:
        ConfigError: see `check`, or a question that the plan does not ask; nothing was started.
        TrainingError: some runs failed, or the code was changed meanwhile; all others were done.
        Stopped: by a signal. Runs that were going have saved their state.
    """
    if hours is not None and not hours > 0:
        raise ConfigError(f"--hours {hours:g}: expected a number above 0")
    lanes = (os.cpu_count() or 1) if lanes is None else lanes
    if lanes < 1:
        raise ConfigError(f"--jobs {lanes}: expected at least 1")
    plan = read()
    asked = [question.experiment for question in plan.questions]
    check_names(questions, asked, what="question of the plan")
    check(plan)
    with _alone(), listening(Stop()) as stop, stop.defer():
        study = Study(
            plan, questions, hours=hours, lanes=lanes, commit=commit, say=say, command=command
        )
        study.go_on(stop)
    study.conclude(stop)


def _hashes(plan: Plan, names: Sequence[str]) -> set[str]:
    """Of all runs of these questions, also of those that they share with others."""
    return {
        config.hash()
        for question in plan.questions
        if question.experiment in names
        for row in question.expand().rows
        for config in row.configs
    }


@dataclass(kw_only=True)
class Running:
    """A run that goes on now."""

    job: Job
    process: subprocess.Popen
    log: Path
    begun: float
    before: list[RunConfig]  # what it has to train before
    asked: bool = False  # to stop


class Study:
    """The work of one call of `run`, whose arguments it has."""

    def __init__(
        self,
        plan: Plan,
        questions: Sequence[str],
        *,
        hours: float | None,
        lanes: int,
        commit: bool,
        say: Report,
        command: Callable[[Job], list[str]],
    ):
        self.plan = plan
        self.head = git("rev-parse", "HEAD")  # up to which all is as the plan has it
        self.lanes = lanes
        self.commit = commit
        self.say = say
        self.command = command
        every = jobs(plan)
        self.hashes = {job.hash for job in every}
        self.pace = Pace(every)
        wanted = _hashes(plan, questions) if questions else self.hashes
        own = [job for job in every if job.hash in wanted]
        self.total = len(own)
        self.pending = [job for job in own if not job.fresh]
        self.recorded = self.total - len(self.pending)
        self.running: list[Running] = []
        self.done: list[Job] = []
        self.stopped: list[Job] = []  # with their state saved
        self.failed: list[str] = []
        self.begun = time.monotonic()
        self.end = None if hours is None else self.begun + hours * HOUR
        self.committed = self.begun

    def go_on(self, stop: Stop) -> None:
        """Start and collect runs until nothing is left to start, the hours are over, or a signal
        comes; then see to it that nothing runs on, and that records are committed."""
        self.say(
            f"{self.recorded} of {self.total} runs are recorded; {self._time_left()} with "
            f"{self.lanes} at once"
        )
        try:
            while not stop.reason() and not self._over():
                self._collect()
                self._start()
                if not self.running:
                    break
                if self.commit and time.monotonic() - self.committed >= COMMIT_EVERY:
                    self._commit()
                time.sleep(POLL)
        finally:
            self._end()
            if self.commit:
                self._commit(last=True)

    def conclude(self, stop: Stop) -> None:
        """Say what was done, and raise what there is to raise."""
        left = self.total - self.recorded
        self.say(f"{len(self.done)} runs recorded, {left} left; {self._time_left()}")
        reason = stop.reason()
        if reason and not self.failed:
            raise Stopped(f"stopped by {reason}; run it again to go on")
        if self.failed:
            raise TrainingError("\n".join(["not all went well:", *self.failed]))

    # starting

    def _start(self) -> None:
        """Start runs while there is room, and something to run."""
        while len(self.running) < self.lanes:
            job = self._next()
            if job is None:
                return
            head = git("rev-parse", "HEAD")
            if changed := _changed(self.plan, self.head):
                self._fail(f"no run is started any more: {'; '.join(changed)}")
                self.end = 0.0  # and those that go on would name code that is not theirs
                return
            self.head = head
            self.pending.remove(job)
            self._begin(job)

    def _next(self) -> Job | None:
        """The first run in order that trains nothing that another one trains now, and that would be
        done in time. Where one is too long, only others of its question and seed may go before it,
        so that what is recorded can be compared."""
        claimed = set().union(*(one.job.claims() for one in self.running))
        block = None
        for job in self.pending:
            if block not in (None, job.block):
                return None
            own = job.claims()
            if not claimed.isdisjoint(own):
                claimed |= own  # nobody overtakes one that waits
            elif self.end is not None and time.monotonic() + self.pace.needed(job) > self.end:
                block = job.block
            else:
                return job
        return None

    def _begin(self, job: Job) -> None:
        experiment, row = job.key
        log = paths.runs() / "study" / f"{experiment}.{row}.{job.config.seed}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | ONE_THREAD | allocation.environment()
        environment |= {"GIT_OPTIONAL_LOCKS": "0"}
        before = job.untrained()
        with log.open("ab") as file:
            process = subprocess.Popen(
                self.command(job),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches it through this process alone
            )
        one = Running(job=job, process=process, log=log, begun=time.monotonic(), before=before)
        self.running.append(one)

    # ending

    def _collect(self) -> None:
        """Take in the runs that have ended, each with a line."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            self._take(one)

    def _take(self, one: Running) -> None:
        code = one.process.returncode
        record = records.find(one.job.config, committed=True)
        elapsed = time.monotonic() - one.begun
        if code == 0 and record is not None and records.is_fresh(record):
            before = sum(read_json(folder(c) / DONE).get("wall_seconds", 0.0) for c in one.before)
            self.pace.learn(one.job, record["wall_seconds"], elapsed=elapsed, before=before)
            self.done.append(one.job)
            self.recorded += 1
            self.say(
                f"[{self.recorded}/{self.total}] {one.job.name}: {elapsed:.0f} s; "
                f"{self._time_left()}"
            )
        elif one.asked or code == Stopped.exit_code:
            self.stopped.append(one.job)
            self.say(f"{one.job.name}: stopped after {elapsed:.0f} s, goes on next time")
        else:
            what = f"exit code {code}" if code else "no fresh record"
            self._fail(f"{one.job.name}: failed ({what}), see {one.log}")

    def _fail(self, what: str) -> None:
        self.failed.append(what)
        self.say(what)

    def _over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end

    def _end(self) -> None:
        """Ask what still runs to save its state, and wait for it."""
        for one in self.running:
            one.asked = True
            one.process.terminate()
        limit = time.monotonic() + GRACE
        for one in self.running:
            try:
                one.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(one.process.pid, signal.SIGKILL)  # its last checkpoints are whole
                one.process.wait()
        self._collect()

    # saying and keeping

    def _time_left(self) -> str:
        """How long all that is left takes, in words."""
        now = time.monotonic()
        todo = [*self.pending, *self.stopped, *(one.job for one in self.running)]
        begun = sum(min(now - o.begun, self.pace.needed(o.job)) for o in self.running)
        seconds = max(0.0, seconds_left(todo, self.pace) - begun)
        return f"{seconds / HOUR:.1f} core-hours left, {seconds / HOUR / self.lanes:.1f} h"

    def _commit(self, *, last: bool = False) -> None:
        """Commit the records; where git refuses, say so, and try again next time."""
        self.committed = time.monotonic()
        try:
            message = commit_records(self.hashes)
        except UserError as error:
            what = f"records are not committed: {error}"
            if last:
                self._fail(what)
            else:
                self.say(what)
            return
        if message:
            self.say(f"committed: {message}")


def commit_records(hashes: Set[str]) -> str:
    """Commit what is new in `data/records`, and nothing else; returns the message, or nothing where
    there is nothing new. `ConfigError` where git refuses.

    Args:
        hashes: of the plan's runs, for the message.
    """
    new = git("status", "--porcelain", "--untracked-files=all", "--", RECORDS).splitlines()
    if not new:
        return ""
    count = Counter(Path(line[3:]).parent.name for line in new)
    each = ", ".join(f"{name} {number}" for name, number in sorted(count.items()))
    there = hashes & {path.stem for path in paths.records().glob("*/*.json")}
    message = f"Records: {len(new)} ({each}); {len(there)} of {len(hashes)} runs have one"
    git("add", "--", RECORDS)
    git("commit", "--quiet", "--message", message, "--", RECORDS)
    return message
