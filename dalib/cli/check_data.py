"""`python -m dalib check-data`."""

import argparse

from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("check-data", run)
    command.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="what a training is to read, as in its settings: depth:FOLDER, hub:NAME?..., "
        "photos:FOLDER, scenes:SPLIT",
    )
    command.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="sources that must share no image with those, such as test sets",
    )
    command.add_argument("--out", help="a folder for report.json and sheet.png")
    command.add_argument("--overwrite", action="store_true", help="replace those two files")
    command.add_argument(
        "--count", type=int, help="look at so many images of each source only, drawn at random"
    )
    command.add_argument(
        "--seed", type=int, default=0, help="of that draw and of the sheet's (default: 0)"
    )
    command.add_argument(
        "--accept",
        nargs="+",
        default=[],
        metavar="RULE",
        help="rules whose findings were looked at and are as they should be",
    )


def run(args: argparse.Namespace) -> None:
    """Look for what would spoil a training on some data: wrong units, near for far, maps that do not
    belong to their images, holes, doubles. Exit code 1 where it finds such."""
    import logging
    import warnings
    from pathlib import Path

    from dalib.data.doctor import examine
    from dalib.data.doctor.report import targets
    from dalib.errors import ConfigError, DataError
    from dalib.writing import nothing_left, refuse_existing

    warnings.filterwarnings("ignore", module="PIL")
    if args.seed < 0:
        raise ConfigError(f"--seed: {args.seed} is not at least 0")
    if args.out == "":
        raise ConfigError("--out is empty; name a folder, or leave it out")
    places = () if args.out is None else (Path(args.out),)
    with nothing_left(*places):
        if args.out is not None:
            refuse_existing(targets(Path(args.out)), overwrite=args.overwrite)
            try:
                Path(args.out).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or error
                raise ConfigError(
                    f"--out: {args.out} cannot be made ({reason}); name another"
                ) from None
        report = examine(
            *args.sources,
            against=args.against,
            count=args.count,
            seed=args.seed,
            accept=args.accept,
            tell=logging.getLogger(__name__).info,
        )
    print(report)
    if args.out is not None:
        print(*report.write(args.out, overwrite=args.overwrite), sep="\n")
    if report.spoils:
        found = ", ".join(sorted(report.rules("spoils")))
        raise DataError(
            f"this would spoil a training: {found}. Mend it, leave these images out, or, where it "
            f"is as it should be, say --accept {found.replace(',', '')}"
        )
