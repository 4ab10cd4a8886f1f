"""Where a pool's originals come from: the web, by a template of addresses, or git clones on a disk.
What arrives is held against its git blob id."""

import os
import shutil
import string
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from http.client import HTTPException
from pathlib import Path

from dalib.data.pools.fingerprint import blob_id
from dalib.errors import ConfigError
from dalib.writing import whole

TEMPLATE = "https://raw.githubusercontent.com/{repo}/{commit}/{path}"
"""The public address of a file of a repository."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before an address is tried again; after the last, it cannot be reached."""
GONE = (400, 401, 404, 410, 451)
"""HTTP answers after which nothing comes by asking again."""
LARGEST = 2**28
"""Bytes that an original may have."""


class Gone(Exception):  # noqa: N818  (a fact about an original, not a fault of the program)
    """An original that is no longer to be had, or is another one than the recorded."""


class Unreachable(Exception):  # noqa: N818
    """An original that may be there, but nobody answers."""


@dataclass(frozen=True)
class Original:
    """A file of a public repository.

    Args:
        repository: owner and name.
        commit: in full.
        path: in the repository.
        blob: git blob id of its content, "" where that is not known.
    """

    repository: str
    commit: str
    path: str
    blob: str = ""

    @property
    def name(self) -> str:
        """Under which its content is kept."""
        return self.blob or "path-" + sha1(repr(self).encode(), usedforsecurity=False).hexdigest()


def checked(content: bytes, original: Original) -> bytes:
    """The content, if it is the recorded one; `Gone` otherwise."""
    found = blob_id(content)
    if original.blob and found != original.blob:
        raise Gone(f"another content: its blob is {found}, recorded is {original.blob}")
    return content


class Clones:
    """Git repositories in a folder, bare or with a working tree: `owner+name`, `owner/name` or
    either with `.git` at the end. Nothing in them is changed, and nothing is fetched.

    Args:
        folder: in which they are.

    Raises:
        ConfigError: no such folder, or no git on this machine.
    """

    remote = False

    def __init__(self, *, folder: Path):
        if not folder.is_dir():
            raise ConfigError(f"--from {folder}: no such folder; name one that holds git clones")
        if shutil.which("git") is None:
            raise ConfigError("--from: reading clones needs git; install it, or leave out --from")
        self.folder = folder
        self._readers: dict[str, subprocess.Popen] = {}

    def find(self, repository: str) -> Path | None:
        """The git directory of a repository, None where it is not there."""
        joined = repository.replace("/", "+")
        for name in (joined, f"{joined}.git", repository, f"{repository}.git"):
            for place in (self.folder / name, self.folder / name / ".git"):
                if (place / "HEAD").is_file() and (place / "objects").is_dir():
                    return place
        return None

    def get(self, original: Original) -> bytes:
        """The blob of the recorded id; without one, or where it is not there, the file at commit
        and path."""
        named = f"{original.commit}:{original.path}"
        for question in (original.blob, named):
            if question and (content := self._ask(original.repository, question)) is not None:
                return content
        raise Gone(f"the clone has no blob {original.blob}, and no file {named}")

    def _ask(self, repository: str, question: str) -> bytes | None:
        """What `git cat-file --batch` answers; None where it knows no such blob."""
        if "\n" in question:
            return None
        reader = self._reader(repository)
        try:
            reader.stdin.write(os.fsencode(question) + b"\n")
            reader.stdin.flush()
            words = reader.stdout.readline().split()
            if len(words) != 3 or not words[2].isdigit():  # "... missing", "... ambiguous"
                if not words:
                    raise OSError("git ended")
                return None
            content = reader.stdout.read(int(words[2]) + 1)[:-1]
        except OSError as error:
            self._readers.pop(repository).kill()
            raise Gone(f"the clone cannot be read ({error})") from error
        return content if words[1] == b"blob" and len(content) == int(words[2]) else None

    def _reader(self, repository: str) -> subprocess.Popen:
        if repository not in self._readers:
            place = self.find(repository)
            if place is None:
                raise Gone(f"no clone of {repository} in the folder of clones")
            self._readers[repository] = subprocess.Popen(
                ["git", "-c", "safe.directory=*", "--git-dir", str(place), "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"},
            )
        return self._readers[repository]

    def close(self) -> None:
        """End git's processes."""
        for reader in self._readers.values():
            for pipe in (reader.stdin, reader.stdout):
                with suppress(OSError):
                    pipe.close()
            reader.wait()
        self._readers.clear()


class Web:
    """Files by their addresses.

    Args:
        template: with `{repo}`, `{commit}` and `{path}`.
        pauses: seconds before each further try.
        timeout: seconds without a byte after which a try has failed.

    Raises:
        ConfigError: a template that names no file, or is no address.
    """

    remote = True

    def __init__(
        self, *, template: str = TEMPLATE, pauses: tuple[float, ...] = PAUSES, timeout: float = 30.0
    ):
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        except ValueError as error:
            raise ConfigError(f"--url {template}: {error}; write it like {TEMPLATE}") from error
        good = "path" in fields and fields <= {"repo", "commit", "path"}
        if not good or urllib.parse.urlsplit(template).scheme not in ("http", "https"):
            raise ConfigError(
                f"--url {template}: must be an http or https address with {{path}}, and "
                f"{{repo}} and {{commit}} where they are needed; write it like {TEMPLATE}"
            )
        self.template, self.pauses, self.timeout = template, pauses, timeout
        self._closed = threading.Event()

    def address(self, original: Original) -> str:
        """Of a file, with everything quoted that an address may not hold."""
        return self.template.format(
            repo=urllib.parse.quote(original.repository),
            commit=original.commit,
            path=urllib.parse.quote(os.fsencode(original.path)),
        )

    def get(self, original: Original) -> bytes:
        """The content, tried again after each of the pauses."""
        address = self.address(original)
        reason = ""
        for pause in (*self.pauses, None):
            try:
                return self._read(address)
            except urllib.error.HTTPError as error:
                if error.code in GONE:
                    raise Gone(f"the server answers {error.code} {error.reason}") from error
                reason = f"{error.code} {error.reason}"
                pause = pause and max(pause, _asked_to_wait(error))
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            if pause is None or self._closed.wait(pause):
                break
        raise Unreachable(reason)

    def _read(self, address: str) -> bytes:
        request = urllib.request.Request(address, headers={"User-Agent": "depth-anything-book"})
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            content = answer.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise Gone(f"more than {LARGEST} bytes")
            said = answer.headers.get("Content-Length", "")
            if said.isdigit() and int(said) != len(content):
                raise HTTPException("the connection ended in the middle")
        return content

    def close(self) -> None:
        """End all waiting."""
        self._closed.set()


def _asked_to_wait(error: urllib.error.HTTPError) -> float:
    """Seconds that a server asks for, at most a minute."""
    word = (error.headers or {}).get("Retry-After", "")
    return min(float(word), 60.0) if word.isdigit() else 0.0


Place = Clones | Web
"""Whence originals come. What is `remote` is worth keeping until it is used."""


class Cache:
    """Originals that came from the web and are not yet used, by their blob ids.

    Args:
        folder: in which they lie.
        place: whence they come.
    """

    def __init__(self, *, folder: Path, place: Place):
        self.folder, self.place = folder, place

    def _path(self, original: Original) -> Path:
        return self.folder / original.name

    def get(self, original: Original) -> bytes:
        """The content, fetched unless it is here, and checked; `Gone` or `Unreachable`."""
        if not self.place.remote:
            return checked(self.place.get(original), original)
        path = self._path(original)
        with suppress(OSError, Gone):  # what a damaged disk gives is fetched anew
            return checked(path.read_bytes(), original)
        content = checked(self.place.get(original), original)
        with whole(path, durable=False) as partial:
            partial.write_bytes(content)
        return content

    def forget(self, original: Original) -> None:
        """It is used: remove what was kept of it."""
        self._path(original).unlink(missing_ok=True)
