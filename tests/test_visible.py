"""What cannot be seen is written out; what is written in any script stays as it is."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from octoscope.visible import right_to_left_runs, visible

LEFT = {
    "\u0600",
    "\u0605",
    "\u06dd",
    "\u070f",
    "\u08e2",
    "\u0890",
    "\u0891",
    "\U000110bd",
    "\U000110cd",
}
"""Format characters that are seen: signs of Arabic, Syriac and Kaithi numbers."""


def test_every_unseen_character_of_unicode() -> None:
    """Against Unicode's own categories: control, format, separators of lines, half characters."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        kind = unicodedata.category(char)
        if char in "\n\t" or kind not in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            continue
        seen = char in LEFT or "\u0600" <= char <= "\u0605" or "\U00013430" <= char <= "\U0001343f"
        expected = char if seen else f"⟨U+{code:04X}⟩"
        assert visible(f"a{char}b") == f"a{expected}b", f"{code:04X}"


def test_letters_of_every_script_stay() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if (
            unicodedata.category(char)[0] in "NPSL"
            and unicodedata.name(char, "").find("FILLER") < 0
        ):
            assert visible(char) == char or char == "\u2800", f"{code:04X}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CNV\u202egnp.", "CNV⟨U+202E⟩gnp."),
        ("\x1b[31mred\x1b[0m", "⟨U+001B⟩[31mred⟨U+001B⟩[0m"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("NOR\u200bMAL", "NOR⟨U+200B⟩MAL"),
        ("NOR\u200dMAL", "NOR⟨U+200D⟩MAL"),
        ("a\udcffb", "a⟨U+DCFF⟩b"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian is spelt with it
        ("क्\u200dष", "क्\u200dष"),  # and Hindi
        ("\u200cמלה", "⟨U+200C⟩מלה"),
        ("שלום", "שלום"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown, "shown twice it is the same"


def test_stretches_written_from_the_right() -> None:
    text = "DME שלום עולם 12, abc مرحبا."
    assert [text[start:end] for start, end in right_to_left_runs(text)] == ["שלום עולם", "مرحبا"]
    assert right_to_left_runs("only Latin, Ελληνικά, 漢字") == []
