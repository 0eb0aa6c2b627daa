"""YAML is data here: the same values as other readers give, and nothing that is not data."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.options.plain import MAX_BYTES, MAX_VALUES, parse_plain, read_plain_file

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(TEXTS.filter(lambda key: key != "<<"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_what_json_says_is_read_as_json_says_it(value: Any) -> None:
    assert parse_plain(json.dumps(value, ensure_ascii=False), "x") == value


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    assert parse_plain(yaml.safe_dump(value, allow_unicode=True), "x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("Null", None), ("TRUE", True), ("false", False),
        ("12", 12), ("-3", -3), ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5), ("+2.5E2", 250.0),
        ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("2001-01-01", "2001-01-01"),
        ("007", "007"), ("0x10", "0x10"), ("1_000", "1_000"), ("'12'", "12"), ('"true"', "true"),
        ("|\n 12\n", "12\n"), ("[a, 1, [b]]", ["a", 1, ["b"]]), ("{a: {b: }}", {"a": {"b": None}}),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}",
         {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse_plain(text.lstrip("\ufeff"), "x")
    assert read == value and type(read) is type(value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{former}'] * 9)}]\n"
    for former, name in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = {
    "an alias bomb": (BOMB, f"more than {MAX_VALUES} values"),
    "a bomb of merge keys": (
        "a: &a {" + ", ".join(f"k{i}: 1" for i in range(500)) + "}\n"
        + "\n".join(f"b{i}: {{<<: [{', '.join(['*a'] * 50)}]}}" for i in range(50)),
        "more than",
    ),
    "an alias of itself": ("a: &a [*a]", "names nothing before it"),
    "a huge whole number": ("seed: " + "9" * 100_000, "a number of 100000 digits"),
    "a thousand lists": ("[" * 1000, "nested more than 20 deep"),
    "a million mappings": ("{a: " * 200_000, "nested more than 20 deep"),
    "a million dashes": ("- " * 400_000 + "1", "nested more than 20 deep"),
    "a chain of aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(40)),
        "nested more than 20 deep",
    ),
    "a long list": ("- 1\n" * 200_000, "more than"),
    "too much text": ("x" * (MAX_BYTES + 1), "MiB"),
    "a tag that calls": ("!!python/object/apply:os.system [id]", "is not allowed"),
    "a tag that names": ("a: !!python/name:os.system", "is not allowed"),
    "a tag of ours": ("a: !Recipe {model: x}", "is not allowed"),
    "a set": ("!!set {a, b}", "is not allowed"),
    "bytes": ("!!binary aGk=", "is not allowed"),
    "a tag on a key": ("!!python/name:os.system : 1", "a key must be a word"),
    "a list as a key": ("? [a]\n: 1", "a key must be a word"),
    "a key twice": ("a: 1\nb: 2\na: 3", '"a" stands twice .line 3'),
    "a tab": ("a: 1\n\tb: 2", "not YAML .*tab.* in line 2"),
    "an open bracket": ("a: [1, 2", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2", "several documents"),
    "a zero byte": ("a: \0", "not YAML"),
    "half a character": ("a: \ud800", "not UTF-8"),
    "a merge of a word": ("a: {<<: b}", "<< takes a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_data_is_one_sentence_at_once(kind: str) -> None:
    text, said = REFUSED[kind]
    start = time.process_time()
    with pytest.raises(OctoscopeError, match=said) as caught:
        parse_plain(text, "recipe.yaml")
    assert time.process_time() - start < 1
    assert str(caught.value).startswith("recipe.yaml: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_no_file_is_one_sentence_at_once(tmp_path: Path) -> None:
    pipe, huge, latin = (tmp_path / name for name in ("pipe", "huge.yaml", "latin.yaml"))
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(100 * 2**20)
    latin.write_bytes("name: Müller".encode("latin-1"))
    start = time.process_time()
    for path, said in (
        (tmp_path, "is a folder"), (pipe, "is a device or a pipe"),
        (Path("/dev/zero"), "is a device or a pipe"), (huge, "larger than 1 MiB"),
        (latin, "not UTF-8"), (tmp_path / "nowhere", "no such file"),
        (tmp_path / ("x" * 300), "no such file"),
    ):  # fmt: skip
        with pytest.raises(OctoscopeError, match=said):
            read_plain_file(path)
    assert time.process_time() - start < 1


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\ufeffname: Müller", encoding="utf-8")
    assert read_plain_file(tmp_path / "a.yaml") == {"name": "Müller"}
