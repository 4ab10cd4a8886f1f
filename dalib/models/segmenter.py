"""The network of a transfer to semantic segmentation (section 4.4): the same encoder, and a DPT
decoder whose head has classes. The authors' configurations have a Mask2Former in its place
(`LiheYoung/Depth-Anything`, semseg/config).

Its files say which classes they have. Whatever works with depth (`dalib.load`, `predict`, `export`,
`evaluate`) refuses them in words.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dalib.errors import CheckpointError, ConfigError
from dalib.models.depth_anything import DepthAnything, classes_of, read_about
from dalib.models.dpt import ClassDecoder
from dalib.models.encoder import Encoder
from dalib.models.files import kind, read_safetensors
from dalib.models.weights import load_into

MOST = 255
"""Classes that a map of bytes can tell apart, beside the one that means "unknown"."""


class Segmenter(DepthAnything):
    """An encoder, and a decoder of classes.

    Args:
        classes: their names, in the order of their numbers.
        network: the other arguments of `DepthAnything`, without `max_depth`.

    Raises:
        ConfigError: no class, too many, or one twice; and as `DepthAnything`.
    """

    def __init__(self, *, classes: Sequence[str], **network: Any):
        names = list(classes)
        if not 2 <= len(names) <= MOST or len(set(names)) < len(names):
            raise ConfigError(
                f"classes: {len(names)} names, {len(set(names))} of them different; give 2 to "
                f"{MOST} different ones"
            )
        super().__init__(**network)
        self.decoder = class_decoder(self.encoder, classes=len(names))
        self.architecture["classes"] = names

    @property
    def kind(self) -> str:
        """ "classes"."""
        return "classes"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return tuple(self.architecture["classes"])

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h2 w2"]]:
        """The logits of the classes (b, k, h, w), and the encoder's deepest features."""
        maps = self.encoder(images)
        return self.decoder(maps, tuple(images.shape[-2:])), maps[-1]

    @torch.inference_mode()
    def predict(self, images: UInt8[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w"]:
        """The number of the likeliest class of each pixel, of uint8 images whose sides are
        multiples of `multiple`. Puts the network into evaluation mode."""
        if self.training:
            self.eval()
        batch = self.normalise(images.to(self.mean.device))
        logits, _ = self(batch.contiguous(memory_format=torch.channels_last))
        return logits.argmax(1).to(torch.uint8)


def class_decoder(encoder: Encoder, *, classes: int) -> ClassDecoder:
    """A decoder of classes for an encoder, of the size that its depth decoder has; the weights are
    new."""
    spec = encoder.spec
    return ClassDecoder(
        classes=classes,
        channels=encoder.channels,
        out_channels=spec.out_channels,
        features=spec.features,
        scales=encoder.scales,
        hidden=spec.hidden,
    )


def build_segmenter(
    encoder: str = "lite0", *, classes: Sequence[str], seed: int | None = None, **network: Any
) -> Segmenter:
    """A `Segmenter` by the short name of its encoder. With a seed, the new weights are the same
    every time."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return Segmenter(encoder=encoder, classes=classes, **network)


def holds_classes(path: str | Path) -> bool:
    """Whether a file says that it holds a network of classes; False for any other file or folder."""
    try:
        stored = json.loads(read_safetensors(Path(path), tensors=False)[1].get("dalib", "{}"))
        return bool(classes_of(stored))
    except (CheckpointError, OSError, ValueError, TypeError, AttributeError):
        return False


def restore_segmenter(path: str | Path, *, expect: str | None = None) -> Segmenter:
    """Read a network of classes that `dalib.models.save` wrote, in evaluation mode.

    Args:
        path: the file.
        expect: the encoder that it must have; any by default.

    Raises:
        CheckpointError: a damaged file, one of a network that has no classes, or of another encoder
            than expected.
    """
    path = Path(path)
    if (form := kind(path)) != "safetensors":
        raise CheckpointError(
            f"{path}: not a readable safetensors file but what torch.save writes ({form}); a "
            "network of classes is read from the file that its run left"
        )
    tensors, metadata = read_safetensors(path)
    try:
        stored = json.loads(metadata.get("dalib", "{}"))
        names = classes_of(stored)
        architecture = {name: str(stored[name]) for name in ("encoder", "layers", "position")}
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: its dalib metadata name no encoder and classes; train or copy it again"
        ) from error
    if not names:
        raise CheckpointError(
            f"{path}: holds a network of depth, which has no classes; train one with task: "
            "segmentation"
        )
    if expect is not None and architecture["encoder"] != expect:
        raise CheckpointError(
            f"{path}: holds a network with encoder {architecture['encoder']!r} where {expect!r} "
            "was expected"
        )
    try:
        model = Segmenter(classes=names, pretrained=False, **architecture)
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: its dalib metadata describe no network ({error}); train or copy it again"
        ) from error
    model.sources = (path.resolve(),)
    model.about = read_about(metadata, path)
    load_into(model, tensors, path=path, what=str(architecture))
    return model.eval()
