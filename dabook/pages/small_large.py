"""The small network against the large one: what each has and costs, counted; and what the paper's
own table says of its small network and of MiDaS's large one."""

from collections.abc import Callable
from functools import cache, partial

import pandas as pd
import torch

from dabook.analysis.budget import image_passes, operations
from dabook.analysis.paper import counterparts
from dabook.runs.experiments import Experiment, expand
from dabook.show.html import Html, html, number
from dalib import paths
from dalib.training.costs import measure, network

EXPERIMENT = "small_large"
SMALL = "lite0"
LARGE = "lite2"
NAMES = {SMALL: "EfficientNet-Lite0", LARGE: "EfficientNet-Lite2"}
THEIR_LARGE = "large_labelled_only"
THEIR_SMALL = "small_taught"
"""The rows that stand for MiDaS's ViT-L and for the paper's ViT-S, which a ViT-L has taught."""


@cache
def parameters(name: str, *, encoder: bool = False) -> int:
    """How many weights a network has, or its encoder alone."""
    model = network(name)
    return sum(p.numel() for p in (model.encoder if encoder else model).parameters())


@cache
def multiply_adds(name: str, height: int, width: int, *, encoder: bool = False) -> int:
    """Products of two numbers, each added to a sum, for one image of this size in pixels: half of
    the FLOPs that `dalib.training.costs` counts."""
    model = network(name).eval()
    with model.mean.fake_mode, torch.no_grad():
        image = torch.empty(1, 3, height, width)
        return measure(lambda: (model.encoder if encoder else model)(image))[0] // 2


def _millions(name: str, *, encoder: bool) -> float:
    return parameters(name, encoder=encoder) / 1e6


def _billions(name: str, *, height: int, width: int, encoder: bool) -> float:
    return multiply_adds(name, height, width, encoder=encoder) / 1e9


def sizes() -> Html:
    """Weights and multiply-adds of both networks, and how many times as many the large one has."""
    height, width = _image()
    parts = (("all", False), ("encoder", True))
    columns: dict[tuple[str, str], Callable[[str], float]] = {}
    for part, encoder in parts:
        columns["weights, M", part] = partial(_millions, encoder=encoder)
    for part, encoder in parts:
        columns["multiply-adds, G", part] = partial(
            _billions, height=height, width=width, encoder=encoder
        )
    lines = {
        name: {title: number(value(name), 2) for title, value in columns.items()}
        for name in (SMALL, LARGE)
    }
    lines["ratio"] = {
        title: f"× {number(value(LARGE) / value(SMALL), 2)}" for title, value in columns.items()
    }
    caption = f"One image of {height} × {width} pixels; the decoder is built alike."
    return html(
        lines, [*NAMES.values(), "large to small"], caption=caption, name="small-large-sizes"
    )


def _image() -> tuple[int, int]:
    """Height and width of the study's images."""
    config = expand(EXPERIMENT, profile="study", seeds=1).rows[0].configs[0]
    return config.height, config.width


def budgets(plan: Experiment) -> Html:
    """What the training of each row takes: image passes, operations of its own and of its teacher,
    and all of them beside the first row's; and how often it reads each labelled image."""
    first = sum(operations(plan.rows[0].configs[0]))
    lines = {}
    for row in plan.rows:
        config = row.configs[0]
        own, before = operations(config)
        lines[row.name] = {
            "image passes": str(image_passes(config)),
            "TFLOP": number(own / 1e12, 2),
            "teacher, TFLOP": number(before / 1e12, 2) if before else "",
            "in all": f"× {number((own + before) / first, 2)}",
            "reads of a label": number(config.steps * config.batch / config.labelled_images, 1),
        }
    return html(lines, [row.label for row in plan.rows], name="small-large-budgets")


def ratio() -> str:
    """How much larger the large network is: the end of a sentence."""
    weights = parameters(LARGE) / parameters(SMALL)
    work = multiply_adds(LARGE, *_image()) / multiply_adds(SMALL, *_image())
    return (
        f"{number(weights, 2)} times as many weights and {number(work, 2)} times as many "
        "multiply-adds for an image"
    )


def in_the_paper() -> str:
    """On how many of the paper's six sets its small network has the lower AbsRel than MiDaS's large
    one: a sentence from its table 2."""
    named = counterparts(EXPERIMENT)
    published = pd.read_csv(paths.published_tables(), dtype={"table": str})
    published = published[published.metric == "abs_rel"]

    def scores(row: str) -> pd.Series:
        table, name = named[row]
        found = published[(published.table == table) & (published.row == name)]
        return found.set_index("dataset")["value"]

    large = scores(THEIR_LARGE)
    small = scores(THEIR_SMALL)
    better = [dataset for dataset in large.index if small[dataset] < large[dataset]]
    worse = [dataset for dataset in large.index if small[dataset] > large[dataset]]
    return (
        f"In the paper's table {named[THEIR_SMALL][0]}, {named[THEIR_SMALL][1]} has a lower AbsRel "
        f"than {named[THEIR_LARGE][1]} on {len(better)} of {len(large)} sets "
        f"({', '.join(better)}) and a higher one on {len(worse)} ({', '.join(worse)}); the means "
        f"are {number(float(small.mean()))} and {number(float(large.mean()))}."
    )
