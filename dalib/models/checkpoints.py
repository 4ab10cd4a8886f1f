"""Reading a network from whatever its weights were written by: this library, the official code,
`transformers`, or DINOv2."""

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dalib import paths
from dalib.errors import CheckpointError, ConfigError
from dalib.models.depth_anything import ABOUT, NOTE, DepthAnything, build, read_about, restore
from dalib.models.files import kind, read_safetensors
from dalib.models.folders import layers_of, read_config, read_tensors, said_depth, same_network
from dalib.models.names import from_official, from_transformers
from dalib.models.weights import Weights, find, load_into

log = logging.getLogger(__name__)

SHIPPED = "shipped"
"""The recipe of `students.yaml` whose network comes with the library."""
ENCODERS = {192: "vitt", 384: "vits", 768: "vitb", 1024: "vitl", 1536: "vitg"}  # by width
# what the names of the released files say about what their keys do not: the layers, and the
# greatest depth of a metric network
RELEASED = (
    (r"depth_anything_v2_metric_hypersim_vit[sblg]", "v2", 20.0),
    (r"depth_anything_v2_metric_vkitti_vit[sblg]", "v2", 80.0),
    (r"depth_anything_v2_vit[sblg]", "v2", None),
    (r"depth_anything_vit[sbl]14", "v1", None),
)


def load(
    source: Path | str | None = None,
    *,
    layers: str | None = None,
    max_depth: float | None = None,
    relative: bool = False,
    position: str | None = None,
    entry: str | None = None,
) -> DepthAnything:
    """A network, in evaluation mode, from any of these; which one it is shows from the keys. No
    pickled code is run.

    - A file that `save` wrote, or one in `checkpoint/` of a run of this library that is under way.
    - A `.pth` file of Depth Anything V1 or V2, relative or metric, as a plain state dict or as an
      entry of what a training script kept (`model_state_dict`, `state_dict`, `ema`, ...). The keys
      say neither which blocks it reads nor whether it is metric, so that a file under another name
      than the released one needs `layers`, and `max_depth` or `relative`.
    - A `transformers` folder of `DepthAnythingForDepthEstimation`, or its hub id
      ("depth-anything/Depth-Anything-V2-Small-hf").
    - Plain DINOv2 weights in the official or in timm's naming: the encoder alone. The decoder is
      new, and a warning says so.

    What comes back says what it predicts (`kind`, `max_depth`). Tensors that nothing reads are kept
    in the network's `unused`.

    Args:
        source: file, folder, or hub id. Without one, the student that comes with the library
            (`shipped`).
        layers: "v1" or "v2". By default what the folder, the file itself or a released file's name
            says, and "v1" for DINOv2.
        max_depth: metres that a metric network's output reaches. By default what the folder, the
            file or a released file's name says. V1's networks are relative where nothing says
            otherwise.
        relative: the network predicts disparity, whatever a `.pth` file says or does not say.
        position: "official" or "transformers" (see `dalib.models.position.resample`). By default as
            the source's own code does it: "transformers" for its folders, "official" for `.pth`
            files, and as it was saved for our own.
        entry: which network of a file that holds several ("student").

    Raises:
        CheckpointError: damaged, partial, mis-shaped or unknown weights, with the list of what does
            not fit (in dalib's names).
        ConfigError: an argument that contradicts what the source says about itself.
    """
    if relative and max_depth is not None:
        raise ConfigError(
            f"max_depth: {max_depth} and relative contradict each other; give one of them"
        )
    if layers not in (None, "v1", "v2"):
        raise ConfigError(f"layers: {layers!r} is not one of v1, v2")
    path = shipped() if source is None else place(source)
    given = {"layers": layers, "max_depth": max_depth, "relative": relative, "position": position}
    if path.is_dir():
        weights = path / "model.safetensors"
        path = weights if weights.is_file() and _is_ours(weights) else path
    if path.is_dir():
        _no_entry(path, entry)
        model = _from_folder(path, None, **given)
    elif _is_ours(path):
        _no_entry(path, entry)
        model = _from_ours(path, **given)
    else:
        model = _from_file(path, entry=entry, **given)
    model.sources = model.sources or (path.resolve(),)
    model.about = model.about or _about(path, model.sources)
    return model


def shipped() -> Path:
    """The file of the student that comes with the library: what is used where no weights are named.

    Raises `CheckpointError` while there is none.
    """
    path = paths.shipped_weights()
    if path.is_file():
        return path
    raise CheckpointError(
        "weights: name a file, a folder or a hub id (--weights), such as "
        "depth-anything/Depth-Anything-V2-Small-hf. The student that is used where none are named is "
        f"not there ({path}); in a checkout `python -m dabook ship {SHIPPED}` makes it, and the student "
        'that `make book` trained is --weights "$(python -m dabook student)"'
    )


def _about(path: Path, sources: tuple[Path, ...]) -> dict:
    """What is known of weights that are none of our files: from a note beside them, or out of a
    folder that we exported."""
    note = path.with_name(path.name + NOTE)
    if note.is_file():
        return read_about({ABOUT: note.read_text(encoding="utf-8", errors="replace")}, note)
    for file in sources:
        if file.suffix == ".safetensors" and file.is_file() and kind(file) == "safetensors":
            return read_about(read_safetensors(file, tensors=False)[1], file)
    return {}


def place(source: Path | str) -> Path:
    """The local file or folder that a source names."""
    if not str(source):
        raise CheckpointError("weights: an empty name; give a file, a folder or a hub id")
    try:
        there = Path(source).exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: no file can have this name ({error})") from error
    return Path(source) if there else _fetch(str(source))


def _no_entry(path: Path, entry: str | None) -> None:
    if entry is not None:
        raise ConfigError(
            f"entry: {entry!r} was asked for, but {path} holds one network and no "
            "entries; leave it out"
        )


def _from_ours(path: Path, *, layers, max_depth, relative, position) -> DepthAnything:
    model = restore(path)
    _agree(path, model.architecture, layers=layers, max_depth=max_depth, relative=relative)
    if position is not None and position != model.architecture["position"]:
        other = build(**{**model.architecture, "position": position}, pretrained=False)
        other.load_state_dict(model.state_dict())
        other.unused = model.unused
        other.sources = model.sources
        other.about = model.about
        model = other.eval()
    return model


def _from_file(path: Path, *, entry, layers, max_depth, relative, position) -> DepthAnything:
    found = find(path, entry=entry)
    tensors = found.tensors
    given = {"layers": layers, "max_depth": max_depth, "relative": relative}
    if any(k.startswith(("pretrained.", "depth_head.")) for k in tensors):
        return _from_official(path, found, **given, position=position or "official")
    if any(k.startswith(("backbone.", "neck.", "head.conv")) for k in tensors):
        if (path.parent / "config.json").exists():
            return _from_folder(path.parent, tensors, **given, position=position)
        raise CheckpointError(
            f"{path}: has the names of a transformers folder; give the folder with its config.json"
        )
    if any(k.startswith(("encoder.net.", "decoder.")) for k in tensors):
        return _from_run(path, found, **given, position=position or "official")
    if any(k in ("cls_token", "pos_embed") for k in tensors):
        if relative:
            raise ConfigError(
                f"relative: {path} holds an encoder alone, which predicts neither disparity nor "
                "depth; leave it out"
            )
        warnings.warn(
            f"{path}: DINOv2 weights; the decoder is new and has to be trained", stacklevel=3
        )
        name = _encoder(path, tensors, "cls_token")
        model = build(
            name,
            pretrained=False,
            layers=layers or "v1",
            max_depth=max_depth,
            position=position or "official",
        )
        model.encoder.load_dinov2(tensors, path=path)
        return model.eval()
    raise CheckpointError(
        f"{path}: holds weights of an unknown network ({', '.join(list(tensors)[:4])}, ...); "
        "known are dalib's own files, "
        "Depth Anything's .pth files, transformers folders and plain DINOv2 weights"
    )


def _from_official(
    path: Path, found: Weights, *, layers, max_depth, relative, position
) -> DepthAnything:
    said = released(path)
    layers = layers or (said[0] if said else None)
    if layers is None:
        raise CheckpointError(
            f"{path}: the keys do not say which blocks the network reads, nor whether it predicts "
            "disparity or metres; pass "
            "layers='v1' (--layers v1; Depth Anything V1, the last four) or layers='v2' (--layers "
            "v2), for V2 with relative=True "
            "(--relative) or max_depth in metres (--max-depth 20 indoors, 80 outdoors), or keep "
            "the released name "
            "(depth_anything_vits14.pth, depth_anything_v2_vits.pth, "
            "depth_anything_v2_metric_hypersim_vits.pth)"
        )
    name = _encoder(path, found.tensors, "pretrained.cls_token")
    if max_depth is None and not relative:
        max_depth = _reach(path, found, layers, said)
    model = build(name, pretrained=False, layers=layers, max_depth=max_depth, position=position)
    return _fill(model, from_official(found.tensors, model.encoder.net.embed_dim), path)


def released(path: Path) -> tuple[str, float | None] | None:
    """Layers and greatest depth that the name of a released file says; None for any other name."""
    return next(
        ((v, reach) for pattern, v, reach in RELEASED if re.fullmatch(pattern, path.stem)), None
    )


def _reach(
    path: Path, found: Weights, layers: str, said: tuple[str, float | None] | None
) -> float | None:
    """The greatest depth that a `.pth` file or its name tells of; None for a network of disparity.

    A relative and a metric network have the same keys, and taken for the other a map has near and
    far in each other's places.
    """
    told = set(found.max_depths) | ({said[1]} if said else set())
    if len(told) == 1:
        reach = told.pop()
        if reach is not None and not said:
            log.info(
                "%s: says max_depth %g: read as a metric network (if it is not one, pass "
                "relative=True, --relative)",
                path,
                reach,
            )
        return reach
    if not told and layers == "v1":  # V1's own metric networks have other keys
        log.warning(
            "%s: read as relative disparity; a metric network needs max_depth (--max-depth)", path
        )
        return None
    kinds = sorted("relative" if reach is None else f"{reach:g} m" for reach in told)
    says = f"the file and its name say {' and '.join(kinds) or 'neither'}"
    raise CheckpointError(
        f"{path}: the keys do not say whether the network predicts disparity or metres, and "
        f"{says}; pass relative=True (--relative) "
        "for disparity, or max_depth in metres for a metric network (--max-depth 20 as released "
        "for indoors, 80 for outdoors)"
    )


def _from_run(
    path: Path, found: Weights, *, layers, max_depth, relative, position
) -> DepthAnything:
    """Weights in dalib's own names without its metadata, such as the state of a run; the
    architecture is in the run's folder."""
    places = [folder / "config.json" for folder in (path.parent.parent, path.parent)]
    config = next((p for p in places if p.is_file()), None)
    settings = read_config(config) if config else {}
    settings = (
        settings if all(isinstance(settings.get(k), str) for k in ("encoder", "layers")) else {}
    )
    name = settings.get("encoder")
    if name is None and "encoder.net.conv_stem.weight" in found.tensors:
        # lite2 has a third block where lite0 has two
        third = any(key.startswith("encoder.net.blocks.1.2.") for key in found.tensors)
        name = "lite2" if third else "lite0"
        layers = layers or "v1"
    name = name or _encoder(path, found.tensors, "encoder.net.cls_token")
    layers = layers or settings.get("layers")
    if layers is None:
        raise CheckpointError(
            f"{path}: a state dict without its architecture; pass layers='v1' or 'v2' (--layers), "
            "or use a file of save"
        )
    if max_depth is None and not relative and not settings and name not in ("lite0", "lite2"):
        max_depth = _reach(path, found, layers, None)
    try:
        model = build(name, pretrained=False, layers=layers, max_depth=max_depth, position=position)
    except ConfigError as error:
        raise CheckpointError(f"{config or path}: describes no network ({error})") from error
    if found.step is not None:
        log.info("%s: the state of a run after step %d, which may be unfinished", path, found.step)
    what = f"Depth Anything with encoder {name}"
    load_into(model, found.tensors, path=path, what=what)
    return model.eval()


def _from_folder(
    folder: Path, tensors: dict[str, Tensor] | None, *, layers, max_depth, relative, position
) -> DepthAnything:
    """A `transformers` folder; or with `tensors`, that one of several files in it."""
    file = folder / "config.json"
    config = read_config(file)
    if config.get("model_type") != "depth_anything":
        raise CheckpointError(
            f"{file}: not of DepthAnythingForDepthEstimation: model_type is "
            f"{config.get('model_type')!r} where 'depth_anything' "
            "is needed"
        )
    backbone = config.get("backbone_config")
    if not isinstance(backbone, dict) or not backbone:
        raise CheckpointError(
            f"{file}: backbone_config is {backbone!r} where the settings of a DINOv2 backbone are "
            "needed"
        )
    said = {"layers": layers_of(backbone, file), "max_depth": said_depth(config, file)}
    _agree(file, said, layers=layers, max_depth=max_depth, relative=relative)
    sources = ()
    if tensors is None:
        tensors, sources = read_tensors(folder)
    name = _encoder(folder, tensors, "backbone.embeddings.cls_token")
    model = build(name, pretrained=False, position=position or "transformers", **said)
    same_network(backbone, model, file)
    model.sources = tuple(p.resolve() for p in (folder, file, *sources))
    return _fill(model, from_transformers(tensors, model.encoder.net.embed_dim), folder)


def _fill(model: DepthAnything, tensors: dict[str, Tensor], path: Path) -> DepthAnything:
    """All tensors into the network, those that nothing reads into `unused`."""
    last = f"decoder.fuse.{len(model.decoder.fuse) - 1}.skip."
    unused = {k for k in tensors if k == "encoder.net.mask_token" or k.startswith(last)}
    model.unused = {k: tensors[k] for k in sorted(unused)}
    what = f"Depth Anything with encoder {model.architecture['encoder']}"
    load_into(model, {k: v for k, v in tensors.items() if k not in unused}, path=path, what=what)
    return model.eval()


def _encoder(path: Path, tensors: Mapping[str, Tensor], key: str) -> str:
    """The preset whose width a tensor has, or, where that one is missing, the first block's
    normalisation."""
    norms = [k for k in tensors if k.endswith(".0.norm1.weight")]
    key = key if key in tensors or not norms else norms[0]
    width = tensors[key].shape[-1] if key in tensors and tensors[key].ndim else None
    if width not in ENCODERS:
        known = ", ".join(f"{width} ({name})" for width, name in ENCODERS.items())
        raise CheckpointError(
            f"{path}: the width of {key} is {width or 'missing'}, and none of {known}"
        )
    return ENCODERS[width]


def _agree(source: Path, said: Mapping, *, relative: bool, **given) -> None:
    for name, value in given.items():
        if value is not None and value != said[name]:
            raise ConfigError(
                f"{name}: {value!r} was asked for, but {source} says {said[name]!r}; leave it out"
            )
    if relative and said["max_depth"] is not None:
        raise ConfigError(
            f"relative: {source} says that it is a metric network, to {said['max_depth']:g} m; "
            "leave it out"
        )


def _is_ours(path: Path) -> bool:
    return kind(path) == "safetensors" and "dalib" in read_safetensors(path, tensors=False)[1]


def _fetch(name: str) -> Path:
    """The local copy of a hub repository; a `CheckpointError` for a path that does not exist, and
    where there is no network."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or Path(name).suffix in (
        ".pth",
        ".pt",
        ".safetensors",
        ".bin",
    ):
        raise CheckpointError(
            f"{name}: no such file or folder, and no hub id of the form owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name, allow_patterns=["config.json", "model*.safetensors", "*.index.json"]
            )
        )
    except Exception as error:  # the hub's client raises many kinds
        raise CheckpointError(
            f"{name}: no such file or folder, and it could not be fetched from the hub "
            f"({type(error).__name__}). "
            "Connect once, or give a local folder."
        ) from error
