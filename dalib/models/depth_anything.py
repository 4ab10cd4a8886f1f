"""The whole network: an encoder and a DPT decoder, from normalised images to disparity up to scale and shift."""

import json
import os
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dalib.errors import CheckpointError
from dalib.models.dpt import DPT
from dalib.models.encoder import Encoder


class DepthAnything(nn.Module):
    """Encoder and decoder.

    Args:
        encoder: a preset ("lite0", "vits", "vitb", "vitl", "vitg") or a timm model name.
        pretrained: start the encoder from its pre-trained weights.
        layers: see `Encoder`.
    """

    def __init__(self, *, encoder: str = "lite0", pretrained: bool = True, layers: str = "v1"):
        super().__init__()
        self.architecture = {"encoder": encoder, "layers": layers}
        self.encoder = Encoder(name=encoder, pretrained=pretrained, layers=layers)
        spec = self.encoder.spec
        self.decoder = DPT(
            channels=self.encoder.channels,
            out_channels=spec.out_channels,
            features=spec.features,
            scales=self.encoder.scales,
            hidden=spec.hidden,
        )
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)
        self.multiple = self.encoder.multiple

    def normalise(self, images: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """uint8 RGB, or floats in 0..1, to what `forward` expects."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return (images - self.mean) / self.std

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b c h2 w2"]]:
        """Disparity (b, h, w) up to scale and shift, at least 0, and the encoder's deepest features."""
        maps = self.encoder(images)
        return self.decoder(maps, tuple(images.shape[-2:])), maps[-1]

    @torch.inference_mode()
    def predict(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Disparity of uint8 images whose sides are multiples of `multiple`, in evaluation mode."""
        if self.training:
            self.eval()
        device = self.mean.device
        batch = self.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
        return self(batch)[0].float()


def build(
    encoder: str = "lite0", *, pretrained: bool = True, layers: str = "v1", seed: int | None = None
) -> DepthAnything:
    """A network by the short name of its encoder. With a seed, the new weights are the same every time."""
    if seed is None:
        return DepthAnything(encoder=encoder, pretrained=pretrained, layers=layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DepthAnything(encoder=encoder, pretrained=pretrained, layers=layers)


def save(model: DepthAnything, path: Path) -> None:
    """Write weights and architecture as safetensors, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, partial, metadata={"dalib": json.dumps(model.architecture)})
    os.replace(partial, path)


def load(path: Path, *, expect: str | None = None) -> DepthAnything:
    """Read a network that `save` wrote. Raises `CheckpointError` for a damaged file or another architecture than expected."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); train or copy it again") from error
    if "dalib" not in metadata:
        raise CheckpointError(
            f"{path}: has no dalib metadata, so its architecture is unknown; use a file written by dalib.models.save"
        )
    try:
        architecture = {k: json.loads(metadata["dalib"])[k] for k in ("encoder", "layers")}
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: its dalib metadata name no encoder and layers; train or copy it again"
        ) from error
    if expect is not None and architecture["encoder"] != expect:
        raise CheckpointError(
            f"{path}: holds a network with encoder {architecture['encoder']!r} where {expect!r} was expected"
        )
    model = build(architecture["encoder"], pretrained=False, layers=architecture["layers"])
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    shapes = [k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape]
    if missing or extra or shapes:
        raise CheckpointError(
            f"{path}: does not fit {architecture}: missing {missing[:5]}, unexpected {extra[:5]}, other shape {shapes[:5]}"
        )
    model.load_state_dict(tensors)
    return model.eval()
