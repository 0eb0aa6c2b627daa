"""The section "Can it be believed?": a card per model, and how far the models agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octoscope.report.files import StudyFiles
from octoscope.report.html import known
from octoscope.report.trust_agreement import agreement_block, agreement_of_models
from octoscope.report.trust_curves import curves_figure, randomisation_figure
from octoscope.report.trust_gallery import clusters_block, gallery_block
from octoscope.report.trust_pictures import Album
from octoscope.report.trust_places import probes_block, zones_block
from octoscope.report.trust_read import Trust, items, level_of, mapping, trusted, words
from octoscope.report.trust_scoreboard import scoreboard_tables, with_bounds

MOST_PICTURES = 2 * 2**20
"""Bytes of the small pictures as they stand in the page."""

MOST_BYTES = 10 * 2**20
"""Of all figures and pictures of this section and the explanations in the page."""

SVG = "data:image/svg"

SYMBOLS = {"good": "✓", "warning": "!", "bad": "✗", "plain": "?"}


def trust_section(study: StudyFiles, most: int = MOST_PICTURES) -> dict[str, Any] | None:
    """Return what the template shows, None if no run has a ``trust.json``.

    Of several seeds of a model the first has a card; of the others the verdict is told.

    Args:
        study: The study.
        most: Bytes that small pictures may take, as they stand in the page.
    """
    models = trusted(study)
    if not models:
        return None
    titles = {name: title for seeds in models for name, title in seeds[0].titles.items()}
    cards = [_measured(seeds) for seeds in models]
    agreed = agreement_of_models(study, titles)
    drawn = _figure_bytes([cards, agreed])
    album = Album(max(0, min(most - drawn, MOST_PICTURES)))
    for card, (trust, *_) in zip(cards, models, strict=True):
        card["gallery"] = gallery_block(trust, album)
        card["clusters"] = clusters_block(trust, album)
    return {
        "cards": cards,
        "models": agreed,
        "scans": album.scans,
        "left_out": album.left_out,
    }


def pictured(explanations: Mapping[str, Any] | None) -> int:
    """Return the bytes that the pictures of the explanations section take in the page."""
    panels = (explanations or {}).get("panels", [])
    maps = (cell["image"] for panel in panels for model in panel.models for cell in model["cells"])
    return sum(len(panel.image) for panel in panels) + sum(len(image or "") for image in maps)


def _figure_bytes(content: Any) -> int:
    """Return the bytes of all figures within nested lists and dictionaries."""
    if isinstance(content, Mapping):
        return sum(map(_figure_bytes, content.values()))
    if isinstance(content, list | tuple):
        return sum(map(_figure_bytes, content))
    return len(content) if isinstance(content, str) and content.startswith(SVG) else 0


def _measured(seeds: list[Trust]) -> dict[str, Any]:
    """Return a card without its scans."""
    trust = seeds[0]
    return {
        "name": trust.run.name,
        "measured_on": _measured_on(trust),
        "verdict": _verdict(trust),
        "others": [{"name": other.run.name, **_verdict(other)} for other in seeds[1:]],
        "scoreboard": scoreboard_tables(trust),
        "curves": curves_figure(trust),
        "zones": zones_block(trust),
        "probes": probes_block(trust),
        "randomisation": randomisation_figure(trust),
        "gated": [(trust.title(m), why) for m in trust.order if (why := trust.gated(m))],
        "agreement": agreement_block(trust),
        "consensus": _consensus(trust),
        "further": [
            sentence
            for name in ("seeds", "twin")
            if (sentence := words(trust.block(name).get("sentence")))
        ],
    }


def _measured_on(trust: Trust) -> str:
    """Say on what the card rests."""
    said = trust.said
    parts = [f"{said[name]} {name}" for name in ("scans", "patients") if known(said.get(name))]
    split = {"val": "validation", "test": "test", "train": "training"}.get(
        words(said.get("split")), words(said.get("split"))
    )
    text = " of ".join(parts)
    return f"{text} of the {split} split" if text and split else text


def _verdict(trust: Trust) -> dict[str, Any]:
    """Return level, headline and sentences."""
    said = trust.block("verdict")
    level = words(said.get("level"))
    kind = level_of(level)
    return {
        "level": level or "no verdict",
        "kind": kind,
        "symbol": SYMBOLS[kind],
        "headline": words(said.get("headline")),
        "sentences": [words(sentence) for sentence in items(said.get("sentences"))],
    }


def _consensus(trust: Trust) -> dict[str, Any] | None:
    """Return weights and scores of the consensus, None if none was made."""
    said = trust.block("consensus")
    if not said:
        return None
    weights = {m: w for m, w in mapping(said.get("weights")).items() if known(w)}
    heaviest = max(weights.values(), default=0)
    single = words(said.get("best_single"))
    difference = mapping(said.get("difference"))
    scores = [
        ("consensus with these weights", "consensus"),
        ("consensus with equal weights", "uniform"),
        (f"best single method{f': {trust.title(single)}' if single else ''}", "single"),
    ]
    return {
        "weights": [
            {"title": trust.title(m), "value": w, "width": 100 * w / heaviest if heaviest else 0}
            for m, w in sorted(weights.items(), key=lambda item: -item[1])
        ],
        "metric": trust.metric_title(words(said.get("metric"))) if said.get("metric") else "",
        "scores": [
            (title, with_bounds(mapping(said[key])))
            for title, key in scores
            if mapping(said.get(key))
        ],
        "difference": with_bounds(difference) if difference else None,
        "sentence": words(said.get("sentence")),
    }
