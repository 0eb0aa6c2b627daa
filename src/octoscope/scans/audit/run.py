"""`audit`: look at every scan once and say what is wrong with a data set before training on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.audit.artefacts import artefact_findings, find_artefacts, gather_features
from octoscope.scans.audit.baseline_report import OF_THE_SIZE, baseline_reports
from octoscope.scans.audit.counts import count_findings, count_scans, patients_in_several
from octoscope.scans.audit.duplicates import duplicate_findings, find_duplicates
from octoscope.scans.audit.finding import Finding, by_severity, plural
from octoscope.scans.audit.grey_levels import level_findings
from octoscope.scans.audit.measure import Measurement, measure_all
from octoscope.scans.audit.result import Audit
from octoscope.scans.ranges import find_levels
from octoscope.scans.table import ScanTable

PERMUTATIONS = 2_000


def audit(
    table: ScanTable,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    workers: int | None = None,
) -> Audit:
    """Count, look for overlap and copies, and test what gives the class away.

    Args:
        table: The scans; labels, patients and splits may be missing.
        permutations: Of the labels over patients; the smallest p is 1 / (permutations + 1).
        seed: Of permutations, cross-validation folds and bootstrap; the same seed, the same audit.
        workers: Threads that read scans; by default one per core.

    Returns:
        What was found. Files that cannot be read are listed in it, they do not raise.

    Raises:
        OctoscopeError: If `permutations` or `workers` is not positive.
    """
    for name, value in (("permutations", permutations), ("workers", workers)):
        if value is not None and value < 1:
            raise OctoscopeError(f"{name} {value} is not positive; give 1 or more")
    levels = find_levels(table.paths, workers=workers)
    measured = measure_all(table.paths, workers, levels)
    paths = table.frame["path"].tolist()
    unreadable = [
        {"path": path, "reason": m.fault}
        for path, m in zip(paths, measured, strict=True)
        if m.fault is not None
    ]
    blank = [path for path, m in zip(paths, measured, strict=True) if m.blank]
    overlaps = patients_in_several(table, "split")
    several_classes = patients_in_several(table, "label")
    duplicates = find_duplicates(table, measured)
    features = gather_features(table, measured)
    artefacts = find_artefacts(table, features, permutations=permutations, seed=seed)
    everything, size_only = baseline_reports(table, features, seed=seed)
    findings = [
        *count_findings(table, overlaps, several_classes),
        *_file_findings(unreadable, blank, len(table)),
        *level_findings(paths, [m.grey for m in measured], levels),
        *duplicate_findings(table, duplicates),
        *size_only.findings,
        *everything.findings,
        *artefact_findings(artefacts, told=OF_THE_SIZE if size_only.alarming else ()),
        *features.findings,
    ]
    return Audit(
        layout=table.layout,
        root=table.root,
        classes=table.classes,
        notes=table.notes,
        counts=count_scans(table),
        overlaps=overlaps,
        several_classes=several_classes,
        duplicates=duplicates,
        unreadable=unreadable,
        blank=blank,
        artefacts=artefacts,
        constant=features.constant,
        metadata_baseline=everything,
        frame_size_baseline=size_only,
        permutations=permutations,
        seed=seed,
        findings=by_severity(findings),
        measurements=_measurements(paths, measured),
    )


def _file_findings(unreadable: list[dict[str, str]], blank: list[str], total: int) -> list[Finding]:
    """Say how many files are of no use."""
    findings = []
    if unreadable:
        first = unreadable[0]
        what = (
            "None of the files can be read"
            if len(unreadable) == total
            else f"{plural(len(unreadable), 'file')} cannot be read and will be left out"
        )
        findings.append(
            Finding(
                "error" if len(unreadable) == total else "warning",
                f"{what} (for example {first['path']}: {first['reason']}).",
            )
        )
    if blank:
        many = plural(len(blank), "scan shows", "scans show")
        findings.append(
            Finding("warning", f"{many} nothing (for example {blank[0]}); remove them.")
        )
    return findings


def _measurements(paths: Sequence[str], measured: Sequence[Measurement]) -> pd.DataFrame:
    """Return what was measured as a DataFrame with a row per scan."""
    frame = pd.DataFrame([{**m.numbers, **m.words} for m in measured])
    frame.insert(0, "path", np.array(paths, object))
    frame.insert(1, "fault", np.array([m.fault for m in measured], object))
    frame.insert(2, "blank", np.array([m.blank for m in measured], bool))
    return frame
