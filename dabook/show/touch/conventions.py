"""The same predictions under other conventions of AbsRel: choices, and the number that the
evaluation of the library gives under them, looked up in a table.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dabook.show import divider
from dabook.show.html import Html, number
from dabook.show.touch import shell
from dabook.show.touch.shell import Axes, Number
from dalib.config import check_names
from dalib.errors import ConfigError
from dalib.evaluation.conventions import CONVENTIONS, changed
from dalib.evaluation.recipes import Recipe, of_protocol, score_recipes

QUESTIONS = {
    "fit": ("fit_depth", "fit_log_depth", "median", "scale_disparity", "absolute"),
    "cap": ("cap_10", "no_cap"),
    "crop": ("crop_garg", "crop_eigen"),
    "clamp": ("clamp_both", "no_clamp"),
    "mean": ("mean_pixels", "median_images"),
}
"""Key of a choice -> the conventions beside that of the protocol, which comes first."""
LABELS = {
    "fit": "scale and shift",
    "cap": "farthest truth",
    "crop": "crop",
    "clamp": "after the fit",
    "mean": "over images",
}
MOST_SCENES = 12
LONGEST = 120  # pixels of the longer side of a picture in the page
CAPTION = (
    "One network's maps of these scenes, bright is near, and the numbers that they get. Each choice "
    "is one that somebody has made in a paper or a script. The strokes are the AbsRel of all "
    "combinations; the mark is the one that is chosen. Every number was computed by the "
    "library's evaluation when the page was made, and is looked up here."
)


def options(
    reference: Recipe, questions: Mapping[str, Sequence[str]] = QUESTIONS
) -> dict[str, dict[str, str]]:
    """Key of a choice -> its options: name of a convention ("" for the protocol's own) -> words.

    Raises:
        ConfigError: an unknown convention, or one that the protocol has anyway.
    """
    found = {}
    for key, names in questions.items():
        check_names(names, CONVENTIONS, what="convention")
        question = CONVENTIONS[names[0]].question
        own = next(
            (
                c.words
                for c in CONVENTIONS.values()
                if c.question == question and changed(reference, (c,)) == reference
            ),
            "as the protocol has it",
        )
        found[key] = {"": own} | {name: CONVENTIONS[name].words for name in names}
        for name in names:
            if changed(reference, (CONVENTIONS[name],)) == reference:
                raise ConfigError(f"{name}: the protocol has this convention already")
    return found


def scores(
    predictions: Sequence[Float[Tensor, "_ _"]],
    samples: Sequence[Mapping],
    *,
    protocol: str = "scenes",
    questions: Mapping[str, Sequence[str]] = QUESTIONS,
) -> tuple[list[float], list[float]]:
    """(AbsRel, delta1) of every combination, the last choice fastest, the protocol's own first.

    Raises:
        ConfigError: two choices that cannot hold at once, and as `score_recipes`.
    """
    reference = of_protocol(protocol)
    choices = [list(found) for found in options(reference, questions).values()]
    recipes = []
    for names in itertools.product(*choices):
        recipe = changed(reference, [CONVENTIONS[name] for name in names if name])
        if recipe is None:
            raise ConfigError(f"conventions: {', '.join(filter(None, names))} cannot hold at once")
        recipes.append(recipe)
    found = score_recipes(predictions, samples, recipes, names=("abs_rel", "delta1"))
    return tuple(
        [found.number(k, name) for k in range(len(recipes))] for name in ("abs_rel", "delta1")
    )


def figure(
    predictions: Sequence[Float[Tensor, "_ _"]],
    samples: Sequence[Mapping],
    *,
    title: str,
    protocol: str = "scenes",
    questions: Mapping[str, Sequence[str]] = QUESTIONS,
    caption: str = CAPTION,
) -> Html:
    """Choices of conventions, and the number of one network under them.

    Args:
        predictions: what the network gives for each scene, before anything is resized.
        samples: the scenes, with image, disparity and valid.
        title: what is seen.
        protocol: what is chosen at first.
        questions: the choices, as `QUESTIONS` has them.
        caption: below the figure.

    Raises:
        ConfigError: no scene or too many, not as many predictions, and as `scores`.
    """
    if not 1 <= len(samples) <= MOST_SCENES or len(predictions) != len(samples):
        raise ConfigError(
            f"{title}: {len(predictions)} predictions for {len(samples)} scenes; give one each, "
            f"for 1 to {MOST_SCENES}"
        )
    errors, good = scores(predictions, samples, protocol=protocol, questions=questions)
    choices = options(of_protocol(protocol), questions)

    # all numbers on an axis
    known = [value for value in errors if math.isfinite(value) and value > 0]
    low, high = (10 ** (f(math.log10(v) * 10) / 10) for f, v in _ends(known))
    axes = Axes(
        x=(low, high),
        y=(0, 1),
        x_ticks={x: f"{x:g}" for x in _decades(low, high)},
        y_ticks={},
        x_label="AbsRel, all combinations",
        log_x=True,
        height=84,
    )
    _, top, _, bottom = axes.box
    strokes = "".join(
        f"M{axes.place(value, 0)[0]:.1f} {top + 10}V{bottom}" for value in sorted(set(known))
    )
    x, _ = axes.place(min(max(errors[0], low), high), 0)
    chart = axes.drawing(
        f'<path class="stroke" d="{strokes}"/>',
        alt="AbsRel of all combinations",
        above=f'<path class="mark" data-mark d="M{x:.1f} {top - 6}V{bottom}"/>',
    )

    # the scenes and the maps
    seen = []
    for k, (sample, disparity) in enumerate(zip(samples, predictions, strict=True)):
        picture = shell.address(divider.smaller(sample["image"], LONGEST))
        depth = shell.address(divider.coloured(divider.smaller_map(disparity, LONGEST)))
        seen.append(
            (
                shell.image(picture, f"{title}: scene {k + 1}", key=f"image{k}"),
                shell.image(depth, f"{title}: map {k + 1}", key=f"map{k}"),
            )
        )
    columns = f"repeat({len(seen)}, 1fr)"
    still = [shell.stage(a) + shell.stage(b) for a, b in seen]
    live = [
        shell.stage(shell.copied(f"image{k}")) + shell.stage(shell.copied(f"map{k}"))
        for k in range(len(seen))
    ]

    def block(pairs: list[str]) -> str:
        inside = "".join(f'<div class="panel">{pair}</div>' for pair in pairs)
        return f'<div class="panels strip" style="--columns: {columns}">{inside}</div>'

    texts = [number(value) if math.isfinite(value) else "–" for value in errors]
    shown = shell.numbers(
        [
            Number(key="error", label="AbsRel", value=texts[0]),
            Number(key="good", label="δ1", value=number(good[0])),
            Number(key="factor", label="times the protocol's", value="× 1.00"),
        ]
    )
    chosen = "; ".join(
        f"{LABELS.get(key, key)}: {next(iter(o.values()))}" for key, o in choices.items()
    )
    return shell.frame(
        "conventions",
        title,
        payload={
            "choices": {key: list(found) for key, found in choices.items()},
            "errors": texts,
            "good": [number(value) for value in good],
            "factors": [
                f"× {number(v / errors[0], 2)}" if math.isfinite(v) else "–" for v in errors
            ],
            "places": [
                round(axes.place(min(max(v, low), high), 0)[0], 1) if v > 0 else None
                for v in errors
            ],
        },
        live=block(live)
        + shell.controls(
            *(shell.choice(key, LABELS.get(key, key), found) for key, found in choices.items()),
            kind="choices",
        )
        + shell.beside(shown, '<div class="charts"></div>'),
        still=f'{block(still)}<p class="legend">{chosen}</p>'
        + shell.beside(shown, f'<div class="charts">{chart}</div>'),
        caption=caption,
    )


def _ends(known: Sequence[float]) -> list[tuple]:
    """The smallest value, to be rounded down, and the largest, to be rounded up."""
    return [(math.floor, min(known)), (math.ceil, max(known))]


def _decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [round(m * 10.0**p, 6) for p in powers for m in (1, 2, 5)]
    found = [x for x in found if low <= x <= high]
    return found if len(found) <= 8 else [x for x in found if np.isclose(math.log10(x) % 1, 0)]
