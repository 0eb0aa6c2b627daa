"""How the parts of an examination are measured: scores of scans, and a block to show.

Every part takes an `Examined` run and gives a `Part`. None looks at the test split, unless the
run was opened on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from octoscope.attribution.consensus import too_few
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.models.classifier import Classifier
from octoscope.progress import track
from octoscope.study.examined import Examined
from octoscope.study.subject import split_of
from octoscope.study.twin import train_twin
from octoscope.trust.agreement import agreement
from octoscope.trust.bands import band
from octoscope.trust.consensus_weights import consensus_weights
from octoscope.trust.faithfulness.scores import METRICS as FAITHFULNESS
from octoscope.trust.faithfulness.scores import faithfulness
from octoscope.trust.localisation import in_blocks
from octoscope.trust.probes.metadata import FRAME, frame_numbers
from octoscope.trust.probes.run import probe_model
from octoscope.trust.registry import METRICS
from octoscope.trust.sanity.scores import sanity
from octoscope.trust.scores import read_scores
from octoscope.trust.spray_meaning import clusters_block
from octoscope.trust.stability.scores import stability
from octoscope.trust.zones import score_zones, zones_block

FAITHFUL = "insertion_minus_deletion"
"""The metric by which methods are weighed."""

BLOCK = 16
"""Scans whose pixels are changed at once: their maps are held at the size of the image."""

CURVES = {
    "deletion": ("Deletion", "share of pixels taken away, highest first"),
    "insertion": ("Insertion", "share of pixels put in, highest first"),
    "positive": ("Positive perturbation", "share of pixels taken away, highest first"),
    "negative": ("Negative perturbation", "share of pixels taken away, lowest first"),
    "morf": ("ROAD, most relevant first", "share of pixels imputed, highest first"),
    "lerf": ("ROAD, least relevant first", "share of pixels imputed, lowest first"),
}
"""Kind of curve → its title and what its x axis is."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one part of an examination gives.

    Attributes:
        scores: A score table, None if it scores no scans.
        block: What the card shows of it, in words JSON can say.
        said: A few words for the terminal.
    """

    scores: pd.DataFrame | None
    block: dict[str, Any] = field(default_factory=dict)
    said: str = ""


def measure_faithfulness(examined: Examined) -> Part:
    """Change pixels in the order of the maps and see what the model says."""
    settings = examined.settings
    rows = examined.some(settings.scans)
    values: dict[str, dict[str, list[Tensor]]] = {}
    curves: dict[str, dict[str, list[Tensor]]] = {}
    fractions: dict[str, Tensor] = {}
    for some in track(in_blocks(rows, BLOCK), f"Perturbing for {examined.run.name}"):
        found = faithfulness(
            examined.classifier,
            examined.images(some),
            examined.maps(some),
            examined.targets(some),
            metrics=FAITHFULNESS,
            steps=settings.steps,
            baseline=settings.baseline,
            retina=_retina(examined, some),
        )
        _gather(values, found.values)
        for kind, curve in found.curves.items():
            _gather(curves, {kind: curve.values[kind]})
            fractions[kind] = curve.fractions
    joined = {name: {m: torch.cat(parts) for m, parts in by.items()} for name, by in values.items()}
    patients = examined.patients(rows)
    block = {
        kind: {
            "title": CURVES[kind][0],
            "x": CURVES[kind][1],
            "fractions": fractions[kind].tolist(),
            "methods": {
                method: band(
                    torch.cat(parts).numpy(force=True), patients, resamples=examined.resamples
                )
                for method, parts in methods.items()
            },
        }
        for kind, methods in curves.items()
    }
    scores = examined.tidy(joined, rows, METRICS)
    return Part(scores, {"curves": block, "scans": len(rows)}, f"{len(rows)} scans")


def measure_zones(examined: Examined) -> Part:
    """Say in which part of the eye or of the frame the maps of all validation scans lie."""
    rows = examined.rows
    zones = examined.zones
    identity = examined.identity(rows)
    scores = score_zones(
        examined.stored(rows),
        zones,
        scans=identity["scan"],
        patients=identity["patient"],
        labels=identity["label"],
        model=identity["model"],
        seed=identity["seed"],
    )
    titles = {name: METHODS[name].title for name in examined.methods}
    block = zones_block(
        scores, zones, identity["label"], titles=titles, resamples=examined.resamples
    )
    return Part(scores, block, f"{len(rows)} scans, {block['no_retina']} without a retina")


def measure_sanity(examined: Examined) -> Part:
    """Randomise the weights from the output down and see whether the maps change."""
    settings = examined.settings
    rows = examined.some(settings.sanity_scans)
    found = sanity(
        examined.classifier,
        examined.images(rows),
        examined.quick,
        examined.targets(rows),
        twin=_twin(examined),
        stages=settings.stages,
        progress=True,
    )
    scores = examined.tidy(found.values, rows, METRICS)
    block = {
        "left_out": examined.slow,
        "randomisation": {
            "stages": found.stages,
            "methods": {
                name: {"spearman": found.spearman[name], "ssim": found.ssim[name]}
                for name in found.spearman
            },
        },
    }
    return Part(scores, block, f"{len(rows)} scans × {len(examined.quick)} methods")


def measure_stability(examined: Examined) -> Part:
    """Explain scans again under noise, shifted and mirrored."""
    rows = examined.some(examined.settings.stability_scans)
    found = stability(
        examined.classifier,
        examined.images(rows),
        examined.quick,
        examined.targets(rows),
        draws=examined.settings.draws,
        progress=True,
    )
    scores = examined.tidy(found.values, rows, METRICS)
    said = f"{len(rows)} scans × {len(examined.quick)} methods"
    return Part(scores, {"left_out": examined.slow}, said)


def measure_agreement(examined: Examined) -> Part:
    """Compare the maps of all methods with one another."""
    rows = examined.some(examined.settings.scans)
    found = agreement(
        examined.stored(rows),
        examined.patients(rows),
        examined.labels(rows),
        resamples=examined.resamples,
    )
    block = {"methods": found.names, **found.to_dict()}
    return Part(None, block, found.sentences[0] if found.sentences else "")


def measure_probes(examined: Examined) -> Part:
    """Look for shortcuts that the model takes."""
    findings = probe_model(examined.subject, progress=True)
    fired = [finding.title for finding in findings if finding.fires]
    said = f"{len(fired)} of {len(findings)} fire{': ' + ', '.join(fired) if fired else ''}"
    return Part(None, {"findings": [finding.to_dict() for finding in findings]}, said)


def measure_clusters(examined: Examined) -> Part:
    """Group the maps of the most faithful method by where they lie."""
    means = _faithful(examined).mean().dropna()
    means = means[[name for name in means.index if METHODS[name].family != "null"]]
    if means.empty:
        return Part(None, {}, "no method's faithfulness is known")
    method, rows = str(means.idxmax()), examined.rows
    scans = split_of(examined.cache, examined.run.split)
    artefacts = pd.DataFrame(frame_numbers(scans, examined.cache.framing.fill), columns=list(FRAME))
    right = scans.targets == examined.targets(rows).numpy(force=True)
    found = clusters_block(
        examined.stored(rows, [method]),
        labels=examined.labels(rows).tolist(),
        patients=examined.patients(rows).tolist(),
        rows=rows.tolist(),
        zones=examined.zones,
        artefacts=artefacts.assign(prediction=np.where(right, "right", "wrong")),
        titles={method: METHODS[method].title},
    )
    return Part(None, found, str(found[method]["sentence"]))


def measure_consensus(examined: Examined) -> Part:
    """Weigh the methods by their faithfulness and see whether their consensus is better."""
    settings = examined.settings
    rows = examined.some(settings.scans)
    why = too_few(METHODS[name] for name in examined.methods)
    if why is None and len(set(examined.patients(rows))) < 2:
        why = "one patient cannot be cut into halves; there is none to judge it on"
    if why is not None:
        return Part(None, {}, f"none: {why}")
    images, targets = examined.images(rows), examined.targets(rows)
    measured = _faithful(examined).loc[examined.identity(rows)["scan"]]

    def score(maps: Tensor, places: np.ndarray) -> Tensor:
        found = faithfulness(
            examined.classifier,
            images[places],
            {"consensus": maps.to(examined.device)},
            targets[places],
            metrics=(FAITHFUL,),
            steps=settings.steps,
            baseline=settings.baseline,
            retina=_retina(examined, rows[places]),
        )
        return found.values[FAITHFUL]["consensus"]

    found = consensus_weights(
        examined.stored(rows),
        {name: measured[name].to_numpy() for name in examined.methods},
        examined.patients(rows),
        score,
        resamples=examined.resamples,
    )
    return Part(None, found.to_dict(), found.sentence)


def _twin(examined: Examined) -> nn.Module | None:
    """Return the model's twin, trained if need be, if there shall be one."""
    if not examined.settings.twin:
        return None
    if examined.study_cache is None:
        raise OctoscopeError(
            f"{examined.run.path}: the scans that it was trained on are not beside it, so that it "
            "can have no twin; leave out --twin"
        )
    twin = train_twin(examined.run, examined.study_cache)
    return Classifier.load(twin.model).to(examined.device)


def _faithful(examined: Examined) -> pd.DataFrame:
    """Return how faithful each method was on each scan, scans × methods."""
    scores = read_scores(examined.run.trust_part("faithfulness.parquet"))
    chosen = scores[scores["metric"] == FAITHFUL]
    return chosen.pivot(index="scan", columns="method", values="value")


def _retina(examined: Examined, rows: np.ndarray) -> tuple[Tensor, Tensor] | None:
    """Return the rows of ILM and RPE, (B, W) each, if the baseline needs them."""
    if examined.settings.baseline != "retina":
        return None
    layers = examined.layers(rows)
    ilm, rpe = (np.stack([getattr(one, name) for one in layers]) for name in ("ilm", "rpe"))
    return torch.from_numpy(ilm), torch.from_numpy(rpe)


def _gather(
    into: dict[str, dict[str, list[Tensor]]], values: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Append the values of a block of scans to those of the blocks before."""
    for name, methods in values.items():
        for method, column in methods.items():
            into.setdefault(name, {}).setdefault(method, []).append(column)
