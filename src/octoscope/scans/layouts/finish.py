"""From what a tree and the files beside it say to a checked table, with all that was assumed."""

from __future__ import annotations

import pandas as pd

from octoscope.scans.layouts import companions
from octoscope.scans.layouts.cells import labels, note_near_patients
from octoscope.scans.layouts.days import days_of
from octoscope.scans.layouts.left import note_others
from octoscope.scans.layouts.names import nfc
from octoscope.scans.layouts.tree import Tree
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, headline, many, unknown_patients


def finish(
    tree: Tree,
    frame: pd.DataFrame,
    beside: companions.Beside,
    *,
    layout: str,
    what: str,
    notes: list[str],
) -> ScanTable:
    """Join what lies beside the scans, give classes one spelling, and say what was assumed."""
    frame, merged = companions.merge(frame, beside)
    label, respelled = labels(_cells(frame, "label"))
    patient = [None if cell is None else nfc(cell) for cell in _cells(frame, "patient")]
    frame = frame.assign(
        label=pd.Series(label, dtype=object), patient=pd.Series(patient, dtype=object)
    )
    dated: list[str] = []
    if "visit" in frame:
        visit, dated = days_of(_cells(frame, "visit"))
        frame = frame.assign(visit=pd.Series(visit, dtype=object))
    return ScanTable.from_frame(
        frame,
        tree.root,
        layout=layout,
        notes=[
            headline(what, frame),
            *tree.notes,
            *notes,
            *beside.notes,
            *merged,
            *respelled,
            *dated,
            *note_near_patients(patient),
            *_bare(frame),
            *_in_several_classes(frame),
            *note_others(tree),
            *unknown_patients(frame),
        ],
        lesions=beside.lesions,
    )


def _cells(frame: pd.DataFrame, column: str) -> list[str | None]:
    """Return a column as text, None where there is nothing."""
    return [None if pd.isna(cell) else str(cell) for cell in frame[column]]


def _bare(frame: pd.DataFrame) -> list[str]:
    """Note the images that are in no class folder."""
    bare = frame.loc[frame["label"].isna(), "path"].tolist()
    if not bare:
        return []
    return [
        f"{many(len(bare), 'image')} in no class folder ({first_of(bare)}), so without a label."
    ]


def _in_several_classes(frame: pd.DataFrame) -> list[str]:
    """Note patients with scans in several classes."""
    shared = frame.dropna(subset=["patient"]).groupby("patient")["label"].nunique()
    shared = shared[shared > 1]
    if not len(shared):
        return []
    return [
        f"{many(len(shared), 'patient')} with scans in several classes (first: {shared.index[0]}): "
        "one id is taken for one person."
    ]
