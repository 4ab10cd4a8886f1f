"""The command line of the book: `python -m dabook run main_table --profile quick`. Each command is
a thin call."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from dalib.commands import Commands
from dalib.errors import ConfigError

LIBRARY = ("predict", "export")
NAMED = "an experiment of experiments.yaml, or a notebook"


def _run(args: argparse.Namespace) -> None:
    """Run an experiment's notebook through papermill."""
    from dabook.runs.experiments import expand, experiments, profiles
    from dabook.site import notebooks
    from dalib import paths
    from dalib.training.processes import check_processes, refuse_other_launcher

    refuse_other_launcher()
    path = notebooks.notebook(args.name)
    given = notebooks.check(path, _parameters(args))
    profile = given.get("profile")
    seeds = given.get("seeds")
    processes = given.get("processes")
    configs = []
    if args.name in experiments():  # what is wrong should fail at once
        # to a notebook, 0 is the profile's number
        seeds = args.seeds if args.seeds is not None else seeds or None
        plan = expand(args.name, profile=profile or "quick", seeds=seeds)
        configs = [config for row in plan.rows for config in row.configs[:1]]
    if processes is not None:
        check_processes(processes, *configs)
    out = (
        paths.writable_runs()
        / "notebooks"
        / (profile if profile in profiles() else "default")
        / path.name
    )
    print(f"{path.name} is at {notebooks.execute(path, out, given)}")


def _parameters(args: argparse.Namespace) -> dict[str, object]:
    """The parameters that `run` was given, each once: as `-p NAME=VALUE`, or as an option of its
    own."""
    given: dict[str, object] = {}
    for pair in args.set:
        name, mark, value = pair.partition("=")
        if not name or not mark:
            raise ConfigError(f"-p {pair}: expected NAME=VALUE")
        if name in given:
            raise ConfigError(
                f"-p {name}: given twice ({given[name]!r} and {value!r}); leave one out"
            )
        given[name] = value
    for name in ("profile", "seeds", "processes"):
        value = getattr(args, name)
        if value is None:
            continue
        if name in given:
            raise ConfigError(
                f"--{name}: given twice, as --{name} {value} and -p "
                f"{name}={given[name]}; leave one out"
            )
        given[name] = value
    return given


def _row(args: argparse.Namespace) -> None:
    """Run one seed of one row (for Snakemake and clusters)."""
    from dabook.runs.experiments import expand
    from dalib import paths
    from dalib.training.machines import machines_of
    from dalib.training.processes import check_processes, refuse_other_launcher

    refuse_other_launcher()
    experiment = expand(args.name, profile=args.profile, seed=args.seed)
    row = experiment[args.row]
    config = row.configs[0]
    machines = machines_of(
        args.accelerate, processes=args.processes, machine_rank=args.machine_rank
    )
    check_processes(machines.processes, config, machines=machines.count)
    paths.writable_runs()
    # seconds to import, which a mistake above need not wait for
    from dabook.runs.runner import run_row

    run_row(
        row,
        config,
        committed=experiment.committed,
        again=args.again,
        retrain=args.retrain,
        processes=args.processes,
        accelerate=args.accelerate,
        machine_rank=args.machine_rank,
    )


def _rows(args: argparse.Namespace) -> None:
    """List the rows and seeds of an experiment, and whether they have a fresh record."""
    from dabook.runs.experiments import expand
    from dabook.runs.records import entries, foreign

    experiment = expand(args.name, profile=args.profile, seeds=args.seeds)
    for e in entries(experiment):
        print(f"{e.config.hash()}  {e.status:8}{e.row.name} seed {e.config.seed}")
    others = foreign(experiment)
    for path, what in others.unknown.items():
        print(f"{path.stem}  foreign  {what}")
    for profile, count in others.of_profile.items():
        print(f"and {count} record{'s' * (count > 1)} of profile {profile}")


def _plan(args: argparse.Namespace) -> None:
    """Show the plan of the recorded study: what it costs, what is recorded, and whether it is as it
    was frozen."""
    from dabook.runs import plan
    from dabook.runs.jobs import HOUR, overview

    if args.freeze:
        print(plan.freeze())
        return
    found = plan.read()
    whole = overview(found)
    head = ("question", "rows", "seeds", "runs", "s/run", "core-h", "recorded", "fresh", "left")
    lines = [
        (
            line.experiment,
            line.rows,
            line.seeds,
            line.runs,
            f"{line.seconds / line.runs:.0f}" if line.runs else "-",
            f"{line.seconds / HOUR:.1f}",
            line.recorded,
            line.fresh,
            f"{line.left / HOUR:.1f}",
        )
        for line in whole.lines
    ]
    width = max(len(str(line[0])) for line in (head, *lines))
    for first, *others in (head, *lines):
        print(f"{first:{width}}" + "".join(f"{value:>9}" for value in others))
    print(
        f"and {whole.others} runs that others build on: {whole.others_seconds / HOUR:.1f} "
        f"core-hours, {whole.others_left / HOUR:.1f} left here"
    )
    print(f"in all {whole.seconds / HOUR:.1f} core-hours, {whole.left / HOUR:.1f} left")
    others = [*plan.changes(found).values(), *plan.contradictions(found)]
    print("\n".join(others) or "rows and science are as they were frozen")


def _study(args: argparse.Namespace) -> None:
    """Run the recorded study by its plan (data/plan.yaml): what has no fresh record, several runs
    at once. It may be stopped and called again."""
    from dabook.runs import study
    from dalib.training.processes import refuse_other_launcher

    refuse_other_launcher()
    study.run(
        args.questions,
        hours=args.hours,
        lanes=args.jobs,
        commit=args.commit,
        say=lambda line: print(line, flush=True),
    )


def _book(args: argparse.Namespace) -> None:
    """Run the notebooks whose inputs changed, and build the book's site."""
    from dabook.site.build import build
    from dabook.site.kernels import forked
    from dalib.training.processes import refuse_other_launcher

    refuse_other_launcher()
    with forked():
        index = build(profile=args.profile)
    print(f"the book is at {index}")


def _slides(_: argparse.Namespace) -> None:
    """Build the slides of the four lectures, with the figures and numbers of the notebooks that `make
    book` executed."""
    from dabook.site import slides

    print(f"the lectures are at {slides.slides()}")


def _pdf(_: argparse.Namespace) -> None:
    """Print the book that `make book` executed as one PDF (needs Chromium or Chrome)."""
    from dabook.site import printed

    print(f"the printed book is at {printed.pdf()}")


def _zip(_: argparse.Namespace) -> None:
    """Pack the site that `make book` built into one zip that reads offline."""
    from dabook.site import archive

    print(f"the packed site is at {archive.archive()}")


def _readme(_: argparse.Namespace) -> None:
    """Put the recorded main table into README.md."""
    from dabook.site.build import update_readme

    update_readme()


def _robustness(args: argparse.Namespace) -> None:
    """Score the main table's networks on corrupted images and record it (trains nothing)."""
    from dabook.runs import robustness

    found = robustness.run(profile=args.profile, seeds=args.seeds)
    fresh = sum(e.status == "fresh" for e in found)
    print(f"{fresh} of {len(found)} runs are recorded")


def _floors(_: argparse.Namespace) -> None:
    """Score predictions without an image (floors) on the real data sets and record them."""
    from dabook.runs.floors import record_floors

    print(record_floors())


def _certify(args: argparse.Namespace) -> None:
    """Compare the results of today's code with those of the code behind the records, bit by bit,
    and certify what is equal."""
    from dabook.runs.certify import certify
    from dalib.errors import TrainingError

    path, verdict = certify(since=args.since, profile=args.profile)
    for part in verdict.equal:
        print(f"{part}: all {verdict.counts[part]} numbers and digests are equal")
    if path is not None:
        print(f"{path}: commit it, and records stay fresh")
    if verdict.differences:
        raise TrainingError(
            "\n".join(f"{part} differs. {what}" for part, what in verdict.differences.items())
        )


def _ship(args: argparse.Namespace) -> None:
    """Make a student of students.yaml: train it with its teacher, score it, write its record; the one
    called shipped goes into the package, with its model card. It may be stopped and called again."""
    from dabook.site import front
    from dalib.training.processes import refuse_other_launcher

    refuse_other_launcher()
    for line in front.ship(args.name, processes=args.processes):
        print(line)


def _student(args: argparse.Namespace) -> None:
    """Print the path of the student that `make book` trained, for `python -m dalib predict --weights`;
    without --weights, predict takes the one that comes with the library."""
    from dabook.runs import networks

    print(networks.student(args.profile))


def _translate(args: argparse.Namespace) -> None:
    """Bring the catalogues of a language up to date with the pages: what is new is empty, what has
    changed is marked, what is translated stays. Needs the notebooks that `make book` executed."""
    from dabook.site import build, languages
    from dalib import paths

    folder = paths.root() / "_build" / "stage-catalogues"
    build.stage(folder, paths.root() / "_build" / "notebooks")
    for line in languages.update(args.language, folder):
        print(line)


def _course(args: argparse.Namespace) -> None:
    """Make the course's exercises and labs as notebooks, in a student's edition with gaps and an
    instructor's with solutions."""
    from dabook.course.editions import make

    made = make(args.out)
    for edition, folder in made.folders.items():
        print(f"{edition}: {len(made.names)} notebooks in {folder}")


def _handout(args: argparse.Namespace) -> None:
    """Pack the library and the student's notebooks, without solutions, into one zip for a class."""
    from dabook.course.handout import handout

    path = handout(args.out)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


def _grade(args: argparse.Namespace) -> None:
    """Run students' notebooks of the course with the course's own tests, and print the points. It
    runs what the students wrote."""
    from dabook.course.gradebook import grade_all
    from dabook.site.kernels import forked

    with forked() if len(args.notebooks) > 1 else nullcontext():
        grade_all(args.notebooks, seconds=args.seconds, table=args.csv)


def commands() -> Commands:
    """The whole command line."""
    top = Commands(
        prog="python -m dabook",
        description="Run, list and publish the experiments of experiments.yaml.",
        elsewhere={name: f"the library: python -m dalib {name}" for name in LIBRARY},
    )
    run = top.add("run", _run)
    run.add_argument("name", help=NAMED)
    run.add_argument(
        "--profile", help="smoke, quick, study, gpu (default: the notebook's own, quick)"
    )
    run.add_argument("--seeds", type=int, help="how many (default: the profile's)")
    run.add_argument("--processes", type=int, help="training processes (default: 1)")
    run.add_argument(
        "-p",
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other parameter of the notebook",
    )
    row = top.add("row", _row)
    row.add_argument("name", help=NAMED)
    row.add_argument("row")
    row.add_argument("--profile", default="study")
    row.add_argument("--seed", type=int, default=0)
    row.add_argument("--processes", type=int, default=1)
    row.add_argument(
        "--accelerate",
        metavar="FILE",
        help="a configuration of accelerate, for several machines or sharded weights",
    )
    row.add_argument(
        "--machine-rank", type=int, metavar="N", help="which machine this is (default: the file's)"
    )
    row.add_argument(
        "--again",
        action="store_true",
        help="keep the existing record, and write this run's beside it (data/reruns)",
    )
    row.add_argument(
        "--retrain",
        action="store_true",
        help="train even if there are weights, which are moved aside",
    )
    rows = top.add("rows", _rows)
    rows.add_argument("name", help=NAMED)
    rows.add_argument("--profile", default="study")
    rows.add_argument("--seeds", type=int)
    plan = top.add("plan", _plan)
    plan.add_argument(
        "--freeze",
        action="store_true",
        help="write today's rows and science into the plan, before its first record",
    )
    study = top.add("study", _study)
    study.add_argument(
        "questions", nargs="*", metavar="QUESTION", help="these of the plan alone (default: all)"
    )
    study.add_argument(
        "--hours",
        type=float,
        help="when to end: no run is started that would take longer (default: no limit)",
    )
    study.add_argument(
        "--jobs", type=int, help="runs at once, of one thread each (default: the number of cores)"
    )
    study.add_argument(
        "--commit",
        action="store_true",
        help="commit data/records every 20 minutes and at the end",
    )
    book = top.add("book", _book)
    book.add_argument(
        "--profile",
        default="quick",
        help="the scale of the ablation notebooks' training (default: quick)",
    )
    top.add("slides", _slides)
    top.add("pdf", _pdf)
    top.add("zip", _zip)
    translate = top.add("translate", _translate)
    translate.add_argument("language", help="of the catalogues in book/locale, such as ko")
    robustness = top.add("robustness", _robustness)
    robustness.add_argument("--profile", default="study")
    robustness.add_argument("--seeds", type=int, help="how many (default: the profile's)")
    certify = top.add("certify", _certify)
    certify.add_argument(
        "--from",
        dest="since",
        help="the older commit (default: that of the newest certificate, or of the records)",
    )
    certify.add_argument(
        "--profile", default="study", help="whose rows are compared (default: study)"
    )
    course = top.add("course", _course)
    course.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the folder for student/ and instructor/ (default: _build/course)",
    )
    handout = top.add("handout", _handout)
    handout.add_argument(
        "--out", type=Path, metavar="FILE", help="the zip file (default: _build/handout.zip)"
    )
    grade = top.add("grade", _grade)
    grade.add_argument(
        "notebooks",
        nargs="+",
        type=Path,
        metavar="NOTEBOOK",
        help="its name begins or ends as in the student's edition, or its cells say what it is",
    )
    grade.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="a table with a line for each notebook, written after each; again, it goes on there",
    )
    grade.add_argument(
        "--seconds", type=int, default=600, help="that a cell may take (default: 600)"
    )
    top.add("readme", _readme)
    top.add("floors", _floors)
    ship = top.add("ship", _ship)
    ship.add_argument("name", help="of students.yaml: research, shipped, or a rung of its ladder")
    ship.add_argument("--processes", type=int, default=1, help="training processes (default: 1)")
    student = top.add("student", _student)
    student.add_argument(
        "--profile",
        default="quick",
        help="the profile that trained it (default: quick, as in `make book`)",
    )
    return top


def main(words: list[str] | None = None) -> int:
    """Run one command line, and return its exit code."""
    return commands().main(words)


if __name__ == "__main__":
    sys.exit(main())
