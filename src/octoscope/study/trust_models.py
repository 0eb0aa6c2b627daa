"""How far the models of a study agree on where to look, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from octoscope.attribution.registry import METHODS
from octoscope.study.examined import Examined
from octoscope.trust.agreement import agreement


def between_models(examined: Sequence[Examined]) -> dict[str, Any]:
    """Compare the maps of every method over the models, on scans that all of them call the same.

    A map explains the class that its model predicts, so that of scans on which models disagree
    the maps answer different questions. Null maps, which are the same for every model, say nothing.

    Args:
        examined: The runs; models that differ in their seed alone count as models.

    Returns:
        ``runs``, ``scans`` (on which all agree), ``agreement`` (``methods`` → what
        `agreement` found, with the runs as names) and ``sentences``.
    """
    runs = [one.run.name for one in examined]
    empty: dict[str, Any] = {
        "runs": runs, "scans": 0, "agreement": {"methods": {}}, "sentences": [],
    }  # fmt: skip
    if len(examined) < 2:
        return empty
    first = examined[0]
    rows = first.some(min(one.settings.scans for one in examined))
    targets = torch.stack([one.targets(rows).cpu() for one in examined])
    rows = rows[(targets == targets[0]).all(0).numpy()]
    shared = [
        name
        for name in first.methods
        if METHODS[name].family != "null" and all(name in one.methods for one in examined)
    ]
    if len(rows) < 2 or not shared:
        return empty
    methods, sentences = {}, []
    for name in shared:
        maps = {one.run.name: one.maps(rows, [name])[name] for one in examined}
        found = agreement(maps, first.patients(rows), first.labels(rows))
        methods[name] = {"models": found.names, **found.to_dict()}
        sentences += [f"{METHODS[name].title}: {sentence}" for sentence in found.sentences[:1]]
    return {
        "runs": runs,
        "scans": len(rows),
        "agreement": {"methods": methods},
        "sentences": sentences,
    }
