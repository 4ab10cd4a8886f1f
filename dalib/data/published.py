"""From a published folder (`dalib.data.layouts`) to the manifest that `depth:` reads."""

import csv
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dalib.config import check_names
from dalib.data.layouts import LAYOUTS, Layout
from dalib.data.listing import Groups
from dalib.data.manifest import ray_numbers, read_table
from dalib.data.readers import frames
from dalib.data.sources import read_row
from dalib.errors import ConfigError, DataError
from dalib.writing import refuse_existing, whole

COLUMNS = (
    *("id", "dataset", "split", "image", "depth", "mask", "reader", "kind", "depth_scale"),
    *("scale_known", "offset_known", "invalid", "sky", "rays"),
)
NO_MAP = "images without their map or mask"
NO_IMAGE = "maps without their image"
NO_CAMERAS = "not there, so that each scene's rays are taken as those of the usual camera"
NOT_LISTED = "in the list, but not in the folder, or without a map there"


@dataclass
class Written:
    """What became of a folder."""

    manifest: Path
    count: int
    #: pairs and files that are not in it, by reason
    apart: Groups = field(default_factory=Groups)


@dataclass(frozen=True)
class Pair:
    """Entries of a manifest, relative to the data set's folder, and what the image's pattern
    found."""

    image: str
    depth: str
    mask: str
    fields: dict[str, str]


def write_manifest(
    name: str,
    folder: Path,
    *,
    out: Path | None = None,
    split: str | None = None,
    listed: Path | None = None,
    check: bool | None = None,
    overwrite: bool = False,
) -> Written:
    """Find the pairs of a published data set and list them in a manifest.

    Args:
        name: one of `dalib.data.layouts.LAYOUTS`.
        folder: where the data set lies, as its layout describes.
        out: the manifest; by default `manifest.csv` in the folder. Its paths are relative to it.
        split: keep only this part, where the data set has some.
        listed: keep only the images of this list: a path in each line (words after it, and the
            ending, do not matter), or KITTI's `DATE/DRIVE FRAME l|r`; or the data set's own file of
            splits.
        check: read every pair and leave out those that cannot be used; by default where the data
            set is known to hold such. A few are read in any case.
        overwrite: whether a file that is there may be replaced.

    Raises:
        ConfigError: an unknown name or split; a manifest that is there already; a library that is
            missing.
        DataError: the folder is not of the published form, or holds no pair of the split or list.
    """
    check_names([name], LAYOUTS, what="layout")
    layout = LAYOUTS[name]
    folder = Path(folder)
    out = folder / "manifest.csv" if out is None else Path(out)
    _check_split(name, layout, split)
    refuse_existing([out], overwrite=overwrite)

    pairs, apart = find(layout, folder)
    pairs = _chosen(layout, folder, pairs, split=split, listed=listed, apart=apart)
    rays = _rays(layout, folder, apart)
    rows = [_row(layout, pair, folder=folder, split=split, rays=rays) for pair in pairs]
    # The place is opened before the pairs are read, which may take hours.
    with whole(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = _usable(rows, layout, folder=folder, all_of_them=check, apart=apart)
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_seen_from(out.parent, rows, folder=folder))
    return Written(out, len(rows), apart)


# ---- which files belong together


def find(layout: Layout, folder: Path) -> tuple[list[Pair], Groups]:
    """The pairs of a folder, sorted by image, and what has no partner.

    Raises:
        DataError: no such folder, or it is not of the published form.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds {layout.expects}")
    there = _files_of(folder)
    image_form = _expression(layout.image)
    pairs = []
    used = set()
    apart = Groups()
    for image, found in _images(layout, folder, there, image_form):
        depth = next(
            (entry for form in layout.depth if _file_of(entry := _filled(form, found)) in there), ""
        )
        mask = _filled(layout.mask, found)
        needs = [_filled(form, found) for form in layout.needs]
        used.add(_file_of(depth))
        if depth and (not mask or mask in there) and there.issuperset(needs):
            pairs.append(Pair(image, depth, mask, found))
        else:
            apart.add(NO_MAP, image)
    map_forms = [re.compile(_expression(_file_of(form))) for form in layout.depth]
    lonely = [name for name in there - used if any(form.fullmatch(name) for form in map_forms)]
    for name in sorted(lonely):
        apart.add(NO_IMAGE, name)
    if not pairs:
        raise DataError(_not_the_form(layout, folder, there, apart))
    return pairs, apart


def _files_of(folder: Path) -> set[str]:
    """Paths below a folder, with slashes. Names that begin with a dot are passed over, such as the
    ._ files of a Mac.

    Links to folders are followed, but after the real folders, none twice, and none that leads above
    the folder.
    """
    found = set()
    seen = set()
    above = set(Path(os.path.realpath(folder)).parents)
    waiting = [Path(folder)]
    while waiting:
        for place, below, names in os.walk(waiting.pop(0)):
            real = os.path.realpath(place)
            if real in seen or Path(real) in above:
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not name.startswith("."))
            waiting += [link for name in below if (link := Path(place, name)).is_symlink()]
            inside = Path(os.path.relpath(place, folder)).as_posix()
            before = "" if inside == "." else f"{inside}/"
            found |= {before + name for name in names if not name.startswith(".")}
    return found


def _images(
    layout: Layout, folder: Path, there: set[str], form: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """Entry and fields of each image, sorted; of the frames of a container in their order."""
    container, mark, part = layout.image.partition("#")
    if not mark:
        expression = re.compile(form)
        for name in sorted(there):
            if match := expression.fullmatch(name):
                yield name, match.groupdict()
    elif container in there:
        data = part.partition("/")[0]
        for frame in range(frames(folder / container, data)):
            found = {"frame": str(frame)}
            yield _filled(layout.image, found), found


_FIELD = re.compile(r"\{(\w+)(?::([^{}]*))?\}")


def _expression(pattern: str) -> str:
    """A pattern of `dalib.data.layouts` as a regular expression; a name that comes again must hold
    the same."""
    parts = []
    known = set()
    place = 0
    for hit in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[place : hit.start()]))
        name, expression = hit.groups()
        parts.append(f"(?P={name})" if name in known else f"(?P<{name}>{expression or '[^/]+'})")
        known.add(name)
        place = hit.end()
    return "".join([*parts, re.escape(pattern[place:])])


def _filled(pattern: str, found: dict[str, str]) -> str:
    return _FIELD.sub(lambda hit: found[hit.group(1)], pattern)


def _file_of(entry: str) -> str:
    """An entry without the part of the file that it names."""
    return entry.partition("#")[0]


def _plain(pattern: str) -> str:
    """A pattern for a person: `{scene}` for every name, whatever it has to look like."""
    return _FIELD.sub(lambda hit: "{" + hit.group(1) + "}", pattern)


def _not_the_form(layout: Layout, folder: Path, there: set[str], apart: Groups) -> str:
    """Which pattern found nothing, what is there instead, and perhaps where to look."""
    images = apart.counts.get(NO_MAP, 0)
    if images:
        wanted = [_plain(form) for form in (*layout.depth, layout.mask, *layout.needs) if form]
        found = f"{images} images, but none has its {' or '.join(wanted)}"
    else:
        found = f"nothing is called {_plain(layout.image)}"
        if maps := apart.counts.get(NO_IMAGE, 0):
            found += f", though there are {maps} maps"
    top = sorted({name.partition("/")[0] for name in there})
    have = ", ".join(top[:8]) + (f" and {len(top) - 8} more" if len(top) > 8 else "")
    advice = f"give the folder that holds {layout.expects}"
    if not images:
        inner = re.compile(f"(?P<above_>.+)/{_expression(_file_of(layout.image))}")
        above = next(
            (hit["above_"] for name in sorted(there) if (hit := inner.fullmatch(name))), ""
        )
        advice = f"try {folder / above}" if above else advice
    return (
        f"{folder}: not {layout.title} as it is published: {found}; there is {have or 'nothing'}. "
        f"Instead, {advice}"
    )


# ---- splits and lists


def _check_split(name: str, layout: Layout, split: str | None) -> None:
    if split is None:
        return
    if layout.split is None:
        raise ConfigError(f"--split {split}: {name} has no splits; leave it out, or give a --list")
    check_names([split], layout.split.values, what=f"split of {name}")


def _chosen(
    layout: Layout,
    folder: Path,
    pairs: list[Pair],
    *,
    split: str | None,
    listed: Path | None,
    apart: Groups,
) -> list[Pair]:
    """The pairs of a split or a list."""
    rule = layout.split
    if split is not None and rule.field and not rule.file:
        pairs = [pair for pair in pairs if pair.fields[rule.field] == split]
    wanted = None
    if split is not None and rule.file:
        path = listed or folder / rule.file
        if not path.is_file():
            raise DataError(
                f"{path}: no such file, which says what --split {split} is; it is to be had at "
                f"{rule.url} (or name it by --list)"
            )
        named = _FORMS[rule.form](path, layout, split)
        if rule.field:
            pairs = [pair for pair in pairs if pair.fields[rule.field] in named]
        else:
            wanted = named
    elif listed is not None:
        wanted = _from_lines(listed)
    if wanted is not None:
        kept = [pair for pair in pairs if _key(pair.image) in wanted]
        for name in sorted(wanted - {_key(pair.image) for pair in kept}):
            apart.add(NOT_LISTED, name)
        if not kept:
            example = next(iter(sorted(wanted)), "nothing")
            raise DataError(
                f"{listed or folder}: none of its {len(wanted)} images is among the {len(pairs)} "
                f"pairs of {folder}; it has {example}, the folder {_key(pairs[0].image)}"
            )
        pairs = kept
    if not pairs:
        raise DataError(f"{folder}: no pair of split {split}; give another split, or none")
    return pairs


def _key(entry: str) -> str:
    """What an image is called in a list: its path without the ending."""
    return entry if "#" in entry else posixpath.splitext(entry)[0]


_KITTI_LINE = re.compile(r"(\S+)\s+([0-9]+)\s+([lr])")
_KITTI_SIDES = {"l": "image_02", "r": "image_03"}


def _from_lines(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); give a text with a path in each line"
        ) from error
    keys = set()
    for line in lines:
        if hit := _KITTI_LINE.fullmatch(line.strip()):
            drive, frame, side = hit.groups()
            keys.add(f"{drive}/{_KITTI_SIDES[side]}/data/{int(frame):010d}")
        elif words := line.split():
            keys.add(_key(posixpath.normpath(words[0]).lstrip("/")))
    if not keys:
        raise DataError(f"{path}: an empty list; write the path of an image in each line")
    return keys


def _from_hypersim(path: Path, layout: Layout, split: str) -> set[str]:
    """Hypersim's table of splits: the images of one that were released."""
    needed = ("scene_name", "camera_name", "frame_id", "split_partition_name")
    present, rows = read_table(path)
    if missing := ", ".join(column for column in needed if column not in present):
        raise DataError(f"{path}: missing column {missing}; fetch the table anew")
    keys = set()
    for row in rows:
        if row["split_partition_name"] == split:
            found = {
                "scene": row["scene_name"],
                "camera": row["camera_name"],
                "frame": row["frame_id"].zfill(4),
            }
            keys.add(_key(_filled(layout.image, found)))
    return keys


def _from_nyuv2(path: Path, layout: Layout, split: str) -> set[str]:
    """NYUv2's splits.mat: numbers of images, counted from 1."""
    from scipy.io import loadmat

    name = f"{split}Ndxs"
    try:
        numbers = loadmat(path, variable_names=[name])[name].ravel()
    except Exception as error:  # of any kind, for a damaged file
        raise DataError(
            f"{path}: no {name} can be read from it ({error}); fetch it anew"
        ) from error
    return {_filled(layout.image, {"frame": str(int(number) - 1)}) for number in numbers}


def _from_ddad(path: Path, layout: Layout, split: str) -> set[str]:
    """The scenes of a split by DDAD's ddad.json, which numbers the splits as TRI's DGP does."""
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["scene_splits"]
        files = splits[{"train": "0", "val": "1"}[split]]["filenames"]
        return {name.partition("/")[0] for name in files}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no scene_splits of DGP can be read from it ({error!r}); fetch it anew"
        ) from error


_FORMS: dict[str, Callable[[Path, Layout, str], set[str]]] = {
    "hypersim": _from_hypersim,
    "nyuv2": _from_nyuv2,
    "ddad": _from_ddad,
}


# ---- rows


def _row(
    layout: Layout, pair: Pair, *, folder: Path, split: str | None, rays: dict[str, str]
) -> dict[str, str]:
    """A row of the manifest, its paths relative to the data set's folder."""
    if not pair.image.isprintable() or not pair.depth.isprintable():
        raise DataError(f"{folder / pair.image}: a name that no table can hold; rename the file")
    rule = layout.split
    own = pair.fields.get(rule.field, "") if rule and not rule.file else ""
    return {
        "id": _key(pair.image),
        "dataset": layout.dataset,
        "split": split or own,
        "image": pair.image,
        "depth": pair.depth,
        "mask": pair.mask,
        "reader": layout.reader,
        "kind": layout.kind,
        "depth_scale": f"{layout.scale:g}",
        "scale_known": "yes" if layout.scale_known else "no",
        "offset_known": "yes" if layout.offset_known else "no",
        "invalid": layout.invalid,
        "sky": layout.sky,
        "rays": rays.get(pair.fields.get("scene", ""), layout.rays),
    }


def _rays(layout: Layout, folder: Path, apart: Groups) -> dict[str, str]:
    """The rays of each scene, as the column `rays`, by the published table of cameras."""
    path = folder / layout.cameras
    if not layout.cameras:
        return {}
    if not path.is_file():
        apart.add(NO_CAMERAS, layout.cameras)
        return {}
    present, rows = read_table(path)
    wanted = ["scene_name", *(f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3))]
    if missing := ", ".join(column for column in wanted if column not in present):
        raise DataError(f"{path}: missing column {missing}; fetch the table anew")
    found = {row["scene_name"]: " ".join(row[name] for name in wanted[1:]) for row in rows}
    for scene, entry in found.items():
        try:
            ray_numbers(entry)
        except ValueError as error:
            raise DataError(f"{path}: {scene}: {error}") from None
    return found


def _seen_from(
    beside: Path, rows: list[dict[str, str]], *, folder: Path
) -> Iterator[dict[str, str]]:
    """The rows with their paths relative to the manifest's folder `beside`."""
    # Of the real places, since `..` leads elsewhere where the manifest's folder is a link.
    below = Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(beside))).as_posix()
    before = "" if below == "." else f"{below}/"
    for row in rows:
        places = (name for name in ("image", "depth", "mask") if row[name])
        yield row | {name: before + row[name] for name in places}


def _usable(
    rows: list[dict[str, str]],
    layout: Layout,
    *,
    folder: Path,
    all_of_them: bool | None,
    apart: Groups,
) -> list[dict[str, str]]:
    """The rows that can be read: every one is tried, or the first, the middle and the last, one of
    which must be as the layout says."""
    every = layout.check if all_of_them is None else all_of_them
    last = len(rows) - 1
    probes = rows if every else [rows[k] for k in sorted({0, last // 2, last})]
    bad = {}
    for row in tqdm(probes, desc="reading each pair", unit="pair", disable=None if every else True):
        try:
            read_row(row, folder=folder, domain=layout.dataset)
        except DataError as error:
            bad[row["image"]] = error
    if len(bad) == len(probes):
        raise DataError(
            f"{next(iter(bad.values()))}. None of the {len(bad)} pairs that were read is as "
            f"{layout.title} publishes them"
        )
    if not every:
        for name, error in bad.items():
            apart.add(f"cannot be read, and is in the manifest ({_why(error)})", name)
        return rows
    for name, error in bad.items():
        apart.add(f"left out ({_why(error)})", name)
    return [row for row in rows if row["image"] not in bad]


def _why(error: DataError) -> str:
    """What is wrong with a pair, without its name and numbers, so that equal faults are counted
    together."""
    return re.sub(r"[0-9]+", "N", str(error).partition(": ")[2])
