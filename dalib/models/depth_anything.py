"""The whole network: an encoder and a DPT decoder, from normalised images to disparity up to scale
and shift."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn

from dalib.errors import CheckpointError, ConfigError
from dalib.models.dpt import DPT
from dalib.models.encoder import Encoder
from dalib.models.files import kind, read_safetensors
from dalib.models.weights import load_into, metres
from dalib.writing import whole

# prefix, in our files, of tensors that came with released weights and that nothing reads
UNUSED = "unused."
# entry of a safetensors file's metadata with what is known of the weights, as JSON
ABOUT = "dalib_about"
# what the name of a file that cannot carry it gets, for a note beside it
NOTE = ".about.json"


class DepthAnything(nn.Module):
    """Encoder and decoder.

    What comes out is **disparity** (larger is nearer), up to scale and shift, unless `max_depth` is
    given: then it is **depth in metres** (larger is farther), as in V2's metric networks; or
    `relative_depth` is set: then it is **depth** (larger is farther) up to scale and shift, which
    the study compares with disparity and nothing else reads. `kind` says which. Nothing converts
    one into the other.

    Args:
        encoder: a preset ("lite0", "lite2", "vitt", "vits", "vitb", "vitl", "vitg") or a timm
            model name.
        pretrained: start the encoder from its pre-trained weights.
        layers: blocks that a ViT's maps come from, "v1" or "v2" (see `Encoder`).
        position: resampling of a ViT's position embeddings, "official" or "transformers" (see
            `dalib.models.position.resample`).
        max_depth: metres that the output reaches, for a network of metric depth (20 indoors and 80
            outdoors in V2's releases).
        encoder_weights: a local file of plain DINOv2 weights for a ViT, read instead of the hub's.
        relative_depth: the output is depth up to scale and shift; the layers are those for
            disparity.

    Attributes:
        unused: tensors that came with released weights and that nothing reads, under the names that
            they would have here (DINOv2's mask token, a residual unit of the deepest fusion block).
            They are kept for writing them back.
        sources: the files that the weights were read from, which no export writes over.
        about: what is known of the weights besides the network, as JSON: `licence` (an SPDX name),
            `derived_from` (a list of weights), `trained` (how). `save`, `load` and the exports keep
            it; empty where nobody said anything.

    Raises:
        ConfigError: an unknown encoder or option, a `max_depth` that is no depth, or one beside
            `relative_depth`.
    """

    def __init__(
        self,
        *,
        encoder: str = "lite0",
        pretrained: bool = True,
        layers: str = "v1",
        position: str = "official",
        max_depth: float | None = None,
        encoder_weights: Path | None = None,
        relative_depth: bool = False,
    ):
        super().__init__()
        if relative_depth and max_depth is not None:
            raise ConfigError("relative_depth: contradicts max_depth; give one of them")
        if max_depth is not None and not 0 < max_depth < math.inf:
            raise ConfigError(
                f"max_depth: {max_depth} is no depth in metres; give a number above 0, or none "
                "for disparity"
            )
        self.architecture = {
            "encoder": encoder,
            "layers": layers,
            "position": position,
            "max_depth": max_depth,
        }
        if relative_depth:
            self.architecture["relative_depth"] = True
        self.unused: dict[str, Tensor] = {}
        self.sources: tuple[Path, ...] = ()
        self.about: dict[str, Any] = {}
        self.encoder = Encoder(
            name=encoder,
            pretrained=pretrained,
            layers=layers,
            position=position,
            weights=encoder_weights,
        )
        spec = self.encoder.spec
        self.decoder = DPT(
            channels=self.encoder.channels,
            out_channels=spec.out_channels,
            features=spec.features,
            scales=self.encoder.scales,
            hidden=spec.hidden,
            max_depth=max_depth,
        )
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)
        self.multiple = self.encoder.multiple

    @property
    def kind(self) -> str:
        """What `forward` and `predict` return: "disparity" up to scale and shift, "depth_m", depth
        in metres, or "relative_depth", depth up to scale and shift."""
        if self.architecture.get("relative_depth"):
            return "relative_depth"
        return "disparity" if self.architecture["max_depth"] is None else "depth_m"

    @property
    def max_depth(self) -> float | None:
        """Metres that the output reaches, of a metric network; None for disparity."""
        return self.architecture["max_depth"]

    def normalise(
        self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 3 h w"]:
        """uint8 RGB, or floats in 0..1, to what `forward` expects."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return (images - self.mean) / self.std

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b c h2 w2"]]:
        """What `kind` says, (b, h, w), and the encoder's deepest features.

        Disparity is at least 0 and known up to scale and shift; depth is in metres, from 0 to
        `max_depth`.
        """
        maps = self.encoder(images)
        return self.decoder(maps, tuple(images.shape[-2:])), maps[-1]

    @torch.inference_mode()
    def predict(
        self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b h w"]:
        """What `kind` says (disparity, or depth in metres) of images, uint8 or floats in 0..1,
        whose sides are multiples of `multiple`.

        Puts the network into evaluation mode.
        """
        if self.training:
            self.eval()
        device = self.mean.device
        batch = self.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
        return self(batch)[0].float()


def build(
    encoder: str = "lite0",
    *,
    pretrained: bool = True,
    layers: str = "v1",
    position: str = "official",
    max_depth: float | None = None,
    encoder_weights: Path | None = None,
    relative_depth: bool = False,
    seed: int | None = None,
) -> DepthAnything:
    """A network by the short name of its encoder; see `DepthAnything`. With a seed, the new weights
    are the same every time."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return DepthAnything(
            encoder=encoder,
            pretrained=pretrained,
            layers=layers,
            position=position,
            max_depth=max_depth,
            encoder_weights=encoder_weights,
            relative_depth=relative_depth,
        )


def save(
    model: DepthAnything,
    path: Path,
    *,
    about: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write weights and architecture as safetensors, whole or not at all. A full disk is a
    `CheckpointError`.

    Args:
        model: the network.
        path: the file.
        about: what is known of the weights, see `DepthAnything.about`; by default what the network
            carries already.
        half: as float16, half the size; it is read as float32 again.

    Raises:
        ConfigError: an `about` that JSON cannot say; with `half`, a weight that float16 cannot hold.
    """
    tensors = model.state_dict() | {UNUSED + k: v for k, v in model.unused.items()}
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    if half:
        tensors = {k: _halved(k, v) for k, v in tensors.items()}
    metadata = {"dalib": json.dumps(model.architecture)} | about_metadata(
        model.about if about is None else about
    )
    with whole(path, error=CheckpointError) as partial:
        save_file(tensors, partial, metadata=metadata)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """A tensor as float16; one of whole numbers as it is."""
    if not tensor.is_floating_point():
        return tensor
    found = tensor.half()
    if not torch.isfinite(found).all():
        raise ConfigError(f"half: {name} has values that float16 cannot hold; save it as float32")
    return found


def about_metadata(about: Mapping[str, Any]) -> dict[str, str]:
    """`DepthAnything.about` as a safetensors file carries it; nothing where nothing is known."""
    if not about:
        return {}
    try:
        return {ABOUT: json.dumps(dict(about), allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"about: JSON cannot say it ({error}); give text, numbers, lists and dictionaries"
        ) from error


def read_about(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The inverse of `about_metadata`. Unreadable words are a `CheckpointError`: among them may be
    a licence."""
    try:
        about = json.loads(metadata.get(ABOUT, "{}"))
        if isinstance(about, dict):
            return about
        error = "no dictionary"
    except ValueError as problem:
        error = problem
    raise CheckpointError(f"{path}: what it says about its weights cannot be read ({error})")


RELATIVE_DEPTH = (
    "depth up to scale and shift (task: depth), which only the evaluation of its own run reads; "
    "train one with task: disparity"
)
"""What is said of networks of `relative_depth`, wherever disparity or metres are meant."""


def refuse_other_kinds(model: nn.Module) -> None:
    """A `ConfigError` for a network of classes, or of depth up to scale and shift, where one of
    disparity or of metres is meant; within a wrapper too, which says nothing of its kind."""
    parts = model.modules() if isinstance(model, nn.Module) else [model]
    if any(getattr(part, "kind", None) == "relative_depth" for part in parts):
        raise ConfigError(f"this network predicts {RELATIVE_DEPTH}")
    if getattr(model, "kind", None) == "classes":
        raise ConfigError(
            "this network predicts classes, no depth; see dalib.evaluation.segmentation for what "
            "works with it"
        )


def classes_of(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes that a file's metadata give its network; none for one of depth.

    Raises TypeError for what is no list of names.
    """
    names = stored.get("classes", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("classes is no list of names")
    return tuple(names)


def restore(
    path: Path, *, expect: str | None = None, relative_depth: bool = False
) -> DepthAnything:
    """Read a network that `save` wrote. Raises `CheckpointError` for a damaged file, another
    encoder than expected, or a network of depth up to scale and shift, unless that is asked for
    (`relative_depth`), and then for any other."""
    form = kind(path)
    if form != "safetensors":
        raise CheckpointError(
            f"{path}: not a readable safetensors file but what torch.save writes ({form}); "
            "train or copy it again, or give it to a command, which reads such files too"
        )

    # what it says of itself
    tensors, metadata = read_safetensors(path)
    if "dalib" not in metadata:
        raise CheckpointError(
            f"{path}: has no dalib metadata, so its architecture is unknown; use a file that "
            "a run left, or one that dalib.models.save wrote"
        )
    try:
        stored = json.loads(metadata["dalib"])
        architecture = {"encoder": str(stored["encoder"]), "layers": str(stored["layers"])}
        if "position" in stored:  # absent in older files, as is the next
            architecture["position"] = str(stored["position"])
        reach = stored.get("max_depth")
        classes = classes_of(stored)
        of_depth = bool(stored.get("relative_depth", False))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: its dalib metadata name no encoder and layers; train or copy it again"
        ) from error
    if classes:
        raise CheckpointError(
            f"{path}: holds a network of semantic segmentation, which predicts {len(classes)} classes "
            "and no depth; give a network of depth here, or take this one's encoder in a run (start: "
            "{weights: FILE, part: encoder}) or in finetune; in Python restore_segmenter reads it"
        )
    if of_depth and not relative_depth:
        raise CheckpointError(f"{path}: holds a network that predicts {RELATIVE_DEPTH}")
    if relative_depth and not of_depth:
        raise CheckpointError(f"{path}: holds no network of depth up to scale and shift")
    if of_depth:
        architecture["relative_depth"] = True
    if expect is not None and architecture["encoder"] != expect:
        raise CheckpointError(
            f"{path}: holds a network with encoder {architecture['encoder']!r} where {expect!r} "
            "was expected"
        )
    architecture["max_depth"] = (
        None if reach is None else metres(reach, f"{path}: max_depth of its dalib metadata")
    )

    # the network, and its weights in it
    try:
        model = build(**architecture, pretrained=False)
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: its dalib metadata describe no network ({error}); train or copy it again"
        ) from error
    model.sources = (path.resolve(),)
    model.about = read_about(metadata, path)
    unused = {k for k in tensors if k.startswith(UNUSED)}
    used = {k: v for k, v in tensors.items() if k not in unused}
    model.unused = {k.removeprefix(UNUSED): tensors[k] for k in unused}
    load_into(model, used, path=path, what=str(architecture))
    return model.eval()
