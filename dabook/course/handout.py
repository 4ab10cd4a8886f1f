"""One archive for a class: the library with all that it needs, and the student's notebooks without
their solutions."""

import subprocess
import tempfile
import zipfile
from pathlib import Path

from dabook.course.editions import FOLDERS, HANDED, STUDENT, make
from dabook.site.pin import UNKNOWN
from dalib import paths, provenance
from dalib.errors import ConfigError
from dalib.writing import refuse_place, whole

NAME = "depth-anything-book"
"""The folder that the archive unpacks to."""
ABOUT = "course/README.md"
TOLD = f"""# The course

The notebooks are in `{HANDED}`: `make lab` opens them, once it has installed what they need. The library
and the pages of the book are here too. What is not: the sources of the notebooks with their solutions, and
with them `make course`; they are in the book's repository.
"""
"""What stands in the place of the page for those who write exercises."""


def handout(out: Path | None = None) -> Path:
    """Write the archive of the commit that is checked out.

    Args:
        out: the zip file, which must not be there; by default `_build/handout.zip` of the checkout,
            which is replaced.

    Raises:
        ConfigError: no git here, changes that are in no commit, and so would be missing, or a place
            that cannot be written.
    """
    if out is None:
        out = paths.root() / "_build" / "handout.zip"
    else:
        refuse_place(out, option="--out")
    commit, dirty = provenance.commit()
    if commit == UNKNOWN:
        raise ConfigError("a handout is made of a commit, and there is no git checkout here")
    if dirty:
        raise ConfigError(
            "tracked files are changed, and the handout is made of the last commit: commit them, or undo "
            "the changes"
        )
    solved = [f":(exclude){name}" for name in (ABOUT, *(f"course/{name}" for name in FOLDERS))]
    with tempfile.TemporaryDirectory() as folder, whole(out) as partial:
        command = ["git", "archive", "--format=zip", f"--prefix={NAME}/", f"--output={partial}"]
        subprocess.run([*command, "HEAD", ".", *solved], cwd=paths.root(), check=True)
        student = make(Path(folder)).folders[STUDENT]
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{NAME}/{ABOUT}", TOLD)
            for path in sorted(student.iterdir()):
                if not path.name.startswith("."):
                    archive.write(path, f"{NAME}/{HANDED}/{path.name}")
    return out
