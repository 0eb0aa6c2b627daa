"""HTML: the template environment, data URIs, and how numbers are written."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from octoscope.trust.scores import ratios, shares

DASH = "–"
NBSP = "\N{NO-BREAK SPACE}"


def environment() -> Environment:
    """Return the environment of the report's templates; everything is escaped by default."""
    out = Environment(
        loader=PackageLoader("octoscope.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    out.filters.update(
        number=number, interval=interval, percent=percent, count=count, p_value=p_value
    )
    return out


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a data URI; `kind` is a MIME type such as ``image/svg+xml``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def svg_uri(content: bytes) -> str:
    """Return an SVG as a data URI."""
    return data_uri(content, "image/svg+xml")


def embedded(content: Any) -> int:
    """Return the bytes of all pictures within nested lists, dictionaries and dataclasses."""
    if isinstance(content, str):
        return len(content) if content.startswith("data:") else 0
    if isinstance(content, Mapping):
        return sum(map(embedded, content.values()))
    if isinstance(content, list | tuple):
        return sum(map(embedded, content))
    return embedded(vars(content)) if is_dataclass(content) else 0


def known(value: Any) -> bool:
    """Say whether a value is a number (not None, NaN or infinite)."""
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: Any, digits: int = 2) -> str:
    """Return 0.83, or a dash for what is not known."""
    return f"{value:.{digits}f}" if known(value) else DASH


def percent(value: Any, digits: int = 0) -> str:
    """Return a share as 31 %, or a dash."""
    return f"{100 * value:.{digits}f}{NBSP}%" if known(value) else DASH


def count(value: Any) -> str:
    """Return 12,345, or a dash."""
    return f"{int(value):,}" if known(value) else DASH


def p_value(value: Any) -> str:
    """Return a p-value, small ones as < 0.001."""
    if not known(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


HOW = {
    "exact": "no resample moved this value: exact binomial interval over patients",
    "reflected": "reflected interval, since noise alone raises this value",
    "no spread": "no resample moved this value, so no interval can be given",
}


STYLES: dict[str, tuple[Callable[..., list[str]], str]] = {
    "number": (lambda *numbers: [f"{x:.2f}" for x in numbers], ""),
    "percent": (shares, f"{NBSP}%"),
    "ratio": (ratios, "×"),
}
"""How a value and its bounds are written, and the unit behind the value."""


def interval(item: Mapping[str, Any] | None, style: str = "number") -> Markup:
    """Return a value with its interval as HTML.

    Args:
        item: ``{value, low, high}`` and perhaps ``how``; None gives a dash.
        style: ``number``, ``percent`` or ``ratio``.
    """
    if item is None or not known(item.get("value")):
        return Markup('<span class="none">{}</span>').format(DASH)
    write, unit = STYLES[style]
    how = item.get("how")
    mark = Markup('<abbr title="{}">*</abbr>').format(HOW[how]) if how in HOW else ""
    if not (known(item.get("low")) and known(item.get("high"))):
        value = write(item["value"])[0] + unit
        return Markup('<b>{}</b>{} <span class="ci">no interval</span>').format(value, mark)
    value, low, high = write(item["value"], item["low"], item["high"])
    return Markup('<b>{}{}</b>{} <span class="ci">[{}, {}]</span>').format(
        value, unit, mark, low, high
    )
