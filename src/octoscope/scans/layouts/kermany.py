"""The Kermany naming ``CLASS-patient-n.jpeg`` (Kermany et al., Cell 2018), v2, v3 and its kin.

v2 has train, val (32 scans) and test, v3 only train and test. The patient in the name is the key
across classes and splits: one person may have scans in several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts import companions
from octoscope.scans.layouts.finish import finish
from octoscope.scans.layouts.left import require_no_lost_class
from octoscope.scans.layouts.levels import EYE, Place, place_images
from octoscope.scans.layouts.names import eye_of
from octoscope.scans.layouts.told import said_of_names
from octoscope.scans.layouts.tree import Tree, stem
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, many

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


def read(tree: Tree, names: list[Name], mapping: Mapping[str, str]) -> ScanTable:
    """Make the table; where a class folder contradicts a name, the folder is believed.

    Args:
        tree: The files.
        names: What `read_names` makes of each image.
        mapping: Which column of tables beside the scans is which.

    Raises:
        OctoscopeError: If no image tells its class, or a class has only files that are not read.
    """
    spelling = _spelling(name.label for name in names)
    places = place_images(tree.images)
    rows, unread, by_folder, contradicting = [], [], [], []
    for path, name in zip(tree.images, names, strict=True):
        place = places[path.rpartition("/")[0]]
        said = _class_of(place, spelling)
        named = None if name.label is None else spelling[name.label.lower()]
        if said is None and named is None:
            unread.append(path)
            continue
        if named is None:
            by_folder.append(path)
        elif said is not None and said != named:
            contradicting.append(path)
        side = place.named(EYE)
        eye = None if side is None else eye_of(side)
        rows.append((path, said or named, name.patient, eye, place.split))
    if not rows:
        raise OctoscopeError(
            f"{tree.root}: no image is named CLASS-patient-n (first: {tree.images[0]}); "
            'use layout "folders" or a table'
        )
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "eye", "split"], dtype=object)
    require_no_lost_class(
        tree, lambda folder: _lost_class(folder, spelling), set(frame["label"].dropna())
    )
    notes = said_of_names(places, None)
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
    beside = companions.look_beside(tree, mapping)
    return finish(tree, frame, beside, layout="kermany", what=_edition(frame), notes=notes)


def _class_of(place: Place, spelling: Mapping[str, str]) -> str | None:
    """Return the class of the deepest folder that is called like one."""
    return next((spelling[f.lower()] for f in reversed(place.free) if f.lower() in spelling), None)


def _lost_class(folder: str, spelling: Mapping[str, str]) -> str | None:
    """Return the class of a folder without images."""
    return next(
        (spelling[f.lower()] for f in reversed(folder.split("/")) if f.lower() in spelling), None
    )


def read_names(tree: Tree, *, any_class: bool) -> list[Name]:
    """Understand the file name of every image.

    CLASS counts if it is one of the four Kermany classes or the name of a folder above the file;
    any other only where there is no such folder, or with `any_class`.
    """
    names: list[Name] = []
    serial: list[tuple[int, str]] = []
    proven = {label.lower() for label in CLASSES}
    labels = {
        folder: tuple(reversed(place.free)) for folder, place in place_images(tree.images).items()
    }
    for row, path in enumerate(tree.images):
        folder, _, file = path.rpartition("/")
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
