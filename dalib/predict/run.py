"""Disparity for people: one image, a list, a folder or a video in, maps at the size of the images
out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from dalib.data.listing import list_folder
from dalib.errors import ConfigError, DataError
from dalib.models.depth_anything import DepthAnything, refuse_other_kinds
from dalib.models.inference import optimise
from dalib.models.sizes import default_short_side, resize_disparity
from dalib.predict import engines
from dalib.predict.faults import finite
from dalib.predict.frames import is_video, video_maps
from dalib.predict.prepare import Picture, Prepared, prepare
from dalib.provenance import device_type

LARGEST = 8192
"""A short side beyond which no network here was ever run, nor would fit into memory."""
HELD = 4
"""Images that wait for others of their size: at most this many batches."""

Maps = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b h w"]]
"""Normalised images -> their maps: what runs the network."""


def check_numbers(*, short_side: int | None = None, batch: int = 1) -> None:
    """A `ConfigError` that names the number which no network could be run with."""
    if short_side is not None and not 1 <= short_side <= LARGEST:
        raise ConfigError(f"short_side {short_side}: must be 1 to {LARGEST} (--short-side)")
    if batch < 1:
        raise ConfigError(f"batch {batch}: must be at least 1 (--batch)")


def usable_device(device: str | torch.device | None, *, engine: str = "torch") -> torch.device:
    """The device, on which numbers can be reckoned and read back; by default the accelerator where
    there is one, else the CPU, which is the only one of an engine other than PyTorch."""
    if device is None and engine in engines.PACKAGES:
        device = "cpu"
    try:
        result = torch.device(device_type() if device is None else device)
        torch.ones(1, device=result).add(1).cpu()
    except Exception as error:  # each kind of device has its own way to say that it is not there
        raise ConfigError(_no_device(device, error)) from error
    return result


def _no_device(device: str | torch.device | None, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"device {str(device)!r} cannot be used ({reason}); leave it out, or use cpu (--device)"


def ready(model: nn.Module, *, device: torch.device, dtype: torch.dtype, compile: bool) -> Maps:
    """A network of ours in its form for inference, a copy; any other module moved to the device,
    under autocast where asked for."""
    if isinstance(model, DepthAnything):
        return optimise(model, device=device, dtype=dtype, compile=compile)
    model = model.to(device, memory_format=torch.channels_last).eval()
    mean, std = (torch.as_tensor(x, device=device).view(3, 1, 1) for x in (model.mean, model.std))
    net = torch.compile(model, dynamic=True) if compile else model
    half = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()

    def maps(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        with half:
            output = net(((images - mean) / std).contiguous(memory_format=torch.channels_last))
        return (output[0] if isinstance(output, tuple) else output).float()

    return maps


class Predictor:
    """A network made ready to run on any images.

    Args:
        model: as `dalib.models` gives it: normalised images (b, 3, h, w) -> maps (b, h, w), alone
            or first in a tuple, with `mean`, `std` and `multiple`; for a metric one, `kind`
            "depth_m" and `architecture["max_depth"]`.
        short_side: of the network's input; by default `default_short_side`.
        batch: images at a time; only images of one network size share a batch.
        device: the accelerator where there is one, else "cpu".
        dtype: float32, or bfloat16 or float16 under autocast.
        compile: `torch.compile`; pays from some hundred images of one size on.
        engine: what runs the network: "torch", "openvino", "onnxruntime", or "auto", which is the
            fastest one that is installed by the timings recorded on a processor of this kind. See
            `dalib.predict.engines`.

    Attributes:
        engine: the one that was taken.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        short_side: int | None = None,
        batch: int = 4,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        engine: str = "torch",
    ):
        refuse_other_kinds(model)
        self.short_side = short_side if short_side is not None else default_short_side(model)
        check_numbers(short_side=self.short_side, batch=batch)
        self.device = usable_device(device, engine=engine)
        self.model, self.multiple, self.batch, self.dtype = model, model.multiple, batch, dtype
        self.kind = getattr(model, "kind", "disparity")
        self.max_depth = getattr(model, "architecture", {}).get("max_depth")
        self._news: list[str] = []
        self._maps = self._by_engine(engine, compile=compile)
        if self._maps is None:
            try:
                self._maps = ready(model, device=self.device, dtype=dtype, compile=compile)
            except (RuntimeError, AssertionError) as error:
                raise ConfigError(_no_device(device, error)) from error

    def _by_engine(self, asked: str, *, compile: bool) -> engines.Engine | None:
        """The network in the engine that was asked for, or None where that is PyTorch."""
        choice = engines.choose(asked, device=self.device, dtype=self.dtype, compile=compile)
        self.engine, why = choice.name, choice.why
        result = None
        if self.engine != "torch":
            try:
                result = engines.Engine(model=self.model, engine=self.engine, dtype=self.dtype)
            except ConfigError as error:
                if asked != "auto":
                    raise
                self.engine, why = "torch", str(error)
        if asked != "torch":
            self._news.append(f"engine {self.engine}: {why}")
        return result

    def news(self) -> list[str]:
        """What is to be told since the last call: which engine was taken and why, and how far it is
        from PyTorch."""
        found, self._news = self._news, []
        return found + (self._maps.news() if isinstance(self._maps, engines.Engine) else [])

    def prepare(self, picture: Picture, *, name: str = "image") -> Prepared:
        """See `dalib.predict.prepare.prepare`."""
        return prepare(picture, name=name, short_side=self.short_side, multiple=self.multiple)

    @torch.inference_mode()
    def __call__(self, items: Sequence[Prepared]) -> list[Float[Tensor, "h w"]]:
        """The maps of one batch, all of one network size, at that size, float32 on the CPU."""
        return list(self._maps(torch.stack([item.image for item in items]).to(self.device)).cpu())

    def batches(self, items: Iterable[Prepared]) -> Iterator[list[Prepared]]:
        """Items of one network size together. What waits is bounded: beyond that the fullest group
        goes unfilled."""
        waiting: dict[tuple, list[Prepared]] = defaultdict(list)
        for item in items:
            size = tuple(item.image.shape)
            waiting[size].append(item)
            if len(waiting[size]) == self.batch:
                yield waiting.pop(size)
            elif sum(map(len, waiting.values())) >= HELD * self.batch:
                yield waiting.pop(max(waiting, key=lambda s: len(waiting[s])))
        yield from waiting.values()

    def full_size(self, items: Iterable[Prepared]) -> dict[str, Float[Tensor, "_ _"]]:
        """Name -> map at the image's own size, which a photograph of 100 megapixels makes 400 MB.

        Raises:
            DataError: a map that is not finite.
        """
        result = {}
        for group in self.batches(items):
            for item, disparity in zip(group, self(group), strict=True):
                result[item.name] = resize_disparity(finite(disparity, item.name)[None], item.size)[
                    0
                ]
        return result


def predict(
    images: Picture | Sequence[Picture],
    *,
    model: nn.Module,
    short_side: int | None = None,
    batch: int = 4,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    engine: str = "torch",
) -> Float[Tensor, "H W"] | list[Float[Tensor, "_ _"]] | dict[str, Float[Tensor, "_ _"]] | Iterator:
    """The maps of images, each at the size of its image: relative disparity, larger is nearer, or
    metres for a metric network.

    Args:
        images: one image (a file, a Pillow image, an array, or a uint8 tensor (3, H, W)), a list of
            them, a folder (searched with its sub-folders), or a video file.
        model: and the rest, see `Predictor`.

    Returns:
        float32 on the CPU: one map for one image; a list in the order given for a list; name -> map
        for a folder, which all have to fit into memory (`dalib.predict.write_folder` writes them
        one by one instead); an iterator of maps, frame by frame, for a video.

    Raises:
        DataError: an image that cannot be read, by name; a map that is not finite.
        ConfigError: an impossible short side, batch, device or engine.
    """
    run = Predictor(
        model=model,
        short_side=short_side,
        batch=batch,
        device=device,
        dtype=dtype,
        compile=compile,
        engine=engine,
    )
    if isinstance(images, (str, Path)):
        if is_video(images):
            return (
                resize_disparity(disparity[None], frame.size)[0]
                for frame, disparity in video_maps(Path(images), run)
            )
        if Path(images).is_dir():
            names = list_folder(images).names
            if not names:
                raise DataError(f"{images}: no photograph in this folder")
            maps = run.full_size(run.prepare(Path(images) / name, name=name) for name in names)
            return {name: maps[name] for name in names}
    if isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor)):
        return run.full_size([run.prepare(images)]).popitem()[1]
    maps = run.full_size(
        run.prepare(picture, name=f"image {i}") for i, picture in enumerate(images)
    )
    return [maps[f"image {i}"] for i in range(len(maps))]
