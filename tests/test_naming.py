"""Names of files from any text: a name, one of its own, and never too long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.naming import MOST_BYTES, file_name


@pytest.mark.parametrize("text", ["CNV-1-2", "resnet18, seed 0", "données", "a.b"])
def test_what_is_a_name_stays(text: str) -> None:
    assert file_name(text, ".png") == f"{text}.png"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a/b", "a\\b", "C:x", "nul", "CON.png", "Lpt1", "a\0b", "x.", " x",
     "\u202ex", "a\nb", ".hidden", "x" * 300, "é" * 300, "\udcff", "<b>", "漢" * 99],
)  # fmt: skip
def test_what_is_none_becomes_one_of_its_own(text: str, tmp_path: Path) -> None:
    name = file_name(text, ".png")
    assert name.endswith(".png") and name != f"{text}.png"
    (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    stem = name.removesuffix(".png")
    assert not set(stem) & set('/\\:*?"<>|\0\n') and stem.strip(". ") == stem
    assert stem.split(".")[0].lower() not in ("nul", "con", "lpt1")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=80) | st.text("ab/:\\.", max_size=6), min_size=2, unique=True))
def test_two_texts_never_have_one_name(texts: list[str]) -> None:
    names = [file_name(text) for text in texts]
    assert len(set(names)) == len(names)
    assert all(0 < len(name.encode()) <= MOST_BYTES for name in names)
