"""Three kinds that no arrays can test: where CutMix boxes lie, what a crop leaves, and which learning
rates an optimiser has. Each is held against its law."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from dalib.conformance.catalogue import Fault
from dalib.conformance.report import Finding, Report
from dalib.errors import Stopped
from dalib.functions import CallError, told

COUNT, HEIGHT, WIDTH = 2000, 96, 128
"""Boxes that are drawn, and for images of what size."""
AREA = (0.02, 0.4)
ASPECT = (0.3, 1 / 0.3)
"""Of UniMatch (LiheYoung/UniMatch), to which the author points (LiheYoung/Depth-Anything#240)."""
GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Top, bottom, left and right as fractions, rounded down (Garg et al. 2016, for KITTI)."""
EIGEN = (45 / 480, 471 / 480, 41 / 640, 601 / 640)
"""Rows 45:471 and columns 41:601 of 480 x 640, rounded (Eigen et al. 2014, for NYUv2)."""
SIZES = {
    "garg_crop": ((375, 1242), (370, 1224), (352, 1216)),
    "eigen_crop": ((480, 640), (240, 320)),
}
RATE, FACTOR = 5e-6, 10.0
"""The encoder's learning rate, and how much higher the decoder's is (arXiv:2401.10891, section 4)."""


class Seen(NamedTuple):
    """A fault that was found: its name, and what shows it."""

    name: str
    where: str
    got: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Law:
    """One kind.

    Args:
        about, arguments, returns: as of `dalib.conformance.catalogue.Kind`.
        faults: by name.
        look: calls the function, and tells the faults that it sees, the plainest first.
        parts: what is looked at.
    """

    about: str
    arguments: Mapping[str, str]
    returns: str
    faults: Mapping[str, Fault]
    look: Callable[[Callable], Iterator[Seen]]
    parts: tuple[str, ...]


def judge(function: Callable, law: Law) -> Report:
    """Hold a function against a law; `CallError` where it cannot be called so."""
    findings, shown = [], set()
    for seen in law.look(function):
        shown.add(seen.where)
        if any(seen.name == f.name for f in findings):
            continue
        fault = law.faults[seen.name]
        findings.append(
            Finding(
                name=seen.name,
                words=fault.words,
                mend=fault.mend,
                seen=fault.seen,
                vector=seen.where,
                got=seen.got,
                expected=seen.expected,
            )
        )
    failed = [p for p in law.parts if p in shown]
    passed = [p for p in law.parts if p not in failed]
    return Report(findings=findings, passed=passed, failed=failed, left_out={}, notes=[])


def _call(function: Callable, returns: str, **given: object) -> object:
    try:
        return function(**given)
    except Stopped:  # this process is asked to end; the function is not to blame
        raise
    except (Exception, SystemExit) as error:
        raise CallError(
            f"the function raises {told(error)}, called with {', '.join(given)}\n"
            f"It should return {returns}"
        ) from error


def _array(x: object, returns: str) -> Array:
    try:
        found = np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CallError(
            f"{type(x).__name__} came back, which is no array ({told(error)}); wanted: {returns}"
        ) from error
    if found.dtype.kind not in "biuf":
        what = type(x).__name__ if found.dtype.kind == "O" else f"an array of {found.dtype}"
        raise CallError(f"{what} came back; wanted: {returns}")
    return found


# the box -----------------------------------------------------------------------------------------


def _look_at_boxes(function: Callable) -> Iterator[Seen]:
    returns = LAWS["cutmix_box"].returns
    found = _call(function, returns, count=COUNT, height=HEIGHT, width=WIDTH)
    boxes = _array(found, returns).astype(float)
    if boxes.shape != (COUNT, 4):
        raise CallError(f"shape {boxes.shape} came back; wanted: {returns}")
    top, left, bottom, right = boxes.T
    high, wide = bottom - top, right - left
    mixed = (high > 0) & (wide > 0)
    share = mixed.mean()

    low, up = boxes.min(0), boxes.max(0)
    if (boxes != np.round(boxes)).any() or low.min() < 0 or up[2] > HEIGHT or up[3] > WIDTH:
        told = f"rows {low[0]:g} to {up[2]:g}, columns {low[1]:g} to {up[3]:g}"
        yield Seen("outside", "boxes", told, f"whole numbers in 0..{HEIGHT} and 0..{WIDTH}")
        return
    if not 0.45 < share < 0.55:
        yield Seen("share", "boxes", f"{share:.3f} of the images are mixed", "a half")
    if not mixed.any():
        return
    distinct = len(np.unique(boxes[mixed], axis=0))
    if distinct < mixed.sum() / 2:
        told = f"{distinct} different among {mixed.sum()}"
        yield Seen("fixed_box", "boxes", told, "nearly all different")
        return
    area = (high * wide / (HEIGHT * WIDTH))[mixed]
    spread = np.percentile(area, (1, 50, 99))
    wanted = np.array(AREA) @ [[0.99, 0.5, 0.01], [0.01, 0.5, 0.99]]
    if area.min() < AREA[0] - 0.005 or area.max() > AREA[1] + 0.03:
        told = f"areas of {area.min():.3f} to {area.max():.3f} of the image"
        yield Seen("area", "boxes", told, "0.02 to 0.4, up to a row")
    elif abs(spread - wanted).max() > 0.05:
        told = f"half of the areas below {spread[1]:.3f}"
        yield Seen("area", "boxes", told, f"uniform: half below {wanted[1]:.2f}")
    aspect = (high / np.maximum(wide, 1))[mixed]
    if aspect.min() < ASPECT[0] * 0.8 or aspect.max() > ASPECT[1] * 1.25:
        told = f"height by width from {aspect.min():.2f} to {aspect.max():.2f}"
        yield Seen("aspect", "boxes", told, "0.3 to 3.33, up to a pixel")
    elif np.ptp(aspect) < 1:
        told = f"height by width from {aspect.min():.2f} to {aspect.max():.2f} only"
        yield Seen("aspect", "boxes", told, "0.3 to 3.33")
    covered = np.zeros((HEIGHT, WIDTH), bool)
    for first, start, last, end in boxes[mixed].astype(int):
        covered[first:last, start:end] = True
    if covered.mean() < 0.98:  # a corner is rarely covered
        told = f"{1 - covered.mean():.3f} of the image in no box"
        yield Seen("place", "boxes", told, "next to nothing")


# the crop ----------------------------------------------------------------------------------------


def edges(name: str, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a crop."""
    nearest = int if name == "garg_crop" else round
    top, bottom, left, right = GARG if name == "garg_crop" else EIGEN
    return (
        nearest(top * height),
        nearest(bottom * height),
        nearest(left * width),
        nearest(right * width),
    )


def _look_at_crop(name: str) -> Callable[[Callable], Iterator[Seen]]:
    def look(function: Callable) -> Iterator[Seen]:
        returns = LAWS[name].returns
        for height, width in SIZES[name]:
            place = f"{height} x {width}"
            mask = _array(_call(function, returns, height=height, width=width), returns) != 0
            if mask.shape != (height, width):
                raise CallError(f"shape {mask.shape} came back for {place}; wanted: {returns}")
            top, bottom, left, right = edges(name, height, width)
            true = np.zeros((height, width), bool)
            true[top:bottom, left:right] = True
            if np.array_equal(mask, true):
                continue
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            told = "nothing"
            if len(rows):
                told = f"rows {rows[0]}:{rows[-1] + 1}, columns {columns[0]}:{columns[-1] + 1}"
            fault = "another_crop"
            if mask.all():
                fault = "crop_unused"
            elif np.array_equal(mask, ~true):
                fault, told = "crop_inverted", "what should be left out"
            elif (mask != true).sum() <= 2 * (height + width):
                fault = "rounding"
            yield Seen(fault, place, told, f"rows {top}:{bottom}, columns {left}:{right}")

    return look


# the rates ---------------------------------------------------------------------------------------


def _look_at_rates(function: Callable) -> Iterator[Seen]:
    import torch

    encoder, decoder = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    law = LAWS["learning_rates"]
    found = _call(function, law.returns, encoder=encoder, decoder=decoder, encoder_lr=RATE)
    groups = getattr(found, "param_groups", None)
    if not groups:
        raise CallError(f"{type(found).__name__} came back; wanted: {law.returns}")
    rates = {}
    for name, module in (("encoder", encoder), ("decoder", decoder)):
        held = [
            [float(g["lr"]) for g in groups if any(p is q for q in g["params"])]
            for p in module.parameters()
        ]
        if any(len(x) != 1 for x in held) or len({x[0] for x in held}) != 1:
            yield Seen("missing", "rates", f"rates of the {name}: {held}", "one for each parameter")
            return
        rates[name] = held[0][0]
    told = f"encoder {rates['encoder']:g}, decoder {rates['decoder']:g}"
    wanted = f"encoder {RATE:g}, decoder {RATE * FACTOR:g}"
    if np.allclose([*rates.values()], [RATE, RATE * FACTOR], rtol=1e-6, atol=0):
        return
    fault = "other_rates"
    if rates["encoder"] == rates["decoder"]:
        fault = "one_rate_encoder" if np.isclose(rates["encoder"], RATE) else "one_rate_decoder"
    elif np.isclose(rates["encoder"], RATE * FACTOR) and np.isclose(rates["decoder"], RATE):
        fault = "rates_swapped"
    yield Seen(fault, "rates", told, wanted)


def _f(words: str, mend: str, seen: str = "") -> Fault:
    return Fault(words=words, mend=mend, seen=seen)


_CROP_FAULTS = {
    "crop_unused": _f(
        "nothing is cropped", "apply the mask that was computed", "evaluation scripts"
    ),
    "crop_inverted": _f("what should be kept is left out", "invert the mask"),
    "rounding": _f(
        "an edge is off by a pixel",
        "Garg's fractions are rounded down, Eigen's rows and columns are whole numbers at 480 x 640",
    ),
    "another_crop": _f("another part of the image is kept", "look at the order of the edges"),
}


def _crop(name: str, about: str) -> Law:
    return Law(
        about=about,
        arguments={"height": "of the image, pixels", "width": "of the image, pixels"},
        returns="(H, W), bool: True where pixels are scored",
        faults=_CROP_FAULTS,
        look=_look_at_crop(name),
        parts=tuple(f"{h} x {w}" for h, w in SIZES[name]),
    )


LAWS = {
    "cutmix_box": Law(
        about="where CutMix boxes lie: half of the images, an area of 0.02 to 0.4, an aspect of 0.3 to "
        "3.33 (UniMatch's law, to which the author points)",
        arguments={
            "count": "how many images",
            "height": "of each, pixels",
            "width": "of each, pixels",
        },
        returns="(count, 4), whole numbers: top, left, bottom, right (not included), no area where "
        "an image is not mixed",
        faults={
            "fixed_box": _f(
                "the same box comes back again and again",
                "draw its area, aspect and place for each image",
                "public copies of CutMix for depth",
            ),
            "outside": _f("boxes lie outside of the image", "draw again, or clip"),
            "share": _f(
                "not half of the images are mixed", "mix with probability 0.5 (section 3.2)"
            ),
            "area": _f("the areas are others", "draw the area from 0.02 to 0.4 of the image"),
            "aspect": _f("the aspects are others", "draw the aspect from 0.3 to 1 / 0.3"),
            "place": _f("parts of the image are in no box", "draw the place uniformly"),
        },
        look=_look_at_boxes,
        parts=("boxes",),
    ),
    "garg_crop": _crop("garg_crop", "Garg's crop of KITTI"),
    "eigen_crop": _crop("eigen_crop", "Eigen's crop of NYUv2"),
    "learning_rates": Law(
        about="the optimiser: the decoder's learning rate is ten times the encoder's 5e-6 (section 4)",
        arguments={
            "encoder": "a torch module",
            "decoder": "a torch module",
            "encoder_lr": "the encoder's rate",
        },
        returns="an optimiser of torch, with every parameter in one group",
        faults={
            "one_rate_encoder": _f(
                "encoder and decoder share the encoder's rate",
                "give the decoder a group of its own, with ten times the rate",
                "public re-implementations",
            ),
            "one_rate_decoder": _f(
                "encoder and decoder share one rate",
                "give the encoder a group of its own, with a tenth of the decoder's rate",
                "public re-implementations",
            ),
            "rates_swapped": _f("the encoder has the decoder's rate", "exchange the two"),
            "missing": _f(
                "a parameter is in no group, in two, or the module has several rates",
                "put each parameter into one group",
            ),
            "other_rates": _f("the rates are others", "5e-6, and ten times as much"),
        },
        look=_look_at_rates,
        parts=("rates",),
    ),
}
"""By name."""
