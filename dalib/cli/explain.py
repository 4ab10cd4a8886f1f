"""`python -m dalib explain`."""

import argparse
from collections.abc import Sequence

from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("explain", run)
    command.add_argument(
        "predictions",
        metavar="FOLDER",
        help="the network's maps as any software made them, .npy, 16-bit PNG, PFM, ..., called like "
        "the images; best as the network gives them, before anything is resized",
    )
    command.add_argument(
        "--kind",
        required=True,
        choices=("disparity", "depth", "log_depth"),
        help="what the folder holds",
    )
    command.add_argument(
        "--scale",
        type=float,
        help="of whole numbers: value = stored / SCALE, such as 1000 for millimetres",
    )
    command.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="the truth: a folder with a manifest.csv, or another source, as evaluate reads it",
    )
    for name, whose in (("mine", "your number"), ("theirs", "the other number")):
        command.add_argument(
            f"--{name}",
            nargs="+",
            required=True,
            metavar="NUMBER",
            help=f"{whose} as printed, AbsRel unless its metric is named: 0.0510, or abs_rel=0.0510 "
            "delta1=0.971",
        )
    command.add_argument(
        "--protocol", help="how you believe that yours was made (default: what the data declares)"
    )
    command.add_argument("--align", help="alignment in place of the protocol's")
    command.add_argument("--mirrored", metavar="FOLDER", help="maps of the mirrored images")
    command.add_argument(
        "--most", type=int, default=2, help="conventions at once, 1 to 3 (default: 2)"
    )
    command.add_argument("--count", type=int, help="only the first so many images")


def run(args: argparse.Namespace) -> None:
    """Find the conventions that explain why two numbers of one network differ: its predictions are
    scored by every convention of the field, alone and in pairs."""
    from dalib.commands import written_at_the_end

    with written_at_the_end():
        found = _explained(args)
    print(found)


def _explained(args: argparse.Namespace):
    import logging

    from dalib.errors import ConfigError
    from dalib.evaluation.conventions import check_numbers, explain
    from dalib.evaluation.protocols import Protocol
    from dalib.evaluation.sets import ALL_SCENES, open_sets

    mine, theirs = (_numbers(words) for words in (args.mine, args.theirs))
    check_numbers(mine, theirs)
    if args.data == ALL_SCENES:
        raise ConfigError(
            "--data: scenes are several data sets; a number is of one, so name one, such as "
            "scenes:validation"
        )
    sets, notes = open_sets([args.data], protocol=args.protocol, count=args.count)
    for note in notes:
        print(note, flush=True)
    if len(sets) > 1 or not isinstance(sets[0].protocol, Protocol):
        names = ", ".join(each.name for each in sets)
        raise ConfigError(f"--data: {names}; a number is of one data set with depth, so name one")
    [data] = sets
    return explain(
        _maps(args, args.predictions, data),
        data.source,
        mine=mine,
        theirs=theirs,
        protocol=data.protocol,
        kind=args.kind,
        alignment=args.align,
        mirrored=None if args.mirrored is None else _maps(args, args.mirrored, data, turn=True),
        groups=_groups(data.sequences),
        most=args.most,
        report=logging.getLogger(__name__).info,
    )


def _numbers(words: list[str]) -> dict[str, str]:
    """Metric -> number as printed; a `ConfigError` where one metric has two."""
    from dalib.errors import ConfigError

    found: dict[str, str] = {}
    for word in words:
        metric, named, number = word.rpartition("=")
        if named and not (metric and number):
            raise ConfigError(f"{word}: write METRIC=NUMBER, such as abs_rel=0.0510")
        metric = metric if named else "abs_rel"
        if metric in found:
            raise ConfigError(f"{' '.join(words)}: two numbers of {metric}; give each metric once")
        found[metric] = number
    return found


def _groups(sequences: tuple[str, ...]) -> list[str] | None:
    """The sequences of the images, where any belong together."""
    if not any(sequences):
        return None
    return [name or f"image {place}" for place, name in enumerate(sequences)]


class _Read(Sequence):
    """The maps of a folder in the order of the images, each read when it is asked for."""

    def __init__(self, folder, data, *, turn: bool):
        self.folder = folder
        self.data = data
        self.turn = turn

    def __len__(self) -> int:
        return len(self.data.keys)

    def __getitem__(self, place: int):
        [found] = self.folder.maps([], [self.data.keys[place]])
        return found.flip(-1) if self.turn else found


def _maps(args: argparse.Namespace, folder: str, data, *, turn: bool = False) -> _Read:
    """The maps of a folder, one for each image; mirrored ones are turned back."""
    from dalib.evaluation.predictions import MapFolder
    from dalib.evaluation.subjects import Predictions

    found = Predictions(MapFolder(folder, kind=args.kind, scale=args.scale))
    found.chosen(data)  # refuses images without a prediction
    return _Read(found, data, turn=turn)
