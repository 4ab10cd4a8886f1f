"""YAML as people write it: read as they mean it, or refused in one line that says where."""

import pytest

from dalib import strict_yaml
from dalib.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5.0e-6", 5e-6),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("1_000", 1000),
        ("-3", -3),
        ("010", "010"),  # 8 in YAML 1.1
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("2024-01-01", "2024-01-01"),
        ("no", False),
        ("null", None),
        ("", None),
        ("[3, a]", [3, "a"]),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    assert strict_yaml.parse(text, "x") == value


def test_what_is_merged_in_may_be_overridden_again_and_again():
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, y: 3}\nd: {<<: [*b, *a], z: 4}"
    assert strict_yaml.parse(text, "f") == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
        "d": {"x": 1, "y": 2, "z": 4},
    }


@pytest.mark.parametrize(
    ("text", "line", "first"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1),
        ("rows:\n  a: {label: x}\n  'a': {label: y}", 3, 2),
        ("a: {b: 1, b: 1}", 1, 1),
        ("- {c: 1}\n- c: 1\n  c: 2", 3, 2),
        ("a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}", 2, 2),
        ("1: a\n1: b", 2, 1),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(text, line, first):
    with pytest.raises(
        ConfigError, match=rf"^f\.yaml, line {line}: .* stands twice, here and in line {first};"
    ):
        strict_yaml.parse(text, "f.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_what_they_are(encoding, tmp_path):
    (tmp_path / "f.yaml").write_bytes("a: é".encode(encoding))
    assert strict_yaml.read(tmp_path / "f.yaml") == {"a": "é"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: é".encode("latin-1"), "save it as UTF-8"),
        (b"a: \x00", "f.yaml: not valid YAML"),
        (b"a:\n\t- b", "line 2: .*indent with spaces"),
        (b"a: [", "line 1"),
        (b"a: 1\n---\nb: 2", "another document"),
        (b"a: *gone", "line 1: .*undefined alias 'gone'"),
        (b"a: !!python/object/apply:os.getcwd []", "line 1"),
        (b"[" * 5000, "nested too deeply"),
        (b"{[1]: 2}", "line 1"),
        (b"a: " + b"9" * 5000, "digits"),
    ],
)
def test_whatever_is_no_yaml_is_one_line(data, message, tmp_path):
    (tmp_path / "f.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=message) as caught:
        strict_yaml.read(tmp_path / "f.yaml")
    assert "\n" not in str(caught.value)
    assert "f.yaml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read"):
        strict_yaml.read(tmp_path / "gone.yaml")
