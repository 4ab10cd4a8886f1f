"""The command line: `python -m dalib run main_table --profile quick`. Each command is a thin call into the library."""

import argparse
import logging
import sys

from dalib.errors import UserError


def _run(args: argparse.Namespace) -> None:
    """Run an experiment's notebook through papermill."""
    from dalib import paths
    from dalib.study import notebooks
    from dalib.study.experiments import expand, experiments

    path = notebooks.notebook(args.name)
    given = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in args.set)
    for name in ("profile", "seeds", "processes"):
        if getattr(args, name) is not None:
            given[name] = getattr(args, name)
    if args.name in experiments():
        expand(args.name, profile=given.get("profile", "quick"), seeds=args.seeds)  # a wrong name should fail at once
    out = paths.runs() / "notebooks" / str(given.get("profile", "default")) / path.name
    print(f"{path.name} is at {notebooks.execute(path, out, given)}")


def _row(args: argparse.Namespace) -> None:
    """Run one seed of one row: what Snakemake and clusters call."""
    from dalib.study.experiments import expand
    from dalib.study.runner import run_row

    experiment = expand(args.name, profile=args.profile, seeds=args.seed + 1)
    row = experiment[args.row]
    run_row(row, row.configs[args.seed], committed=experiment.committed, processes=args.processes)


def _rows(args: argparse.Namespace) -> None:
    """List rows, seeds and the state of their records."""
    from dalib.study.experiments import expand
    from dalib.study.records import entries, foreign

    experiment = expand(args.name, profile=args.profile, seeds=args.seeds)
    for e in entries(experiment):
        print(f"{e.config.hash()}  {e.status:8}{e.row.name} seed {e.config.seed}")
    for path in foreign(experiment):
        print(f"{path.stem}  foreign  no row of experiments.yaml asks for it")


def _book(args: argparse.Namespace) -> None:
    """Execute the notebooks whose inputs changed and build the site."""
    from dalib.study.book import build

    print(f"the book is at {build(profile=args.profile)}")


def _readme(_: argparse.Namespace) -> None:
    """Put the recorded main table into README.md."""
    from dalib.study.book import update_readme

    update_readme()


def _floors(_: argparse.Namespace) -> None:
    """Score the floors on the real data sets and record them."""
    from dalib.study.runner import record_floors

    print(record_floors())


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m dalib", description="Run, list and publish the experiments of experiments.yaml."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, *, named=True):
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(call=function)
        if named:
            sub.add_argument("name", help="an experiment of experiments.yaml, or a notebook")
        return sub

    run = command("run", _run)
    run.add_argument("--profile", help="smoke, quick, study, gpu (default: the notebook's own, quick)")
    run.add_argument("--seeds", type=int, help="how many (default: the profile's)")
    run.add_argument("--processes", type=int, help="training processes (default: 1)")
    run.add_argument(
        "-p", "--set", action="append", default=[], metavar="NAME=VALUE", help="any other parameter of the notebook"
    )
    row = command("row", _row)
    row.add_argument("row")
    row.add_argument("--profile", default="study")
    row.add_argument("--seed", type=int, default=0)
    row.add_argument("--processes", type=int, default=1)
    rows = command("rows", _rows)
    rows.add_argument("--profile", default="study")
    rows.add_argument("--seeds", type=int)
    book = command("book", _book, named=False)
    book.add_argument("--profile", default="quick", help="what the ablation notebooks train (default: quick)")
    command("readme", _readme, named=False)
    command("floors", _floors, named=False)
    return top


def main(words: list[str] | None = None) -> int:
    """Parse, call, and turn a `UserError` into a message and exit code 1."""
    args = parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("papermill.translators", "httpx", "blib2to3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        args.call(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
