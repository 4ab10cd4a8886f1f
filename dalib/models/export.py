"""Networks for the world outside: `transformers` folders, the official `.pth` files, ONNX and
`torch.export`.

What is known of the weights goes with them, their licence first: in a folder's README.md, in a note
beside a `.pth` file, and in the metadata of an ONNX file.
"""

import copy
import json
import logging
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dalib.errors import CheckpointError, ConfigError
from dalib.models.checkpoints import released
from dalib.models.depth_anything import NOTE, DepthAnything, about_metadata, refuse_other_kinds
from dalib.models.encoder import PRESETS
from dalib.models.licences import Terms, origins, terms_of
from dalib.models.names import to_official, to_transformers
from dalib.writing import refuse_existing, refuse_file, refuse_folder, whole, whole_files

log = logging.getLogger(__name__)

SHORT_SIDE = 518  # what the paper's images are resized to
NAMED = (".pth", ".pt", ".safetensors", ".onnx")
"""Endings of a file's name that say what it holds."""
FOLDER = "config.json", "model.safetensors", "preprocessor_config.json", "README.md"


def export_official(model: DepthAnything, path: Path, *, overwrite: bool = False) -> None:
    """Write a state dict that the official code of Depth Anything V1 or V2 loads (V2's for metric
    depth in its `metric_depth`).

    The file does not say which blocks the network reads: give it a name that does
    ("depth_anything_v2_vits.pth"). Nor can it say what its licence is: where that is known, it
    stands in a note beside it ("depth_anything_v2_vits.pth.about.json"), which `load` reads again.

    Args:
        model: one of the paper's networks.
        path: the file, which is written whole or not at all.
        overwrite: whether it may replace a file; never the one that the network was loaded from.

    Raises:
        ConfigError: a network that is none of the paper's; a file that is there already; a released
            name of another kind of network.
        CheckpointError: a place that cannot be written to, or a full disk.
    """
    tensors = to_official(_tensors(model), model.encoder.net.embed_dim)
    _check_file(model, path, overwrite=overwrite, own=(".pth", ".pt"))
    own = (model.architecture["layers"], model.max_depth)
    if (named := released(path)) and named != own:
        kinds = [
            f"{layers} and {'relative' if reach is None else f'metric to {reach:g} m'}"
            for layers, reach in (named, own)
        ]
        raise ConfigError(
            f"{path}: this released name says {kinds[0]}, and the network is {kinds[1]}; give it "
            "another name"
        )
    about = _about(model)
    note = path.with_name(path.name + NOTE)
    if about or note.exists():  # another network's licence may not stay there
        refuse_existing([note], overwrite=overwrite)
        with whole(note, error=CheckpointError) as partial:
            partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with whole(path, error=CheckpointError, also=(RuntimeError,)) as partial:
        torch.save(tensors, partial)
    _tell(model, path)


def _about(model: DepthAnything) -> dict[str, Any]:
    """What is known of the weights: what they carry, else the terms of released ones; else
    nothing."""
    terms = terms_of(model)
    about = {"licence": terms.licence, "derived_from": [asdict(terms)]} if terms.known else {}
    about = about | model.about
    about_metadata(about)  # whether JSON can say it
    return about


def _tell(model: DepthAnything, path: Path) -> None:
    """Say under which licence what was written is."""
    terms = terms_of(model)
    note = f" ({terms.note})" if terms.note else ""
    log.info("%s: licence %s%s", path, terms.licence, note)
    if terms.commercial is False:
        log.warning("%s: commercial use is not allowed; whoever gets it must be told", path)


def model_card(model: DepthAnything, *, title: str) -> str:
    """A README.md of weights in the hub's form: what they are, their licence, what they were made
    from, and how they were trained."""
    terms = terms_of(model)
    about = _about(model)
    what = "disparity, up to scale and shift (larger is nearer)"
    if model.max_depth is not None:
        what = f"depth in metres, up to {model.max_depth:g}"
    lines = [
        "---",
        *_licence_entry(terms),
        "library_name: transformers",
        "pipeline_tag: depth-estimation",
        "---",
        f"# {_inline(str(about.get('name') or title))}",
        "",
        f"Depth Anything with encoder {model.architecture['encoder']}. It predicts {what}.",
        "",
        "## Licence",
        "",
        f"**{_inline(terms.licence)}**" + (f", by {terms.source}." if terms.source else "."),
        "",
    ]
    if terms.commercial is False:
        lines += [
            "Commercial use is not allowed, and what is made from these weights keeps this.",
            "",
        ]
    if entries := origins(about):
        lines += ["| made from | licence | stated at | note |", "|---|---|---|---|"]
        for entry in entries:
            cells = [_cell(str(entry.get(k) or "")) for k in ("name", "licence", "source", "note")]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    if about.get("trained"):
        trained = json.dumps(about["trained"], indent=2, ensure_ascii=False)
        lines += ["## How it was trained", "", "~~~~json", trained, "~~~~", ""]
    return "\n".join(lines)


def _licence_entry(terms: Terms) -> list[str]:
    """Of a card's head, by the hub's names."""
    if not terms.known:
        return ["license: unknown"]
    if re.fullmatch(r"[A-Za-z0-9.+-]+", terms.licence):
        return [f"license: {terms.licence.lower()}"]
    return ["license: other", f"license_name: {json.dumps(terms.licence)}"]


def _cell(text: str) -> str:
    """One of a table: an address as a link, anything else as text."""
    return f"<{text}>" if re.fullmatch(r"https://[^\s<>|]+", text) else _inline(text)


def _inline(text: str) -> str:
    """Text on one line of Markdown that is only text."""
    text = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def _check_file(model: DepthAnything, path: Path, *, overwrite: bool, own: tuple[str, ...]) -> None:
    """Refuse a place that cannot be written to, and a name that says another format than `own`."""
    refuse_folder(path)
    refuse_existing([path], sources=_files(model), overwrite=overwrite)
    if path.suffix in NAMED and path.suffix not in own:
        raise ConfigError(
            f"{path}: the file would not be what its name says; end it in {' or '.join(own)}"
        )


def _files(model: DepthAnything) -> list[Path]:
    """The files that a network was loaded from, those in its folders too."""
    inside = [file for source in model.sources if source.is_dir() for file in source.iterdir()]
    return [*model.sources, *inside]


def export_transformers(model: DepthAnything, folder: Path, *, overwrite: bool = False) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json for `transformers`'
    DepthAnythingForDepthEstimation, and a README.md that states the licence (see `model_card`).

    `AutoModelForDepthEstimation.from_pretrained(folder)` and `pipeline("depth-estimation",
    model=folder)` load it. `transformers` itself is not needed for writing. It resamples position
    embeddings in its own way, so that a network whose `position` is "official" gives other numbers
    there, except for 518 x 518 pixels; a warning says so.

    Args:
        model: one of the paper's networks.
        folder: where the files go, all or none; what else is in it stays.
        overwrite: whether they may replace files of these names; never those that the network was
            loaded from.

    Raises:
        ConfigError: a network that is none of the paper's (a CNN, say), a `max_depth` that is no
            whole number of metres, or files that are there already.
        CheckpointError: a place that cannot be written to, or a full disk.
    """
    # what cannot be written
    tensors = to_transformers(_tensors(model), model.encoder.net.embed_dim)
    max_depth = model.architecture["max_depth"]
    if max_depth is not None and not float(max_depth).is_integer():
        raise ConfigError(
            f"max_depth: transformers takes whole metres, and this network reaches {max_depth}"
        )
    refuse_file(folder)
    files = [folder / name for name in FOLDER]
    refuse_existing([folder, *files], sources=_files(model), overwrite=True)
    refuse_existing(files, overwrite=overwrite)
    if model.architecture["position"] == "official":
        warnings.warn(
            "transformers resamples position embeddings by target size, this network by scale "
            "factor (position='official'): "
            "the numbers differ at sizes other than 518 x 518",
            stacklevel=2,
        )

    # what transformers must know to build it again
    net = model.encoder.net
    spec = model.encoder.spec
    backbone = {
        "model_type": "dinov2",
        "hidden_size": net.embed_dim,
        "num_hidden_layers": len(net.blocks),
        "num_attention_heads": net.blocks[0].attn.num_heads,
        "image_size": net.patch_embed.img_size[0],
        "patch_size": model.multiple,
        "use_swiglu_ffn": model.architecture["encoder"] == "vitg",
        "out_indices": [block + 1 for block in model.encoder.blocks],
        "apply_layernorm": True,
        "reshape_hidden_states": False,
    }
    config = {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "model_type": "depth_anything",
        "backbone_config": backbone,
        "patch_size": model.multiple,
        "reassemble_hidden_size": net.embed_dim,
        "reassemble_factors": [int(s) if s >= 1 else s for s in model.encoder.scales],
        "neck_hidden_sizes": list(spec.out_channels),
        "fusion_hidden_size": spec.features,
        "head_hidden_size": spec.hidden,
        "head_in_index": -1,
        "depth_estimation_type": "relative" if max_depth is None else "metric",
        "max_depth": 1 if max_depth is None else int(max_depth),
    }
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": SHORT_SIDE, "width": SHORT_SIDE},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": model.multiple,
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "do_pad": False,
    }

    # all files or none
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    metadata = {"format": "pt"} | about_metadata(_about(model))
    card = model_card(model, title=folder.resolve().name)
    with whole_files(folder, error=CheckpointError, also=(SafetensorError,)) as partial:
        save_file(tensors, partial / FOLDER[1], metadata=metadata)
        (partial / FOLDER[3]).write_text(card, encoding="utf-8")
        for name, content in ((FOLDER[0], config), (FOLDER[2], processor)):
            (partial / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _tell(model, folder)


def _tensors(model: DepthAnything) -> dict[str, Tensor]:
    """All tensors that the other codes have: the network's, and those that nothing reads, zeros
    where there are none."""
    refuse_other_kinds(model)
    name = model.architecture["encoder"]
    net = model.encoder.net
    if name not in PRESETS or not model.encoder.is_vit:
        known = ", ".join(k for k, v in PRESETS.items() if v.timm_name.startswith("vit_"))
        raise ConfigError(
            f"encoder: the official code and transformers know {known}, and {name} is none of them"
        )
    deepest = len(model.decoder.fuse) - 1
    # as the unit that is left out there would be
    unit = model.decoder.fuse[deepest].unit.state_dict()
    unused = {f"decoder.fuse.{deepest}.skip.{k}": torch.zeros_like(v) for k, v in unit.items()}
    unused["encoder.net.mask_token"] = torch.zeros_like(net.cls_token[0])  # (1, c)
    return {k: v.detach().cpu() for k, v in (model.state_dict() | unused | model.unused).items()}


class _Whole(nn.Module):
    """From RGB in 0..1 to the map alone."""

    def __init__(self, model: DepthAnything):
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        return self.model(self.model.normalise(images))[0]


class _Padded(nn.Module):
    """A strided convolution of "same" padding whose input's sides are multiples of its stride."""

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.conv = conv
        span = [d * (k - 1) + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        rows, columns = (max(n - step, 0) for n, step in zip(span, conv.stride, strict=True))
        self.pads = columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        conv = self.conv
        return F.conv2d(
            F.pad(x, self.pads), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )


def _pad_by_numbers(model: DepthAnything) -> DepthAnything:
    """The same function with paddings that do not depend on the size of the image.

    timm computes "same" padding from the size. With free sizes the formulas nest from layer to
    layer, and an export of EfficientNet-Lite0 takes five minutes; with sides that are multiples of
    all strides they are constants, and it takes seconds.
    """
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, Conv2dSame):
                setattr(parent, name, _Padded(conv))
    return model


def export_program(model: DepthAnything) -> ExportedProgram:
    """The network with its normalisation as a `torch.export` program of any batch, height and
    width.

    Takes float32 RGB in 0..1, (b, 3, h, w), whose sides are multiples of `model.multiple`, three of
    them or more, and returns what `model.kind` says, (b, h, w). Position embeddings are resampled
    in the graph, as `position` says.
    """
    refuse_other_kinds(model)
    example = torch.rand(2, 3, 4 * model.multiple, 5 * model.multiple)
    sides = {
        axis: model.multiple * Dim(name, min=3) for axis, name in ((2, "rows"), (3, "columns"))
    }
    if not model.encoder.is_vit:
        model = _pad_by_numbers(model)
    with torch.no_grad():
        return torch.export.export(
            _Whole(model.eval()).cpu(),
            (example,),
            dynamic_shapes={"images": {0: Dim("batch"), **sides}},
        )


def export_onnx(model: DepthAnything, path: Path, *, overwrite: bool = False) -> None:
    """Write the network with its normalisation as ONNX of dynamic batch, height and width; see
    `export_program` for its input.

    The input is called "images", the output "disparity" or "depth_m". The file's metadata hold the
    licence and what else is known of the weights ("licence", "dalib_about"). Sides that are no multiples
    of `model.multiple` are refused by the graph itself, in the node `sides_are_multiples_of_14`.

    Args:
        model: any network here.
        path: the file, which is written whole or not at all.
        overwrite: whether it may replace a file; never the one that the network was loaded from.

    Raises:
        ConfigError: onnx or onnxscript is not installed, or a file is there already.
        CheckpointError: a place that cannot be written to, a full disk, or a network beyond the 2
            GB of an ONNX file.
    """
    _check_file(model, path, overwrite=overwrite, own=(".onnx",))
    try:
        import onnx  # noqa: F401  (what the exporter needs)
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"onnx: {error.name} is not installed: python -m pip install onnx onnxscript"
        ) from error
    program = torch.onnx.export(
        export_program(model),
        dynamo=True,
        input_names=["images"],
        output_names=[model.kind],
        verbose=False,
    )
    refuse_other_sides(program.model.graph, model.multiple)
    if about := _about(model):
        program.model.metadata_props["licence"] = terms_of(model).licence
        program.model.metadata_props.update(about_metadata(about))
    with whole(path, error=CheckpointError, also=(RuntimeError, ValueError)) as partial:
        program.save(partial, external_data=False)
    _tell(model, path)


def refuse_other_sides(graph, multiple: int) -> None:
    """Make an ONNX graph fail for images whose sides are no multiples, which it would silently cut,
    in place.

    The images are reshaped to (b, 3, h // m * m, w // m * m): to their own shape, or to one of too
    few values, an error of any runtime.
    """
    import onnx_ir as ir

    images = graph.inputs[0]
    sides = ir.tensor(np.array([1, 1, multiple, multiple]), name="sides")
    constant = ir.node("Constant", [], attributes={"value": sides})
    shape = ir.node("Shape", [images])
    count = ir.node("Div", [shape.outputs[0], constant.outputs[0]])
    whole_sides = ir.node("Mul", [count.outputs[0], constant.outputs[0]])
    name = f"sides_are_multiples_of_{multiple}"
    check = ir.node(
        "Reshape", [images, whole_sides.outputs[0]], attributes={"allowzero": 1}, name=name
    )
    check.outputs[0].type = images.type
    check.outputs[0].shape = images.shape
    ir.convenience.replace_all_uses_with(images, check.outputs[0])
    for node in (shape, check):
        node.replace_input_with(0, images)
    graph.insert_before(graph[0], [constant, shape, count, whole_sides, check])
