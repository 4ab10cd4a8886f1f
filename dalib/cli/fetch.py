"""`python -m dalib fetch`."""

import argparse

from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("fetch", run)
    command.add_argument("pool", nargs="?", help="which pool: photos or rgbd; see --list")
    command.add_argument(
        "folder",
        nargs="?",
        help="a new folder, or one in which it was begun; by default the folder pools/POOL of the "
        "runs, where the source pool:POOL is looked for",
    )
    command.add_argument("--list", action="store_true", help="show the pools and their licences")
    command.add_argument(
        "--from",
        dest="clones",
        metavar="CLONES",
        help="read a folder of git clones (owner+name or owner/name, bare or not), no network",
    )
    command.add_argument(
        "--url",
        metavar="TEMPLATE",
        help="where an original lies, with {repo}, {commit} and {path}; by default its public "
        "address",
    )
    command.add_argument("--limit", type=int, help="only the first so many images")
    command.add_argument("--retry", action="store_true", help="try once more what could not be had")


def run(args: argparse.Namespace) -> None:
    """Build a public pool of photographs, or of images with depth, out of public repositories."""
    from pathlib import Path

    from dalib import paths
    from dalib.data.pools.build import fetch
    from dalib.data.pools.facts import NOTICE, licences, read_pool
    from dalib.data.pools.originals import TEMPLATE, Clones, Web
    from dalib.errors import ConfigError, DataError

    if args.list:
        _show()
        return
    if not args.pool:
        raise ConfigError("fetch: name a pool, or see --list for what there is")
    if args.clones is not None and args.url is not None:
        raise ConfigError("--from and --url: give one of them")
    pool = read_pool(args.pool)
    folder = paths.fetched_pool(pool.name) if args.folder is None else Path(args.folder)
    if args.clones is not None:
        place = Clones(folder=Path(args.clones))
    else:
        place = Web(template=TEMPLATE if args.url is None else args.url)

    rows = pool.rows[: args.limit]
    used = {row.origin.source: row.origin for row in rows}
    for line in licences(used.values()):
        print(line)
    print(NOTICE, flush=True)
    with _following(len(rows)) as (report, step):
        summary = fetch(
            pool,
            folder,
            place,
            limit=args.limit,
            retry=args.retry,
            report=report,
            step=step,
        )
    print("\n".join(summary.lines(folder)))
    named = "" if args.folder is None else f", with DALIB_{pool.name.upper()}={folder}"
    print(f"trainings read it as the source pool:{pool.name}{named}")
    if not summary.here:
        raise DataError(f"{folder}: no original could be had; see missing.csv for why")


def _show() -> None:
    """What there is: each pool, and each repository in a line with its licence."""
    from dalib.data.pools.facts import NOTICE, SIZES, WHAT, licences, read_pool

    for name, what in WHAT.items():
        pool = read_pool(name)
        stored, read = SIZES[name]
        print(f"{name}: {len(pool.rows)} {what}")
        print(f"  {stored} MB stored, about {read} MB read; fingerprint {pool.whole}")
        for line in licences(pool.origins):
            print(f"  {line}")
    print(NOTICE)


def _following(total: int):
    """A bar where somebody watches, lines elsewhere: (receives lines, hears of rows done)."""
    import sys
    from contextlib import contextmanager

    from tqdm.auto import tqdm

    @contextmanager
    def shown():
        if not sys.stderr.isatty():
            yield (lambda line: print(line, flush=True)), (lambda _: None)
            return
        with tqdm(total=total, unit="image") as bar:
            yield bar.write, bar.update

    return shown()
