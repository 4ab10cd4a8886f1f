"""Weight files as plain dictionaries of tensors, the network that is meant among what a file holds,
and loading it without a gap."""

import argparse
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy, nn

from dalib.errors import CheckpointError
from dalib.models.files import Opaque, contents

log = logging.getLogger(__name__)

SHOWN = 12  # names that an error message lists
DEEP = 4  # levels of dictionaries that are looked into
WRAPPERS = ("module", "_orig_mod")  # left by DDP and torch.compile; no names of anything
# entries that hold tensors of the same names
NOT_WEIGHTS = re.compile(r"optim|sched|scaler|grad", re.IGNORECASE)
# by which names of tensors a network is found; what stands before them is the entry
NETWORKS = re.compile(
    r"^(|.*?\.)(?="
    r"pretrained\.(?:cls_token|pos_embed|mask_token|patch_embed\.|blocks\.|norm\.)"
    r"|depth_head\.(?:projects|resize_layers|scratch)\."
    r"|backbone\.(?:embeddings|encoder|layernorm)\."
    r"|neck\.(?:reassemble_stage|convs|fusion_stage)\."
    r"|head\.conv\d\."
    r"|encoder\.net\."
    r"|decoder\.(?:reassemble|fuse|conv|head)\.)"
)
ENCODERS = re.compile(
    r"^(|.*?\.)(?=(?:cls_token|pos_embed|mask_token)$|patch_embed\.proj\.|blocks\.\d+\.)"
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One network's tensors out of a file.

    Args:
        tensors: under the names that the network itself gives them.
        entry: where in the file they stand; empty where the file is nothing but these.
        max_depths: metres that the file names under "max_depth", in its own entries or in its
            options; mostly none.
        step: of training, where the file names one.
    """

    tensors: dict[str, Tensor]
    entry: str = ""
    max_depths: tuple[float, ...] = ()
    step: int | None = None


def read(path: Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of the one network in a file; see `find`."""
    return find(path, entry=entry).tensors


def find(path: Path, *, entry: str | None = None) -> Weights:
    """The network in a safetensors file, in a state dict or in what a training script kept. No
    pickled code is run.

    It is found by the names of its tensors, wherever they stand: in `model`, `state_dict`, `ema` or
    another entry, behind `module.` or another prefix. What else the file holds is left out, and a
    line in the log says so.

    Args:
        path: the file.
        entry: which network, for a file with several ("student").

    Raises:
        CheckpointError: no such file, a damaged one, one without tensors; several networks and no
            `entry`, or an `entry` that is not there, with the list of those that are.
    """
    held, metadata = contents(path)
    tensors = dict(_flat(held))
    if not tensors:
        raise CheckpointError(f"{path}: {_describe(held)}")
    prefixes = _prefixes(tensors, NETWORKS) or _prefixes(tensors, ENCODERS)
    prefix = _choose(path, prefixes, entry) if prefixes or entry is not None else _common(tensors)
    taken = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    left = [k for k in tensors if not k.startswith(prefix)]
    if name := _name(prefix):
        log.info("%s: the weights are those of its entry %s", path, name)
    if left and entry is None:
        log.info("%s: beside the network, these tensors are left out: %s", path, _shorten(left))
    step = held.get("step") if isinstance(held, Mapping) else None
    return Weights(
        tensors=taken,
        entry=name,
        max_depths=tuple(sorted(set(_max_depths(path, [held, metadata])))),
        step=step if isinstance(step, int) else None,
    )


def _flat(held: object, deep: int = DEEP) -> Iterator[tuple[str, Tensor]]:
    """All tensors and arrays in nested dictionaries, lists and tuples, under their names joined by
    dots."""
    if isinstance(held, (list, tuple)):
        held = {str(place): value for place, value in enumerate(held)}
    if not isinstance(held, Mapping):
        return
    for key, value in held.items():
        if not isinstance(key, str):
            continue  # an optimiser's state, by number
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            value = from_numpy(np.array(value))  # a copy that may be written to
        if isinstance(value, Tensor):
            yield key, value
        elif deep and not NOT_WEIGHTS.search(key):
            yield from ((f"{key}.{name}", tensor) for name, tensor in _flat(value, deep - 1))


def _prefixes(tensors: Mapping[str, Tensor], names: re.Pattern) -> list[str]:
    return list(dict.fromkeys(match[1] for key in tensors if (match := names.match(key))))


def _name(prefix: str) -> str:
    """An entry as a user would call it: without the names that wrappers leave."""
    return ".".join(part for part in prefix.split(".") if part and part not in WRAPPERS)


def _choose(path: Path, prefixes: list[str], entry: str | None) -> str:
    known = ", ".join(_name(p) or "the file itself" for p in prefixes) or "none"
    if entry is None:
        if len(prefixes) > 1:
            raise CheckpointError(
                f"{path}: holds several networks: {known}; say which one, as in "
                f"entry={_name(prefixes[-1])!r} "
                f"(--entry {_name(prefixes[-1])}), or save it as a file of its own"
            )
        return prefixes[0]
    exact = [p for p in prefixes if _name(p) == entry]
    inside = [p for p in prefixes if f".{entry}." in f".{_name(p)}."]
    found = exact or inside
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: entry {entry!r} is {'several' if found else 'none'} of those that it has: "
            f"{known}"
        )
    return found[0]


def _common(tensors: Mapping[str, Tensor]) -> str:
    """What stands before all names, up to a dot, for weights of an unknown network."""
    first = min(tensors)
    last = max(tensors)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[: first.rfind(".", 0, same) + 1]


def _max_depths(path: Path, held: object, deep: int = DEEP) -> Iterator[float]:
    """Each "max_depth" in nested dictionaries, lists and options."""
    if isinstance(held, argparse.Namespace):
        held = vars(held)
    values = (
        held.values()
        if isinstance(held, Mapping)
        else held
        if isinstance(held, (list, tuple))
        else ()
    )
    if isinstance(held, Mapping) and held.get("max_depth") is not None:
        yield metres(held["max_depth"], f"{path}: its max_depth")
    if deep:
        for value in values:
            yield from _max_depths(path, value, deep - 1)


def metres(value: object, where: str) -> float:
    """A depth above 0 and finite; otherwise a `CheckpointError` that begins with `where`."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not 0 < number < math.inf:
        raise CheckpointError(
            f"{where} is {value!r}, which is no depth in metres; correct it, or save the weights "
            "alone"
        )
    return number


def _describe(held: object) -> str:
    """What a file without tensors holds, and what to save instead."""
    save = "save its state dict with the code that wrote it: torch.save(model.state_dict(), ...)"
    if isinstance(held, Opaque):
        return (
            f"holds a whole object of class {held.name}, which only its own code could "
            f"rebuild, and that is never run; {save}"
        )
    if isinstance(held, Tensor):
        return f"holds a single tensor of shape {tuple(held.shape)} and no state dict; {save}"
    if isinstance(held, Mapping) and held:
        entries = [f"{key} ({_what(value)})" for key, value in held.items()]
        return f"holds no tensors of a network, but {_shorten(entries)}; {save}"
    return f"holds something else than a state dict ({_what(held)}); {save}"


def _what(value: object) -> str:
    if isinstance(value, Opaque):
        return f"a whole object of class {value.name}, whose code is never run"
    if isinstance(value, Mapping):
        return "a dictionary" if value else "an empty dictionary"
    return type(value).__name__


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Load all tensors into all of a module; otherwise a `CheckpointError` that lists what does not
    fit.

    Args:
        path: of the file, for the message.
        what: the network that the tensors should be of, for the message.
    """
    wanted = module.state_dict()
    shared = wanted.keys() & tensors.keys()
    wrong = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "of another shape": sorted(
            f"{k} {tuple(tensors[k].shape)} for {tuple(wanted[k].shape)}"
            for k in shared
            if tensors[k].shape != wanted[k].shape
        ),
        "of another type (quantised weights cannot be read)": sorted(
            f"{k} {tensors[k].dtype}"
            for k in shared
            if tensors[k].is_floating_point() != wanted[k].is_floating_point()
        ),
    }
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in wrong.items() if names)
        raise CheckpointError(f"{path}: does not fit {what}: {listed}")
    module.load_state_dict(tensors)


def _shorten(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
