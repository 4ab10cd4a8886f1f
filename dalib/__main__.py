"""The command line: `python -m dalib run main_table --profile quick`. Each command is a thin call into the library."""

import argparse
import logging
import sys

from dalib.errors import UserError


def _run(args: argparse.Namespace) -> None:
    """Run an experiment's notebook through papermill."""
    from dalib import paths
    from dalib.study import notebooks
    from dalib.study.experiments import expand, experiments

    path = notebooks.notebook(args.name)
    given = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in args.set)
    for name in ("profile", "seeds", "processes"):
        if getattr(args, name) is not None:
            given[name] = getattr(args, name)
    if args.name in experiments():
        expand(args.name, profile=given.get("profile", "quick"), seeds=args.seeds)  # a wrong name should fail at once
    out = paths.runs() / "notebooks" / str(given.get("profile", "default")) / path.name
    print(f"{path.name} is at {notebooks.execute(path, out, given)}")


def _row(args: argparse.Namespace) -> None:
    """Run one seed of one row: what Snakemake and clusters call."""
    from dalib.study.experiments import expand
    from dalib.study.runner import run_row

    experiment = expand(args.name, profile=args.profile, seeds=args.seed + 1)
    row = experiment[args.row]
    run_row(row, row.configs[args.seed], committed=experiment.committed, again=args.again, processes=args.processes)


def _rows(args: argparse.Namespace) -> None:
    """List rows, seeds and the state of their records."""
    from dalib.study.experiments import expand
    from dalib.study.records import entries, foreign

    experiment = expand(args.name, profile=args.profile, seeds=args.seeds)
    for e in entries(experiment):
        print(f"{e.config.hash()}  {e.status:8}{e.row.name} seed {e.config.seed}")
    for path in foreign(experiment):
        print(f"{path.stem}  foreign  no row of experiments.yaml asks for it")


def _book(args: argparse.Namespace) -> None:
    """Execute the notebooks whose inputs changed and build the site."""
    from dalib.study.book import build

    print(f"the book is at {build(profile=args.profile)}")


def _readme(_: argparse.Namespace) -> None:
    """Put the recorded main table into README.md."""
    from dalib.study.book import update_readme

    update_readme()


def _robustness(args: argparse.Namespace) -> None:
    """Score the main table's networks under corruption and record it; trains nothing."""
    from dalib.study import robustness

    found = robustness.run(profile=args.profile, seeds=args.seeds)
    print(f"{sum(e.status == 'fresh' for e in found)} of {len(found)} runs are recorded")


def _floors(_: argparse.Namespace) -> None:
    """Score the floors on the real data sets and record them."""
    from dalib.study.runner import record_floors

    print(record_floors())


def _predict(args: argparse.Namespace) -> None:
    """Predict the disparity of an image, a folder of images or a video, and write it as files."""
    from pathlib import Path

    import torch

    from dalib.errors import DataError
    from dalib.models import load
    from dalib.predict import Predictor, is_video, write_folder, write_images, write_video
    from dalib.study import networks

    images, out = Path(args.images), Path(args.out)
    weights = networks.student() if args.weights is None else Path(args.weights)
    run = Predictor(
        model=load(
            weights if weights.exists() else args.weights,
            **_reading(args),
        ),
        short_side=args.short_side or networks.training_size(weights),
        batch=args.batch,
        device=args.device,
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype],
        compile=args.compile,
    )
    options = {"run": run, "formats": tuple(args.format), "colours": args.colours}
    if is_video(images):
        print("\n".join(map(str, write_video(images, out, **options))))
        return
    result = (
        write_folder(images, out, **options) if images.is_dir() else write_images({images.stem: images}, out, **options)
    )
    print(f"{len(result.written)} predicted, {len(result.kept)} kept from before, {len(result.failed)} failed: {out}")
    if result.failed:
        raise DataError("\n".join(["some images could not be predicted:", *result.failed.values()]))


def _export(args: argparse.Namespace) -> None:
    """Write a network for other software: a transformers folder, an official .pth file, or ONNX."""
    from pathlib import Path

    from dalib.errors import ConfigError
    from dalib.models import export, load

    if not args.out:
        raise ConfigError("out: an empty name; give the folder (transformers) or the file (official, onnx) to write")
    model = load(args.weights, **_reading(args))
    write = {"transformers": export.export_transformers, "official": export.export_official, "onnx": export.export_onnx}
    write[args.to](model, Path(args.out), overwrite=args.overwrite)
    print(args.out)


def _reading(args: argparse.Namespace) -> dict:
    """How `dalib.models.load` is to read the weights."""
    return {name: getattr(args, name) for name in ("layers", "max_depth", "relative", "position", "entry")}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m dalib", description="Run, list and publish the experiments of experiments.yaml."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, *, named=True):
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(call=function)
        if named:
            sub.add_argument("name", help="an experiment of experiments.yaml, or a notebook")
        return sub

    run = command("run", _run)
    run.add_argument("--profile", help="smoke, quick, study, gpu (default: the notebook's own, quick)")
    run.add_argument("--seeds", type=int, help="how many (default: the profile's)")
    run.add_argument("--processes", type=int, help="training processes (default: 1)")
    run.add_argument(
        "-p", "--set", action="append", default=[], metavar="NAME=VALUE", help="any other parameter of the notebook"
    )
    row = command("row", _row)
    row.add_argument("row")
    row.add_argument("--profile", default="study")
    row.add_argument("--seed", type=int, default=0)
    row.add_argument("--processes", type=int, default=1)
    row.add_argument("--again", action="store_true", help="keep the record, and write this run beside it (data/reruns)")
    rows = command("rows", _rows)
    rows.add_argument("--profile", default="study")
    rows.add_argument("--seeds", type=int)
    book = command("book", _book, named=False)
    book.add_argument("--profile", default="quick", help="what the ablation notebooks train (default: quick)")
    predict = command("predict", _predict, named=False)
    predict.add_argument("images", help="an image, a folder (searched with its sub-folders) or a video")
    predict.add_argument(
        "out", help="the folder for the results; what is there already and newer than its image is kept"
    )
    predict.add_argument(
        "--weights", help="a file, a folder or a hub id (default: the student that `make book` trained)"
    )
    predict.add_argument("--format", nargs="+", default=["png16"], choices=("png16", "npy", "colour"))
    predict.add_argument("--short-side", type=int, help="of the network's input (default: what fits the network)")
    predict.add_argument("--batch", type=int, default=4, help="images of one size at a time (default: 4)")
    predict.add_argument("--device", help="cpu, cuda, mps (default: the accelerator where there is one)")
    predict.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16"))
    predict.add_argument("--compile", action="store_true", help="torch.compile: worth it for many images of one size")
    predict.add_argument("--colours", default="Spectral_r", help="a Matplotlib colour map (default: Spectral_r)")
    robustness = command("robustness", _robustness, named=False)
    robustness.add_argument("--profile", default="study")
    robustness.add_argument("--seeds", type=int, help="how many (default: the profile's)")
    command("readme", _readme, named=False)
    command("floors", _floors, named=False)
    out = command("export", _export, named=False)
    out.add_argument("weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it")
    out.add_argument("out", help="the folder (transformers) or file (official, onnx) to write")
    out.add_argument("--to", choices=("transformers", "official", "onnx"), required=True)
    out.add_argument(
        "--overwrite", action="store_true", help="replace files of these names, but never the weights that are exported"
    )
    for sub in (predict, out):
        sub.add_argument("--layers", choices=("v1", "v2"), help="for a .pth file whose name does not say")
        sub.add_argument("--max-depth", type=float, help="in metres, for a metric .pth file whose name does not say")
        sub.add_argument(
            "--relative", action="store_true", help="for a .pth file: it predicts disparity, whatever it says"
        )
        sub.add_argument("--entry", help="which network of a file that holds several, such as student")
        sub.add_argument("--position", choices=("official", "transformers"), help="resampling of position embeddings")
    return top


def main(words: list[str] | None = None) -> int:
    """Parse, call, and turn a `UserError` into a message and exit code 1."""
    args = parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("papermill.translators", "httpx", "blib2to3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        args.call(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
