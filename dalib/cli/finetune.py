"""`python -m dalib finetune`."""

import argparse

from dalib.cli.reading import add_reading
from dalib.cli.train import add_training, changed
from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("finetune", run)
    command.add_argument(
        "start",
        help="weights to begin with, as `dalib.models.load` reads them, or an encoder with its "
        "pre-trained weights: lite0, vits, ...",
    )
    command.add_argument(
        "data",
        help="images with depth in metres, dense or sparse: a folder with a manifest.csv, or a source "
        "such as depth:FOLDER",
    )
    command.add_argument("out", help="the folder for model.safetensors and run.json")
    command.add_argument(
        "--metric", action="store_true", required=True, help="to depth in metres (required)"
    )
    command.add_argument(
        "--max-depth",
        type=float,
        required=True,
        help="metres that the network reaches, such as 10 indoors and 80 on roads; labels beyond it "
        "do not count",
    )
    command.add_argument(
        "--part",
        choices=("encoder", "network"),
        help="of the start: its encoder under a new decoder (default, of a relative network), or all",
    )
    command.add_argument(
        "--also", nargs="+", default=[], metavar="DATA", help="more images to learn from"
    )
    command.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="DATA",
        help="images to score on, in metres, without alignment",
    )
    add_training(command, reads="images", learns="network", leaves="network and record")
    add_reading(command, max_depth="--start-max-depth", position=False)


def run(args: argparse.Namespace) -> None:
    """Fine-tune a relative network, or a pre-trained encoder, to depth in metres."""
    from pathlib import Path

    from dalib.adaptation.adapt import RUNS
    from dalib.adaptation.finetune import carry_out, prepare
    from dalib.blocks import GivenNetwork
    from dalib.training.processes import refuse_other_launcher
    from dalib.writing import nothing_left

    refuse_other_launcher()
    read = {
        "layers": args.layers,
        "max_depth": args.start_max_depth,
        "relative": args.relative,
        "entry": args.entry,
    }
    read = {name: value for name, value in read.items() if value}
    with nothing_left(Path(args.out) / RUNS, always=args.plan):
        ready = prepare(
            GivenNetwork(weights=args.start, **read) if read else args.start,
            [args.data, *args.also],
            args.out,
            max_depth=args.max_depth,
            part=args.part,
            steps=args.steps,
            height=args.height,
            width=args.width,
            test=args.test,
            encoder_weights=args.encoder_weights,
            changes=changed({}, args.set),
            processes=args.processes,
            overwrite=args.overwrite,
        )
        print("\n".join(ready.lines()), flush=True)
    if args.plan:
        return
    done = carry_out(ready, processes=args.processes)
    print(done.network)
    print(done.record)
