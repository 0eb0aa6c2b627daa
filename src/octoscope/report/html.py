"""HTML: the template environment, the page's policy, data URIs, and how numbers are written."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from octoscope.trust.scores import ratios, shares
from octoscope.visible import right_to_left_runs, visible

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
        finalize=shown,
    )
    out.filters.update(
        number=number, interval=interval, percent=percent, count=count, p_value=p_value
    )
    return out


def shown(value: Any) -> Any:
    """Return what a template writes for a value: text with nothing unseen in it."""
    if isinstance(value, Markup):
        return Markup(visible(value))
    return visible(value) if isinstance(value, str) else value


def page_of(content: Mapping[str, Any]) -> str:
    """Return the report as HTML.

    Its policy lets the browser run the one script and use the one style sheet of the page, known
    by their digests, show pictures that stand in the page, and nothing else.

    Args:
        content: What the templates show.
    """
    templates = environment()
    style = f"\n{templates.get_template('report.css.j2').render(content)}\n"
    script = f"\n{templates.get_template('report.js').render()}\n"
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{digest(style)}'",
            f"script-src '{digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    page = templates.get_template("report.html.j2").render(
        {**content, "style": Markup(style), "script": Markup(script), "policy": policy}
    )
    return with_directions(page)


def digest(text: str) -> str:
    """Return the digest of a script or style sheet as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


_PIECES = re.compile(
    r"(<(?P<name>title|script|style|option)\b.*?</(?P=name)\s*>|<[^>]*>)", re.DOTALL
)


def with_directions(page: str) -> str:
    """Return a page in which words written from the right keep to themselves.

    Without it a browser carries the numbers beside a Hebrew or Arabic word to its other side.

    Args:
        page: HTML in which every text is escaped: a ``<`` or ``>`` is always a tag's.
    """
    if not right_to_left_runs(page):
        return page
    pieces = _PIECES.split(page)  # text, tag, name of a whole element or None, text, …
    texts = [_isolated(text) for text in pieces[::3]]
    tags = [*pieces[1::3], ""]
    return "".join(text + tag for text, tag in zip(texts, tags, strict=True))


def _isolated(text: str) -> str:
    out, done = [], 0
    for start, end in right_to_left_runs(text):
        out += [text[done:start], "<bdi>", text[start:end], "</bdi>"]
        done = end
    return "".join([*out, text[done:]])


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
