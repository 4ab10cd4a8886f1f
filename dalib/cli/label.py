"""`python -m dalib label`."""

import argparse
import warnings
from pathlib import Path

from dalib.cli.reading import add_reading, reading
from dalib.cli.train import add_changes, settings
from dalib.commands import Commands
from dalib.errors import ConfigError

SETTINGS = (".yaml", ".yml")


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("label", run)
    command.add_argument(
        "what",
        help="settings of a run (FILE.yaml), whose pool is labelled where `train` looks for the "
        "labels; or a source of images, such as photos:FOLDER or tars:GLOB",
    )
    command.add_argument("out", nargs="?", help="folder of the labels of a source")
    add_changes(command)
    command.add_argument(
        "--teacher", help="of a source: weights, as `dalib.models.load` reads them"
    )
    command.add_argument("--height", type=int, help="of the labels, in pixels")
    command.add_argument("--width", type=int, help="of the labels, in pixels")
    command.add_argument("--batch", type=int, default=32, help="images at a time (default: 32)")
    command.add_argument(
        "--engine",
        default="torch",
        choices=("torch", "openvino", "onnxruntime", "auto"),
        help="what runs the network on a CPU, of a source (default: torch)",
    )
    command.add_argument("--processes", type=int, default=1, help="of a run (default: 1)")
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Make pseudo labels alone: of a run's pool before it is trained, or of any photographs."""
    if Path(args.what).suffix in SETTINGS:
        _label_pool(args)
    else:
        _label_source(args)


def _label_pool(args: argparse.Namespace) -> None:
    """The labels that `train` with the same settings would make first."""
    given = [name for name in ("out", "teacher", "height", "width") if getattr(args, name)]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: the settings in {args.what} say this; leave it out here, or use "
            "--set"
        )
    from dalib import paths
    from dalib.training.launch import ensure_labels
    from dalib.training.plan import plan
    from dalib.writing import nothing_left

    config = settings(Path(args.what), args.set)
    if not config.stores_labels:
        raise ConfigError(
            f"{args.what}: this run stores no labels (pseudo_labels, labelling); train makes what "
            "it needs"
        )
    with nothing_left(paths.runs()):
        found = plan(config, processes=args.processes)
    print("\n".join(found.lines(labels_only=True)), flush=True)
    print(ensure_labels(found.config, processes=args.processes))


def _label_source(args: argparse.Namespace) -> None:
    """The labels of a source, for a loop of one's own."""
    missing = [name for name in ("out", "teacher", "height", "width") if not getattr(args, name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: missing; to label a source say label SOURCE OUT --teacher "
            "WEIGHTS --height H --width W"
        )
    if args.set:
        raise ConfigError("--set: changes settings of a file, and here is none; leave it out")
    from dalib.models import load
    from dalib.training.recipe import label

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the decoder is new")
        try:
            model = load(args.teacher, **reading(args))
        except UserWarning as warning:
            raise ConfigError(
                f"--teacher: {args.teacher} holds an encoder alone, which predicts nothing; give a "
                "whole network"
            ) from warning
    if model.kind != "disparity":
        raise ConfigError(
            f"--teacher: {args.teacher} predicts depth in metres, and labels are disparity; take a "
            "relative network, or have adapt or train label, which turn it into disparity"
        )
    pool = label(
        model,
        args.what if ":" in args.what else f"photos:{args.what}",
        out=args.out,
        height=args.height,
        width=args.width,
        batch=args.batch,
        engine=args.engine,
    )
    print(f"{len(pool)} images are labelled: {pool.labels.path}")
