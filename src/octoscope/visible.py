"""Text from outside, such as labels, paths and notes, made safe to show.

A label may hold characters that are not seen but change what is: overrides of the writing
direction, characters of no width, commands to a terminal. They are shown as ``⟨U+202E⟩`` wherever
text is shown: in the report, in figures, in the terminal, in names of files.
"""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Zero-width characters that Persian, Urdu and the scripts of India are written with."""

VIRAMA = 9
"""Combining class of the sign after which a joiner chooses the form of an Indic letter."""

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters; tab and line break are kept
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # no width, line ends, writing direction
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # half of a character: a file name that is not UTF-8
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "]"
)

_RIGHT_TO_LEFT = "\u0590-\u05ff\u0600-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff"
_RUN = re.compile(
    f"[{_RIGHT_TO_LEFT}](?:[{_RIGHT_TO_LEFT}{JOINERS} \u00a0'\u2019.-]*[{_RIGHT_TO_LEFT}])?"
)


def visible(text: str) -> str:
    """Return a text with every unseen or direction-changing character written out.

    Letters of every script stay as they are, whatever direction they are written in.
    """
    return _UNSEEN.sub(_written_out, text) if _UNSEEN.search(text) else text


def right_to_left_runs(text: str) -> list[tuple[int, int]]:
    """Return start and end of every stretch of letters that are written from the right.

    A stretch must be kept apart from the numbers and signs beside it, or a reader's program
    carries them over to its other side.
    """
    return [match.span() for match in _RUN.finditer(text)]


def _written_out(match: re.Match[str]) -> str:
    char, text = match.group(), match.string
    if char in JOINERS and _joins(text[: match.start()][-1:], text[match.end() :][:1]):
        return char
    return f"⟨U+{ord(char):04X}⟩"


def _joins(before: str, after: str) -> bool:
    """Say whether a joiner between two characters is spelling and not disguise."""
    if not before:
        return False
    if unicodedata.combining(before) == VIRAMA:
        return True
    return (
        bool(after)
        and unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    )
