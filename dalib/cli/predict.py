"""`python -m dalib predict`."""

import argparse

from dalib.cli.reading import add_reading, reading
from dalib.commands import Commands


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
        "--weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it"
    )
    command.add_argument(
        "--format", nargs="+", default=["png16"], choices=("png16", "npy", "colour")
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
    add_reading(command)


def run(args: argparse.Namespace) -> None:
    """Predict the disparity of an image, a folder of images or a video, and write it as files."""
    import math
    import warnings
    from pathlib import Path

    import torch

    from dalib import predict
    from dalib.errors import ConfigError, DataError
    from dalib.models import load
    from dalib.models.sizes import training_size
    from dalib.predict.outputs import palette

    warnings.filterwarnings("ignore", module="PIL")  # what is ignored of a file is told below
    # What can be known before a network is loaded.
    if args.weights is None:
        raise ConfigError(
            "--weights: name a file, a folder or a hub id, such as "
            "depth-anything/Depth-Anything-V2-Small-hf; the book's own student"
            ' is --weights "$(python -m dabook student)"'
        )
    for name in ("images", "out", "weights", "device"):
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
    predict.choose(args.engine, device=device, dtype=dtype, compile=args.compile)
    formats = tuple(dict.fromkeys(args.format))
    if "colour" in formats or args.colours != predict.COLOURS:
        palette(args.colours)
    images = Path(args.images)
    out = Path(args.out)
    if not images.exists():
        raise DataError(f"{images}: no such file or folder; correct the path")
    is_clip = not images.is_dir() and predict.is_video(images)
    found = None
    if is_clip:
        predict.check_video(images, out, formats=formats)
    else:
        photographs, found = (
            predict.photographs(images, out) if images.is_dir() else ({images.stem: images}, None)
        )
        predict.check_images(photographs, out, formats=formats)

    weights = Path(args.weights)
    model = load(weights if weights.exists() else args.weights, **reading(args))
    run = predict.Predictor(
        model=model,
        short_side=training_size(weights) if args.short_side is None else args.short_side,
        batch=args.batch,
        device=device,
        dtype=dtype,
        compile=args.compile,
        engine=args.engine,
    )
    options = {"run": run, "formats": formats, "colours": args.colours}
    if is_clip:
        print("\n".join(map(str, predict.write_video(images, out, **options))))
        return
    result = predict.write_images(photographs, out, **options)
    if found is not None:
        result.add(found)
    print(
        f"{len(result.written)} predicted, {len(result.kept)} kept from before, "
        f"{len(result.failed)} failed: {out}"
    )
    for line in (*result.notes.lines(), *result.passed_over.lines()):
        print(line)
    if failures := result.failures():
        raise DataError("\n".join(["some images could not be predicted:", *failures]))
    if not result.written and not result.kept:
        raise DataError(f"{images}: nothing was predicted")
