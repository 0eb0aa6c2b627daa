"""The data and its audit, as tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from octoscope.report.files import StudyFiles
from octoscope.scans.table import SPLITS

LISTED = 12
"""Files or patients listed by name; the rest is counted."""


def data_section(study: StudyFiles) -> dict[str, Any]:
    """Return what the template shows of the scan table, the cache and the audit."""
    audit = study.audit or {}
    duplicates = audit.get("duplicates") or {}
    lists = [
        ("Patients in several splits", [_overlap(o) for o in audit.get("overlaps", [])]),
        ("Copies across splits", [_group(g) for g in duplicates.get("across_splits", [])]),
        ("Copies across patients", [_group(g) for g in duplicates.get("across_patients", [])]),
        ("Copies across classes", [_group(g) for g in duplicates.get("across_labels", [])]),
        ("Unreadable files", [_fault(f) for f in audit.get("unreadable", [])]),
        ("Blank images", [str(path) for path in audit.get("blank", [])]),
        ("Left out of the cache", _quarantined(study)),
    ]
    return {
        "audited": study.audit is not None,
        "counts": counts(study),
        "findings": audit.get("findings", []),
        "artefacts": audit.get("artefacts", []),
        "permutations": audit.get("permutations"),
        "baselines": [
            (title, audit[key])
            for title, key in (
                ("All numbers about the frame", "metadata_baseline"),
                ("Frame size alone", "frame_size_baseline"),
            )
            if (audit.get(key) or {}).get("balanced_accuracy")
        ],
        "lists": [(title, items[:LISTED], len(items)) for title, items in lists if items],
    }


def counts(study: StudyFiles) -> dict[str, Any] | None:
    """Return scans and patients by class and split, from ``table.parquet``; None if missing."""
    frame = study.table
    if frame is None:
        return None
    splits = [name for name in SPLITS if (frame["split"] == name).any()]
    masked = {name: frame[frame["split"] == name] for name in splits}
    none = frame[frame["split"].isna()]
    if len(none):
        masked["none"] = none
    rows = []
    for name in [*study.classes, None]:
        parts = [_of(part, name) for part in masked.values()]
        if any(len(part) for part in parts):
            rows.append({"class": name or "no label", "cells": [_cell(part) for part in parts]})
    return {
        "splits": list(masked),
        "rows": rows,
        "total": [_cell(part) for part in masked.values()],
        "scans": len(frame),
        "patients": int(frame["patient"].nunique()),
        "unknown": int(frame["patient"].isna().sum()),
    }


def _of(frame: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Return the rows of one class, or those without."""
    return frame[frame["label"].isna() if name is None else frame["label"] == name]


def _cell(part: pd.DataFrame) -> dict[str, int]:
    return {
        "scans": len(part),
        "patients": int(part["patient"].nunique()),
        "unknown": int(part["patient"].isna().sum()),
    }


def _overlap(entry: dict[str, Any]) -> str:
    return f"{entry['patient']}: {', '.join(map(str, entry['splits']))} ({entry['scans']} scans)"


def _group(group: Any) -> str:
    """Return the paths of a group of copies."""
    paths = group if isinstance(group, list) else group.get("paths", [group])
    return " = ".join(str(path) for path in paths)


def _fault(entry: dict[str, Any]) -> str:
    return f"{entry['path']}: {entry['reason']}"


def _quarantined(study: StudyFiles) -> list[str]:
    return [] if study.cache is None else [_fault(entry) for entry in study.cache.quarantined]
