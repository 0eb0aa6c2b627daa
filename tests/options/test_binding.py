"""Values become the types that are asked for, or one sentence that says where and what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.options.binding import bind, build, check_fields, make
from octoscope.options.limits import FileToWrite, FolderToMake, Within


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Within(1, 9)] = 3
    ratio: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "inner")
        if self.size > 8 * self.ratio:
            raise OctoscopeError("size is too large for the ratio")


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    mode: Literal["pad", "band"] = "pad"
    inner: Inner = field(default_factory=Inner)
    several: tuple[Inner, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    switch: bool | Mapping[str, Any] = True
    pair: tuple[float, float] = (0.0, 1.0)
    out: Path | None = None


def test_a_mapping_becomes_dataclasses_all_the_way_down() -> None:
    made = make(
        Outer,
        {
            "name": "y", "mode": "band", "inner": {"size": 2}, "several": [{}, {"ratio": 1}],
            "options": {"a": [1, {"b": None}]}, "switch": {"flip": 0.5}, "pair": [1, 2], "out": "o",
        },
        "f.yaml: ",
    )  # fmt: skip
    assert made == Outer(
        "y", "band", Inner(2), (Inner(), Inner(ratio=1.0)), {"a": [1, {"b": None}]},
        {"flip": 0.5}, (1.0, 2.0), Path("o"),
    )  # fmt: skip
    assert type(made.several[1].ratio) is float


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nmae": "y"}, 'f.yaml has no field "nmae" (did you mean "name"?)'),
        ({"inner": {"sise": 1}}, 'f.yaml: inner has no field "sise" (did you mean "size"?)'),
        ({"inner": {"size": 0}}, "f.yaml: inner.size must be a whole number from 1 to 9, not 0"),
        ({"inner": {"size": 2.0}}, "inner.size must be a whole number from 1 to 9, not 2.0"),
        ({"inner": {"size": True}}, "inner.size must be a whole number from 1 to 9, not true"),
        ({"inner": {"size": 9}}, "f.yaml: inner: size is too large for the ratio"),
        ({"inner": 3}, "f.yaml: inner must be a mapping of size, ratio; not 3"),
        ({"inner": "os.system"}, "inner must be a mapping of size, ratio; not 'os.system'"),
        ({"inner": None}, "inner must be a mapping of size, ratio; not null"),
        ({"inner": {"class_path": "a.B", "init_args": {}}}, 'inner has no field "class_path"'),
        ({"several": [{}, {"size": "a"}]}, "several[1].size must be a whole number"),
        ({"several": [{}, {"size": 9}]}, "f.yaml: several[1]: size is too large"),
        ({"several": {"size": 1}}, "several must be a list of mappings"),
        ({"name": 3}, "name must be a text, not 3"),
        ({"name": "a\0"}, "name holds a zero byte"),
        ({"name": "a" * 5000}, "name is longer than 4096"),
        ({"mode": "bnad"}, 'mode "bnad" is unknown (did you mean "band"?); choose one of pad'),
        ({"mode": ["pad"]}, "choose one of pad, band"),
        ({"options": "a.b"}, "options must be a mapping, not 'a.b'"),
        ({"options": {"a": math.nan}}, "options: nan is no plain value"),
        ({"options": {"a": print}}, "is no plain value"),
        ({"switch": "a.b"}, "switch must be true or false or a mapping, not 'a.b'"),
        ({"switch": {"a": math.inf}}, "switch: inf is no plain value"),
        ({"pair": [1]}, "pair must be a list of 2, each a number, not [1]"),
        ({"pair": [1, math.nan]}, "pair[1] must be a number, not nan"),
        ({"out": ""}, "out is empty; give a path"),
        ({"out": 3}, "out must be a path or null, not 3"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: dict[str, Any], said: str) -> None:
    with pytest.raises(OctoscopeError) as caught:
        make(Outer, values, "f.yaml: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("text", "truth"), [("yes", True), ("No", False), ("on", True)])
def test_switches_take_the_words_people_write(text: str, truth: bool) -> None:
    assert bind(bool, text, "x") is truth


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_made_in_python_is_checked_alike() -> None:
    with pytest.raises(OctoscopeError, match="inner: size must be a whole number from 1 to 9"):
        Inner(size=0)
    for value in (deep(1000), [0] * 100_000, {"a": 10**30}, {1: 2}, {"a": {1, 2}}, {"a": b"x"}):
        with pytest.raises(OctoscopeError, match=r"holds too much|no plain value|must be a map"):
            bind(Mapping[str, Any], {"a": value} if isinstance(value, list) else value, "x")


HINTS: list[Any] = [
    int, float, bool, str, Path, Literal["a", 1, True], tuple[int, ...], tuple[float, float],
    list[Path], Mapping[str, Any], Inner, Inner | None, bool | Literal["auto"], int | None,
    tuple[Inner, ...], Annotated[float, Within(0, 1, open_above=True)],
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from(HINTS), ANYTHING)
@settings(max_examples=80, deadline=None)
def test_anything_is_bound_or_refused_in_one_sentence(hint: Any, value: Any) -> None:
    """The oracle: what is bound can be bound again and stays the same."""
    try:
        bound = build(hint, bind(hint, value, "x"), "x")
    except OctoscopeError as error:
        assert len(str(error)) < 400
    else:
        assert build(hint, bind(hint, bound, "x"), "x") == bound


@pytest.mark.parametrize(
    ("limit", "good", "bad", "says"),
    [
        (Within(1), [1, 10**9], [0, -1], "from 1"),
        (Within(0, 1, open_below=True), [1, 0.1], [0, 1.1], "above 0 to 1"),
        (Within(0, 1, open_above=True), [0, 0.999], [1, -0.1], "from 0 to below 1"),
        (Within(most=2), [-5, 2], [2.1], "to 2"),
    ],
)
def test_bounds_hold_at_their_ends(limit: Within, good: list, bad: list, says: str) -> None:
    assert limit.describe() == says
    assert all(limit.complaint(value) is None for value in good)
    assert all(limit.complaint(value) is not None for value in bad)


def test_places_to_write_to_are_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    table = FileToWrite((".csv", ".parquet"))
    assert table.complaint(tmp_path / "new" / "a.CSV") is None
    for path, said in (
        (tmp_path, "is a folder"), (tmp_path / "a.txt", "no file ending in .csv or .parquet"),
        (tmp_path / "file" / "a.csv", "file is a file"),
    ):  # fmt: skip
        assert said in str(table.complaint(path))
    folder = FolderToMake()
    assert folder.complaint(tmp_path) is None
    assert folder.complaint(tmp_path / "a" / "b") is None
    assert "is a file" in str(folder.complaint(tmp_path / "file"))
    assert "is a file" in str(folder.complaint(tmp_path / "file" / "b"))
    assert "too long" in str(folder.complaint(tmp_path / ("x" * 300)))
