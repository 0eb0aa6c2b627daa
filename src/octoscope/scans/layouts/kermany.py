"""The Kermany naming ``CLASS-patient-n.jpeg`` (Kermany et al., Cell 2018), v2, v3 and its kin.

v2 has train, val (32 scans) and test, v3 only train and test. The patient in the name is the key
across classes and splits: one person may have scans in several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import companions
from octoscope.scans.layouts.tree import IMAGES, SPLIT_NAMES, Tree, split_of, stem
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, headline, many, unknown_patients

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")

# Behind "CLASS-": patient-n, and perhaps what a copy adds: "1016042-3", "1016042-3 (1)".
PATIENT_AND_NUMBER = re.compile(r"([^-]+)-(\d+)(?:\D.*)?")
ANY_CLASS = re.compile(r"(.+)-([^-]+)-(\d+)(?:\D.*)?")
SERIAL = re.compile(r"[^-]+")


@dataclass(frozen=True)
class Name:
    """What a file name says: its class and its patient, each None if it does not say."""

    label: str | None = None
    patient: str | None = None


def recognises(names: list[Name]) -> bool:
    """Say whether at least half of the images are named CLASS-patient-n (or CLASS-n)."""
    return sum(name.label is not None for name in names) * 2 >= len(names)


def read(tree: Tree, names: list[Name]) -> ScanTable:
    """Make the table; where a class folder contradicts a name, the folder is believed.

    Args:
        tree: The files.
        names: What `read_names` makes of each image.

    Raises:
        OctoscopeError: If no image tells its class.
    """
    spelling = _spelling(name.label for name in names)
    rows, unread, by_folder, contradicting = [], [], [], []
    for path, name in zip(tree.images, names, strict=True):
        folders = path.split("/")[:-1]
        said = next((spelling[f.lower()] for f in reversed(folders) if f.lower() in spelling), None)
        named = None if name.label is None else spelling[name.label.lower()]
        if said is None and named is None:
            unread.append(path)
            continue
        if named is None:
            by_folder.append(path)
        elif said is not None and said != named:
            contradicting.append(path)
        rows.append((path, said or named, name.patient, split_of(folders)))
    if not rows:
        raise OctoscopeError(
            f"{tree.root}: no image is named CLASS-patient-n (first: {tree.images[0]}); "
            'use layout "folders" or a table'
        )
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "split"])
    frame, lesions, notes = companions.join(tree, frame)
    if contradicting:
        notes.append(
            f"{many(len(contradicting), 'scan')} in the folder of another class than the name says "
            f"({first_of(contradicting)}): labelled by the folder."
        )
    if by_folder:
        notes.append(
            f"{many(len(by_folder), 'scan')} not named CLASS-patient-n ({first_of(by_folder)}): "
            "labelled by the folder, patient unknown."
        )
    if unread:
        notes.append(
            f"{many(len(unread), 'image')} left out, as neither name nor folder gives the class "
            f"({first_of(unread)})."
        )
    notes += _twice(frame["path"])
    return ScanTable.from_frame(
        frame,
        tree.root,
        layout="kermany",
        notes=[
            headline(_edition(frame), frame),
            *tree.notes,
            *notes,
            *unknown_patients(frame),
        ],
        lesions=lesions,
    )


def read_names(tree: Tree, *, any_class: bool) -> list[Name]:
    """Understand the file name of every image.

    CLASS counts if it is one of the four Kermany classes or the name of a folder above the file;
    any other only where there is no such folder, or with `any_class`.
    """
    names: list[Name] = []
    serial: list[tuple[int, str]] = []
    proven = {label.lower() for label in CLASSES}
    labels: dict[str, tuple[str, ...]] = {}
    for row, path in enumerate(tree.images):
        folder, _, file = path.rpartition("/")
        if folder not in labels:
            labels[folder] = _labels_above(folder)
        bare = stem(file)
        name = Name()
        for label in (*CLASSES, *labels[folder]):
            if bare[: len(label) + 1].lower() != f"{label.lower()}-":
                continue
            rest = bare[len(label) + 1 :]
            if match := PATIENT_AND_NUMBER.fullmatch(rest):
                name = Name(label, match[1])
                proven.add(label.lower())
                break
            if SERIAL.fullmatch(rest):
                serial.append((row, label))
                break
        else:
            if any_class or not labels[folder]:
                match = ANY_CLASS.fullmatch(bare)
                name = Name(match[1], match[2]) if match else name
        names.append(name)
    # "AMD-17" alone proves nothing; beside "AMD-1016042-3", or for a Kermany class, it is one.
    for row, label in serial:
        if label.lower() in proven:
            names[row] = Name(label)
    return names


def _labels_above(folder: str) -> tuple[str, ...]:
    """Return the folder names that may be classes, the nearest first."""
    parts = folder.split("/") if folder else []
    return tuple(p for p in reversed(parts) if p.lower() not in SPLIT_NAMES | {IMAGES: IMAGES})


def _spelling(labels: Iterable[str | None]) -> dict[str, str]:
    """Map every label in lower case to one spelling: Kermany's own, else the commonest."""
    seen = Counter(label for label in labels if label is not None)
    spelling = {label.lower(): label for label in CLASSES}
    for label, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0])):
        spelling.setdefault(label.lower(), label)
    return spelling


def _edition(frame: pd.DataFrame) -> str:
    """Name the edition by the splits that are there."""
    splits = set(frame["split"].dropna())
    if splits == {"train", "val", "test"}:
        return "Kermany v2 (CLASS-patient-n in train, val and test)"
    if splits == {"train", "test"}:
        return "Kermany v3 (CLASS-patient-n in train and test, no val)"
    return f"Kermany file names (CLASS-patient-n, splits: {', '.join(sorted(splits)) or 'none'})"


def _twice(paths: pd.Series) -> list[str]:
    """Note file names that occur in several folders, as when a data set lies in itself."""
    names = paths.str.rpartition("/")[2]
    again = names.duplicated()
    if not again.any():
        return []
    return [
        f"{many(int(again.sum()), 'file name')} found again in another folder "
        f"({first_of(paths[again].tolist())}); are the data in there twice?"
    ]
