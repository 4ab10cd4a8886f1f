"""Reading a network from whatever its weights were written by: this library, the official code, `transformers`, or DINOv2."""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from dalib.errors import CheckpointError, ConfigError
from dalib.models.depth_anything import DepthAnything, build, restore
from dalib.models.encoder import SPREAD
from dalib.models.names import from_official, from_transformers
from dalib.models.weights import fit, read

ENCODERS = {192: "vitt", 384: "vits", 768: "vitb", 1024: "vitl", 1536: "vitg"}  # by width
# what the names of the released files say about what their keys do not: the layers, and the greatest depth of a metric network
RELEASED = (
    (r"depth_anything_v2_metric_hypersim_vit[sblg]", "v2", 20.0),
    (r"depth_anything_v2_metric_vkitti_vit[sblg]", "v2", 80.0),
    (r"depth_anything_v2_vit[sblg]", "v2", None),
    (r"depth_anything_vit[sbl]14", "v1", None),
)


def load(
    source: Path | str, *, layers: str | None = None, max_depth: float | None = None, position: str | None = None
) -> DepthAnything:
    """A network, in evaluation mode, from any of these; which one it is shows from the keys. No pickled code is run.

    - A file that `save` wrote.
    - A `.pth` file of Depth Anything V1 or V2, relative or metric. The keys say neither which blocks it reads nor whether it is
      metric, so that a file under another name than the released one needs `layers`, and a metric one `max_depth`.
    - A `transformers` folder of `DepthAnythingForDepthEstimation`, or its hub id ("depth-anything/Depth-Anything-V2-Small-hf").
    - Plain DINOv2 weights in the official or in timm's naming: the encoder alone. The decoder is new, and a warning says so.

    Tensors that nothing reads are kept in the network's `unused`.

    Args:
        source: file, folder, or hub id.
        layers: "v1" or "v2". By default what the folder, the file itself or a released file's name says, and "v1" for DINOv2.
        max_depth: metres that a metric network's output reaches. By default what the folder, the file or a released file's name
            says; otherwise the network is taken for a relative one.
        position: "official" or "transformers" (see `dalib.models.position.resample`). By default as the source's own code does
            it: "transformers" for its folders, "official" for `.pth` files, and as it was saved for our own.

    Raises:
        CheckpointError: damaged, partial, mis-shaped or unknown weights, with the list of what does not fit (in dalib's names).
        ConfigError: an argument that contradicts what the source says about itself.
    """
    path = Path(source)
    if not path.exists():
        path = _fetch(str(source))
    if path.is_dir():
        return _from_folder(path, layers=layers, max_depth=max_depth, position=position)
    if _is_ours(path):
        model = restore(path)
        _agree(path, model.architecture, layers=layers, max_depth=max_depth)
        if position is not None and position != model.architecture["position"]:
            other = build(**{**model.architecture, "position": position}, pretrained=False)
            other.load_state_dict(model.state_dict())
            other.unused, model = model.unused, other.eval()
        return model
    tensors = read(path)
    if any(k.startswith(("pretrained.", "depth_head.")) for k in tensors):
        return _from_official(path, tensors, layers=layers, max_depth=max_depth, position=position or "official")
    if any(k.startswith(("backbone.", "neck.", "head.conv")) for k in tensors):
        if (path.parent / "config.json").exists():
            return _from_folder(path.parent, layers=layers, max_depth=max_depth, position=position)
        raise CheckpointError(f"{path}: has the names of a transformers folder; give the folder with its config.json")
    if {"cls_token", "pos_embed"} & tensors.keys():
        warnings.warn(f"{path}: DINOv2 weights; the decoder is new and has to be trained", stacklevel=2)
        name = _encoder(path, tensors, "cls_token")
        options = {"layers": layers or "v1", "max_depth": max_depth, "position": position or "official"}
        return build(name, encoder_weights=path, **options).eval()
    raise CheckpointError(
        f"{path}: holds weights of an unknown network ({', '.join(list(tensors)[:4])}, ...); known are dalib's own files, "
        "Depth Anything's .pth files, transformers folders and plain DINOv2 weights"
    )


def _from_official(path: Path, tensors: Mapping[str, Tensor], *, layers, max_depth, position) -> DepthAnything:
    said = next(((v, metres) for pattern, v, metres in RELEASED if re.fullmatch(pattern, path.stem)), (None, None))
    layers = layers or said[0]
    if layers is None:
        raise CheckpointError(
            f"{path}: the keys do not say which blocks the network reads; pass layers='v1' (Depth Anything V1, the last four) "
            "or layers='v2', or keep the released name (depth_anything_vits14.pth, depth_anything_v2_vits.pth)"
        )
    name = _encoder(path, tensors, "pretrained.cls_token")
    model = build(name, pretrained=False, layers=layers, max_depth=max_depth or said[1], position=position)
    return _fill(model, from_official(tensors, model.encoder.net.embed_dim), path)


def _from_folder(folder: Path, *, layers, max_depth, position) -> DepthAnything:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a transformers folder: no readable config.json ({error})") from error
    files = sorted(folder.glob("*.safetensors"))
    if config.get("model_type") != "depth_anything" or not files:
        raise CheckpointError(
            f"{folder}: not a folder of DepthAnythingForDepthEstimation: model_type is {config.get('model_type')!r} where "
            f"'depth_anything' is needed, and there are {len(files)} safetensors files"
        )
    tensors = {k: v for file in files for k, v in read(file).items()}
    name = _encoder(folder, tensors, "backbone.embeddings.cls_token")
    backbone = config.get("backbone_config") or {}
    said = {"layers": _layers(folder, backbone)}
    said["max_depth"] = float(config["max_depth"]) if config.get("depth_estimation_type") == "metric" else None
    _agree(folder, said, layers=layers, max_depth=max_depth)
    model = build(name, pretrained=False, position=position or "transformers", **said)
    _check(folder, backbone, model)
    return _fill(model, from_transformers(tensors, model.encoder.net.embed_dim), folder)


def _layers(folder: Path, backbone: Mapping) -> str:
    """V1 or V2 from the blocks that a folder's backbone hands out, which `transformers` counts from 1."""
    named = [int(s.removeprefix("stage")) for s in backbone.get("out_features") or [] if s != "stem"]
    found = tuple(n - 1 for n in backbone.get("out_indices") or named)
    depth = backbone.get("num_hidden_layers", 12)
    for layers, blocks in (("v1", tuple(range(depth - 4, depth))), ("v2", SPREAD.get(depth))):
        if found == blocks:
            return layers
    raise CheckpointError(f"{folder}: reads the blocks {found} of {depth}, which neither V1 nor V2 does")


def _check(folder: Path, backbone: Mapping, model: DepthAnything) -> None:
    """Refuse a folder whose network differs from ours in what no tensor's shape shows."""
    blocks = model.encoder.net.blocks
    wanted = {
        "num_attention_heads": blocks[0].attn.num_heads,
        "num_hidden_layers": len(blocks),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "apply_layernorm": True,
    }
    defaults = {"num_attention_heads": 12, "num_hidden_layers": 12}
    for key, value in wanted.items():
        found = backbone.get(key, defaults.get(key, value))
        if found != value:
            raise CheckpointError(f"{folder}: backbone_config.{key} is {found} where Depth Anything has {value}")


def _fill(model: DepthAnything, tensors: dict[str, Tensor], path: Path) -> DepthAnything:
    """All tensors into the network, those that nothing reads into `unused`."""
    last = f"decoder.fuse.{len(model.decoder.fuse) - 1}.skip."
    unused = {k for k in tensors if k == "encoder.net.mask_token" or k.startswith(last)}
    model.unused = {k: tensors[k] for k in sorted(unused)}
    what = f"Depth Anything with encoder {model.architecture['encoder']}"
    fit(model, {k: v for k, v in tensors.items() if k not in unused}, path=path, what=what)
    return model.eval()


def _encoder(path: Path, tensors: Mapping[str, Tensor], key: str) -> str:
    """The preset whose width a tensor has."""
    width = tensors[key].shape[-1] if key in tensors else None
    if width not in ENCODERS:
        known = ", ".join(f"{width} ({name})" for width, name in ENCODERS.items())
        raise CheckpointError(f"{path}: the width of {key} is {width or 'missing'}, and none of {known}")
    return ENCODERS[width]


def _agree(source: Path, said: Mapping, **given) -> None:
    for name, value in given.items():
        if value is not None and value != said[name]:
            raise ConfigError(f"{name}: {value!r} was asked for, but {source} says {said[name]!r}; leave it out")


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "dalib" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _fetch(name: str) -> Path:
    """The local copy of a hub repository; a `CheckpointError` for a path that does not exist, and where there is no network."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or Path(name).suffix in (".pth", ".pt", ".safetensors", ".bin"):
        raise CheckpointError(f"{name}: no such file or folder, and no hub id of the form owner/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors"]))
    except Exception as error:  # the hub's client raises many kinds
        raise CheckpointError(
            f"{name}: no such file or folder, and it could not be fetched from the hub ({type(error).__name__}). "
            "Connect once, or give a local folder."
        ) from error
