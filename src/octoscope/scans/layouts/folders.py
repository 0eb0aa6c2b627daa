"""Trees of folders: by class, by patient, by split, in any order that can be told apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import pandas as pd

from octoscope.scans.layouts import companions, template
from octoscope.scans.layouts.finish import finish
from octoscope.scans.layouts.left import require_no_lost_class
from octoscope.scans.layouts.levels import (
    CLASS,
    EYE,
    PASSED,
    PATIENT,
    VISIT,
    WITH_NUMBER,
    Place,
    Reading,
    Unclear,
    place_images,
    read_levels,
    words_before,
)
from octoscope.scans.layouts.names import eye_of
from octoscope.scans.layouts.told import describe, question, said_of_names
from octoscope.scans.layouts.tree import Tree
from octoscope.scans.table import ScanTable

COUNTED = re.compile(r"(.*?)0*(\d+)")


def read(tree: Tree, mapping: Mapping[str, str], *, forced: bool = False) -> ScanTable:
    """Make the table, by the names and the structure of the folders.

    Args:
        tree: The files.
        mapping: Which column of tables beside the scans is which.
        forced: The first free folder is the class and the next the patient, whatever they are
            called.

    Raises:
        OctoscopeError: If several readings fit, asking for one; or a class has only files that
            are not read.
    """
    places = place_images(tree.images)
    beside = companions.look_beside(tree, mapping)
    notes: list[str] = []
    free = sorted({place.free for place in places.values()})
    try:
        reading = _forced(free) if forced else read_levels(free, _repeat(places))
    except Unclear as unclear:
        if not beside.labels_all(tree.images):
            raise question(str(tree.root), unclear, places, tree.images[0]) from None
        reading = Reading((PASSED,) * max(map(len, free)))
        notes.append("classes and patients are those of the table beside the scans.")
    said = {folder: _meaning(place, reading) for folder, place in places.items()}
    rows = [(path, *said[path.rpartition("/")[0]]) for path in tree.images]
    frame = pd.DataFrame(rows, columns=["path", "label", "patient", "eye", "visit", "split"])
    frame = frame.astype(object).where(frame.notna(), None)
    roles = reading.roles
    if CLASS in roles and PATIENT in roles[roles.index(CLASS) :]:
        frame, more = _counted_anew(frame)
        notes += more
    known_classes = set(frame["label"].dropna())
    anywhere = place_images([*tree.images, *(f"{folder}/x" for folder in tree.others)])
    require_no_lost_class(tree, lambda f: _class_at(anywhere.get(f), reading), known_classes)
    return finish(
        tree,
        frame,
        beside,
        layout="folders",
        what=describe(frame, reading, places),
        notes=[*notes, *said_of_names(places, reading)],
    )


def read_template(tree: Tree, layout: str, mapping: Mapping[str, str]) -> ScanTable:
    """Make the table of a layout that the user spelled out.

    Raises:
        OctoscopeError: See `octoscope.scans.layouts.template`.
    """
    frame, notes = template.read_paths(tree, layout)
    beside = companions.look_beside(tree, mapping)
    return finish(tree, frame, beside, layout=layout, what=f"'{layout}'", notes=notes)


def _forced(free: list[tuple[str, ...]]) -> Reading:
    """Return the reading CLASS/patient/…, below folders that all images lie in."""
    depth = 0
    while all(len(f) > depth + 1 and f[depth] == free[0][depth] for f in free):
        depth += 1
    most = max(map(len, free))
    return Reading((*(PASSED,) * depth, CLASS, PATIENT, *(PASSED,) * most)[:most])


def _repeat(places: Mapping[str, Place]) -> bool:
    """Say whether most first free folders stand in several splits, as classes do."""
    splits: dict[str, set[str | None]] = defaultdict(set)
    for place in places.values():
        if place.free:
            splits[place.free[0]].add(place.split)
    several = sum(len(found) > 1 for found in splits.values())
    return 2 * several > len(splits)


Meaning = tuple[str | None, str | None, str | None, str | None, str | None]


def _meaning(place: Place, reading: Reading) -> Meaning:
    """Return label, patient, eye, visit and split of a place."""
    found = dict(zip(reading.roles, place.free, strict=False))
    label, patient = found.get(CLASS), found.get(PATIENT)
    if (both := found.get(WITH_NUMBER)) is not None:
        label, patient = words_before(both), both
    side = place.named(EYE)
    return label, patient, None if side is None else eye_of(side), found.get(VISIT), place.split


def _class_at(place: Place | None, reading: Reading) -> str | None:
    """Return the class of a folder that may have no image."""
    if place is None or (CLASS not in reading.roles and WITH_NUMBER not in reading.roles):
        return None
    return _meaning(place, reading)[0]


def _counted_anew(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Tell patients apart whose numbers begin anew in every class.

    CNV/1 and DME/1 are not one person if both classes count 1, 2, 3 …; they may be if the numbers
    are those of a clinic.
    """
    known = frame.dropna(subset=["patient", "label"])
    by_class = {label: set(rows) for label, rows in known.groupby("label")["patient"]}
    if len(by_class) < 2 or not set.intersection(*by_class.values()):
        return frame, []
    for names in by_class.values():
        found = [COUNTED.fullmatch(name) for name in names]
        numbers = sorted(int(match[2]) for match in found if match)
        counts = len(numbers) == len(names) > 1 and numbers[0] <= 1
        if not counts or numbers[-1] > 1.25 * len(numbers) + 1:
            return frame, []
    patient = [
        patient if patient is None or label is None else f"{label}/{patient}"
        for label, patient in zip(frame["label"], frame["patient"], strict=True)
    ]
    first = next(p for p in patient if p is not None)
    number = first.rpartition("/")[2]
    return frame.assign(patient=pd.Series(patient, dtype=object)), [
        f"the numbers of patients begin anew in every class: {number} of one class and {number} of "
        f"another are taken as two persons ({first} …); if they are one, give a table."
    ]
