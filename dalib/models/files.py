"""What a file of weights holds, whoever wrote it. No code out of a file is ever run: what is no
plain data stays closed."""

import argparse
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from dalib.errors import CheckpointError

UNPACK = "an archive of another kind; unpack it, and give the file of weights in it"
PICTURE = "a picture"
STARTS = (  # first bytes of what is taken for weights, and what it is
    (
        b"version https://git-lfs",
        "a Git LFS pointer, which stands for the file; fetch the file itself with `git lfs pull`",
    ),
    (b"\x1f\x8b", UNPACK),
    (b"BZh", UNPACK),
    (b"\xfd7zXZ", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", UNPACK),
    (b"Rar!", UNPACK),
    (b"\x28\xb5\x2f\xfd", UNPACK),
    (b"\x89HDF", "an HDF5 file, as Keras and MATLAB write them; convert it to safetensors"),
    (b"\x93NUMPY", "one NumPy array; save a state dict"),
    (b"GGUF", "a GGUF file; get the weights as .safetensors or .pth"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
)
PAGE = (
    "a web page and no weights: the link led to a page (a login, a licence, a preview); "
    "download the file itself"
)


class Opaque:
    """Stands for an object in a pickle whose class is not loaded: it takes whatever is said about
    the object, and does nothing."""

    name = ""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, _):
        pass


def kind(path: Path) -> str:
    """ "safetensors", or "zip" or "pickle" for what `torch.save` wrote in its present and its old
     form, by the first bytes.

    Raises `CheckpointError` that says what the file is instead.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder where a file of weights is needed")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable file of weights ({error}); fetch or copy it again"
        ) from error
    if not head:
        raise CheckpointError(f"{path}: an empty file; fetch or copy it again")
    said = next((what for start, what in STARTS if head.startswith(start)), None) or _text(head)
    if said is None and head[257:262] == b"ustar":
        said = UNPACK
    if said is None and path.suffix.lower() == ".onnx":
        said = (
            "an ONNX graph, which is an export and cannot be read back; give the weights that "
            "it was made from"
        )
    if said is not None:
        raise CheckpointError(f"{path}: {said}")
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length + 8 > size:
            raise CheckpointError(
                f"{path}: not a readable safetensors file, for it is cut off (a header of "
                f"{length} bytes in a file of {size}); "
                "fetch or copy it again"
            )
        return "safetensors"
    if head.startswith(b"PK"):
        return _archive(path)
    if head[:1] == b"\x80":
        return "pickle"
    raise CheckpointError(
        f"{path}: not a readable file of weights: neither safetensors nor what torch.save writes"
    )


def _text(head: bytes) -> str | None:
    """What a text is; None for bytes that are none."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return PAGE
    if any(byte < 9 or 13 < byte < 32 for byte in head):
        return None
    return (
        "a JSON text"
        if start.startswith((b"{", b"["))
        else ("a text and no weights; fetch the file itself")
    )


def _archive(path: Path) -> str:
    """ "zip" for an archive that `torch.save` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable file of weights, for it is cut off or damaged; fetch or copy "
            "it again"
        ) from error
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        raise CheckpointError(
            f"{path}: a TorchScript program; save `model.state_dict()` of the network that it was "
            "made from"
        )
    if "data.pkl" in ends:
        return "zip"
    npz = names and all(name.endswith(".npy") for name in names)
    raise CheckpointError(
        f"{path}: {'NumPy arrays (.npz); save a state dict with torch.save' if npz else UNPACK}"
    )


def contents(path: Path) -> tuple[object, dict[str, str]]:
    """What a file holds, and the metadata of a safetensors file.

    Numbers and arrays of NumPy and `argparse.Namespace` are data and are read. Objects of all other
    classes come as `Opaque`, whose `name` says which class it would take. Raises `CheckpointError`
    for a damaged file.
    """
    form = kind(path)
    if form == "safetensors":
        return read_safetensors(path)
    names: list[str] = []
    try:
        known = _data()
        if form == "zip":
            with safe_globals(known):
                names = sorted(get_unsafe_globals_in_checkpoint(path))
        closed = [(type("Opaque", (Opaque,), {"name": name}), name) for name in names]
        with safe_globals([*known, *closed]):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        needed = names or list(dict.fromkeys(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        if not needed:
            raise CheckpointError(
                f"{path}: not a readable file of weights, it is damaged; fetch or copy it again"
            ) from None
        raise CheckpointError(
            f"{path}: could only be read by running code out of it ({', '.join(needed)}), which "
            "is never done; "
            "save plain weights with the code that wrote it: torch.save(model.state_dict(), ...)"
        ) from None  # torch's own message advises to run that code
    except Exception as error:  # damaged archives and pickles end in errors of any class
        reason = (
            ""
            if "weights_only" in str(error)
            else f" ({str(error).splitlines()[0][:120]})"
            if str(error)
            else ""
        )
        raise CheckpointError(
            f"{path}: not a readable file of weights, it is damaged{reason}; fetch or copy it again"
        ) from None


def read_safetensors(
    path: Path, *, tensors: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; or its metadata alone, without reading the
    rest."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys() if tensors else ()
            return {k: file.get_tensor(k) for k in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); train or copy it again"
        ) from error


def _data() -> list:
    """Classes and functions that only hold data: NumPy's under the names of its versions 1 and 2,
    and `argparse.Namespace`."""
    functions = {name: getattr(np._core.multiarray, name) for name in ("scalar", "_reconstruct")}
    named = [
        (f, f"numpy.{core}.multiarray.{name}")
        for name, f in functions.items()
        for core in ("core", "_core")
    ]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"}
    return [
        *named,
        np.ndarray,
        np.dtype,
        *kinds,
        argparse.Namespace,
        (_dictionary, "collections.defaultdict"),
    ]


def _dictionary(*_) -> dict:
    return {}
