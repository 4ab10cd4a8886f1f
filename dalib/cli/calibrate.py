"""`python -m dalib calibrate`."""

import argparse
from typing import TYPE_CHECKING

from dalib.cli.reading import add_reading, reading
from dalib.commands import Commands

if TYPE_CHECKING:
    from dalib.data.schema import Source
    from dalib.evaluation.protocols import Protocol


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("calibrate", run)
    command.add_argument(
        "data",
        metavar="SOURCE",
        help="images of known depth that are not those of a test: depth:FOLDER, hub:NAME?..., "
        "scenes:validation",
    )
    command.add_argument("out", help="the file to write (JSON)")
    command.add_argument(
        "--weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it"
    )
    command.add_argument(
        "--protocol",
        default="relative",
        help="which pixels count (default: relative; scenes for the drawn ones)",
    )
    command.add_argument(
        "--count", type=int, default=200, help="images to take, the first ones (default: 200)"
    )
    command.add_argument("--short-side", type=int, help="of the network's input, as in predict")
    command.add_argument("--seed", type=int, default=0, help="of the pixels taken (default: 0)")
    command.add_argument("--device", help="cpu, cuda, mps (default: the accelerator, if any)")
    command.add_argument("--overwrite", action="store_true", help="replace the file")
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Learn on images of known depth what a network's disagreement with itself means, for
    `predict --confidence`."""
    from pathlib import Path

    from dalib import predict
    from dalib.commands import written_at_the_end
    from dalib.config import check_names
    from dalib.data.catalogue import open_source, parse
    from dalib.data.scenes import TEST_DOMAINS
    from dalib.errors import ConfigError
    from dalib.evaluation.protocols import PROTOCOLS
    from dalib.evaluation.scores import Scorable
    from dalib.models import load
    from dalib.models.sizes import default_short_side, training_size
    from dalib.predict.confidence import LEAST_IMAGES
    from dalib.writing import check_place, refuse_existing

    # what can be known before anything is loaded
    if not args.weights:
        raise ConfigError("--weights: name a file, a folder or a hub id")
    if not args.out:
        raise ConfigError("OUT is empty; name a file for the calibration")
    check_names([args.protocol], PROTOCOLS, what="protocol")
    if args.count < LEAST_IMAGES:
        raise ConfigError(f"--count {args.count}: must be at least {LEAST_IMAGES}")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: must be at least 0")
    kind, place, _ = parse(args.data)
    if kind == "scenes" and place in TEST_DOMAINS:
        raise ConfigError(
            f"{args.data}: is a test split, and a calibration that has seen it would flatter "
            "itself; take scenes:validation"
        )
    predict.check_numbers(short_side=args.short_side)
    refuse_existing([Path(args.out)], overwrite=args.overwrite)
    device = predict.usable_device(args.device)

    check_place(Path(args.out))
    protocol = PROTOCOLS[args.protocol]
    source = None if kind == "scenes" else _looked_at(args.data, protocol)

    weights = Path(args.weights)
    model = load(weights if weights.exists() else args.weights, **reading(args))
    predict.check_relative(model)
    side = args.short_side or training_size(weights) or default_short_side(model)
    network = predict.Predictor(model=model, short_side=side, batch=1, device=device)
    if source is None:
        source = open_source(args.data, count=args.count, height=side, width=side * 4 // 3)
    images = Scorable(source, protocol)
    with written_at_the_end():
        seen = predict.observe(
            network,
            (images[k] for k in range(min(args.count, len(images)))),
            protocol,
            seed=args.seed,
        )
    about = {"data": args.data, "protocol": args.protocol, "seed": args.seed}
    found = predict.Calibration.fit(seen, run=network, about=about)
    found.save(Path(args.out))
    print(
        f"{len(seen.names)} images: confidence {found.confidence[-1]:.2f} to "
        f"{found.confidence[0]:.2f}, relative error {found.error[0]:.2f} to {found.error[-1]:.2f}; "
        f"common error {found.common:g} of the range"
    )
    print(f"written: {args.out}")


def _looked_at(name: str, protocol: "Protocol") -> "Source":
    """A source that can be calibrated on, as far as its first image shows: what can be known before
    a network is loaded."""
    from dalib.data.catalogue import open_source
    from dalib.data.sources import DepthManifest
    from dalib.errors import DataError
    from dalib.evaluation.scores import Scorable
    from dalib.predict.confidence import LEAST_IMAGES

    source = open_source(name, count=1, height=1, width=1)
    if isinstance(source, DepthManifest):
        source.check_files()
    if len(source) < LEAST_IMAGES:
        raise DataError(
            f"{name}: {len(source)} images are too few to calibrate by; give at least "
            f"{LEAST_IMAGES}"
        )
    Scorable(source, protocol)[0]
    return source
