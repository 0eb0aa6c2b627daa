"""Drawings without needless digits: a report holds many, and each is read at one size."""

from __future__ import annotations

import re

_PLACES = re.compile(rb'(?<= d=")[^"]*(?=")|(?<=translate\()[^)]*(?=\))|(?<= points=")[^"]*(?=")')
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_BETWEEN = re.compile(rb">\s+<")
_LETTER = re.compile(rb"(id=\"|href=\"#)DejaVuSans-(?!Bold)")
_NUMBER = re.compile(rb"-?\d+\.\d{2,}")


def lean(svg: bytes) -> bytes:
    """Return an SVG whose lines and places are given to a hundredth of a point.

    Scales are left as they are: they are small numbers that multiply. Comments, indents and the
    long names of letters go too.
    """
    svg = _PLACES.sub(lambda part: _NUMBER.sub(_rounded, part.group()), svg)
    svg = _COMMENT.sub(b"", svg)
    svg = _BETWEEN.sub(b"><", svg).replace(b"\n", b" ")
    return _LETTER.sub(rb"\1_", svg)


def _rounded(number: re.Match[bytes]) -> bytes:
    text = f"{float(number.group()):.2f}".rstrip("0").rstrip(".")
    return (text if text not in ("-0", "") else "0").encode()
