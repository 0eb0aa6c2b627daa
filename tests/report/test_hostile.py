"""Text from outside stays text: in the page, in its attributes, and in figures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from octoscope.files import read_json, write_json
from octoscope.report import build_report
from octoscope.report.html import with_directions
from octoscope.visible import visible

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "{{7*7}}{% raw %}",
    "</style></title></textarea><svg onload=alert(4)>",
    "javascript:alert(5)",
    "\u202egnp.exe\u2066\u200b\x1b[31m\x07",
    "a" * 300,
    "&lt;b&gt;<!-- --><![CDATA[",
    "url(https://example.org/x)",
)
HOSTILE = "".join(PAYLOADS)
KEPT = {"level", "split", "monitor", "cache_digest", "how", "digests", "kind", "verdict", "lesion"}
"""Keys whose texts are words of our own, on which the report decides."""

ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "div", "nav", "b", "a", "main", "section",
    "p", "h1", "h2", "h3", "h4", "h5", "ul", "li", "span", "table", "thead", "tbody", "tr", "th",
    "td", "details", "summary", "code", "pre", "figure", "figcaption", "img", "abbr", "article",
    "header", "svg", "defs", "g", "path", "use", "rect", "circle", "button", "label", "input",
    "output", "select", "option", "dialog", "script", "i", "br", "bdi", "em", "dl", "dt", "dd",
}  # fmt: skip


def worse(value: Any, key: str = "") -> Any:
    """Return JSON in which every text and every name of a class ends in all payloads."""
    if isinstance(value, dict):
        names = key in ("per_class", "probabilities", "by_class", "packages", "framing")
        return {(f"{k}{HOSTILE}" if names else k): worse(part, k) for k, part in value.items()}
    if isinstance(value, list):
        return [worse(part, key) for part in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) and key not in KEPT else value


class Live(HTMLParser):
    """What of a page is more than text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, make_study: Callable[..., Path]
) -> tuple[str, list[str]]:
    """The page of a study whose every text is hostile, and all that its figures say."""
    out = make_study(tmp_path_factory.mktemp("hostile") / "study", models=("resnet10t",), tests=1)
    for path in (*out.glob("*.json"), *out.glob("runs/*/*.json")):
        content = read_json(path)
        changed = worse(content)
        if path.name == "methods.json":
            changed = {key: worse(about) for key, about in content.items()}
        write_json(path, changed)
    for path in (out / "table.parquet", *out.glob("runs/*/*.parquet")):
        frame = pd.read_parquet(path)
        texts = [c for c in ("label", "patient", "scan", "model", "device") if c in frame]
        if path.name.startswith("predictions"):
            frame.columns = [c + HOSTILE if "_" in c else c for c in frame.columns]
            texts += ["predicted"]
        changes = {c: frame[c].map(lambda v: v if v is None else f"{v}{HOSTILE}") for c in texts}
        frame.assign(**changes).to_parquet(path)
    entry = {"split": "test", **dict.fromkeys(("time", "run", "why", "model_digest"), HOSTILE)}
    for path in (*out.glob("ledger.jsonl"), *out.glob("runs/*/ledger.jsonl")):
        with path.open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
    said: list[str] = []
    whole = Text.set_text

    def recorded(self: Text, text: object) -> None:
        said.append(str(text))
        whole(self, text)

    def drawn(self: Figure, file: BinaryIO, **options: object) -> None:
        file.write(b"<svg/>")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Text, "set_text", recorded)
        patched.setattr(Figure, "savefig", drawn)
        page = build_report(out, notes=[HOSTILE]).read_text(encoding="utf-8")
    return page, said


def test_no_element_is_alive(hostile: tuple[str, list[str]]) -> None:
    page, _ = hostile
    assert "left out, as" not in page, "every section is there to be looked at"
    assert page.count("{{7*7}}") > 20 and "49{% raw" not in page
    live = Live(page)
    tags = [tag for tag, _ in live.found]
    assert set(tags) <= ELEMENTS
    assert tags.count("script") == tags.count("style") == tags.count("title") == 1
    for tag, attributes in live.found:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in ("src", "href", "action", "data", "formaction", "xlink:href"):
                assert str(value).startswith(("data:image/", "#")), (tag, name)
            elif name in ("class", "id"):
                assert re.fullmatch(r"[a-zA-Z0-9 -]*", str(value)), (tag, value)


def test_nothing_unseen_stands_in_the_page(hostile: tuple[str, list[str]]) -> None:
    page, _ = hostile
    assert visible(page) == page
    assert page.count("⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+200B⟩⟨U+001B⟩[31m⟨U+0007⟩") > 20


def test_nothing_unseen_stands_in_figures(hostile: tuple[str, list[str]]) -> None:
    _, said = hostile
    assert len(said) > 50
    assert all(visible(text) == text and len(text) < 130 for text in said)


def test_the_policy_names_the_script_and_the_style_sheet(hostile: tuple[str, list[str]]) -> None:
    page, _ = hostile
    policy = next(
        str(attributes["content"])
        for tag, attributes in Live(page).found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:" and "unsafe" not in policy
    for name in ("script", "style"):
        content = re.search(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert content is not None and "alert" not in content[1] and "example.org" not in content[1]
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"
    head = page[: page.index("<title>")]
    assert "Content-Security-Policy" in head and HOSTILE[:8] not in head


def test_words_from_the_right_keep_to_themselves() -> None:
    page = (
        "<title>שלום</title><style>/* שלום */</style><option>שלום 1</option>"
        '<p title="שלום">class שלום עולם: 0.83 [0.7, 0.9], مرحبا</p><script>"שלום"</script>'
    )
    assert with_directions(page) == (
        "<title>שלום</title><style>/* שלום */</style><option>שלום 1</option>"
        '<p title="שלום">class <bdi>שלום עולם</bdi>: 0.83 [0.7, 0.9], <bdi>مرحبا</bdi></p>'
        '<script>"שלום"</script>'
    )
    assert with_directions("<p>CNV</p>") == "<p>CNV</p>"
