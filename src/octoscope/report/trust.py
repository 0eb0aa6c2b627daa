"""The section "Can it be believed?": a card per model, and how far the models agree."""

from __future__ import annotations

from typing import Any

from octoscope.report.files import StudyFiles
from octoscope.report.html import embedded, known
from octoscope.report.trust_agreement import agreement_block, agreement_of_models
from octoscope.report.trust_curves import curves_figure, randomisation_figure
from octoscope.report.trust_gallery import clusters_block, gallery_block
from octoscope.report.trust_pictures import Album
from octoscope.report.trust_places import probes_block, zones_block
from octoscope.report.trust_read import Trust, entries, items, level_of, mapping, trusted, words
from octoscope.report.trust_scoreboard import scoreboard_tables, with_bounds

MOST_PICTURES = 2 * 2**20
"""Bytes of the small pictures as they stand in the page."""

MOST_BYTES = 6 * 2**20
"""Bytes of figures and small pictures together."""

MOST_TABLES = 8
"""Cards with the tables of all metrics; the others have the headline metrics."""

SYMBOLS = {"good": "✓", "warning": "!", "bad": "✗", "plain": "?"}


def trust_section(study: StudyFiles, most: int = MOST_BYTES) -> dict[str, Any] | None:
    """Return what the template shows, None if no run has a ``trust.json``.

    Of several seeds of a model the first has a card; of the others the verdict is told. Figures
    go before small pictures; cards whose figures find no room keep their numbers.

    Args:
        study: The study.
        most: Bytes that figures and small pictures may take, as they stand in the page; at most
            `MOST_BYTES`.
    """
    models = trusted(study)
    if not models:
        return None
    most = min(most, MOST_BYTES)
    titles = {name: title for seeds in models for name, title in seeds[0].titles.items()}
    agreed = agreement_of_models(study, titles)
    used = embedded(agreed)
    cards = []
    for place, seeds in enumerate(models):
        card = _measured(seeds, drawn=used < most)
        if used + embedded(card) > most:
            card = _measured(seeds, drawn=False)
        used += embedded(card)
        cards.append({**card, "tables": place < MOST_TABLES})
    album = Album(max(0, min(most - used, MOST_PICTURES)))
    for card, (trust, *_) in zip(cards, models, strict=True):
        card["gallery"] = gallery_block(trust, album)
        card["clusters"] = clusters_block(trust, album, drawn=card["drawn"])
    return {
        "cards": cards,
        "models": agreed,
        "scans": album.scans,
        "left_out": album.left_out,
    }


def _measured(seeds: list[Trust], drawn: bool) -> dict[str, Any]:
    """Return a card without its scans, and without figures if they are not to be drawn."""
    trust = seeds[0]
    return {
        "drawn": drawn,
        "name": trust.run.name,
        "measured_on": _measured_on(trust),
        "notes": [words(note) for note in items(trust.said.get("notes"))],
        "verdict": _verdict(trust),
        "others": [{"name": other.run.name, **_verdict(other)} for other in seeds[1:]],
        "scoreboard": scoreboard_tables(trust),
        "curves": curves_figure(trust) if drawn else None,
        "zones": zones_block(trust, drawn),
        "probes": probes_block(trust, drawn),
        "randomisation": randomisation_figure(trust) if drawn else None,
        "gated": [
            (trust.title(m), f"{why.rstrip('.')}.") for m in trust.order if (why := trust.gated(m))
        ],
        "agreement": agreement_block(trust) if drawn else None,
        "consensus": _consensus(trust),
        "further": [
            sentence
            for name in ("seeds", "twin")
            if (sentence := words(trust.block(name).get("sentence")))
        ],
    }


def _measured_on(trust: Trust) -> str:
    """Say on what the card rests: the scans of the perturbation, which is the dearest part."""
    said = trust.said
    parts = [f"{said[name]} {name}" for name in ("scans", "patients") if known(said.get(name))]
    split = {"val": "validation", "test": "test", "train": "training"}.get(
        words(said.get("split")), words(said.get("split"))
    )
    text = " of ".join(parts)
    if not (text and split):
        return text
    rest = "zones, probes, lesions and clusters on all scans of that split"
    return f"{text} of the {split} split (perturbation; {rest})"


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
    halves = [words(half.get("single")) for half in entries(said.get("halves"))]
    singles = list(dict.fromkeys(filter(None, halves))) or [words(said.get("best_single"))]
    single = " or ".join(trust.title(name) for name in singles if name)
    difference = mapping(said.get("difference"))
    scores = [
        ("consensus with these weights", "consensus"),
        ("consensus with equal weights", "uniform"),
        (f"best single method{f': {single}' if single else ''}", "single"),
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
