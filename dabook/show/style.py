"""The style of every figure. A function that draws in it returns a closed matplotlib Figure; nothing
is drawn on import.

Colours are those of Okabe and Ito, told apart by most kinds of colour-blind eyes and, with the
markers, in grey. The ground is white and the ink dark, in the book's dark mode too: there the page
lays a light card behind every picture.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

P = ParamSpec("P")
COLOURS = ("#5b6770", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00")
MARKERS = "osD^vP"
INK = "#20292c"
MUTED = "#566467"
RULE = "#d4dddd"
STYLE = {
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that figures are the same everywhere
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the book's style, lay out, and close, so that a notebook shows the figure once: as
    the value of its cell."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            fig = draw(*args, **kwargs)
            fig.draw_without_rendering()
        plt.close(fig)
        return fig

    return styled


def empty(text: str = "not yet recorded") -> Figure:
    """A small figure that says why there is no other."""
    fig, ax = plt.subplots(figsize=(6.4, 1.2))
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
    ax.axis("off")
    return fig
