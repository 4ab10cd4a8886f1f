"""`python -m dalib evaluate`."""

import argparse

from dalib.cli.reading import add_reading, reading
from dalib.commands import Commands


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("evaluate", run)
    command.add_argument(
        "weights",
        nargs="?",
        help="a network: a file, a folder or a hub id, as `dalib.models.load` reads it",
    )
    command.add_argument(
        "--call",
        dest="function",  # "call" is the command itself
        metavar="MODULE:FUNCTION",
        help="instead: a function from an image, uint8 (H, W, 3), to its map (h, w)",
    )
    command.add_argument(
        "--predictions",
        metavar="FOLDER",
        help="instead: a folder of maps that any software made, .npy, 16-bit PNG, PFM, ..., called "
        "like the images",
    )
    command.add_argument(
        "--kind",
        choices=("disparity", "depth", "log_depth"),
        help="what a function gives or a folder holds (a network says it itself)",
    )
    command.add_argument(
        "--scale",
        type=float,
        help="of a folder's whole numbers: value = stored / SCALE, such as 1000 for millimetres",
    )
    command.add_argument(
        "--allow-missing",
        action="store_true",
        help="score the images that a folder has a prediction of, where it has none of others",
    )
    command.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DATA",
        help="folders with a manifest.csv, files of marked pairs (CSV, or DA-2K's JSON), or sources: "
        "hub:NAME?image=...&depth=..., depth:FOLDER, skimage:motorcycle, scenes:DOMAIN, or scenes "
        "for all drawn domains",
    )
    command.add_argument("--protocol", help="for all data (default: what each one declares)")
    command.add_argument(
        "--align",
        help="none, median, scale, disparity, depth, log_depth or robust (default: the protocol's; "
        "none for a network of metric depth)",
    )
    command.add_argument(
        "--per", default="image", choices=("image", "sequence"), help="what has one fit"
    )
    command.add_argument(
        "--also",
        nargs="+",
        default=[],
        choices=("boundary", "ordinal", "flicker"),
        help="boundary F1, the order of random pairs of pixels, flicker (with --per sequence)",
    )
    command.add_argument(
        "--bins",
        nargs="+",
        type=float,
        default=[],
        metavar="DEPTH",
        help="edges of bins of true depth, for the error apart for near and far",
    )
    command.add_argument("--count", type=int, help="only the first so many images of each data set")
    command.add_argument(
        "--out", required=True, help="the folder for result.json, images.csv and worst.jpg"
    )
    command.add_argument(
        "--against", metavar="RESULT", help="another result.json: paired differences to it"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a result in that folder")
    command.add_argument(
        "--short-side", type=int, help="of the network's input (default: what fits the network)"
    )
    command.add_argument(
        "--batch", type=int, default=4, help="images that a network sees at a time (default: 4)"
    )
    command.add_argument(
        "--device", help="cpu, cuda, mps (default: the accelerator where there is one)"
    )
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Score a network, a function or a folder of predictions on data with ground truth, beside
    floors and with intervals."""
    from pathlib import Path

    from dalib.commands import written_at_the_end

    with written_at_the_end():  # what takes seconds to import, too
        from dalib.evaluation.results import write

        result, worst, comparison, unlike = _evaluated(args)
    files = write(result, Path(args.out), sheet=worst)  # first: who reads what is printed may leave
    print(result)
    if comparison is not None:
        print(f"\n{comparison}")
    print(*files, sep="\n")
    if unlike is not None:
        raise unlike


def _evaluated(args: argparse.Namespace) -> tuple:
    """All that stands before the files: the result, its sheet, and what it is beside another one, or
    why that cannot be said."""
    import logging
    import warnings
    from pathlib import Path

    from dalib.errors import ConfigError
    from dalib.evaluation.evaluator import How, evaluate_sets
    from dalib.evaluation.results import Result, made, refuse_other
    from dalib.evaluation.sets import open_sets
    from dalib.evaluation.sheet import Worst

    warnings.filterwarnings("ignore", module="PIL")
    # What can be known before anything is loaded.
    _check(args)
    settings = _settings(args)
    how = How(alignment=args.align, per=args.per, also=tuple(args.also), bins=tuple(args.bins))
    refuse_other(Path(args.out), settings, overwrite=args.overwrite)
    other = None if args.against is None else Result.load(args.against)
    sets, notes = open_sets(args.data, protocol=args.protocol, count=args.count)
    for note in notes:
        print(note, flush=True)
    subject = _subject(args)

    worst = Worst()
    tell = logging.getLogger(__name__).info
    rules = None if other is None else {name: each.rules for name, each in other.sets.items()}
    found, maps = evaluate_sets(subject, sets, how=how, worst=worst, against=rules, report=tell)
    result = Result(
        subject=subject.about(), maps=maps, sets=found, made=made(settings, device=subject.device)
    )
    if other is None:
        return result, worst, None, None
    try:
        comparison = result.compared(other)
    except ConfigError as error:  # of the truth or the images; the result itself is good
        return result, worst, None, error
    return result.beside(comparison), worst, comparison, None


def _settings(args: argparse.Namespace) -> dict:
    """What was asked for, as results keep it: every option that can change a number."""
    left_out = ("call", "out", "against", "overwrite")
    kept = {name: value for name, value in vars(args).items() if name not in left_out}
    return {name: value for name, value in kept.items() if value not in (None, [], False)}


NETWORK = {
    "short_side": "--short-side",
    "device": "--device",
    "layers": "--layers",
    "max_depth": "--max-depth",
    "relative": "--relative",
    "entry": "--entry",
    "position": "--position",
}
FOLDER = {"scale": "--scale", "allow_missing": "--allow-missing"}


def _check(args: argparse.Namespace) -> None:
    """A `ConfigError` for options that do not go together, before anything is looked at."""
    from dalib.errors import ConfigError

    ways = {"WEIGHTS": args.weights, "--call": args.function, "--predictions": args.predictions}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        what = "nothing" if not given else " and ".join(given)
        raise ConfigError(f"{what} to evaluate; give one of {', '.join(ways)}")
    if ways[given[0]] == "":
        raise ConfigError(f"{given[0]} is empty; say what is to be evaluated")
    for options, way, what in (
        (NETWORK, "WEIGHTS", "a network"),
        (FOLDER, "--predictions", "a folder of predictions"),
    ):
        said = [option for name, option in options.items() if getattr(args, name)]
        if said and given[0] != way:
            raise ConfigError(f"{', '.join(said)}: is for {what} alone; leave it out")
    if args.kind is None and given[0] != "WEIGHTS":
        raise ConfigError(
            "--kind: say what the maps are: disparity (larger is nearer), depth, or log_depth"
        )
    if not args.data:
        raise ConfigError("--data: say what to score on, such as a folder with a manifest.csv")
    for name in ("out", "against", "protocol", "device"):
        if getattr(args, name) == "":
            raise ConfigError(f"--{name} is empty; say what it should be")


def _subject(args: argparse.Namespace):
    """What is evaluated."""
    from dalib.evaluation.predictions import MapFolder
    from dalib.evaluation.subjects import Predictions, function_of

    if args.function is not None:
        return function_of(args.function, kind=args.kind)
    if args.predictions is not None:
        folder = MapFolder(args.predictions, kind=args.kind, scale=args.scale)
        return Predictions(folder, allow_missing=args.allow_missing)
    return _network(args)


def _network(args: argparse.Namespace):
    import warnings
    from pathlib import Path

    from dalib.errors import ConfigError
    from dalib.evaluation.subjects import Network
    from dalib.models import load
    from dalib.models.sizes import training_size
    from dalib.predict import check_numbers, usable_device

    check_numbers(short_side=args.short_side, batch=args.batch)
    device = usable_device(args.device)
    path = Path(args.weights)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the decoder is new")
        try:
            model = load(path if path.exists() else args.weights, **reading(args))
        except UserWarning as warning:
            raise ConfigError(
                f"{args.weights}: holds an encoder alone, which predicts nothing; give a whole "
                "network"
            ) from warning
    side = training_size(path) if args.short_side is None else args.short_side
    network = Network(model, name=args.weights, short_side=side, device=device, batch=args.batch)
    if args.kind not in (None, network.kind):
        raise ConfigError(
            f"--kind {args.kind}: {args.weights} predicts {network.kind}, as it says itself; leave "
            "the option out"
        )
    return network
