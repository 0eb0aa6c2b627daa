"""Names of files made from labels, models and scans: safe on every system, and short enough."""

from __future__ import annotations

import hashlib
import re

from octoscope.visible import visible

MOST_BYTES = 200
"""Of a name: file systems allow 255, some that encrypt fewer; what is beside it needs room too."""

_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def file_name(text: str, suffix: str = "") -> str:
    """Return a name for the file of `text`: the text itself where it is a name already.

    What cannot stand in a name becomes ``-``, and what is too long is cut. A name that is changed
    so ends in eight hex digits of the text, so that two texts never have one name.

    Args:
        text: A label, the name of a scan or model, or several joined.
        suffix: Such as ``.png``.
    """
    name = _UNSAFE.sub("-", visible(text).strip()).strip(". ")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    room = MOST_BYTES - len(suffix.encode())
    if name and name == text and len(name.encode()) <= room:
        return name + suffix
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    start = cut(name, room - len(digest) - 1).rstrip(". ")
    return f"{start}-{digest}{suffix}" if start else f"{digest}{suffix}"


def cut(name: str, most: int) -> str:
    """Return the start of a name that takes at most so many bytes, no character halved."""
    return name.encode("utf-8", "surrogateescape")[:most].decode("utf-8", "ignore")
