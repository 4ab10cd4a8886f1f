"""Other programs that run our networks on a CPU: OpenVINO and ONNX Runtime, from one exported file
that the cache keeps.

A network is exported once for all sizes of image, as ONNX, since that is what takes long (ten
seconds for ViT-S). The file lies in the cache under the digest of the weights, of the code that
builds the network and of the versions that exported it. OpenVINO then compiles it for each size in
under a second, ONNX Runtime once for all sizes.
"""

import contextlib
import importlib
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b, file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dalib import paths, provenance
from dalib.errors import ConfigError, DiskError, UserError
from dalib.models.depth_anything import DepthAnything
from dalib.models.export import export_onnx
from dalib.models.inference import has_bfloat16, optimise
from dalib.predict.fingerprint import fingerprint
from dalib.writing import write_text

ENGINES = ("torch", "openvino", "onnxruntime", "auto")
PACKAGES = {
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
}
PRECISIONS = {
    "openvino": {torch.float32: "fp32", torch.bfloat16: "bf16"},
    "onnxruntime": {torch.float32: "fp32"},
}
CONTENDERS = {"torch": "dalib", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
"""What the engines are called in the record of `benchmarks/inference.py`."""
KINDS = {
    "amx": "matrix units (AMX)",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512": "AVX-512",
    "avx2": "AVX2",
}
"""Kinds of processors, by what decides which engine is fast on them."""
SIZES = 4
"""Sizes of image for which OpenVINO holds a network of its own. Further ones share one for all
sizes, a tenth slower, since each network holds its weights once more."""


SMALLEST = 3
"""Multiples of the network's stride that a side has to have, see `dalib.models.export`. (OpenVINO
2026.4 is wrong by a fifth of the range at 28 x 14.)"""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Mean difference from float32 in PyTorch, in shares of the map's range, beyond which an engine is
taken for wrong."""


@dataclass(frozen=True)
class Choice:
    """An engine, and why it was taken."""

    name: str
    why: str


# ---- which engine


def choose(
    engine: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
) -> Choice:
    """The engine that a setting stands for. Needs no network.

    Args:
        engine: any of `ENGINES`; "auto" is the fastest of those that are installed by the recorded
            timings of a processor of this kind, and PyTorch where there are none.
        device: where the network is to run.
        dtype: its precision.
        compile: whether `torch.compile` was asked for, which only PyTorch has.

    Raises:
        ConfigError: an unknown engine, one that is not installed, or one that does not run on this
            device or in this precision.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r}: must be one of {', '.join(ENGINES)} (--engine)")
    if engine == "auto":
        return _auto(device=device, dtype=dtype, compile=compile)
    if engine != "torch":
        if refusal := _refusal(engine, device=device, dtype=dtype, compile=compile):
            raise ConfigError(f"engine {engine}: {refusal}")
        if missing := _missing(engine):
            raise ConfigError(f"engine {engine}: {missing}")
    return Choice(engine, "as asked for")


def _auto(*, device: torch.device, dtype: torch.dtype, compile: bool) -> Choice:
    if device.type != "cpu":
        return Choice("torch", f"the device is {device}")
    if compile:
        return Choice("torch", "only PyTorch compiles")
    kind = processor_kind()
    record = recorded(kind)
    if record is None:
        return Choice(
            "torch", f"no timings are recorded for a processor with {KINDS.get(kind, kind)}"
        )
    seconds = _seconds(record, dtype)
    if "torch" not in seconds:
        return Choice("torch", f"no timings are recorded in {_name(dtype)}")
    order = sorted(seconds, key=seconds.get)
    left_out = []
    for name in order:
        if name == "torch":
            break
        if refusal := _refusal(name, device=device, dtype=dtype, compile=compile):
            left_out.append(f"{name}: {refusal}")
        elif _missing(name):
            left_out.append(f"{name} is faster and not installed")
        else:
            break
    ratio = seconds["torch"] / seconds[name]
    why = (
        f"{ratio:.2f} times as fast as PyTorch in {_name(dtype)}"
        if name != "torch"
        else f"the fastest in {_name(dtype)}"
    )
    why += f", as recorded on a processor with {KINDS.get(kind, kind)}"
    return Choice(name, "; ".join([why, *left_out]))


def processor_kind() -> str:
    """This processor's kind: one of `KINDS`, or the name of its architecture."""
    has = torch.cpu.get_capabilities()
    marks = {
        "amx": "amx_bf16",
        "avx512_bf16": "avx512_bf16",
        "avx512": "avx512_f",
        "avx2": "avx2",
    }
    return next((kind for kind, mark in marks.items() if has.get(mark)), platform.machine())


def recorded(kind: str) -> dict | None:
    """The newest record of timings of a kind of processor among `data/benchmarks/inference*.json`,
    None where there is none."""
    found = []
    for file in sorted(paths.benchmarks().glob("inference*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            record = json.loads(file.read_text(encoding="utf-8"))
            if record.get("processor kind") == kind:
                found.append(record)
    return max(found, key=lambda record: record["created"], default=None)


def _seconds(record: dict, dtype: torch.dtype) -> dict[str, float]:
    """Engine -> seconds of one image in a precision."""
    end = "" if dtype == torch.float32 else f", {_name(dtype)}"
    names = {contender + end: engine for engine, contender in CONTENDERS.items()}
    return {
        names[row["contender"]]: row["seconds"]
        for row in record["rows"]
        if row["batch"] == 1 and row["contender"] in names
    }


def _refusal(engine: str, *, device: torch.device, dtype: torch.dtype, compile: bool) -> str:
    """Why an engine cannot do it, empty where it can."""
    if device.type != "cpu":
        return f"runs on the CPU, not on {device}; leave --device out, or take --engine torch"
    if compile:
        return "compiles by itself; leave --compile out, or take --engine torch"
    if dtype not in PRECISIONS[engine]:
        known = " or ".join(PRECISIONS[engine].values())
        return f"computes in {known} on a CPU, not in {_name(dtype)} (--dtype)"
    if dtype == torch.bfloat16 and not has_bfloat16(device):
        return "this processor has no bfloat16; take --dtype fp32"
    return ""


def _missing(engine: str) -> str:
    """What to install for an engine, empty where all is there."""
    for package in PACKAGES[engine]:
        try:
            importlib.import_module(package)
        except ImportError:
            words = " ".join(PACKAGES[engine])
            return (
                f"{package} is not installed: python -m pip install {words}, or in a checkout "
                "python -m pip install -e '.[engines]'"
            )
    return ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- the exported network, in the cache


def exported(model: DepthAnything, *, digest: str) -> Path:
    """The network as ONNX in the cache; exported where it is not there yet or damaged.

    Args:
        model: which has these weights.
        digest: of its weights and architecture, see `dalib.predict.fingerprint`.

    Raises:
        ConfigError: a network that cannot be exported, or a cache that cannot be written.
    """
    key = blake2b(json.dumps([digest, *_made_by()]).encode(), digest_size=8).hexdigest()
    paths.writable_runs()
    file = paths.cache() / "engines" / f"{key}.onnx"
    note = file.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(note.read_text(encoding="utf-8"))["blake2b"] == _checksum(file):
            return file
    # a folder of its own, for another process may be at the same network
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            fresh = Path(folder) / file.name
            _export(model, fresh)
            checksum = _checksum(fresh)
            os.replace(fresh, file)
    except OSError as error:
        raise DiskError(f"{file}: could not be written ({error.strerror or error})") from error
    facts = {"blake2b": checksum, "network": digest, "architecture": model.architecture}
    write_text(note, json.dumps(facts | dict(_made_by()), indent=1) + "\n")
    return file


@cache
def _made_by() -> list[tuple[str, str]]:
    """Everything besides the weights that the exported file depends on."""
    found = [("code", provenance.files_hash(sorted(Path(__file__).parents[1].glob("models/*.py"))))]
    for package in ("torch", "timm", "onnx", "onnxscript"):
        with contextlib.suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return found


def _export(model: DepthAnything, file: Path) -> None:
    name = model.architecture["encoder"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about itself
            export_onnx(model, file)
    except UserError:
        raise
    except Exception as error:  # the exporter has many ways to say that it cannot
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"a network with encoder {name} cannot be exported ({reason}); take --engine torch"
        ) from error


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, lambda: blake2b(digest_size=16)).hexdigest()


# ---- running it

Run = Callable[[Float[Tensor, "1 3 h w"]], Float[Tensor, "1 h w"]]
"""One normalised image -> its map: a network that an engine compiled."""


class Engine:
    """A network run by OpenVINO or ONNX Runtime, on as many threads as PyTorch has.

    The first image of each compiled network is run by PyTorch in float32 too. Where the two are
    apart by more than `TOLERANCE`, PyTorch keeps that size, as it does sizes of less than
    `SMALLEST` multiples, for which the exported network does not vouch.

    Args:
        model: any of ours; it stays as it is.
        engine: "openvino" or "onnxruntime".
        dtype: float32, or for OpenVINO bfloat16.

    Attributes:
        deviations: size -> the largest and the mean difference from PyTorch in float32 on the first
            image, in shares of the map's range.

    Raises:
        ConfigError: a network that cannot be exported, and what `choose` refuses.
    """

    def __init__(self, *, model: nn.Module, engine: str, dtype: torch.dtype = torch.float32):
        choose(engine, device=torch.device("cpu"), dtype=dtype)
        if not isinstance(model, DepthAnything):
            raise ConfigError(
                f"engine {engine}: takes networks of dalib.models, and this is a "
                f"{type(model).__name__}; take --engine torch"
            )
        self.name, self.model, self.dtype = engine, model, dtype
        self.deviations: dict[tuple[int, int], tuple[float, float]] = {}
        self._news: list[str] = []
        self._runs: dict[tuple[int, int], Run] = {}
        self._pytorch: dict[torch.dtype, Run] = {}
        file = exported(model, digest=fingerprint(model))
        self._network = NETWORKS[engine](file, dtype)

    @torch.inference_mode()
    def __call__(
        self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b h w"]:
        """What the network's `kind` says, float32, of uint8 RGB or floats in 0..1 whose sides are
        multiples of its `multiple`.

        Images are taken one by one: together they take no less time.
        """
        if images.dtype == torch.uint8:
            images = images.float() / 255
        images = images.float().cpu().contiguous()
        size = tuple(images.shape[-2:])
        if size not in self._runs:
            self._runs[size] = self._ready(size, images[:1])
        return torch.cat([self._runs[size](image) for image in images.split(1)])

    def news(self) -> list[str]:
        """What is to be told since the last call: the deviation, and what PyTorch had to take
        over."""
        found, self._news = self._news, []
        return found

    def _ready(self, size: tuple[int, int], image: Float[Tensor, "1 3 h w"]) -> Run:
        """What runs images of one size."""
        if min(size) < SMALLEST * self.model.multiple:
            self._news.append(f"engine {self.name}: {_shape(size)} is too small for it: PyTorch's")
            return self._by_pytorch(self.dtype)
        run, is_new = self._network.at(size)
        if not is_new:
            return run
        most, mean = deviation(run(image), self._by_pytorch(torch.float32)(image))
        if not self.deviations:
            self._news.append(
                f"engine {self.name}: differs from float32 in PyTorch by {100 * most:.2g} % of the "
                f"map's range at most, {100 * mean:.2g} % on average, on the first image"
            )
        self.deviations[size] = most, mean
        if mean <= TOLERANCE[self.dtype]:
            return run
        self._news.append(
            f"engine {self.name}: is wrong at {_shape(size)}, by {100 * mean:.2g} % of the map's "
            "range on average: PyTorch's"
        )
        return self._by_pytorch(self.dtype)

    def _by_pytorch(self, dtype: torch.dtype) -> Run:
        if dtype not in self._pytorch:
            self._pytorch[dtype] = optimise(self.model, device="cpu", dtype=dtype)
        return self._pytorch[dtype]

    # What `dalib.training.pseudo.label` asks of a network, besides.

    def predict(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """The same of uint8 images, as `DepthAnything.predict`."""
        return self(images)

    def eval(self) -> "Engine":
        """Itself: an engine never trains."""
        return self


def deviation(
    found: Float[Tensor, "b h w"], reference: Float[Tensor, "b h w"]
) -> tuple[float, float]:
    """The largest and the mean difference of maps, as shares of the reference's range (as they are
    where that is constant)."""
    span = float(reference.max() - reference.min()) or 1.0
    apart = (found - reference).abs() / span
    return float(apart.max()), float(apart.mean())


def _shape(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


class _OpenVINO:
    """The first `SIZES` sizes have a compiled network each, all others share one."""

    def __init__(self, file: Path, dtype: torch.dtype):
        import openvino

        self.file = file
        self.compiled: dict[tuple[int, int] | None, Run] = {}  # None: the one for all sizes
        self.core = openvino.Core()
        self.options = {
            "INFERENCE_PRECISION_HINT": {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }

    def at(self, size: tuple[int, int]) -> tuple[Run, bool]:
        """What runs a size, and whether it was compiled for it just now."""
        place = size if len(self.compiled) < SIZES else None
        if place in self.compiled:
            return self.compiled[place], False
        network = self.core.read_model(self.file)
        if place is not None:
            network.reshape([1, 3, *place])
        request = self.core.compile_model(network, "CPU", self.options).create_infer_request()

        def run(image: Tensor) -> Tensor:
            # a copy, since the next image is written to the same place
            return torch.from_numpy(request.infer([image.numpy()], share_inputs=True)[0].copy())

        self.compiled[place] = run
        return run, True


class _ONNXRuntime:
    """One session for all sizes: it is no slower than one for a single size."""

    def __init__(self, file: Path, dtype: torch.dtype):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.is_new = True
        self.run = lambda image: torch.from_numpy(session.run(None, {"images": image.numpy()})[0])

    def at(self, size: tuple[int, int]) -> tuple[Run, bool]:
        """What runs a size, and whether it is the first."""
        is_new, self.is_new = self.is_new, False
        return self.run, is_new


NETWORKS = {"openvino": _OpenVINO, "onnxruntime": _ONNXRuntime}
