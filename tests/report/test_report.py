"""The report: complete, offline, safe against hostile names, and frank about what is missing."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from octoscope.errors import OctoscopeError
from octoscope.files import read_json, write_json
from octoscope.report import build_report, explanations
from octoscope.report.explanations import explanations_section
from octoscope.report.files import StudyFiles

SECTIONS = (
    "headline", "data", "models", "results", "explanations", "localisation", "ledger",
    "provenance", "notes",
)  # fmt: skip
VOID = {"meta", "input", "img", "br", "link", "hr", "path", "use"}


class Page(HTMLParser):
    """A page taken apart: fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = text
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [
            found
            for name, found in self.tags
            if name == tag
            and all((found.get(k) or "").split()[:1] == [v] for k, v in wanted.items())
        ]

    def section(self, name: str) -> str:
        """The source of a section."""
        start = self.source.index(f'<section id="{name}">')
        return self.source[start : self.source.index("</section>", start)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_study: Callable[..., Path]) -> Path:
    out = tmp_path_factory.mktemp("whole") / "study"
    notes = ("read as Kermany file names", "OVERRIDE: patient 7 is in two splits, as allowed.")
    return make_study(out, seeds=(0, 1), tests=1, notes=notes)


@pytest.fixture(scope="module")
def plain_study(tmp_path_factory: pytest.TempPathFactory, make_study: Callable[..., Path]) -> Path:
    return make_study(tmp_path_factory.mktemp("plain") / "study")


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page(build_report(study).read_text(encoding="utf-8"))


def test_every_section_is_there_and_linked(page: Page) -> None:
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    assert [a["href"] for a in page.all("a")][: len(SECTIONS)] == [f"#{s}" for s in SECTIONS]
    ids = [found["id"] for _, found in page.tags if found.get("id")]
    assert len(ids) == len(set(ids))
    for name, found in page.tags:
        if name in ("a", "use"):
            assert found["href"][1:] in ids


def test_nothing_is_fetched(page: Page) -> None:
    for name, found in page.tags:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            value = found.get(key)
            assert value is None or value.startswith(("data:", "#")), f"<{name} {key}={value[:60]}>"
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.source)
    assert "http:" not in bare and "https:" not in bare and "@import" not in bare
    assert all(u.startswith('"data:') for u in re.findall(r"url\(([^)]*)", bare))
    for uri in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page.source):
        svg = ElementTree.fromstring(base64.b64decode(uri))
        for element in svg.iter():
            for key, value in element.attrib.items():
                assert not (key.endswith("href") and not value.startswith("#"))
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy


def test_the_headline_holds_the_numbers_of_the_best_model(study: Path, page: Page) -> None:
    headline = page.section("headline")
    assert "Not a medical device" in headline
    assert "resnet10t, mean of 2 seeds, balanced accuracy" in headline
    values = [
        read_json(study / "runs" / f"resnet10t-seed{s}" / "metrics-val.json")["overall"][
            "balanced_accuracy"
        ]["value"]
        for s in (0, 1)
    ]
    assert f"balanced accuracy {sum(values) / 2:.2f} [" in headline
    assert "resnet10t (mean of 2 seeds) minus vit_tiny (mean of 2 seeds)" in headline
    assert "Looks at the test split: 4, with 4 trained models" in headline
    assert "phantoms" in headline


def test_overrides_are_red_at_the_top_and_in_the_notes(page: Page) -> None:
    for section in ("headline", "notes"):
        red = re.search(r'class="red".*?</div>', page.section(section), re.S)
        assert red and "OVERRIDE: patient 7 is in two splits" in red.group()
    assert "read as Kermany file names" in page.section("notes")


def test_results_show_every_model_seed_class_and_metric(study: Path, page: Page) -> None:
    results = page.section("results")
    for title in ("Validation:", "Test:", "Balanced accuracy", "Macro F1", "AUROC"):
        assert title in results
    metrics = read_json(study / "runs" / "vit_tiny-seed1" / "metrics-val.json")
    for row in metrics["per_class"].values():
        number = row["sensitivity"]
        assert f"<b>{number['value']:.2f}</b>" in results
    assert results.count("Confusion matrix of") == results.count("Reliability curve of") == 8


def test_the_grid_shows_scans_times_models_times_methods(study: Path, page: Page) -> None:
    panels = read_json(study / "runs" / "resnet10t-seed0" / "panels.json")
    assert len(page.all("article")) == len(panels) == 8
    assert len(page.all("figure", class_="cell")) == 8 * 2 * (1 + 4)
    grid = page.section("explanations")
    for panel in panels:
        assert panel["scan"] in grid
        for value in panel["probabilities"].values():
            assert f"{value:.2f}" in grid
    assert "maps explain" in grid and "zero everywhere: nothing to show" in grid
    assert "95 % of it was negative and cut off" in grid
    assert "Grad-CAM" in grid and "gradcam++" in grid  # a title where there is one, else the key
    assert 'class="signed"' in grid and 'class="unsigned"' in grid
    assert "first is shown" in grid


def test_outlines_are_drawn_where_there_are_lesions(page: Page) -> None:
    drawn = [tag for tag, _ in page.tags if tag == "use"]
    diseased = sum(a["data-label"] != "4" for a in page.all("article"))
    assert len(drawn) == diseased * 2 * 4
    assert "subretinal fluid" in page.section("explanations")


def test_a_slider_sets_the_opacity_of_every_map(page: Page) -> None:
    sliders = page.all("input", type="range")
    assert [s["class"] for s in sliders] == ["opacity", "opacity"]  # in the page, and enlarged
    assert ".view > img { opacity: var(--opacity); }" in page.source
    script = page.source[page.source.rindex("<script>") :]
    assert 'setProperty("--opacity", value / 100)' in script
    assert 'slider.addEventListener("input"' in script


def test_the_filters_offer_every_class_model_and_method(page: Page) -> None:
    assert len(page.all("select")) == 3
    boxes = [b for b in page.all("input", type="checkbox") if b.get("id") != "outlines"]
    assert len(boxes) == 4
    assert {c["data-method"] for c in page.all("figure", class_="cell") if "data-method" in c} == {
        box["value"] for box in boxes
    }


def test_localisation_gives_lifts_over_every_chance(page: Page) -> None:
    section = page.section("localisation")
    assert "of its mass on lesions, which fill" in section
    assert "lift over the frame" in section and "over other scans" in section
    assert "over the retina" not in section, "no retina masks were given"
    assert "3 left out as misclassified" in section
    assert "within 15 pixels" in section


def test_the_ledger_and_provenance_are_complete_and_name_no_folder(study, page: Page) -> None:
    assert page.section("ledger").count("final numbers, look 1") == 4
    provenance = page.section("provenance")
    for fact in ("abc123+changes", "torch 2.15", "Linux, 2 cores", "seeds:", "Table digest"):
        assert fact in provenance
    assert str(study.parent) not in page.source and "/home/somebody" not in page.source
    assert "…/demo" in provenance


def test_the_page_is_small_and_built_the_same_twice(study: Path, page: Page) -> None:
    assert len(page.source) < 4 * 2**20
    again = build_report(study).read_text(encoding="utf-8")
    undated = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert undated.sub("", again) == undated.sub("", page.source)


HOSTILE = {
    "CNV": "<script>alert(1)</script>",
    "DME": 'a" onmouseover="alert(2)',
    "DRUSEN": "$x_{1}$ & 'drusen' {{ 7 * 7 }}",
}


def test_hostile_names_stay_text(tmp_path: Path, make_study: Callable[..., Path]) -> None:
    name = "</title><script>alert(3)</script>"
    notes = ("<img src=x onerror=alert(4)>", "OVERRIDE: <b>bold</b>")
    out = make_study(tmp_path / "s", models=("<i>net",), notes=notes, name=name, rename=HOSTILE)
    methods = {"gradcam": {"title": "<u>CAM", "sentence": '"><script>alert(5)</script>'}}
    write_json(out / "methods.json", methods)
    run = next((out / "runs").iterdir())
    panels = read_json(run / "panels.json")
    panels[0]["scan"] = "<svg onload=alert(6)>.png"
    write_json(run / "panels.json", panels)
    (run / "ledger.jsonl").write_text('{"time": "<b>", "why": "<script>alert(7)</script>"}\n')
    page = Page(build_report(out).read_text(encoding="utf-8"))
    assert len([t for t, _ in page.tags if t == "script"]) == 1
    assert not {"i", "u", "b"} & {t for t, a in page.tags if t == "u" or (t == "i" and not a)}
    for tag, found in page.tags:
        assert not [key for key in found if key.startswith("on")], (tag, found)
    for text in (*HOSTILE.values(), name, *notes, "<i>net", "<u>CAM", "<svg onload=alert(6)>.png"):
        assert " ".join(text.split()) in page.text, text
    assert "49" not in re.findall(r"drusen' (.{2,12})", page.text)[0]


@pytest.fixture
def copied(plain_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a small study to take things from; its figures are drawn in no time."""

    def drawn(self: Figure, out: BinaryIO, **options: object) -> None:
        out.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", drawn)
    return Path(shutil.copytree(plain_study, tmp_path / "study"))


def built(study: Path) -> Page:
    """Build a report that must be sound, whatever is missing."""
    page = Page(build_report(study).read_text(encoding="utf-8"))
    assert [s["id"] for s in page.all("section")] == list(SECTIONS)
    assert "None" not in page.text and "nan" not in re.findall(r"[\w.]+", page.text)
    return page


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["cache"], {"explanations": "cache is gone"}),
        (["runs"], {"models": "No model has finished", "results": "No model has been evaluated"}),
        (["audit.json"], {"data": "were not audited"}),
        (["table.parquet"], {"data": "no table of scans"}),
        (["methods.json"], {"explanations": "hirescam"}),
        (["runs/*/panels.json"], {"explanations": "no maps to show"}),
        (["runs/*/maps.zarr"], {"explanations": "no maps to show"}),
        (["runs/*/scores.parquet"], {"localisation": "Not measured"}),
        (["runs/*/metrics-*"], {"results": "No model has been evaluated"}),
        (["runs/*/predictions-*"], {"results": "Confusion matrix"}),
        (["runs/*/log.csv", "runs/*/recipe.json"], {"models": "resnet10t"}),
        (["runs/vit*"], {"results": "resnet10t", "ledger": "not been opened"}),
        (["runs/vit*/maps.zarr"], {"explanations": "resnet10t"}),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(copied: Path, gone, said) -> None:
    for name in gone:
        for path in copied.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = built(copied)
    for section, text in said.items():
        assert text in page.section(section)


def test_scans_without_masks_and_maps_show_what_there_is(tmp_path: Path, make_study) -> None:
    page = built(make_study(tmp_path / "study", models=("resnet10t",), masks=False))
    assert "no lesion masks" in page.section("localisation")
    assert "so no outlines are drawn" in page.section("explanations")
    assert not page.all("use")


def test_an_unfinished_run_is_named_and_not_shown(copied: Path) -> None:
    info = read_json(copied / "runs" / "vit_tiny-seed0" / "run.json")
    write_json(copied / "runs" / "vit_tiny-seed0" / "run.json", {**info, "finished": False})
    page = built(copied)
    assert "Not finished and therefore not shown: vit_tiny, seed 0" in page.section("models")
    assert "vit_tiny" not in page.section("results")


def test_a_grid_that_grows_too_large_is_cut_and_says_so(copied: Path, monkeypatch) -> None:
    whole = len(built(copied).all("article"))
    monkeypatch.setattr(explanations, "MOST_BYTES", 100_000)
    cut = built(copied)
    assert 0 < len(cut.all("article")) < whole
    assert f"{whole - len(cut.all('article'))} more scans were chosen" in cut.text


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match=r"holds no study \(study\.json is missing\)"):
        build_report(tmp_path)


def test_a_damaged_file_is_named_and_no_report_is_left(copied: Path) -> None:
    (copied / "audit.json").write_text("{")
    with pytest.raises(OctoscopeError, match=r"audit\.json: not valid JSON"):
        build_report(copied)
    assert not (copied / "report.html").exists()


def test_the_report_needs_no_torch(study: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from octoscope.report import build_report;"
        f"build_report(Path({str(study)!r})); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_colours_diverge_by_the_method_and_by_negative_values(copied: Path) -> None:
    """A signed method whose maps have no negative value; and a study that names no signs."""

    def signed() -> dict[str, bool]:
        section = explanations_section(StudyFiles.read(copied))
        assert section is not None
        cells = [cell for panel in section["panels"] for m in panel.models for cell in m["cells"]]
        return {cell["method"]: cell["signed"] for cell in cells if cell["image"]}

    about = read_json(copied / "methods.json")
    write_json(
        copied / "methods.json", {k: {**v, "signed": k == "gradcam"} for k, v in about.items()}
    )
    assert {method for method, is_signed in signed().items() if is_signed} == {
        "gradcam",
        "hirescam",
    }
    for described in about.values():
        described.pop("signed", None)
    write_json(copied / "methods.json", about)
    assert {method for method, is_signed in signed().items() if is_signed} == {"hirescam"}
