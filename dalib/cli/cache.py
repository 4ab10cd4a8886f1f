"""`python -m dalib cache`."""

import argparse

from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("cache", run)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--remove", nargs="+", metavar="NAME", help="remove these from the disk")
    which.add_argument(
        "--remove-old", action="store_true", help="remove what no code of today reads"
    )


def run(args: argparse.Namespace) -> None:
    """List the drawn scenes and resized images that are kept on disk, and remove some if asked to."""
    import time

    from dalib import paths
    from dalib.data import caches

    everything = caches.kept()
    if args.remove or args.remove_old:
        old = [each for each in everything if each.old]
        chosen = caches.named(args.remove) if args.remove else old
        freed = caches.remove(chosen)
        print(f"removed {len(chosen)}, {freed / 1e6:.0f} MB; each is made again when a run asks")
        return
    for each in everything:
        day = time.strftime("%Y-%m-%d", time.localtime(each.made))
        print(
            f"{each.size / 1e6:8.1f} MB  {day}  {each.name}" + (f"  ({each.old})" * bool(each.old))
        )
    size = sum(each.size for each in everything)
    old = sum(each.size for each in everything if each.old)
    print(
        f"{size / 1e6:8.1f} MB in {paths.cache()}, of which {old / 1e6:.1f} MB are of no use today"
    )
