"""The options that say how a file of weights is to be read, alike in every command that takes
one."""

import argparse


def add_reading(
    command: argparse.ArgumentParser, *, max_depth: str = "--max-depth", position: bool = True
) -> None:
    """Add them to a command; under another word for `--max-depth` where that says something else,
    and without `--position` where the weights go into settings, which have none."""
    command.add_argument(
        "--layers", choices=("v1", "v2"), help="for a .pth file whose name does not say"
    )
    command.add_argument(
        max_depth,
        type=float,
        help="in metres, for a metric .pth file whose name does not say",
    )
    command.add_argument(
        "--relative",
        action="store_true",
        help="for a .pth file: it predicts disparity, whatever it says",
    )
    command.add_argument(
        "--entry", help="which network of a file that holds several, such as student"
    )
    if position:
        command.add_argument(
            "--position",
            choices=("official", "transformers"),
            help="resampling of position embeddings",
        )


def reading(args: argparse.Namespace) -> dict:
    """How `dalib.models.load` is to read the weights."""
    return {
        name: getattr(args, name)
        for name in ("layers", "max_depth", "relative", "position", "entry")
    }
