"""From the parts of an examination to the card of one model: ``trust.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from octoscope.attribution.registry import METHODS
from octoscope.evaluation.predictions import read_predictions
from octoscope.evaluation.terminal import said
from octoscope.report.expected import METRICS as METRICS_FILE
from octoscope.report.shape import read_shaped
from octoscope.study.examined import Examined
from octoscope.study.trust_notes import notes_of_card, notes_of_method
from octoscope.trust.metric import Metric
from octoscope.trust.registry import METRICS
from octoscope.trust.sanity.gate import LIMITS, Gate, gate
from octoscope.trust.scoreboard import ranking, scoreboard
from octoscope.trust.scores import ANY_LESION, lift_summary
from octoscope.trust.verdict import Evidence, verdict_of

GALLERY_METRIC = "insertion_minus_deletion"
"""By which the worst scans of a method are found."""
GALLERY_METHODS, GALLERY_SCANS = 3, 8
"""How many of the best methods have a gallery, and how many scans it shows."""


def card_of(examined: Examined, scores: pd.DataFrame, blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``trust.json`` of a run holds.

    Args:
        examined: The run.
        scores: The score tables of all parts together.
        blocks: Part → its block.
    """
    resamples = examined.resamples
    metrics = {name: about for name, about in METRICS.items() if (scores["metric"] == name).any()}
    nulls = [name for name in examined.methods if METHODS[name].family == "null"]
    sanity = blocks.get("sanity", {})
    gates = _gates(examined, scores, sanity.get("left_out", {}))
    gated = {name: one.reason for name, one in gates.items()}
    board = scoreboard(scores, metrics, nulls, resamples=resamples)
    order = ranking(board, metrics, nulls, gated)
    titles = {name: METHODS[name].title for name in examined.methods}
    zones = blocks.get("zones", {})
    verdict = verdict_of(
        Evidence(
            model=str(examined.run.info["model"]),
            board=board,
            order=order,
            metrics=metrics,
            titles=titles,
            gated=gated,
            probes=blocks.get("probes", {}).get("findings", []),
            outside={m: _numbers(share) for m, share in zones.get("outside_retina", {}).items()},
            unchecked={name: one.note for name, one in gates.items() if one.note},
            lesions=_lesion_sentences(scores, titles, resamples),
            accuracy=_accuracy(examined),
            classes=len(set(examined.labels(examined.rows))),
        )
    )
    rows = examined.some(examined.settings.scans)
    return {
        "run": examined.run.name,
        "model": examined.run.info["model"],
        "seed": examined.run.info["seed"],
        "split": examined.run.split,
        **examined.run.external,
        "scans": len(rows),
        "patients": len(set(examined.patients(rows))),
        "classes": list(examined.table.classes),
        "notes": notes_of_card(examined, blocks),
        "metrics": {name: about.about() for name, about in metrics.items()},
        "methods": {
            name: {
                "title": titles[name],
                "family": METHODS[name].family,
                "null": name in nulls,
                "class_specific": METHODS[name].class_specific,
                "gated": gated[name],
                "notes": notes_of_method(name, gates[name], blocks),
            }
            for name in examined.methods
        },
        "scoreboard": board.to_dict("records"),
        "ranking": [{**row, "title": titles[row["method"]]} for row in order.to_dict("records")],
        "curves": blocks.get("faithfulness", {}).get("curves", {}),
        "randomisation": sanity.get("randomisation"),
        "agreement": blocks.get("agreement"),
        "zones": zones or None,
        "probes": blocks.get("probes", {}).get("findings", []),
        "clusters": blocks.get("clusters") or None,
        "consensus": blocks.get("consensus") or None,
        "twin": _twin(board, order, titles),
        "gallery": _gallery(examined, scores, metrics, order),
        "verdict": verdict,
    }  # fmt: skip


def _gates(
    examined: Examined, scores: pd.DataFrame, left_out: Mapping[str, str]
) -> dict[str, Gate]:
    """Return method → whether it is set aside, and if nothing can be said of it, why."""
    found = gate(scores[scores["metric"].isin(LIMITS)], resamples=examined.resamples)
    return {
        name: found.get(name, Gate(None, left_out.get(name, "it was not put through them")))
        for name in examined.methods
    }


def _twin(
    board: pd.DataFrame, order: pd.DataFrame, titles: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return how alike the maps of the twin are, by method, and in words of the best of them."""
    alike = board[board["metric"] == "twin_spearman"].set_index("method")
    best = [name for name in order.loc[~order["null"], "method"] if name in alike.index]
    if not best:
        return None
    methods = {name: _numbers(alike.loc[name].to_dict()) for name in best}
    sentence = (
        f"Maps of the same network trained on shuffled labels: those of {titles[best[0]]} have a "
        f"rank correlation of {said(methods[best[0]])} with the model's."
    )
    return {"methods": methods, "sentence": sentence}


def _accuracy(examined: Examined) -> dict[str, Any] | None:
    """Return the balanced accuracy on its scans with its interval, if it was evaluated."""
    path = examined.run.metrics(examined.run.split)
    if not path.is_file():
        return None
    accuracy: dict[str, Any] = read_shaped(path, METRICS_FILE)["overall"]["balanced_accuracy"]
    return accuracy


def _lesion_sentences(
    scores: pd.DataFrame, titles: Mapping[str, str], resamples: int
) -> dict[str, str]:
    """Return, by method, how much of its mass within the retina lies on lesions."""
    if "lesion" not in scores:
        return {}
    scored = scores[scores["lesion"] == ANY_LESION]
    if scored.empty:
        return {}
    named = scored.assign(method=scored["method"].map(lambda name: titles.get(name, name)))
    table = lift_summary(named, by=("method",), chance="retina", resamples=resamples)
    if table.empty:
        return {}
    by_title = dict(zip(table["method"], table["sentence"], strict=True))
    return {name: by_title[title] for name, title in titles.items() if title in by_title}


def _gallery(
    examined: Examined,
    scores: pd.DataFrame,
    metrics: Mapping[str, Metric],
    order: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return the worst scans of the best methods: those in which the map misleads most."""
    if GALLERY_METRIC not in metrics:
        return []
    best = order[~order["null"] & ~order["gated"]]["method"].tolist()[:GALLERY_METHODS]
    places = {path: row for row, path in enumerate(examined.table.frame["path"])}
    predictions = read_predictions(examined.run.predictions(examined.run.split)).set_index("scan")
    out = []
    for method in best:
        own = scores[(scores["method"] == method) & (scores["metric"] == GALLERY_METRIC)]
        worst = own.dropna(subset=["value"]).sort_values("value", kind="stable")
        out.append(
            {
                "method": method,
                "metric": GALLERY_METRIC,
                "worst": [
                    {
                        "scan": scan,
                        "row": places[scan],
                        "label": predictions.loc[scan, "label"],
                        "predicted": predictions.loc[scan, "predicted"],
                        "value": value,
                    }
                    for scan, value in zip(_head(worst["scan"]), _head(worst["value"]), strict=True)
                ],
            }
        )
    return out


def _head(column: pd.Series) -> Sequence[Any]:
    return column.tolist()[:GALLERY_SCANS]


def _numbers(share: Mapping[str, Any]) -> dict[str, float]:
    """Return value, low, high and chance read from JSON, where nothing is NaN again."""
    return {key: _number(share.get(key)) for key in ("value", "low", "high", "chance")}


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
