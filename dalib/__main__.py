"""The command line: `python -m dalib run main_table --profile quick`. Each command is a thin call into the library."""

import argparse
import logging
import sys

from dalib.errors import ConfigError, UserError
from dalib.stopping import Stop, listening


def _run(args: argparse.Namespace) -> None:
    """Run an experiment's notebook through papermill."""
    from dalib import paths
    from dalib.study import notebooks
    from dalib.study.experiments import expand, experiments, profiles
    from dalib.training.processes import check_processes, refuse_other_launcher

    refuse_other_launcher()
    path = notebooks.notebook(args.name)
    given = notebooks.check(path, _parameters(args))
    profile, seeds, processes = (given.get(name) for name in ("profile", "seeds", "processes"))
    configs = []
    if args.name in experiments():  # what is wrong should fail at once
        seeds = args.seeds if args.seeds is not None else seeds or None  # to a notebook, 0 is the profile's number
        plan = expand(args.name, profile=profile or "quick", seeds=seeds)
        configs = [config for row in plan.rows for config in row.configs[:1]]
    if processes is not None:
        check_processes(processes, *configs)
    out = paths.writable_runs() / "notebooks" / (profile if profile in profiles() else "default") / path.name
    print(f"{path.name} is at {notebooks.execute(path, out, given)}")


def _parameters(args: argparse.Namespace) -> dict[str, object]:
    """The parameters that `run` was given, each once: as `-p NAME=VALUE`, or as an option of its own."""
    given: dict[str, object] = {}
    for pair in args.set:
        name, mark, value = pair.partition("=")
        if not name or not mark:
            raise ConfigError(f"-p {pair}: expected NAME=VALUE")
        if name in given:
            raise ConfigError(f"-p {name}: given twice ({given[name]!r} and {value!r}); leave one out")
        given[name] = value
    for name in ("profile", "seeds", "processes"):
        value = getattr(args, name)
        if value is None:
            continue
        if name in given:
            raise ConfigError(f"--{name}: given twice, as --{name} {value} and -p {name}={given[name]}; leave one out")
        given[name] = value
    return given


def _row(args: argparse.Namespace) -> None:
    """Run one seed of one row: what Snakemake and clusters call."""
    from dalib import paths
    from dalib.study.experiments import expand
    from dalib.training.processes import check_processes, refuse_other_launcher

    refuse_other_launcher()
    experiment = expand(args.name, profile=args.profile, seed=args.seed)
    row = experiment[args.row]
    config = row.configs[0]
    check_processes(args.processes, config)
    paths.writable_runs()
    from dalib.study.runner import run_row  # seconds to import, which a mistake above need not wait for

    run_row(
        row,
        config,
        committed=experiment.committed,
        again=args.again,
        retrain=args.retrain,
        processes=args.processes,
    )


def _rows(args: argparse.Namespace) -> None:
    """List rows, seeds and the state of their records."""
    from dalib.study.experiments import expand
    from dalib.study.records import entries, foreign

    experiment = expand(args.name, profile=args.profile, seeds=args.seeds)
    for e in entries(experiment):
        print(f"{e.config.hash()}  {e.status:8}{e.row.name} seed {e.config.seed}")
    others = foreign(experiment)
    for path, what in others.unknown.items():
        print(f"{path.stem}  foreign  {what}")
    for profile, count in others.of_profile.items():
        print(f"and {count} record{'s' * (count > 1)} of profile {profile}")


def _book(args: argparse.Namespace) -> None:
    """Execute the notebooks whose inputs changed and build the site."""
    from dalib.study.book import build
    from dalib.training.processes import refuse_other_launcher

    refuse_other_launcher()
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


def _certify(args: argparse.Namespace) -> None:
    """Hold today's code against that of the records, bit by bit, and write a certificate of what is equal."""
    from dalib.errors import TrainingError
    from dalib.study.certify import certify

    path, verdict = certify(since=args.since, profile=args.profile)
    for part in verdict.equal:
        print(f"{part}: all {verdict.counts[part]} numbers and digests are equal")
    if path is not None:
        print(f"{path}: commit it, and records stay fresh")
    if verdict.differences:
        raise TrainingError("\n".join(f"{part} differs. {what}" for part, what in verdict.differences.items()))


def _predict(args: argparse.Namespace) -> None:
    """Predict the disparity of an image, a folder of images or a video, and write it as files."""
    import math
    import warnings
    from pathlib import Path

    import torch

    from dalib import predict
    from dalib.errors import ConfigError, DataError
    from dalib.models import load
    from dalib.predict.outputs import palette
    from dalib.study import networks

    warnings.filterwarnings("ignore", module="PIL")  # what is ignored of a file is told below
    # What can be known before a network is loaded.
    for name in ("images", "out", "weights", "device"):
        if getattr(args, name) == "":
            option = name.upper() if name in ("images", "out") else f"--{name}"
            raise ConfigError(
                f"{option} is empty; say what it should be" + (" or leave it out" if "--" in option else "")
            )
    if args.max_depth is not None and not (math.isfinite(args.max_depth) and args.max_depth > 0):
        raise ConfigError(f"--max-depth {args.max_depth}: must be a positive number of metres")
    predict.check_numbers(short_side=args.short_side, batch=args.batch)
    device = predict.usable_device(args.device)
    formats = tuple(dict.fromkeys(args.format))
    if "colour" in formats or args.colours != predict.COLOURS:
        palette(args.colours)
    images, out = Path(args.images), Path(args.out)
    if not images.exists():
        raise DataError(f"{images}: no such file or folder; correct the path")
    is_clip = not images.is_dir() and predict.is_video(images)
    found = None
    if is_clip:
        predict.check_video(images, out, formats=formats)
    else:
        photographs, found = predict.photographs(images, out) if images.is_dir() else ({images.stem: images}, None)
        predict.check_images(photographs, out, formats=formats)

    weights = networks.student() if args.weights is None else Path(args.weights)
    model = load(
        weights if weights.exists() else args.weights,
        layers=args.layers,
        max_depth=args.max_depth,
        position=args.position,
    )
    run = predict.Predictor(
        model=model,
        short_side=networks.training_size(weights) if args.short_side is None else args.short_side,
        batch=args.batch,
        device=device,
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype],
        compile=args.compile,
    )
    options = {"run": run, "formats": formats, "colours": args.colours}
    if is_clip:
        print("\n".join(map(str, predict.write_video(images, out, **options))))
        return
    result = predict.write_images(photographs, out, **options)
    if found is not None:
        result.add(found)
    print(f"{len(result.written)} predicted, {len(result.kept)} kept from before, {len(result.failed)} failed: {out}")
    for line in (*result.notes.lines(), *result.passed_over.lines()):
        print(line)
    if failures := result.failures():
        raise DataError("\n".join(["some images could not be predicted:", *failures]))
    if not result.written and not result.kept:
        raise DataError(f"{images}: nothing was predicted")


def _export(args: argparse.Namespace) -> None:
    """Write a network for other software: a transformers folder, an official .pth file, or ONNX."""
    from pathlib import Path

    from dalib.models import export, load

    model = load(args.weights, layers=args.layers, max_depth=args.max_depth, position=args.position)
    write = {"transformers": export.export_transformers, "official": export.export_official, "onnx": export.export_onnx}
    write[args.to](model, Path(args.out))
    print(args.out)


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
    row.add_argument("--retrain", action="store_true", help="train even where there are weights, which are set aside")
    rows = command("rows", _rows)
    rows.add_argument("--profile", default="study")
    rows.add_argument("--seeds", type=int)
    book = command("book", _book, named=False)
    book.add_argument("--profile", default="quick", help="what the ablation notebooks train (default: quick)")
    predict = command("predict", _predict, named=False)
    predict.add_argument("images", help="an image, a folder (searched with its sub-folders) or a video")
    predict.add_argument(
        "out", help="the folder for the results; a map that is there already and still its image's is kept"
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
    certify = command("certify", _certify, named=False)
    certify.add_argument(
        "--from", dest="since", help="the older commit (default: the newest certificate's, or the records')"
    )
    certify.add_argument("--profile", default="study", help="whose rows are compared (default: study)")
    command("readme", _readme, named=False)
    command("floors", _floors, named=False)
    out = command("export", _export, named=False)
    out.add_argument("weights", help="a file, a folder or a hub id, as `dalib.models.load` reads it")
    out.add_argument("out", help="the folder (transformers) or file (official, onnx) to write")
    out.add_argument("--to", choices=("transformers", "official", "onnx"), required=True)
    for sub in (predict, out):
        sub.add_argument("--layers", choices=("v1", "v2"), help="for a .pth file whose name does not say")
        sub.add_argument("--max-depth", type=float, help="in metres, for a metric .pth file whose name does not say")
        sub.add_argument("--position", choices=("official", "transformers"), help="resampling of position embeddings")
    return top


def main(words: list[str] | None = None) -> int:
    """Parse, call, and turn a `UserError` into a message and exit code 1; Ctrl-C is exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may hold bytes that no encoding knows
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("papermill.translators", "httpx", "blib2to3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        with listening(Stop()):
            args.call(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
