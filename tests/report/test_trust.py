"""The trust section: every number of ``trust.json``, whatever of it is missing, and safe text."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.files import read_json
from octoscope.report import build_report, trust_curves
from octoscope.report.explanations import explanations_section
from octoscope.report.figures.heatmap import heat_map
from octoscope.report.figures.perturbation import Curves
from octoscope.report.figures.probes import Effect, probe_forest
from octoscope.report.figures.roles import roles
from octoscope.report.files import StudyFiles
from octoscope.report.headline import take_away
from octoscope.report.html import embedded, environment
from octoscope.report.localisation import localisation_section
from octoscope.report.trust import trust_section
from octoscope.report.trust_curves import curves_figure
from octoscope.report.trust_pictures import mean_map
from octoscope.report.trust_read import Trust
from octoscope.report.trust_scoreboard import written

METHODS = {
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "attnlrp": "AttnLRP (attention-aware layer-wise relevance propagation)",
    "integrated_gradients": "Integrated gradients, blurred baseline",
    "occlusion": "Occlusion",
    "rise": "RISE (random input sampling)",
    "gradcam++": "Grad-CAM++",
    "eigencam": "Eigen-CAM",
    "guided": "Guided backpropagation",
}
NULLS = {
    "null_noise": "random noise",
    "null_centre": "centre of the frame",
    "null_edges": "edges of the scan",
    "null_brightness": "brightness of the scan",
}
EVERY = {**METHODS, **NULLS}
GATED = "Its maps hardly change when the head is randomised (rank correlation 0.94)."
METRICS = {
    "deletion": ("Deletion", "faithfulness", False, True, True),
    "insertion": ("Insertion", "faithfulness", True, True, True),
    "infidelity": ("Infidelity", "faithfulness", False, False, True),
    "relevance_mass": ("Mass on lesions", "localisation", True, True, True),
    "pointing_game": ("Pointing game", "localisation", True, True, True),
    "random_logit": ("Random logit test", "sanity", False, True, False),
    "max_sensitivity": ("Max-sensitivity", "stability", False, True, False),
    "outside_retina": ("Mass outside the retina", "zones", False, True, True),
}
ZONES = ("vitreous", "inner_retina", "outer_retina", "rpe_band", "choroid", "border", "corners",
         "outside")  # fmt: skip
STAGES = ("head", "layer4", "layer3", "layer2", "layer1", "stem")
PROBES = (
    ("corner", "Corners blanked", 0.31, 0.22, 0.40, 0.0, 0.05, True, "CNV"),
    ("metadata", "Frame alone against the model", 0.58, 0.51, 0.66, 0.25, 0.40, True, ""),
    ("border", "Borders blanked", 0.02, -0.01, 0.05, 0.0, 0.05, False, ""),
    ("text", "Text blanked", 0.00, -0.01, 0.01, 0.0, 0.05, False, ""),
    ("background", "Background kept, retina removed", 0.27, 0.20, 0.35, 0.25, 0.40, False, ""),
    ("transplant", "Artefact of another class transplanted", 0.9, 0.4, 1.4, 0.0, 0.1, None, "DME"),
    ("reframed", "Scans re-framed to one size", 0.04, 0.00, 0.09, 0.0, 0.10, False, ""),
    ("irrelevant", "Irrelevant edits", None, None, None, 0.0, 0.05, None, ""),
)


def made_up_trust(study: Path, run: str, seed: int = 0) -> dict[str, Any]:
    """Return a full ``trust.json`` as a run's folder holds it, drawn at random."""
    generator = np.random.default_rng(seed)
    model, number = run.rsplit("-seed", 1)
    cache = ScanCache.open(study / "cache")
    rows = np.flatnonzero((cache.table.frame["split"] == "val").to_numpy())
    classes = list(cache.table.classes)
    skill = {name: 1 - place / 12 for place, name in enumerate(EVERY)}
    frame = cache.table.frame
    return {
        "run": run, "model": model, "seed": int(number), "split": "val",
        "scans": 64, "patients": 32, "classes": classes,
        "metrics": {
            name: {"name": name, "title": title, "family": family, "higher_is_better": higher,
                   "range": "0…1", "sentence": f"What {title.lower()} says.", "headline": headline,
                   "source": "Somebody, 2020, section 3", "nulls": nulls}
            for name, (title, family, higher, headline, nulls) in METRICS.items()
        },
        "methods": {
            name: {"title": title, "family": "x", "null": name in NULLS, "class_specific": True,
                   "gated": GATED if name == "guided" else None, "notes": []}
            for name, title in EVERY.items()
        },
        "scoreboard": list(scoreboard_rows(generator, skill)),
        "ranking": [
            {"method": name, "title": title, "beats": max(0, 5 - place // 2), "of": 5,
             "gated": name == "guided", "mean_rank": 1.2 + place, "sentence": f"{title} is fine."}
            for place, (name, title) in enumerate(EVERY.items())
        ],
        "curves": {kind: curve(generator, kind, skill) for kind in
                   ("deletion", "insertion", "road_morf", "road_lerf")},
        "randomisation": {
            "stages": list(STAGES),
            "methods": {name: randomised(generator, name) for name in EVERY},
        },
        "agreement": agreement(generator, list(EVERY)),
        "zones": zones(generator, classes),
        "probes": [probe(*row) for row in PROBES],
        "clusters": {"gradcam": clusters(generator, rows.tolist(), classes)},
        "consensus": {
            "weights": {name: round(w, 3) for name, w in skill.items() if name in METHODS},
            "best_single": "gradcam", "metric": "deletion",
            "consensus": {"value": 0.213, "low": 0.19, "high": 0.24},
            "uniform": {"value": 0.256, "low": 0.22, "high": 0.29},
            "single": {"value": 0.2214, "low": 0.2, "high": 0.25},
            "difference": {"value": -0.0084, "low": -0.03, "high": 0.02},
            "sentence": "The consensus is not told from Grad-CAM alone.",
        },
        "seeds": None, "twin": {"sentence": "Against its label-shuffled twin the maps differ."},
        "gallery": [
            {"method": "gradcam", "metric": "relevance_mass", "worst": [
                {"scan": str(frame["path"].iloc[row]), "row": int(row),
                 "label": str(frame["label"].iloc[row]), "predicted": classes[place % 4],
                 "value": 0.013 + 0.017 * place}
                for place, row in enumerate(rows[:10])
            ]}
        ],
        "verdict": {
            "level": "do not trust",
            "headline": f"{model}: do not trust it: 2 shortcut probes fire (corners blanked, "
            "frame alone against the model).",
            "sentences": [
                "Corners blanked: balanced accuracy falls by 0.31 [0.22, 0.40].",
                "Believe Grad-CAM first; after it HiResCAM, LayerCAM: 7 of 9 beat the nulls.",
                "Grad-CAM puts 31 % [27, 36] of its mass outside the retina; a constant map 58 %.",
                "Grad-CAM puts 2.4× [1.9, 2.9] on lesions what chance would.",
            ],
            "believe": "gradcam", "flagged": ["corner", "metadata"],
        },
    }  # fmt: skip


def scoreboard_rows(generator: np.random.Generator, skill: dict[str, float]):
    """Yield rows with every kind of verdict, and values that are not known."""
    for metric, (_, family, higher, _, nulls) in METRICS.items():
        for lesion in ("any", "subretinal_fluid") if family == "localisation" else ("any",):
            for place, (method, good) in enumerate(skill.items()):
                value = 0.2 + 0.6 * (good if higher else 1 - good) + generator.normal(0, 0.02)
                value *= 1e-3 if metric == "infidelity" else 1
                unknown = method == "eigencam" and metric == "random_logit"
                half = 0.08 * abs(value)
                if method in NULLS or not nulls:
                    verdict = ""
                elif place < 5:
                    verdict = "beats the nulls"
                else:
                    verdict = ("not told from null_edges", "worse than null_edges",
                               "too few patients")[place % 3]  # fmt: skip
                null = "null_edges" if nulls else None
                yield {
                    "method": method, "metric": metric, "lesion": lesion,
                    "value": None if unknown else value, "low": None if unknown else value - half,
                    "high": None if unknown else value + half, "scans": 64, "patients": 32,
                    "undefined": 3 if unknown else 0, "null": null,
                    "null_value": 0.21 if null else None, "difference": 0.1 if null else None,
                    "difference_low": 0.05 if null else None,
                    "difference_high": 0.15 if null else None, "verdict": verdict,
                }  # fmt: skip


def curve(generator: np.random.Generator, kind: str, skill: dict[str, float]) -> dict[str, Any]:
    fractions = np.linspace(0, 1, 7)
    falls = kind in ("deletion", "road_morf")
    methods = {}
    for name, good in skill.items():
        steep = 1 + 6 * (good if falls else 1 - good)
        mean = np.exp(-steep * fractions) if falls else 1 - np.exp(-(1 + 6 * good) * fractions)
        half = 0.05 * np.sin(np.pi * fractions)
        mean = mean + generator.normal(0, 0.005, 7)
        methods[name] = {key: list(map(float, values)) for key, values in
                         (("mean", mean), ("low", mean - half), ("high", mean + half))}  # fmt: skip
    methods["rise"]["mean"][5] = None
    title = {"road_morf": "ROAD, most relevant first", "road_lerf": "ROAD, least relevant first"}
    return {"title": title.get(kind, kind.capitalize()), "x": "share of pixels removed",
            "fractions": fractions.tolist(), "methods": methods}  # fmt: skip


def randomised(generator: np.random.Generator, name: str) -> dict[str, Any]:
    start = 1.0 if name in NULLS else 0.94 if name == "guided" else 0.3 + 0.3 * generator.random()
    falls = 1.0 if name in NULLS else 0.97 if name == "guided" else 0.6
    values = [start * falls**stage for stage in range(len(STAGES))]
    return {"spearman": values, "ssim": [*values[:-1], None]}


def agreement(generator: np.random.Generator, methods: list[str]) -> dict[str, Any]:
    count = len(methods)
    distance = np.abs(np.arange(count)[:, None] - np.arange(count)[None])
    spearman = np.clip(1 - 0.16 * distance + generator.normal(0, 0.03, distance.shape), -1, 1)
    spearman = (spearman + spearman.T) / 2
    np.fill_diagonal(spearman, 1)
    rows = [[float(v) for v in row] for row in spearman]
    rows[2][5] = rows[5][2] = None  # type: ignore[call-overload]
    top = np.clip(spearman, 0, 1)
    return {"methods": methods, "spearman": rows, "top": top.tolist(), "top_share": 0.1,
            "linkage": []}  # fmt: skip


def zones(generator: np.random.Generator, classes: list[str]) -> dict[str, Any]:
    area = np.array([0.28, 0.12, 0.12, 0.06, 0.27, 0.1, 0.03, 0.02])

    def shares(concentration: float) -> list[dict[str, float]]:
        drawn = generator.dirichlet(concentration * area * np.array([1, 4, 4, 3, 1, 1, 1, 0.2]))
        return [{"value": float(v), "low": float(v) * 0.9, "high": float(v) * 1.1} for v in drawn]

    return {
        "names": list(ZONES),
        "titles": {name: name.replace("_", " ") for name in ZONES},
        "area": {"all": area.tolist(), **{label: area.tolist() for label in classes}},
        "shares": {
            method: {"all": shares(60), **{label: shares(40) for label in classes}}
            for method in EVERY
        },
        "outside_retina": {
            method: {"value": 0.313 + 0.021 * place, "low": 0.27 + 0.021 * place,
                     "high": 0.36 + 0.021 * place}
            for place, method in enumerate(EVERY)
        },
        "chance_outside_retina": 0.58,
    }  # fmt: skip


def probe(key, title, effect, low, high, harmless, limit, fires, label) -> dict[str, Any]:
    what = "fires" if fires else "does not fire" if fires is False else "could not be judged"
    return {
        "probe": key, "title": title, "effect": effect, "low": low, "high": high,
        "unit": "balanced accuracy", "harmless": harmless, "limit": limit, "fires": fires,
        "sentence": f"{title}: this probe {what}, since accuracy moved by {effect}.",
        "label": label, "scans": 64, "patients": 32, "details": {},
    }  # fmt: skip


def clusters(generator: np.random.Generator, rows: list[int], classes: list[str]) -> dict[str, Any]:
    sizes = (8, 5, 3)
    points = [generator.normal((3 * n, (n % 2) * 2), 0.5, (s, 2)) for n, s in enumerate(sizes)]
    starts = (0, 8, 13)
    return {
        "sentence": "Three ways of looking; one goes with a corner marker.",
        "clusters": [
            {"number": n + 1, "scans": size, "share": size / 16,
             "classes": {classes[0]: size - 1, classes[1]: 1},
             "artefacts": ["a mark in the upper left corner", "narrow frames"] if n == 2 else [],
             "examples": rows[starts[n] : starts[n] + 3]}
            for n, size in enumerate(sizes)
        ],
        "embedding": np.concatenate(points).tolist(),
        "cluster_of": [n + 1 for n, size in enumerate(sizes) for _ in range(size)],
    }  # fmt: skip


def of_the_study(models: list[str]) -> dict[str, Any]:
    """Return the study's ``trust.json``."""
    table = [[1.0, 0.43], [0.43, 1.0]]
    return {
        "runs": [f"{model}-seed0" for model in models],
        "agreement": {"methods": {
            name: {"models": models, "spearman": table, "top": table} for name in EVERY
        }},
        "sentences": ["Grad-CAM and occlusion agree more between models than any other pair."],
    }  # fmt: skip


def write_plain(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def trusted_study(
    tmp_path_factory: pytest.TempPathFactory, make_study: Callable[..., Path]
) -> Path:
    """A study whose first model has a full card, its second one of a few blocks."""
    out = make_study(tmp_path_factory.mktemp("trusted") / "study")
    full = made_up_trust(out, "resnet10t-seed0")
    write_plain(out / "runs" / "resnet10t-seed0" / "trust.json", full)
    kept = ("run", "model", "seed", "split", "methods", "metrics", "scoreboard", "ranking")
    short = {key: made_up_trust(out, "vit_tiny-seed0", 1)[key] for key in kept}
    short["verdict"] = {"level": "caution", "headline": "vit_tiny: with caution.",
                        "sentences": [], "believe": None, "flagged": []}  # fmt: skip
    write_plain(out / "runs" / "vit_tiny-seed0" / "trust.json", short)
    write_plain(out / "trust.json", of_the_study(["resnet10t", "vit_tiny"]))
    return Path(out)


@pytest.fixture(scope="module")
def page(trusted_study: Path) -> str:
    return build_report(trusted_study).read_text(encoding="utf-8")


def section(page: str, name: str = "trust") -> str:
    start = page.index(f'<section id="{name}">')
    return page[start : page.index("</section>", start)]


def plain(html: str) -> str:
    """Text without tags and pictures, as it is read."""
    text = re.sub(r"<[^>]*>", " ", html)
    return " ".join(text.replace("&#39;", "'").replace("&#34;", '"').replace("&lt;", "<").split())


def figures(html: str) -> dict[str, bytes]:
    found = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]*)"', html)
    return {alt: base64.b64decode(content) for content, alt in found}


def test_a_card_tells_verdict_numbers_and_blocks_in_order(trusted_study: Path, page: str) -> None:
    html = section(page)
    said = read_json(trusted_study / "runs" / "resnet10t-seed0" / "trust.json")
    text = plain(html)
    assert text.index("do not trust") < text.index(said["verdict"]["headline"])
    for sentence in said["verdict"]["sentences"]:
        assert sentence in text
    heads = ("Scoreboard:", "Faithfulness:", "Anatomy:", "Shortcut probes:", "Sanity:",
             "Agreement:", "Clusters:", "Failures:", "Consensus:")  # fmt: skip
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    assert "Measured on 64 scans of 32 patients of the validation split (perturbation;" in text
    assert "zones, probes, lesions and clusters on all scans of that split" in text
    assert '<a href="#trust">' in page


def test_the_scoreboard_shows_every_number_of_the_file(trusted_study: Path, page: str) -> None:
    html = section(page)
    card = html[: html.index("vit_tiny, seed 0")]
    said = read_json(trusted_study / "runs" / "resnet10t-seed0" / "trust.json")
    for row in said["scoreboard"]:
        if row["value"] is not None:
            value, low, high = written(row["value"], row["low"], row["high"])
            assert f"<b>{value}</b>" in card and f"[{low}, {high}]" in card
    for one in said["probes"]:
        assert one["sentence"] in plain(card)
    for place in range(len(EVERY)):
        assert f"<b>{31.3 + 2.1 * place:.0f}\N{NO-BREAK SPACE}%</b>" in card
    text = plain(card)
    assert "consensus with these weights 0.21 [0.19, 0.24]" in text
    assert "consensus minus best single −0.008 [−0.030, 0.020]" in text
    assert "Cluster 3 : 3 scans (19\N{NO-BREAK SPACE}%), CNV 2, DME 1" in text.replace(
        " %", "\N{NO-BREAK SPACE}%"
    )


def rows_of(html: str, kind: str) -> list[str]:
    """Rows of the first table body of a kind."""
    start = html.index(f'<tbody class="{kind}">')
    body = html[start : html.index("</tbody>", start)]
    return [plain(row) for row in body.split("<tr")[1:]]


def test_methods_stand_best_first_and_nulls_below_in_a_group(page: str) -> None:
    html = section(page)
    ranked = [row for row in rows_of(html, "ranked") if "is set aside" not in row]
    assert len(ranked) == len(METHODS)
    for row, title in zip(ranked, METHODS.values(), strict=True):
        assert title in row
    floors = rows_of(html, "floors")
    assert "they know no model" in floors[0]
    assert [title in row for row, title in zip(floors[1:], NULLS.values(), strict=True)] == [1] * 4
    assert html.index('class="ranked"') < html.index('class="floors"')


def test_what_does_not_beat_the_nulls_says_so_in_words_and_by_a_symbol(page: str) -> None:
    ranked = [row for row in rows_of(section(page), "ranked") if "is set aside" not in row]
    assert ranked[0].count("✓") == 5 and "nulls on 5" in ranked[0]
    assert "≈ not told from edges of the scan" in ranked[6]
    assert "✗ worse than edges of the scan" in ranked[7]
    assert "? too few patients" in ranked[5]
    assert all("null_edges" not in row for row in ranked), "the null's key is not for readers"


def test_a_gated_method_is_grey_with_its_reason_beneath(page: str) -> None:
    html = section(page)
    gated = html.index('<tr class="gated">')
    reason = html.index('<tr class="gated reason">')
    assert "Guided backpropagation" in html[gated:reason]
    assert f"Guided backpropagation is set aside: {GATED}" in plain(html[reason : reason + 400])


def test_probes_that_fire_come_first_and_reach_the_headline(page: str) -> None:
    html = section(page)
    states = re.findall(r"(✗ fires|✓ quiet|\? not judged)</span>", html)
    assert states == ["✗ fires"] * 2 + ["✓ quiet"] * 4 + ["? not judged"] * 2
    headline = section(page, "headline")
    text = plain(headline)
    assert "Can it be believed? resnet10t: do not trust it" in text
    assert "Can it be believed? vit_tiny: with caution." in text
    for fired in PROBES[:2]:
        assert f"Shortcut probe fires for resnet10t, seed 0: {fired[1]}" in text
    assert "Borders blanked" not in text
    assert re.search(r'<li class="bad">Can it be believed\? resnet10t', headline)
    assert re.search(r'<li class="warning">Can it be believed\? vit_tiny', headline)


def test_the_figures_are_sound_hold_their_lines_and_fetch_nothing(page: str) -> None:
    found = figures(section(page))
    assert len(found) == 10
    for alt, content in found.items():
        root = ElementTree.fromstring(content)
        assert len(content) > 10_000, alt
        assert float(root.attrib["width"].removesuffix("pt")) <= 7.25 * 72, alt
        ids = {element.get("id") for element in root.iter()}
        for element in root.iter():
            for key, value in element.attrib.items():
                if key.endswith("href"):
                    assert value[1:] in ids, (alt, value)
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", section(page))
    assert "http:" not in bare and "https:" not in bare and "<script" not in bare
    assert len(page) < 12 * 2**20


def test_curves_stand_in_a_fixed_order(
    trusted_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels: list[Curves] = []

    def seen(drawn: list[Curves], _: object) -> bytes:
        panels.extend(drawn)
        return b"<svg/>"

    monkeypatch.setattr(trust_curves, "perturbation_curves", seen)
    study = StudyFiles.read(trusted_study)
    run = study.models["resnet10t"][0]
    one = run.trust["curves"]["deletion"]
    kinds = ("mine", "lerf", "morf", "negative", "positive", "insertion", "deletion")
    curves_figure(
        Trust(study, run, {**run.trust, "curves": {k: {**one, "title": k} for k in kinds}})
    )
    assert [panel.title for panel in panels] == [*reversed(kinds[2:]), "lerf", "mine"]


def test_long_names_of_probes_are_wrapped_and_not_cut() -> None:
    name = "artefact transplanted from another class: DRUSEN"
    svg = probe_forest([Effect(name, 0.1, 0.0, 0.2, 0.0, 0.1, fires=False, words="0.1")])
    written_down = re.findall(r"<!-- (.*?) -->", svg.decode(), flags=re.DOTALL)
    assert name in " ".join(written_down) and "…" not in "".join(written_down)


def test_a_mean_map_gives_every_scan_the_same_say(tmp_path: Path) -> None:
    store = MapStore.create(tmp_path / "maps.zarr", 4, about={})
    maps = np.array([[[1, 0], [0, -5]], [[0, 3], [0, 1]], [[0, 0], [0, -1]]], dtype=np.float32)
    flags = {name: np.zeros(3) for name in ("all_zero", "nonfinite", "clipped_fraction")}
    store.write([0, 1, 2], "gradcam", maps, np.zeros(3, dtype=int), flags)
    mean, count = mean_map(store, np.array([0, 1, 2]), "gradcam")
    assert mean is not None and count == 2, "a map without evidence has no say"
    np.testing.assert_allclose(mean, [[0.5, 0.375], [0, 0.125]], atol=1e-3)
    assert mean_map(store, np.array([2]), "gradcam") == (None, 0)
    assert mean_map(store, np.array([3]), "gradcam") == (None, 0), "not written"


def test_the_gallery_shows_scan_map_lesions_and_value(trusted_study: Path, page: str) -> None:
    html = section(page)
    start = html.index('<div class="small gallery">')
    gallery = html[start : html.index("Consensus:", start)]
    said = read_json(trusted_study / "runs" / "resnet10t-seed0" / "trust.json")["gallery"][0]
    assert gallery.count('<img src="data:image/png') == len(said["worst"]) == 10
    text = plain(gallery)
    places = [text.index(one["scan"]) for one in said["worst"]]
    assert places == sorted(places)
    for one in said["worst"]:
        assert f"{written(one['value'])[0]} · {one['label']}" in text
        assert f'class="view small-{one["row"]} size-192-128"' in gallery
        assert f".small-{one['row']} {{ background-image" in page
    assert "<path d=" in gallery


DRAWN = (
    "trust_curves.perturbation_curves", "trust_curves.randomisation_lines",
    "trust_places.zone_bars", "trust_places.probe_forest", "trust_agreement.heat_map",
    "trust_gallery.cluster_scatter",
)  # fmt: skip


@pytest.fixture
def copied(trusted_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study whose figures are drawn in no time."""

    def drawn(self: Figure, out: BinaryIO, **options: object) -> None:
        out.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", drawn)
    for name in DRAWN:
        monkeypatch.setattr(f"octoscope.report.{name}", lambda *args, **options: b"<svg/>")
    return Path(shutil.copytree(trusted_study, tmp_path / "study"))


BLOCKS = ("metrics", "methods", "scoreboard", "ranking", "curves", "randomisation", "agreement",
          "zones", "probes", "clusters", "consensus", "gallery", "verdict", "classes")  # fmt: skip


def test_any_block_may_be_missing_null_or_empty(copied: Path) -> None:
    full = read_json(copied / "runs" / "resnet10t-seed0" / "trust.json")
    study = StudyFiles.read(copied)
    study.__dict__["trust"] = {}
    study.models["vit_tiny"][0].__dict__["trust"] = {}
    run = study.models["resnet10t"][0]
    template = environment().get_template("trust.html.j2")
    cut = [{name: said for name, said in full.items() if name != block} for block in BLOCKS]
    empty = [{"run": "x", **dict.fromkeys(BLOCKS, nothing)} for nothing in (None, {}, [], 3)]
    for said in (*cut, *empty):
        run.__dict__["trust"] = said
        text = plain(template.render(trust=trust_section(study)))
        missing = set(full) - set(said)
        assert text.startswith("Can it be believed?"), missing
        assert "None" not in text.replace("moved by None", ""), missing
        assert "nan" not in re.findall(r"\w+", text), missing


def test_a_card_of_nothing_says_what_was_not_measured(copied: Path) -> None:
    write_plain(copied / "runs" / "resnet10t-seed0" / "trust.json", {"run": "resnet10t-seed0"})
    (copied / "runs" / "vit_tiny-seed0" / "trust.json").unlink()
    (copied / "trust.json").unlink()
    html = section(build_report(copied).read_text(encoding="utf-8"))
    assert html.count("Not measured") == 5
    for said in ("No metric was measured", "No probe was run", "No scans were listed",
                 "No consensus was made", "no verdict"):  # fmt: skip
        assert said in html


def test_a_study_without_trust_has_no_section_and_says_so(copied: Path) -> None:
    for path in (copied / "runs").glob("*/trust.json"):
        path.unlink()
    page = build_report(copied).read_text(encoding="utf-8")
    assert 'id="trust"' not in page and '"#trust"' not in page
    assert "was not measured" in page


def test_texts_are_escaped(copied: Path) -> None:
    bad = "<script>alert(1)</script>\" onmouseover='x'"
    path = copied / "runs" / "resnet10t-seed0" / "trust.json"
    said = read_json(path)

    def poisoned(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poisoned(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [poisoned(part, key) for part in value]
        kept = ("method", "metric", "believe", "null", "lesion", "run", "model", "methods")
        return f"{bad}{value}" if isinstance(value, str) and key not in kept else value

    write_plain(path, poisoned(said))
    page = build_report(copied).read_text(encoding="utf-8")
    assert page.count("<script") == 1, "the report's own"
    assert not re.findall(r"<[^>]*\sonmouseover=", re.sub(r'"[^"]*"', '""', page))
    assert "&lt;script&gt;alert(1)" in section(page)


def test_pictures_stop_at_their_bytes_and_the_rest_is_counted(copied: Path) -> None:
    study = StudyFiles.read(copied)
    whole, cut = trust_section(study), trust_section(study, 30_000)
    assert whole is not None and cut is not None
    assert whole["left_out"] == 0 and cut["left_out"] > 0
    shown = [one["picture"] for one in cut["cards"][0]["gallery"]["scans"]]
    assert shown[0] is not None and shown[-1] is None
    none = trust_section(study, 0)
    assert none is not None and none["scans"] == {} and none["left_out"] >= 10


def test_cards_without_room_for_figures_keep_their_numbers(copied: Path) -> None:
    found = trust_section(StudyFiles.read(copied), 0)
    assert found is not None and embedded(found["cards"]) == 0
    text = plain(environment().get_template("trust.html.j2").render(trust=found))
    first = text[: text.index("vit_tiny, seed 0")]
    assert first.count("Left out to keep this file small") == 3, "curves, randomisation, agreement"
    assert "Not measured" not in first
    assert PROBES[0][1] in first and "0.31 [0.22, 0.40]" in first


def test_the_grid_of_maps_keeps_to_its_bytes_but_shows_a_scan(copied: Path) -> None:
    study = StudyFiles.read(copied)
    whole, cut = explanations_section(study), explanations_section(study, 1)
    assert whole is not None and cut is not None
    assert len(cut["panels"]) == 1 and cut["left_out"] == len(whole["panels"]) - 1
    assert embedded(cut) < embedded(whole) and embedded(None) == 0
    assert embedded({"a": ["data:x", {"b": "data:xy"}], "c": "text"}) == 6 + 7


def test_maps_that_were_not_kept_leave_the_scan(copied: Path) -> None:
    shutil.rmtree(copied / "runs" / "resnet10t-seed0" / "maps.zarr")
    found = trust_section(StudyFiles.read(copied))
    assert found is not None
    picture = found["cards"][0]["gallery"]["scans"][0]["picture"]
    assert picture["image"] is None and picture["warning"] == "this map was not kept"


def test_further_seeds_are_told_in_a_line(copied: Path) -> None:
    first = copied / "runs" / "resnet10t-seed0"
    other = Path(shutil.copytree(first, copied / "runs" / "resnet10t-seed1"))
    write_plain(other / "run.json", {**read_json(first / "run.json"), "seed": 1})
    said = read_json(first / "trust.json")
    verdict = {"level": "no objection found", "headline": "All is well."}
    write_plain(other / "trust.json", {**said, "verdict": verdict})
    found = trust_section(StudyFiles.read(copied))
    assert found is not None and len(found["cards"]) == 2
    assert found["cards"][0]["others"][0]["kind"] == "good"
    assert found["cards"][0]["others"][0]["name"] == "resnet10t, seed 1"


def test_numbers_keep_the_digits_that_matter() -> None:
    assert written(0.834, 0.7, 0.9) == ["0.83", "0.70", "0.90"]
    assert written(0.0123) == ["0.012"]
    assert written(-0.0084, -0.03, 0.02) == ["−0.008", "−0.030", "0.020"]
    assert written(0.00019, 0.00018, 0.0002) == ["1.9e-04", "1.8e-04", "2.0e-04"]
    assert written(-0.001, 0.5) == ["0.00", "0.50"], "no minus before zero"
    assert written(1234.5) == ["1.2e+03"] and written(float("nan")) == ["–"]


def test_effects_share_a_scale_from_harmless_to_limit() -> None:
    above = Effect("a", 0.58, 0.5, 0.7, harmless=0.25, limit=0.4, fires=True, words="")
    below = Effect("b", 0.8, 0.7, 0.9, harmless=1.0, limit=0.9, fires=True, words="")
    assert above.scaled(0.25) == below.scaled(1.0) == 0
    assert above.scaled(0.4) == below.scaled(0.9) == 1
    assert below.scaled(0.8) == pytest.approx(2), "a limit below harmless points the same way"
    assert Effect("c", 0.1, 0, 0, harmless=0.0, limit=0.0, fires=False, words="").scaled(0.1) == 0.1


def test_the_best_have_colours_the_nulls_are_grey_and_the_rest_is_counted() -> None:
    names = [f"m{place}" for place in range(16)] + ["n0", "n1"]
    drawn = roles(names, {"n0", "n1"}, {})
    coloured = [name for name in names if drawn[name].named and drawn[name].dash != ":"]
    assert coloured == names[:7]
    lines = {(drawn[name].tint, str(drawn[name].dash)) for name in coloured}
    assert len(lines) == 7, "each its own line"
    assert drawn["n0"].tint == drawn["n1"].tint and drawn["n0"].dash == ":"
    assert not any(drawn[name].named or drawn[name].band for name in names[7:16])


@pytest.mark.parametrize("count", [2, 20])
def test_heat_maps_fit_the_page_and_leave_unknown_cells_empty(count: int) -> None:
    values = np.full((count, count), 0.42)
    values[0, 1] = np.nan
    names = [f"a method with a very long name, number {place}" for place in range(count)]
    svg = heat_map(values, names, names)
    root = ElementTree.fromstring(svg)
    assert float(root.attrib["width"].removesuffix("pt")) <= 7.25 * 72
    cells = re.findall(rb"<!-- (?:0)?\.42 -->", svg)
    assert len(cells) == count * count - 1


def test_clusters_show_their_mean_map_if_the_file_fits_the_cache(copied: Path) -> None:
    def means() -> list[Any]:
        found = trust_section(StudyFiles.read(copied))
        assert found is not None
        return [one["mean"] for one in found["cards"][0]["clusters"][0]["clusters"]]

    assert [mean["count"] for mean in means()] == [8, 5, 3]
    path = copied / "runs" / "resnet10t-seed0" / "trust.json"
    said = read_json(path)
    found = said["clusters"]["gradcam"]
    found["cluster_of"].reverse()
    write_plain(path, said)
    assert means() == [None] * 3, "the examples are of other clusters"
    found["cluster_of"], found["embedding"] = [1, 2], found["embedding"][:2]
    write_plain(path, said)
    assert means() == [None] * 3, "two scans of sixteen"


def test_null_maps_stand_apart_on_lesions_and_are_never_the_best(copied: Path) -> None:
    about = read_json(copied / "methods.json")
    before = localisation_section(StudyFiles.read(copied))
    assert before is not None and not before["models"][0]["nulls"]
    best = before["models"][0]["methods"][0]["method"]
    write_plain(copied / "methods.json", {**about, best: {"title": "A null", "family": "null"}})
    found = localisation_section(StudyFiles.read(copied))
    assert found is not None
    for model in found["models"]:
        assert [row["method"] for row in model["nulls"]] == [best]
        assert len(model["methods"]) == 3
    assert not any("A null" in one["sentence"] for one in found["best"])


def test_the_headline_names_three_probes_and_counts_the_rest(copied: Path) -> None:
    path = copied / "runs" / "resnet10t-seed0" / "trust.json"
    said = read_json(path)
    for one in said["probes"][:5]:
        one["fires"] = True
    write_plain(path, said)
    study = StudyFiles.read(copied)
    lines = take_away(study, {"val": [], "test": []}, [], None, trust_section(study))
    fired = [line["text"] for line in lines if line["text"].startswith("Shortcut probe fires")]
    assert len(fired) == 3 and fired[2].endswith("2 more fire.")
    assert "Corners blanked: CNV, 0.31 [0.22, 0.40] balanced accuracy (limit 0.05)." in fired[0]
