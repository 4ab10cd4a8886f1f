"""Weight files as plain dictionaries of tensors, and loading them without a gap."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dalib.errors import CheckpointError

WRAPPERS = ("model", "state_dict")  # entries of a training checkpoint that hold the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # left by DDP, torch.compile and wrapping modules
SHOWN = 12  # names that an error message lists


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict that `torch.save` wrote, without wrappers and common prefixes.

    No pickled code is run. Raises `CheckpointError` for a file that is missing, damaged or holds anything but tensors.
    """
    try:
        with path.open("rb") as file:
            safetensors = file.read(9)[8:] == b"{"  # eight bytes of length, then JSON
        tensors = load_file(path) if safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable file of weights ({error}); fetch or copy it again") from error
    while isinstance(tensors, Mapping) and (inner := [tensors[k] for k in WRAPPERS if _is_dict(tensors.get(k))]):
        tensors = inner[0]
    if not isinstance(tensors, Mapping) or not tensors or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise CheckpointError(f"{path}: holds something else than a state dict; save `model.state_dict()`")
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return dict(tensors)


def _is_dict(value: object) -> bool:
    return isinstance(value, Mapping)


def fit(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Load all tensors into all of a module; otherwise a `CheckpointError` that lists what does not fit.

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
    }
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in wrong.items() if names)
        raise CheckpointError(f"{path}: does not fit {what}: {listed}")
    module.load_state_dict(tensors)


def _shorten(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
