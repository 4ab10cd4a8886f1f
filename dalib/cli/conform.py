"""`python -m dalib conform`."""

import argparse

from dalib.commands import Commands
from dalib.errors import UserError


class Nonconforming(UserError):  # noqa: N818  (the function is wrong, not the call)
    """A fault was found: exit code 1."""


def add(top: Commands) -> None:
    """Add the command."""
    command = top.add("conform", run)
    command.add_argument(
        "function",
        nargs="?",
        help="module:function or path/to/file.py:function; it is called by keyword (see --list)",
    )
    command.add_argument(
        "--as",
        dest="kind",
        required=True,
        metavar="KIND",
        help="affine_invariant, cutmix, feature_alignment, aligner, metric, evaluator (disparity in, a "
        "score out), trimmed (MiDaS's trimmed loss), cutmix_box, garg_crop, eigen_crop or "
        "learning_rates",
    )
    command.add_argument(
        "--metric",
        metavar="NAME",
        help="which metric, of metric and evaluator: abs_rel, sq_rel, rmse, rmse_log, silog, log10, "
        "delta05, delta1, delta2, delta3 (not needed for a function that returns a dict by these names)",
    )
    command.add_argument(
        "--numpy", action="store_true", help="the function takes NumPy arrays, not tensors"
    )
    command.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="OURS=YOURS",
        help="what the function calls its arguments, such as valid=validity",
    )
    command.add_argument(
        "--skip", nargs="+", default=[], metavar="VECTOR", help="vectors to leave out"
    )
    command.add_argument(
        "--tolerance",
        type=float,
        help="relative, of values (default: 1e-9; at least 1e-5 where results are float32)",
    )
    command.add_argument("--device", default="cpu", help="where tensors lie (default: cpu)")
    command.add_argument("--json", metavar="FILE", help="write the report there, too")
    command.add_argument(
        "--list",
        action="store_true",
        help="only say how a function of this kind is called, on what, and which faults are known",
    )


def run(args: argparse.Namespace) -> None:
    """Check any affine-invariant, CutMix or feature-alignment loss, aligner or metric against test
    vectors, and name the fault. Exit code 0 where it conforms, 1 where it does not, 2 where it cannot
    be called."""
    from dalib.commands import written_at_the_end
    from dalib.errors import Stopped
    from dalib.functions import CallError

    try:
        with written_at_the_end():
            _run(args)
    except (CallError, Nonconforming, Stopped):
        raise
    except UserError as error:  # 1 would say that the function is wrong
        raise CallError(str(error)) from error


def _run(args: argparse.Namespace) -> None:
    import json
    from pathlib import Path

    from dalib.conformance import check, described
    from dalib.functions import CallError
    from dalib.writing import refuse_place, write_text

    if args.list:
        print(described(args.kind, args.metric))
        return
    if not args.function:
        raise CallError("FUNCTION is missing: name module:function or path/to/file.py:function")
    pairs = [pair.partition("=") for pair in args.names]
    if wrong := ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]:
        raise CallError(f"--names {' '.join(wrong)}: write OURS=YOURS, such as valid=validity")
    called = {ours: yours for ours, _, yours in pairs}
    if len(called) < len(pairs):
        raise CallError(f"--names {' '.join(args.names)}: one argument has two names; give it one")
    if args.json is not None:
        if not args.json:
            raise CallError("--json is empty; name a file, or leave it out")
        refuse_place(Path(args.json), option="--json")
    report = check(
        args.function,
        args.kind,
        metric=args.metric,
        names=called,
        numpy=args.numpy,
        skip=args.skip,
        tolerance=args.tolerance,
        device=args.device,
    )
    print(report)
    if args.json is not None:
        write_text(Path(args.json), json.dumps(report.to_dict(), indent=1) + "\n")
    if not report:
        raise Nonconforming(f"{args.function} does not conform: {', '.join(report.faults)}")
