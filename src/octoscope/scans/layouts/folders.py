"""Plain class folders: ``[split/]CLASS/file``, or ``[split/]CLASS/patient/file``."""

from __future__ import annotations

import pandas as pd

from octoscope.scans.layouts import companions
from octoscope.scans.layouts.tree import IMAGES, SPLIT_NAMES, Tree, split_of
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, headline, many, unknown_patients


def read(tree: Tree) -> ScanTable:
    """Make the table: the first folder below the splits is the class, the next the patient.

    Folders that all images lie in, and ``images``, are passed over; images outside class folders
    have no label.
    """
    below = [
        [f for f in path.split("/")[:-1] if f.lower() not in SPLIT_NAMES and f.lower() != IMAGES]
        for path in tree.images
    ]
    depth = _wrapping(below)
    rows = []
    for path, folders in zip(tree.images, below, strict=True):
        label, patient, *_ = *folders[depth:], None, None
        rows.append((path, label, patient, split_of(path.split("/")[:-1])))
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "split"])
    frame, lesions, notes = companions.join(tree, frame)
    what = "class folders" if frame["label"].notna().any() else "a plain folder of images"
    if depth:
        what += f" below {'/'.join(below[0][:depth])}"
    if frame["patient"].notna().any():
        what += " with a folder for each patient"
    bare = frame.loc[frame["label"].isna(), "path"].tolist()
    if bare:
        notes.append(
            f"{many(len(bare), 'image')} in no class folder ({first_of(bare)}), so without a label."
        )
    shared = frame.dropna(subset=["patient"]).groupby("patient")["label"].nunique()
    shared = shared[shared > 1]
    if len(shared):
        notes.append(
            f"{many(len(shared), 'patient')} with scans in several classes "
            f"(first: {shared.index[0]}): folders of one name are taken as one person."
        )
    return ScanTable.from_frame(
        frame,
        tree.root,
        layout="folders",
        notes=[headline(what, frame), *tree.notes, *notes, *unknown_patients(frame)],
        lesions=lesions,
    )


def _wrapping(below: list[list[str]]) -> int:
    """Count the leading folders that all images share and that have folders in them."""
    depth = 0
    while all(len(f) > depth + 1 and f[depth] == below[0][depth] for f in below):
        depth += 1
    return depth
