"""`python -m dalib adapt`."""

import argparse

from dalib.cli.reading import add_reading, reading
from dalib.cli.train import add_training, changed
from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("adapt", run)
    command.add_argument("photographs", help="a folder, or a source such as tars:GLOB")
    command.add_argument("out", help="the folder for student.safetensors, report.html, report.json")
    command.add_argument(
        "--teacher",
        required=True,
        help="weights of any kind and size, as `dalib.models.load` reads them: a file, a folder or "
        "a hub id; the options below say how to read a .pth file",
    )
    command.add_argument(
        "--student",
        default="lite0",
        help="lite0, lite2, vits or another encoder, which starts from its pre-trained weights; or "
        "weights of a network to begin with (default: lite0)",
    )
    command.add_argument("--recipe", default="v1", choices=("v1", "v2"))
    command.add_argument(
        "--labelled",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="images with ground truth to learn from as well, such as depth:FOLDER",
    )
    add_training(command, reads="photographs", learns="student", leaves="student and report")
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Make a student of your own photographs from a strong teacher, and report on it."""
    from pathlib import Path

    from dalib.adaptation.adapt import begun, carry_out, prepare
    from dalib.blocks import GivenTeacher
    from dalib.training.processes import refuse_other_launcher
    from dalib.writing import nothing_left

    refuse_other_launcher()
    read = {name: value for name, value in reading(args).items() if name != "position"}
    changes = changed({}, args.set)
    with nothing_left(*begun(Path(args.out)), always=args.plan):
        ready = prepare(
            args.photographs,
            args.out,
            teacher=GivenTeacher(weights=args.teacher, **read),
            student=args.student,
            recipe=args.recipe,
            steps=args.steps,
            height=args.height,
            width=args.width,
            labelled=args.labelled,
            encoder_weights=args.encoder_weights,
            changes=changes,
            processes=args.processes,
            overwrite=args.overwrite,
        )
        print("\n".join(ready.lines()), flush=True)
    if args.plan:
        return
    done = carry_out(ready, processes=args.processes)
    print(done.student)
    print(done.report)
