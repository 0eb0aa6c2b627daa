"""`Audit`: everything that was found, as sentences for people and as JSON for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from octoscope.files import write_json
from octoscope.scans.audit.artefacts import Artefact
from octoscope.scans.audit.baseline_report import BaselineReport
from octoscope.scans.audit.duplicates import Duplicates
from octoscope.scans.audit.finding import Finding


@dataclass(frozen=True, eq=False)
class Audit:
    """What `octoscope.scans.audit.audit` found in a table of scans.

    Attributes:
        layout: Layout the table was read from.
        root: Folder that all paths are relative to.
        classes: Class names in the order of the logits.
        notes: What was assumed on reading the table.
        counts: One ``{class, split, scans, patients, without_patient}`` per class and split;
            `class` is None for unlabelled scans, `split` where there is none.
        overlaps: Patients in several splits, ``{patient, splits, scans}``.
        several_classes: Patients with scans of several classes, ``{patient, classes, scans}``.
        duplicates: Groups of exact and near copies.
        unreadable: ``{path, reason}`` of each file that cannot be read.
        blank: Paths of pictures that show nothing.
        artefacts: Each measured feature against the classes, the strongest first.
        constant: Features that are the same in all scans, and so not among the artefacts.
        metadata_baseline: A small model that sees all numbers about the frame.
        frame_size_baseline: A small model that sees height and width only.
        permutations: Number of permutations behind the p-values.
        seed: Seed of permutations, folds and bootstrap.
        findings: What a person should know, errors first.
        measurements: DataFrame with a row per scan of the table: path, fault, blank, and every
            number and word measured (not part of the JSON).
    """

    layout: str
    root: Path
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    counts: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]
    several_classes: list[dict[str, Any]]
    duplicates: Duplicates
    unreadable: list[dict[str, str]]
    blank: list[str]
    artefacts: list[Artefact]
    constant: tuple[str, ...]
    metadata_baseline: BaselineReport
    frame_size_baseline: BaselineReport
    permutations: int
    seed: int
    findings: list[Finding]
    measurements: pd.DataFrame = field(repr=False)

    @property
    def has_errors(self) -> bool:
        """Whether a finding forbids to train on this table as it is."""
        return any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the measurements, ready for JSON."""
        return {
            "layout": self.layout,
            "root": str(self.root),
            "classes": list(self.classes),
            "notes": list(self.notes),
            "counts": self.counts,
            "overlaps": self.overlaps,
            "several_classes": self.several_classes,
            "duplicates": self.duplicates.to_dict(),
            "unreadable": self.unreadable,
            "blank": self.blank,
            "artefacts": [artefact.to_dict(self.classes) for artefact in self.artefacts],
            "constant": list(self.constant),
            "metadata_baseline": self.metadata_baseline.to_dict(self.classes),
            "frame_size_baseline": self.frame_size_baseline.to_dict(self.classes),
            "permutations": self.permutations,
            "seed": self.seed,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def save(self, path: Path) -> None:
        """Write `to_dict` as JSON, atomically."""
        write_json(path, self.to_dict())
