"""The page of roads, rooms and films: drawn scenes like those that the paper's pictures show, and
photographs, each with its truth and what networks see in it, under a divider."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dabook.runs import networks
from dabook.runs.networks import Network
from dabook.show import divider
from dabook.show.divider import View
from dabook.show.html import Html, number
from dabook.show.photographs import samples
from dabook.show.pictures import relative_error
from dalib.data.scenes import Scenes
from dalib.evaluation.align import least_squares
from dalib.evaluation.boundary import boundary_f1
from dalib.evaluation.floors import quadratic_surface
from dalib.evaluation.protocols import PROTOCOLS, Protocol, scored
from dalib.predict import predict

HEIGHT, WIDTH = 360, 480  # pixels of the drawn scenes
RADIUS = 3  # pixels by which an edge may be off at that size
FIRST = 1000
"""The first scene that is shown of a split: no table scores so many of one."""
SCENES = {
    "roads": (
        ("labelled_street", FIRST + 5, "A road by day"),
        ("labelled_street", FIRST + 2, "Parked cars and a tree"),
        ("night_street", FIRST + 2, "A road at night"),
    ),
    "rooms": (
        ("labelled_room", FIRST + 3, "A bedroom"),
        ("labelled_room", FIRST + 4, "A kitchen"),
        ("labelled_room", FIRST + 1, "A sofa"),
    ),
    "films": (
        ("drawn_room", FIRST + 5, "A living room, drawn"),
        ("warm_tabletop", FIRST + 2, "A table in evening light"),
        ("fog_nature", FIRST + 4, "Woods in fog"),
    ),
}
"""What is shown: split, scene, and what is seen in it."""

SMEARS = (
    "They have the slope of the ground, a dark sky, and blots where something large stands near, "
    "with a dark rim along the border that is in no scene; wheels, poles, branches and the legs of "
    "chairs are not in them. That is what errors as in our tables look like. A difference of a few "
    "percent between two rows cannot be seen here."
)
"""What was seen in such maps, when the page was made."""

Maps = Mapping[str, Sequence[Float[Tensor, "_ _"]]]
Sample = dict[str, object]


def scenes(group: str, *, height: int = HEIGHT, width: int = WIDTH) -> list[Sample]:
    """The drawn scenes of one of `SCENES`, each with a title."""
    found = []
    for split, index, title in SCENES[group]:
        source = Scenes(split=split, count=index + 1, height=height, width=width)
        found.append({**source[index], "title": title})
    return found


def photographs(folder: str = "") -> list[Sample]:
    """Those of a folder; without one, Motorcycle, which has a truth, and scikit-image's."""
    return [{**s, "title": str(s["name"]).capitalize()} for s in samples(folder)]


def others(weights: str, profile: str) -> list[Network]:
    """What is shown beside the teacher and the student of the reader's own run: the shipped student
    where there is one, and the network that a reader names, last.

    Raises `CheckpointError` for what `dalib.models.load` cannot read.
    """
    shipped = networks.shipped_student()
    found = [] if shipped is None else [shipped]
    return found + (networks.shown(weights, profile) if weights else [])


def see(network: Network, samples: Sequence[Sample]) -> list[Float[Tensor, "_ _"]]:
    """Disparity of each sample; metres are turned into it."""
    images = [sample["image"] for sample in samples]
    maps = predict(images, model=network.model, short_side=network.short_side)
    return [1 / m.clamp_min(1e-3) for m in maps] if network.model.kind == "depth_m" else maps


def dividers(samples: Sequence[Sample], maps: Maps) -> Html:
    """A divider for each sample, between its image and the last network at first."""
    seen = zip(*maps.values(), strict=True)
    return divider.together(
        [
            divider.show(str(sample["title"]), views(sample, dict(zip(maps, found, strict=True))))
            for sample, found in zip(samples, seen, strict=True)
        ]
    )


def views(sample: Sample, maps: Mapping[str, Float[Tensor, "_ _"]]) -> list[View]:
    """Image, truth where it is known, and each network's map, with its AbsRel where that is
    known."""
    image = divider.smaller(sample["image"])
    size = tuple(image.shape[-2:])
    found = [View(label="image", picture=image)]
    if "disparity" in sample:
        picture = divider.coloured(sample["disparity"], sample["valid"])
        found.append(View(label="truth", picture=_nearest(picture, size)))
    for label, disparity in maps.items():
        picture = divider.coloured(divider.smaller_map(disparity))
        note = ""
        if "disparity" in sample:
            note = f"AbsRel {number(error(disparity, sample), 2)}"
        found.append(View(label=label, picture=picture, note=note))
    return found


def _nearest(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Without mixing colours: grey stays grey."""
    resized = torch.nn.functional.interpolate(picture[None].float(), size, mode="nearest-exact")
    return resized[0].to(torch.uint8)


def protocol_of(sample: Sample) -> Protocol:
    """Which pixels of a sample are scored."""
    return PROTOCOLS["indoor" if sample["domain"] == "motorcycle" else "scenes"]


def error(disparity: Float[Tensor, "h w"], sample: Sample) -> float:
    """AbsRel of one map after alignment."""
    found = relative_error(disparity, sample["disparity"], sample["valid"], protocol_of(sample))
    return float(found.nanmean())


def surface(sample: Sample) -> Float[Tensor, "h w"]:
    """The quadratic surface that is nearest to the truth in disparity: the best of all smears, and
    not to be had without the truth."""
    disparity = sample["disparity"]
    counts = scored(disparity[None], sample["valid"][None], protocol_of(sample))[0]
    return quadratic_surface(disparity, counts).float()


def edges(disparity: Float[Tensor, "h w"], sample: Sample) -> float:
    """Boundary F1 of a map after alignment, with `RADIUS`; NaN where the truth has no edges."""
    protocol = protocol_of(sample)
    target, valid = sample["disparity"][None], sample["valid"][None]
    counts = scored(target, valid, protocol)
    scale, shift = least_squares(disparity[None], target, counts)
    least = 1 / protocol.max_depth if protocol.max_depth else float(target[counts].min())
    aligned = (scale[:, None, None] * disparity[None].double() + shift[:, None, None]).clamp_min(
        least
    )
    truth = torch.where(counts, target, torch.ones_like(target)).double()
    return float(boundary_f1(1 / aligned, 1 / truth, counts, radius=RADIUS))


def reading(samples: Sequence[Sample], maps: Maps) -> str:
    """How near the maps are to the truth, beside the best smear: sentences."""
    known = [k for k, sample in enumerate(samples) if "disparity" in sample]
    every = dict(maps) | {"best smear": [surface(s) if "disparity" in s else None for s in samples]}
    errors, sharp = {}, {}
    for name, found in every.items():
        errors[name] = _mean([error(found[k], samples[k]) for k in known])
        sharp[name] = _mean([edges(found[k], samples[k]) for k in known])
    smear = errors.pop("best smear")
    listed = ", ".join(f"{number(value)} ({name})" for name, value in errors.items())
    edged = ", ".join(f"{number(sharp[name], 2)} ({name})" for name in errors)
    worse = [name for name, value in errors.items() if value >= smear]
    better = [name for name in errors if name not in worse]
    if not better:
        verdict = f"The maps are smears. {SMEARS}"
    elif worse:
        verdict = f"Those of {' and '.join(worse)} are smears, those of {' and '.join(better)} not."
    else:
        verdict = "These maps are no smears: not even the best smear is as near to the truth."
    return (
        f"Mean AbsRel over the {len(known)} pictures with a truth: {listed}. The quadratic surface "
        f"that is nearest to each truth, which has no edge and no object in it, has "
        f"{number(smear)}. Of the edges of depth, where 1 is all of them and no others, the maps have "
        f"{edged}. {verdict}"
    )


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if value == value]
    return sum(kept) / len(kept) if kept else float("nan")
