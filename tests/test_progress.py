"""What is printed commands no terminal, whoever named it."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from octoscope.progress import SafeConsole, track

HOSTILE = "CNV\x1b]0;owned\x07\x1b[2J\u202egnp\x9b31m"


@pytest.mark.parametrize("how", ["text", "string", "table", "styled"])
def test_a_label_with_escapes_is_written_out(how: str) -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, width=200, force_terminal=True)
    if how == "table":
        table = Table("class")
        table.add_row(HOSTILE)
        console.print(table)
    elif how == "text":
        console.print(Text(HOSTILE))
    else:
        console.print(
            HOSTILE, markup=False, highlight=False, style="red" if how == "styled" else None
        )
    written = out.getvalue()
    assert "CNV⟨U+001B⟩" in written
    if how != "table":  # a cell is as wide as the label was
        assert "owned⟨U+001B⟩[2J⟨U+202E⟩gnp⟨U+009B⟩31m" in written
    for command in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x9b"):
        assert command not in written
    assert ("\x1b[31m" in written) == (how == "styled"), "its own colours stay"


def test_a_bar_is_still_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.delenv("OCTOSCOPE_QUIET", raising=False)
    monkeypatch.setattr("octoscope.progress.console", SafeConsole(file=out, force_terminal=True))
    assert list(track(range(3), "Work\x1b[2J")) == [0, 1, 2]
    assert "3/3" in out.getvalue() and "\x1b[2J" not in out.getvalue()
