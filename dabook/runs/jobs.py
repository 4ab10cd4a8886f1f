"""The runs of the plan in the order of running, how long each takes, and how much is left."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from statistics import fmean

from dabook.runs import records
from dabook.runs.experiments import Row
from dabook.runs.plan import Plan
from dabook.runs.records import Record
from dalib.config import RunConfig
from dalib.training.folder import trained
from dalib.training.given import pin

HOUR = 3600.0
Key = tuple[str, str]  # experiment and row


@dataclass(frozen=True, kw_only=True)
class Job:
    """One seed of one row, under the first question that asks for it."""

    row: Row
    config: RunConfig
    seconds: float  # by the plan
    before: tuple[RunConfig, ...]  # the runs that it builds on, in the order to train them
    record: Record | None

    @cached_property
    def hash(self) -> str:
        """Of its config."""
        return self.config.hash()

    @property
    def key(self) -> Key:
        """Its experiment and row."""
        return self.row.experiment, self.row.name

    @property
    def block(self) -> tuple[str, int]:
        """Its experiment and seed: the runs that are compared with one another."""
        return self.row.experiment, self.config.seed

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.row.experiment}.{self.row.name} seed {self.config.seed}"

    @property
    def fresh(self) -> bool:
        """Whether it has a record by today's code."""
        return self.record is not None and records.is_fresh(self.record)

    def untrained(self) -> list[RunConfig]:
        """The runs that it builds on and that are not trained here yet."""
        return [config for config in self.before if not trained(config)]

    def claims(self) -> set[str]:
        """The runs that it trains, as hashes: its own, and whatever has to be trained before."""
        return {self.hash} | {config.hash() for config in self.untrained()}


def before(config: RunConfig) -> tuple[RunConfig, ...]:
    """Every run that a run builds on, directly or not, each once, in the order to train them."""
    found: dict[str, RunConfig] = {}
    for needed in map(pin, config.prerequisites().values()):
        for each in (*before(needed), needed):
            found.setdefault(each.hash(), each)
    return tuple(found.values())


def jobs(plan: Plan) -> list[Job]:
    """Every run of the plan, once: question by question, seed by seed, and of a seed's rows first
    those that build on fewer others."""
    found: dict[str, Job] = {}
    for question in plan.questions:
        rows = question.expand().rows
        for seed in range(question.seeds):
            block = [
                Job(
                    row=row,
                    config=row.configs[seed],
                    seconds=question.seconds[row.name],
                    before=before(row.configs[seed]),
                    record=records.find(row.configs[seed], committed=True),
                )
                for row in rows
                if row.configs[seed].hash() not in found
            ]
            for job in sorted(block, key=lambda job: len(job.before)):
                found.setdefault(job.hash, job)
    return list(found.values())


def _alike(config: RunConfig) -> str:
    """The same for runs that differ in their seed alone, or in the seed's draw of images."""
    neutral = {"seed": 0}
    if "draw" in {f.name for f in fields(config)}:
        neutral["draw"] = None
    return config.replace(**neutral).hash()


class Pace:
    """How long runs take on one core: as the plan estimates, and once a row has records, as these
    say.

    A record counts the training alone. What a run takes besides (its start, its scores) is learnt
    from those that end while one looks.

    Args:
        found: every run of the plan.
    """

    def __init__(self, found: Iterable[Job]):
        self.planned: dict[Key, float] = {}
        self.walls: dict[Key, list[float]] = defaultdict(list)
        self.besides: list[float] = []
        self._rows: dict[str, Key] = {}
        for job in found:
            self.planned[job.key] = job.seconds
            self._rows.setdefault(_alike(job.config), job.key)
            if job.fresh:
                self.walls[job.key].append(job.record["wall_seconds"])

    def learn(self, job: Job, wall: float, *, elapsed: float, before: float) -> None:
        """A run has ended.

        Args:
            job: the run.
            wall: seconds that it trained, in all its legs.
            elapsed: seconds from its start to its end here.
            before: seconds of `elapsed` that went into the runs it builds on.
        """
        self.walls[job.key].append(wall)
        if elapsed >= wall + before:  # else an earlier leg trained some of it
            self.besides.append(elapsed - wall - before)

    def of(self, key: Key) -> float:
        """Seconds of one run of a row, without the runs that it builds on."""
        if self.walls[key]:
            return fmean(self.walls[key]) + (fmean(self.besides) if self.besides else 0.0)
        return self.planned[key]

    def of_run(self, config: RunConfig, key: Key, *, planned: bool = False) -> float:
        """Seconds of a run that another builds on: those of the row that differs from it in the
        seed alone; where no row does, those of the row `key`, which builds on it."""
        row = self._rows.get(_alike(config), key)
        return self.planned[row] if planned else self.of(row)

    def needed(self, job: Job) -> float:
        """Seconds of a run with whatever has to be trained before."""
        return self.of(job.key) + sum(self.of_run(c, job.key) for c in job.untrained())


@dataclass(frozen=True, kw_only=True)
class Line:
    """A question's share of the plan. Runs that two questions share count for the first."""

    experiment: str
    rows: int
    seeds: int
    runs: int
    recorded: int
    fresh: int
    seconds: float  # of all its runs, as planned, on one core
    left: float  # of those that have no fresh record, at the pace of the records


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What the plan costs."""

    lines: tuple[Line, ...]
    others: int  # runs that some build on, such as teachers, and that are no rows
    others_seconds: float  # of all of them, as planned
    others_left: float  # of those that are still to be trained on this machine

    @property
    def seconds(self) -> float:
        """Of the whole plan, on one core."""
        return sum(line.seconds for line in self.lines) + self.others_seconds

    @property
    def left(self) -> float:
        """Of it, what is left."""
        return sum(line.left for line in self.lines) + self.others_left


def overview(plan: Plan, found: list[Job] | None = None) -> Overview:
    """What each question costs, and what is left of it; `found` are the plan's runs, where they are
    at hand."""
    found = jobs(plan) if found is None else found
    pace = Pace(found)
    lines = []
    for question in plan.questions:
        own = [job for job in found if job.row.experiment == question.experiment]
        lines.append(
            Line(
                experiment=question.experiment,
                rows=len(question.seconds),
                seeds=question.seeds,
                runs=len(own),
                recorded=sum(job.record is not None for job in own),
                fresh=sum(job.fresh for job in own),
                seconds=sum(job.seconds for job in own),
                left=sum(pace.of(job.key) for job in own if not job.fresh),
            )
        )
    rows = {job.hash for job in found}
    others = {
        config.hash(): pace.of_run(config, job.key, planned=True)
        for job in reversed(found)
        for config in job.before
        if config.hash() not in rows
    }
    return Overview(
        lines=tuple(lines),
        others=len(others),
        others_seconds=sum(others.values()),
        others_left=sum(_before_left(found, pace).values()),
    )


def _before_left(found: Iterable[Job], pace: Pace) -> dict[str, float]:
    """Hash -> seconds of the runs that have to be trained here for others, besides the rows that
    are left."""
    todo = [job for job in found if not job.fresh]
    own = {job.hash for job in todo}
    return {
        config.hash(): pace.of_run(config, job.key)
        for job in reversed(todo)
        for config in job.untrained()
        if config.hash() not in own
    }


def seconds_left(todo: Iterable[Job], pace: Pace) -> float:
    """Of runs that have no fresh record, with whatever has to be trained before, on one core."""
    todo = list(todo)
    return sum(pace.of(job.key) for job in todo) + sum(_before_left(todo, pace).values())
