"""`python -m dalib export`."""

import argparse

from dalib.cli.reading import add_reading, reading
from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("export", run)
    command.add_argument(
        "weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it"
    )
    command.add_argument("out", help="the folder (transformers) or file (official, onnx) to write")
    command.add_argument("--to", choices=("transformers", "official", "onnx"), required=True)
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of these names, but never the weights that are exported",
    )
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Write a network for other software: a transformers folder, an official .pth file, or ONNX."""
    from pathlib import Path

    from dalib.errors import ConfigError
    from dalib.models import export, load
    from dalib.training.descent import about_run
    from dalib.writing import check_place, refuse_existing

    if not args.out:
        raise ConfigError(
            "out: an empty name; give the folder (transformers) or the file "
            "(official, onnx) to write"
        )
    out = Path(args.out)
    files = [out / "config.json", out / "model.safetensors"] if args.to == "transformers" else [out]
    check_place(files[0])
    refuse_existing(files, sources=[Path(args.weights)], overwrite=args.overwrite)
    model = load(args.weights, **reading(args))
    model.about = model.about or about_run(Path(args.weights))
    write = {
        "transformers": export.export_transformers,
        "official": export.export_official,
        "onnx": export.export_onnx,
    }
    write[args.to](model, out, overwrite=args.overwrite)
    print(args.out)
