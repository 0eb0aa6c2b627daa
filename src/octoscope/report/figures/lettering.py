"""How wide words are on paper, so that titles end where their picture does.

What is drawn is what is seen: `fitted` and `wrapped` write out characters that are not.
"""

from __future__ import annotations

from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from octoscope.visible import visible

POINTS = 72
"""Per inch."""


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line in inches, at `size` points."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / POINTS


def fitted(text: str, inches: float, size: float, weight: str = "normal") -> str:
    """Return a line that is at most `inches` wide, its end replaced by … where it is wider."""
    text = " ".join(visible(text).split())
    if width_of(text, size, weight) <= inches:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(f"{text[:middle].rstrip()}…", size, weight) <= inches:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}…"


def wrapped(text: str, inches: float, size: float) -> str:
    """Return words broken into lines of at most `inches`; a longer word is cut."""
    lines = [""]
    for word in visible(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size) <= inches or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(fitted(line, inches, size) for line in lines)
