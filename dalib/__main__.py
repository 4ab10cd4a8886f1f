"""The command line of the library: `python -m dalib predict photos maps --weights W`. Each command
is a thin call into it."""

import argparse
import sys

from dalib.commands import Commands

BOOK = ("run", "row", "rows", "book", "readme", "robustness", "floors", "certify", "student")


def _predict(args: argparse.Namespace) -> None:
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
    model = load(weights if weights.exists() else args.weights, **_reading(args))
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


def _export(args: argparse.Namespace) -> None:
    """Write a network for other software: a transformers folder, an official .pth file, or ONNX."""
    from pathlib import Path

    from dalib.errors import ConfigError
    from dalib.models import export, load

    if not args.out:
        raise ConfigError(
            "out: an empty name; give the folder (transformers) or the file "
            "(official, onnx) to write"
        )
    model = load(args.weights, **_reading(args))
    write = {
        "transformers": export.export_transformers,
        "official": export.export_official,
        "onnx": export.export_onnx,
    }
    write[args.to](model, Path(args.out), overwrite=args.overwrite)
    print(args.out)


def _reading(args: argparse.Namespace) -> dict:
    """How `dalib.models.load` is to read the weights."""
    return {
        name: getattr(args, name)
        for name in ("layers", "max_depth", "relative", "position", "entry")
    }


def commands() -> Commands:
    """The whole command line."""
    top = Commands(
        prog="python -m dalib",
        description="Predict with a network, and write it for other software.",
        elsewhere={name: f"the book: python -m dabook {name}" for name in BOOK},
    )
    predict = top.add("predict", _predict)
    predict.add_argument(
        "images", help="an image, a folder (searched with its sub-folders) or a video"
    )
    predict.add_argument(
        "out",
        help="the folder for the results; a map that is there already and still its "
        "image's is kept",
    )
    predict.add_argument(
        "--weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it"
    )
    predict.add_argument(
        "--format", nargs="+", default=["png16"], choices=("png16", "npy", "colour")
    )
    predict.add_argument(
        "--short-side", type=int, help="of the network's input (default: what fits the network)"
    )
    predict.add_argument(
        "--batch", type=int, default=4, help="images of one size at a time (default: 4)"
    )
    predict.add_argument(
        "--device", help="cpu, cuda, mps (default: the accelerator where there is one)"
    )
    predict.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"))
    predict.add_argument(
        "--compile", action="store_true", help="torch.compile: worth it for many images of one size"
    )
    predict.add_argument(
        "--engine",
        default="torch",
        choices=("torch", "openvino", "onnxruntime", "auto"),
        help="what runs the network on a CPU; auto: the fastest one installed, by the timings "
        "recorded on a processor of this kind (default: torch)",
    )
    predict.add_argument(
        "--colours", default="Spectral_r", help="a Matplotlib colour map (default: Spectral_r)"
    )
    out = top.add("export", _export)
    out.add_argument(
        "weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it"
    )
    out.add_argument("out", help="the folder (transformers) or file (official, onnx) to write")
    out.add_argument("--to", choices=("transformers", "official", "onnx"), required=True)
    out.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of these names, but never the weights that are exported",
    )
    for sub in (predict, out):
        sub.add_argument(
            "--layers", choices=("v1", "v2"), help="for a .pth file whose name does not say"
        )
        sub.add_argument(
            "--max-depth",
            type=float,
            help="in metres, for a metric .pth file whose name does not say",
        )
        sub.add_argument(
            "--relative",
            action="store_true",
            help="for a .pth file: it predicts disparity, whatever it says",
        )
        sub.add_argument(
            "--entry", help="which network of a file that holds several, such as student"
        )
        sub.add_argument(
            "--position",
            choices=("official", "transformers"),
            help="resampling of position embeddings",
        )
    return top


def main(words: list[str] | None = None) -> int:
    """Run one command line, and return its exit code."""
    return commands().main(words)


if __name__ == "__main__":
    sys.exit(main())
