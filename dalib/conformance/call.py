"""Calling somebody's function, and looking at what comes back."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from dalib.conformance.catalogue import Kind
from dalib.functions import CallError

SYNONYMS = {
    "pred": ("prediction", "pred_depth", "pred_disparity", "input", "output"),
    "target": ("gt", "target_depth", "target_disparity", "ground_truth", "label"),
    "valid": ("mask", "valid_mask"),
    "student": ("student_features", "features"),
    "frozen": ("frozen_features", "teacher_features"),
    "inside": ("box", "cutmix_box"),
    "target_inside": ("target_in",),
    "max_depth": ("cap",),
    "margin": ("alpha", "tolerance"),
}
"""Other names that an argument may have without saying so: what cannot be misunderstood."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one vector.

    Args:
        values: float64: (B,), one number (), a pair (2, B), or a map (B, H, W).
        kind: "image", "number", "pair", "map".
        plain: a Python number came back where a tensor is meant.
        single: it came in float32, or in less.
        gradient: float64, of the sum of it; None where none was asked for.
        attached: whether a gradient can flow.
        wrote: it wrote into an input.
    """

    values: Array
    kind: str
    plain: bool = False
    single: bool = False
    gradient: Array | None = None
    attached: bool = True
    wrote: bool = False


def names(function: Callable, kind: Kind, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Argument of the kind -> name that the function has for it; optional ones that it lacks are
    left out.

    Args:
        function: whose signature is read.
        kind: what it should be.
        given: names that somebody said.
    """
    given = dict(given or {})
    unknown = set(given) - set(kind.arguments)
    if unknown:
        raise CallError(
            f"--names: this kind has no argument {', '.join(sorted(unknown))}; it has "
            f"{', '.join(kind.arguments)}"
        )
    try:
        own = getattr(function, "forward", function)  # of a torch module
        parameters = inspect.signature(own).parameters
    except (TypeError, ValueError):
        return {name: given.get(name, name) for name in kind.arguments}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    by_name = {
        n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    found = {}
    for name in kind.arguments:
        choices = [given[name]] if name in given else [name, *SYNONYMS.get(name, ())]
        fits = [c for c in choices if c in by_name]
        if fits:
            found[name] = fits[0]
        elif anything:
            found[name] = choices[0]
        elif name in given or name not in kind.optional:
            raise CallError(_wanted(kind, name, list(parameters)))
    needed = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    surplus = [n for n in needed if n not in found.values()]
    if surplus:
        raise CallError(
            f"the function also needs {', '.join(surplus)}, which this kind does not have; wrap it:"
            f"\n{wrapper(kind)}"
        )
    return found


def _wanted(kind: Kind, name: str, own: list[str]) -> str:
    told = "\n".join(f"  {n}: {words}" for n, words in kind.arguments.items())
    return (
        f"the function has no argument {name!r}: its own are {', '.join(own) or 'none'}. It is called"
        f" by keyword, with\n{told}\nSay what it calls them (--names {name}=...), or wrap it:\n"
        f"{wrapper(kind)}"
    )


def wrapper(kind: Kind) -> str:
    """An adapter to fill in."""
    return f"  def adapted({', '.join(kind.arguments)}):\n      return yours(...)"


def call(
    function: Callable,
    inputs: Mapping[str, Array | float],
    called: Mapping[str, str],
    kind: Kind,
    *,
    numpy: bool,
    dtype: str,
    device: str = "cpu",
    with_gradient: bool = False,
    metric: str | None = None,
) -> Answer:
    """Call a function with one vector's inputs.

    Args:
        called: of `names`.
        numpy: it takes NumPy arrays, not tensors.
        dtype: "float64" or "float32", of the maps.
        with_gradient: ask for the gradient, where something comes back that has one.
        metric: which to take of a dict.

    Raises whatever the function raises, and `CallError` where what comes back is no answer.
    """
    import torch

    given = {}
    for name, own in called.items():
        x = inputs[name]
        if isinstance(x, float):
            given[own] = x
        elif x.dtype == bool:
            given[own] = x.copy() if numpy else torch.tensor(x, device=device)
        else:
            array = x.astype(dtype)
            given[own] = array if numpy else torch.tensor(array, device=device)
    before = {
        n: x.copy() if numpy else x.clone() for n, x in given.items() if not isinstance(x, float)
    }
    leaf = None
    if kind.gradient and not numpy:
        leaf = given[called[kind.gradient]].requires_grad_()
    result = function(**given)
    wrote = not all(_same(given[n], x, numpy) for n, x in before.items())
    if isinstance(result, Mapping):
        held = ", ".join(map(str, result)) or "nothing"
        if metric is None:
            raise CallError(f"a dict came back, of {held}; wanted: {kind.returns}")
        if metric not in result:
            raise CallError(f"the dict that came back has {held}; it should have {metric}")
        result = result[metric]
    shape = inputs[next(iter(called))].shape
    values, form, single = _read(result, kind, shape)
    plain = leaf is not None and not isinstance(result, torch.Tensor)
    attached = leaf is None or (not plain and result.requires_grad)
    gradient = None
    if leaf is not None and attached and with_gradient:
        total = result.sum()
        (found,) = torch.autograd.grad(total, leaf, allow_unused=True)
        gradient = None if found is None else found.detach().cpu().double().numpy()
        attached = gradient is not None
    return Answer(
        values=values,
        kind=form,
        plain=plain,
        single=single,
        gradient=gradient,
        attached=attached,
        wrote=wrote,
    )


def _same(x: object, y: object, numpy: bool) -> bool:
    if numpy:
        return np.array_equal(x, y, equal_nan=x.dtype != bool)
    x = x.detach()
    return bool(((x == y) | ((x != x) & (y != y))).all())


def _read(result: object, kind: Kind, shape: tuple[int, ...]) -> tuple[Array, str, bool]:
    """Values in float64, their form, and whether they have no more than float32's digits.

    Raises `CallError` for anything that is no answer.
    """
    wanted = f"; wanted: {kind.returns}"
    if isinstance(result, tuple | list) and kind.values_form == "pair":
        if len(result) != 2:
            raise CallError(f"{len(result)} things came back{wanted}")
        parts = [_array(x, wanted) for x in result]
        if any(x.size not in (1, shape[0]) for x in parts):
            raise CallError(f"scale and shift have shapes {[x.shape for x in parts]}{wanted}")
        values = np.stack([np.broadcast_to(x.reshape(-1), (shape[0],)) for x in parts])
        return values.astype(float), "pair", all(map(_is_single, parts))
    if result is None:
        raise CallError(f"None came back: does the function lack a return?{wanted}")
    x = _array(result, wanted)
    single = _is_single(x)
    values = x.astype(float)
    if kind.values_form == "pair":
        if x.shape == shape:
            return values, "map", single
        if x.shape == (shape[0], 2):
            return values.T, "pair", single
        raise CallError(f"shape {x.shape} came back for maps of {shape}{wanted}")
    if x.size == 1 and (x.ndim == 0 or shape[0] != 1):
        return values.reshape(()), "number", single
    if x.shape == (shape[0],):
        return values, "image", single
    raise CallError(f"shape {x.shape} came back for inputs of {shape}{wanted}")


def _array(x: object, wanted: str) -> Array:
    if hasattr(x, "detach"):  # a tensor of torch
        if str(x.layout) != "torch.strided" or x.device.type == "meta":
            raise CallError(
                f"a tensor without plain values ({x.layout}, {x.device}) came back{wanted}"
            )
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x
        x = x.numpy()
    try:
        found = np.asarray(x)
    except Exception as error:
        raise CallError(
            f"{type(x).__name__} came back, which is no array: {error}{wanted}"
        ) from error
    if found.dtype.kind not in "fiu":
        plain = isinstance(x, np.ndarray | np.generic) or hasattr(x, "numpy")
        what = f"an array of {found.dtype}" if plain else type(x).__name__
        raise CallError(f"{what} came back{wanted}")
    return found


def _is_single(x: Array) -> bool:
    """By its type; a number without one by its digits."""
    if x.dtype in (np.float32, np.float16):
        return True
    with np.errstate(over="ignore"):
        return bool((x.astype(np.float32).astype(float) == x)[np.isfinite(x)].all())
