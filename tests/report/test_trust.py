"""The trust section: every number of ``trust.json``, whatever of it is missing, and safe text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octoscope.data.cache import ScanCache

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
    fractions = np.linspace(0, 1, 21)
    falls = kind in ("deletion", "road_morf")
    methods = {}
    for name, good in skill.items():
        steep = 1 + 6 * (good if falls else 1 - good)
        mean = np.exp(-steep * fractions) if falls else 1 - np.exp(-(1 + 6 * good) * fractions)
        half = 0.05 * np.sin(np.pi * fractions)
        mean = mean + generator.normal(0, 0.005, 21)
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
