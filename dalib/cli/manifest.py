"""`python -m dalib manifest`."""

import argparse

from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("manifest", run)
    command.add_argument("name", nargs="?", help="the data set, as --list names it")
    command.add_argument("folder", nargs="?", help="where it lies, as its authors publish it")
    command.add_argument("--out", help="the manifest to write (default: FOLDER/manifest.csv)")
    command.add_argument("--split", help="only this part, such as train or test")
    command.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="FILE",
        help="with a file: only the images that it lists; alone: print which data sets are known",
    )
    command.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="read every pair and leave out those that cannot be used (default: only for data sets "
        "that are known to hold such)",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace a manifest that is there"
    )


def run(args: argparse.Namespace) -> None:
    """List the images and depth maps of a published data set in the manifest that depth: reads."""
    from pathlib import Path

    from dalib.data.layouts import LAYOUTS
    from dalib.data.published import write_manifest
    from dalib.errors import ConfigError

    if args.list == "":
        if args.name is not None:
            raise ConfigError("--list: name the file that lists the images, or leave NAME out")
        _print_table()
        return
    if not args.name or not args.folder:
        raise ConfigError(
            "name a data set and its folder, such as: python -m dalib manifest hypersim /data/hs; "
            "python -m dalib manifest --list shows which there are"
        )
    if args.out == "" or args.split == "":
        raise ConfigError("--out and --split: an empty word; say what it should be or leave it out")
    written = write_manifest(
        args.name,
        Path(args.folder),
        out=None if args.out is None else Path(args.out),
        split=args.split,
        listed=None if args.list is None else Path(args.list),
        check=args.check,
        overwrite=args.overwrite,
    )

    # what there is now, what is not in it, and what one should know of it
    layout = LAYOUTS[args.name]
    print(f"{written.count} pairs: {written.manifest}")
    for line in written.apart.lines():
        print(line)
    if not (layout.check if args.check is None else args.check):
        print("read and as published: three of them at most; --check reads each")
    if layout.lists and args.list is None:
        print(f"every pair is in it; the published list is {layout.lists}: give it with --list")
    if layout.unstated:
        print(f"not found in its documentation: {layout.unstated}")
    print(f"licence: {layout.licence} ({layout.url})")
    is_default = written.manifest.name == "manifest.csv"
    place = written.manifest.parent if is_default else written.manifest
    print(f"as a source: depth:{place}; its images alone: photos:{written.manifest}")


def _print_table() -> None:
    from dalib.data.layouts import LAYOUTS

    for name, layout in LAYOUTS.items():
        print(f"{name}: {layout.title} ({layout.role})")
        for head, words in (
            ("in the folder", layout.expects),
            ("stored", layout.unit),
            ("sky", layout.sky_words),
            ("splits", ", ".join(layout.split.values) if layout.split else ""),
            ("list", layout.lists),
            ("not found", layout.unstated),
            ("licence", layout.licence),
            ("source", f"{layout.url}. {layout.source}"),
        ):
            if words:
                print(f"    {head}: {words}")
