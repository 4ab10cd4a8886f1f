"""YAML without its traps: no key twice, no text that turns into a date, and every slip named with
its line."""

import re
import reprlib
from collections.abc import Hashable
from pathlib import Path

import yaml

from dalib.errors import ConfigError

MERGE = "tag:yaml.org,2002:merge"
BRIEF = reprlib.Repr()
BRIEF.maxstring = BRIEF.maxother = 60


class _Doubled(yaml.constructor.ConstructorError):
    """Two equal keys in one mapping."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with decimal numbers only: `1e-3` is one, `010`, `1:30` and dates are
    text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as in PyYAML's own loaders)
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in ("int", "float", "timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        if isinstance(node, yaml.MappingNode):
            self._refuse_doubled(node)
        return super().construct_mapping(node, deep=deep)

    def _refuse_doubled(self, node: yaml.MappingNode) -> None:
        """Of two equal keys YAML would keep the last; what `<<` merges in may be overridden, as is
        its purpose."""
        if node in self.checked:  # by now a merge may have put other mappings' keys beside its own
            return
        self.checked.add(node)
        lines = {}
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused by PyYAML itself
            line = key_node.start_mark.line + 1
            if key in lines:
                problem = (
                    f"{key!r} stands twice, here and in line {lines[key]}; rename or delete one"
                )
                raise _Doubled(None, None, problem, key_node.start_mark)
            lines[key] = line

    def flatten_mapping(self, node):
        self._refuse_doubled(node)
        super().flatten_mapping(node)

    def __init__(self, stream):
        super().__init__(stream)
        self.checked: set[yaml.Node] = set()


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def parse(text: str | bytes, where: str) -> object:
    """Plain data from YAML text; whatever is wrong is a `ConfigError` in one line that begins with
    `where` and the line.

    Bytes may be UTF-8 or, with their mark at the front, UTF-16.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except _Doubled as error:
        raise ConfigError(
            f"{where}, line {error.problem_mark.line + 1}: {error.problem}"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
        raise ConfigError(
            f"{where}{line}: not valid YAML ({error.problem or error.context}{hint})"
        ) from error
    except (yaml.YAMLError, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML ({reason}); save it as UTF-8 text") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply, or within itself; write it flat") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise ConfigError(f"{where}: not valid YAML ({error})") from error


def read(path: Path) -> object:
    """A YAML file as plain data; a missing, unreadable or damaged one is a `ConfigError` that names
    it, and the line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    return parse(data, str(path))


def brief(value: object) -> str:
    """A value for a message: its `repr`, cut where it is long."""
    return "nothing" if value is None else BRIEF.repr(value)
