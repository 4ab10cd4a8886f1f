"""Putting a student into the project: its record; of the shipped one the file in the package, the
model card, and the picture that README and the book's first page open with; of one whose weights stay
here a picture of what it sees."""

import shutil
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from dabook.runs import records, shipping, students
from dabook.runs.students import Record
from dabook.show import divider, model_card
from dalib import paths
from dalib.data.sources import SkimagePhotos
from dalib.errors import ConfigError, UserError
from dalib.evaluation.run import predict_images
from dalib.models import load
from dalib.models.checkpoints import SHIPPED
from dalib.predict import predict
from dalib.progress import Report
from dalib.writing import whole, write_text

CARD = "MODEL_CARD.md"
"""Beside the shipped file, within the package."""
PHOTOGRAPH = "coffee"
"""The photograph of scikit-image that is shown with its depth; in the public domain (CC0)."""
MARK = "student"
"""Between `<!-- student -->` and `<!-- /student -->` stands what `block` says."""
PAGES = {"README.md": "book/_static/student.jpg", "book/intro.md": "_static/student.jpg"}
"""What opens with the picture, and how it names the picture."""
TALL = 240
"""Pixels of the height of a photograph among others."""
GAP = 6
"""Pixels between them."""


def ship(name: str, *, processes: int = 1, report: Report | None = None) -> list[str]:
    """Make a student (`dabook.runs.shipping.make`) and put what may be put there into the project.

    Weights of a student that is not for shipping stay where its run left them. What the shipped
    student replaces is kept in `runs/students`.

    Args:
        name: of `students.yaml`, a student or a rung of the ladder (of which there is a record and
            nothing else).
        processes: training processes.
        report: receives lines of progress; by default a bar where somebody watches.

    Returns:
        Lines that say where things are.

    Raises:
        ConfigError: as `make`; and a package that is not that of the checkout.
    """
    to_ship = students.recipe(name).ship
    is_rung = name in students.ladder()
    if to_ship:
        _refuse_elsewhere()
    made = shipping.make(name, processes=processes, report=report)
    lines = []
    if to_ship:
        lines += _place(made.record, made.weights)
    else:
        lines.append(f"{made.weights}: its weights, which are not for passing on and stay here")
    if not (to_ship or is_rung):
        picture = students.picture_of(name)
        _draw_all(made.weights, picture, short_side=students.short_side(made.record))
        lines.append(f"{picture}: what it sees in free photographs, to be committed")
    path = students.path_of(name)
    write_text(path, records.dump(made.record))
    lines.append(f"{path}: its record, to be committed")
    if to_ship:
        update()
    return lines


def _refuse_elsewhere() -> None:
    package = paths.shipped_weights().parents[1]
    if package != (paths.root() / "dalib").resolve():
        raise ConfigError(
            f"the package that is loaded ({package}) is not that of the checkout ({paths.root()}), and "
            "the student would be put into the first; install the checkout (pip install -e .)"
        )


def _place(record: Record, weights: Path) -> list[str]:
    """The shipped file, its card and its picture, each whole or as it was."""
    target = paths.shipped_weights()
    lines = []
    if target.is_file() and students.digest(target) != record["weights"]["sha256"]:
        lines.append(
            f"{_set_aside(target)}: the student that was there before, with card and record"
        )
    with whole(target) as partial:
        shutil.copyfile(weights, partial)
    card = target.with_name(CARD)
    write_text(card, model_card.card(record))
    picture = paths.root() / PAGES["README.md"]
    _draw(target, picture)
    lines += [f"{target}: the student", f"{card}: its model card", f"{picture}: its picture"]
    return lines


def _set_aside(target: Path) -> Path:
    """Keep a copy of the shipped student that is about to be replaced, with all that is said of it."""
    away = paths.writable_runs() / "students" / students.digest(target)[:12]
    away.mkdir(parents=True, exist_ok=True)
    for path in (target.with_name(CARD), students.path_of(SHIPPED)):
        if path.is_file():
            shutil.copyfile(path, away / path.name)
    with whole(away / target.name) as partial:
        shutil.copyfile(target, partial)
    return away


def _draw(weights: Path, path: Path) -> None:
    """A photograph, and right of it its depth as the network sees it, as JPEG."""
    source = SkimagePhotos()
    image = source[source.NAMES.index(PHOTOGRAPH)]["image"]
    seen = divider.coloured(predict(image, model=load(weights)))
    height, width = image.shape[1:]
    both = Image.new("RGB", (2 * width, height))
    for place, picture in enumerate((image, seen)):
        both.paste(_image(picture), (place * width, 0))
    _save(both, path)


def _draw_all(weights: Path, path: Path, *, short_side: int) -> None:
    """All photographs of scikit-image in a row, and under each its depth as the network sees it, as
    JPEG."""
    images = [sample["image"] for sample in SkimagePhotos()]
    maps = predict_images(load(weights), images, short_side=short_side)
    columns = [
        [_of_height(picture, TALL) for picture in (image, divider.coloured(seen))]
        for image, seen in zip(images, maps, strict=True)
    ]
    width = sum(photograph.width + GAP for photograph, _ in columns) - GAP
    sheet = Image.new("RGB", (width, 2 * TALL + GAP), "white")
    left = 0
    for photograph, depth in columns:
        sheet.paste(photograph, (left, 0))
        sheet.paste(depth, (left, TALL + GAP))
        left += photograph.width + GAP
    _save(sheet, path)


def _image(picture: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def _save(image: Image.Image, path: Path) -> None:
    with whole(path) as partial:
        image.save(partial, format="JPEG", quality=88)


def _of_height(picture: UInt8[Tensor, "3 h w"], height: int) -> Image.Image:
    image = _image(picture)
    return image.resize((round(image.width * height / image.height), height), Image.LANCZOS)


# what README and the first page open with


def block(picture: str) -> str:
    """What stands at the place for the picture: nothing while there is no shipped student.

    Args:
        picture: how the page names it.
    """
    there = paths.shipped_weights().is_file() and students.path_of(SHIPPED).is_file()
    if not (there and (paths.root() / PAGES["README.md"]).is_file()):
        return ""
    return (
        f"![A photograph, and its depth as the shipped student sees it]({picture})\n\n"
        "Left a photograph, right its depth as a small student sees it that comes with the library: bright "
        "is near. Try your own:\n\n"
        "```bash\npython -m dalib predict photo.jpg out/\n```"
    )


def update() -> None:
    """Put the picture where it belongs, or take it out where there is no student."""
    for name, picture in PAGES.items():
        put(paths.root() / name, MARK, block(picture))


def put(path: Path, mark: str, text: str) -> None:
    """Replace what stands between two markers of a file; `UserError` where they are gone."""
    if not path.is_file():
        raise UserError(f"{path}: not found; run from the checkout, or set DALIB_ROOT to it")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise UserError(f"{path}: the markers {start} and {end} are gone; put them back")
    between = f"\n{text}\n" if text else "\n"
    write_text(path, f"{before}{start}{between}{end}{after}")
