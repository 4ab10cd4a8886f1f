"""`python -m dalib predict`."""

import argparse
from typing import TYPE_CHECKING

from dalib.cli.reading import add_reading, reading
from dalib.commands import Commands

if TYPE_CHECKING:
    from pathlib import Path

    from dalib.predict import Calibration, Known, Solid

MOST_FITS = 10
"""Scales and shifts that are printed."""


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("predict", run)
    command.add_argument(
        "images", help="an image, a folder (searched with its sub-folders) or a video"
    )
    command.add_argument(
        "out",
        help="the folder for the results; a map that is there already and still its "
        "image's is kept",
    )
    command.add_argument(
        "--weights",
        help="a file, a folder or a hub id, as `dalib.models.load` reads it (default: the student that "
        "comes with the library)",
    )
    command.add_argument(
        "--format",
        nargs="+",
        default=["png16"],
        choices=("png16", "npy", "colour", "sigma", "confidence", "ply", "glb"),
        help="what is written of each image: its map as 16-bit PNG, as float32 or in colours; with "
        "known distances its standard deviation; its confidence; a cloud of points "
        "(default: png16)",
    )
    command.add_argument(
        "--short-side", type=int, help="of the network's input (default: what fits the network)"
    )
    command.add_argument(
        "--batch", type=int, default=4, help="images of one size at a time (default: 4)"
    )
    command.add_argument(
        "--device", help="cpu, cuda, mps (default: the accelerator where there is one)"
    )
    command.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"))
    command.add_argument(
        "--compile", action="store_true", help="torch.compile: worth it for many images of one size"
    )
    command.add_argument(
        "--engine",
        default="torch",
        choices=("torch", "openvino", "onnxruntime", "auto"),
        help="what runs the network on a CPU; auto: the fastest one installed, by the timings "
        "recorded on a processor of this kind (default: torch)",
    )
    command.add_argument(
        "--colours", default="Spectral_r", help="a Matplotlib colour map (default: Spectral_r)"
    )
    _add_metres(command)
    _add_clouds(command)
    command.add_argument(
        "--confidence",
        metavar="CALIBRATION",
        help="write the confidence, too: the file that `calibrate` made for this network, or raw "
        "for the network's disagreement with itself; costs seven times the time",
    )
    add_reading(command)


def _add_metres(command: argparse.ArgumentParser) -> None:
    """What turns relative disparity into metres."""
    group = command.add_argument_group(
        "metres", "from relative disparity to metres, without training"
    )
    group.add_argument(
        "--known",
        nargs="+",
        metavar="X,Y,METRES",
        help="known distances: column and row in pixels of the upright image, from 0 at the top "
        "left, and the distance along the camera's axis; or a CSV of image,x,y,metres(,sigma)",
    )
    group.add_argument(
        "--sparse",
        metavar="PLACE",
        help="a sparse map of depth as LiDAR gives it, of the photograph's size (16-bit PNG, npy, "
        "pfm; 0 is a hole), or a folder of maps with the photographs' names",
    )
    group.add_argument(
        "--sparse-scale",
        type=float,
        help="of these maps: metres = stored / scale (1000: millimetres; 256: KITTI's)",
    )
    group.add_argument(
        "--sigma", type=float, help="one standard deviation of a known distance, in metres"
    )
    group.add_argument(
        "--relative-sigma", type=float, help="the same as a share of the distance, such as 0.02"
    )
    group.add_argument(
        "--shift",
        type=float,
        help="the shift of the disparity in 1/m, where it is known; one known distance is enough then",
    )
    group.add_argument(
        "--robust", action="store_true", help="leave out known distances that lie off the others"
    )


def _add_clouds(command: argparse.ArgumentParser) -> None:
    """What makes clouds of points."""
    group = command.add_argument_group("clouds of points", "for the formats ply and glb")
    group.add_argument(
        "--fov", type=float, help="the camera's field of view, degrees across the longer side"
    )
    group.add_argument("--focal", type=float, help="or its focal length, pixels of the image")
    group.add_argument("--intrinsics", metavar="FX,FY,CX,CY", help="or all of it, in pixels")
    group.add_argument(
        "--guess",
        type=float,
        metavar="RATIO",
        help="where no distance is known: the farthest is so many times as far as the nearest",
    )
    group.add_argument(
        "--drop-edges",
        type=float,
        metavar="SHARE",
        help="leave out points whose neighbours are farther or nearer by more than this, such as 0.1",
    )
    group.add_argument("--farthest", type=float, help="leave out points beyond this distance")


def run(args: argparse.Namespace) -> None:
    """Predict the disparity of an image, a folder of images or a video, and write it as files."""
    import math
    import warnings
    from pathlib import Path

    import torch

    from dalib import predict
    from dalib.errors import ConfigError, DataError
    from dalib.models import load
    from dalib.models.checkpoints import shipped
    from dalib.models.sizes import training_size
    from dalib.predict.outputs import palette

    warnings.filterwarnings("ignore", module="PIL")  # what is ignored of a file is told below
    # What can be known before a network is loaded.
    weights = shipped() if args.weights is None else Path(args.weights)
    for name in ("images", "out", "weights", "device", "confidence", "sparse", "intrinsics"):
        if getattr(args, name) == "":
            option = name.upper() if name in ("images", "out") else f"--{name}"
            raise ConfigError(
                f"{option} is empty; say what it should be"
                + (" or leave it out" if "--" in option else "")
            )
    if args.max_depth is not None and not (math.isfinite(args.max_depth) and args.max_depth > 0):
        raise ConfigError(f"--max-depth {args.max_depth}: must be a positive number of metres")
    predict.check_numbers(short_side=args.short_side, batch=args.batch)
    device = predict.usable_device(args.device, engine=args.engine)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype]
    chosen = predict.choose(args.engine, device=device, dtype=dtype, compile=args.compile)
    formats = tuple(dict.fromkeys(args.format))
    if "colour" in formats or args.colours != predict.COLOURS:
        palette(args.colours)
    images = Path(args.images)
    out = Path(args.out)
    if not images.exists():
        raise DataError(f"{images}: no such file or folder; correct the path")
    is_clip = not images.is_dir() and predict.is_video(images)
    solid = _solid(args)
    side = training_size(weights) if args.short_side is None else args.short_side
    calibration = _calibration(args.confidence, side)
    if calibration is not None and "confidence" not in formats:
        formats = (*formats, "confidence")
    found = None
    if is_clip:
        _refuse_of_clips(args, solid, calibration)
        predict.check_video(images, out, formats=formats)
    else:
        photographs, found = (
            predict.photographs(images, out) if images.is_dir() else ({images.stem: images}, None)
        )
        known = _known(args, photographs, images if images.is_dir() else None)
        predict.check_wanted(formats, known=known, solid=solid, calibration=calibration)
        options = {"known": known, "solid": solid, "calibration": calibration}
        # auto may turn out to be another one
        engine = None if args.engine == "auto" else chosen.name
        how = options | {"dtype": dtype, "engine": engine, "colours": args.colours}
        predict.check_images(photographs, out, formats=formats, short_side=side, **how)
        if known is not None:
            known.check(photographs)
            known.look(photographs, with_sigma="sigma" in formats)

    model = load(weights if weights.exists() else args.weights, **reading(args))
    run = predict.Predictor(
        model=model,
        short_side=side,
        batch=args.batch,
        device=device,
        dtype=dtype,
        compile=args.compile,
        engine=args.engine,
    )
    wanted = {"run": run, "formats": formats, "colours": args.colours}
    if is_clip:
        print("\n".join(map(str, predict.write_video(images, out, **wanted))))
        return
    result = predict.write_images(photographs, out, **wanted, **options)
    if found is not None:
        result.add(found)
    print(
        f"{len(result.written)} predicted, {len(result.kept)} kept from before, "
        f"{len(result.failed)} failed: {out}"
    )
    for name, fit in sorted(result.fits.items())[:MOST_FITS]:
        print(f"{name}: {fit}")
    if len(result.fits) > MOST_FITS:
        print(f"and {len(result.fits) - MOST_FITS} more; each PNG says its own")
    for line in (*result.notes.lines(), *result.passed_over.lines()):
        print(line)
    if failures := result.failures():
        raise DataError("\n".join(["some images could not be predicted:", *failures]))
    if not result.written and not result.kept:
        raise DataError(f"{images}: nothing was predicted")


def _known(args: argparse.Namespace, photographs: dict, folder: "Path | None") -> "Known | None":
    """The known distances that the options tell, or None."""
    from pathlib import Path

    from dalib import predict
    from dalib.errors import ConfigError

    options = {
        "sigma_m": args.sigma,
        "sigma_relative": args.relative_sigma,
        "shift": args.shift,
    }
    if args.known is None and args.sparse is None:
        if (
            args.robust
            or args.sparse_scale is not None
            or any(v is not None for v in options.values())
        ):
            raise ConfigError(
                "--sigma, --relative-sigma, --shift, --robust and --sparse-scale say how known "
                "distances are used; give some with --known or --sparse, or leave them out"
            )
        return None
    if args.known is not None and args.sparse is not None:
        raise ConfigError("--known and --sparse: give one of them")
    options["robust"] = args.robust
    if args.sparse is not None:
        found = predict.find_sparse(Path(args.sparse), photographs)
        if not found:
            raise ConfigError(f"--sparse {args.sparse}: has no map of any of these photographs")
        return predict.Known(sparse=found, sparse_scale=args.sparse_scale, **options)
    if args.sparse_scale is not None:
        raise ConfigError("--sparse-scale: is for --sparse; --known is in metres")
    if len(args.known) == 1 and args.known[0].lower().endswith(".csv"):
        points, sigmas = predict.read_points(Path(args.known[0]), photographs, folder=folder)
        return predict.Known(points=points, sigmas=sigmas, **options)
    if folder is not None:
        raise ConfigError(
            "--known: for a folder name one CSV with the columns image,x,y,metres; each image has "
            "its own scale and shift"
        )
    points = predict.parse_points(args.known)
    return predict.Known(points=dict.fromkeys(photographs, points), **options)


def _solid(args: argparse.Namespace) -> "Solid | None":
    """How clouds are made, or None where no option asks for them."""
    from dalib import predict
    from dalib.errors import ConfigError
    from dalib.geometry import Lens, parse_intrinsics

    lens = {"fov": args.fov, "focal": args.focal}
    lens["intrinsics"] = None if args.intrinsics is None else parse_intrinsics(args.intrinsics)
    rest = {"guess": args.guess, "edges": args.drop_edges, "farthest": args.farthest}
    if all(value is None for value in (*lens.values(), *rest.values())):
        return None
    if not set(args.format) & set(predict.CLOUDS):
        raise ConfigError(
            "--fov, --focal, --intrinsics, --guess, --drop-edges and --farthest are for clouds of "
            "points: add --format ply or glb, or leave them out"
        )
    return predict.Solid(lens=Lens(**lens), **rest)


def _calibration(word: str | None, side: int | None) -> "Calibration | str | None":
    """What `--confidence` names, which must be of this short side where it is known."""
    from pathlib import Path

    from dalib import predict

    if word is None or word == predict.RAW:
        return word
    found = predict.Calibration.read(Path(word))
    if side is not None:
        found.check_side(side)
    return found


def _refuse_of_clips(args: argparse.Namespace, solid: object, calibration: object) -> None:
    """A `ConfigError` for what a video does not have."""
    from dalib.errors import ConfigError

    given = ("known", "sparse", "sparse_scale", "sigma", "relative_sigma", "shift")
    if args.robust or any(getattr(args, name) is not None for name in given):
        raise ConfigError(
            "--known, --sparse and what goes with them: are for photographs; each frame of a video "
            "has its own scale and shift"
        )
    if solid is not None or calibration is not None:
        raise ConfigError("clouds and confidence: are for photographs, not for a video")
