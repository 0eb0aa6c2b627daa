"""What a tree of folders was taken for, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts.levels import (
    CLASS,
    EYE,
    PASSED,
    PATIENT,
    SPLIT,
    WITH_NUMBER,
    Place,
    Reading,
    Unclear,
)
from octoscope.scans.layouts.names import eye_of
from octoscope.scans.wording import many


def describe(frame: pd.DataFrame, reading: Reading, places: Mapping[str, Place]) -> str:
    """Say what the folders were taken for."""
    if frame["label"].isna().all():
        what = "images without class folders"
    elif WITH_NUMBER in reading.roles:
        return "folders that name class and patient"
    else:
        what = "class folders"
    first = next(iter(places.values())).folders
    wrap = 0
    while all(len(p.folders) > wrap + 1 and p.folders[wrap] == first[wrap]
              for p in places.values()):  # fmt: skip
        wrap += 1
    used = [f for f, role in zip(first, _all_roles(places, reading, first), strict=True)
            if role in (CLASS, PATIENT)]  # fmt: skip
    wrap = min([wrap, *(first.index(name) for name in used)])
    if wrap:
        what += f" below {'/'.join(first[:wrap])}"
    if frame["patient"].notna().any():
        at = {role: k for k, role in enumerate(reading.roles)}
        above = CLASS in at and at.get(PATIENT, 0) < at[CLASS]
        what += " within a folder for each patient" if above else " with a folder for each patient"
    return what


def _all_roles(
    places: Mapping[str, Place], reading: Reading, folders: tuple[str, ...]
) -> list[str]:
    """Return the role of each folder of a place."""
    place = places["/".join(folders)]
    left = iter(reading.roles)
    return [role or next(left, PASSED) for role in place.roles]


def said_of_names(places: Mapping[str, Place], reading: Reading | None) -> list[str]:
    """Say which folders were taken for splits and eyes by a name that is not their own.

    Args:
        places: Where the images lie.
        reading: What the other folders are, if that matters.
    """
    splits: dict[str, str] = {}
    eyes: dict[str, str] = {}
    passed: set[str] = set()
    for place in places.values():
        left = iter(() if reading is None else reading.roles)
        for folder, role in zip(place.folders, place.roles, strict=True):
            if role == SPLIT and place.split and folder.lower() != place.split:
                splits[folder] = place.split
            elif role == EYE and eye_of(folder) is not None:
                eyes[folder] = str(eye_of(folder))
            elif reading is not None and role is None and next(left, PASSED) == PASSED:
                passed.add(folder)
    notes = [
        f"folders taken for {what}: {_pairs(taken)}."
        for what, taken in (("splits", splits), ("eyes", eyes))
        if taken
    ]
    if len(passed) == 1 and reading is not None and CLASS not in reading.roles:
        (one,) = passed
        notes.append(
            f"the folder {one} is not taken for a class; if it is the class of all these scans, "
            f"spell that out in --layout, with {{class}} in the place of {one}."
        )
    if len(passed) > 1:
        shown = ", ".join(sorted(passed)[:4])
        notes.append(
            f"{many(len(passed), 'folder')} taken for neither class nor patient ({shown}"
            f"{', …' if len(passed) > 4 else ''})."
        )
    return notes


def _pairs(taken: Mapping[str, str]) -> str:
    """Return "Test_set (test), Train_set (train)"."""
    return ", ".join(f"{name} ({taken[name]})" for name in sorted(taken))


def question(root: str, unclear: Unclear, places: dict[str, Place], example: str) -> OctoscopeError:
    """Return the error that shows the readings that fit, and how to choose one."""
    shown = max(places.values(), key=lambda place: len(place.free))
    choices = []
    for roles in dict.fromkeys(unclear.readings):
        names: dict[str, set[str]] = defaultdict(set)
        for place in places.values():
            for role, folder in zip(roles, place.free, strict=False):
                names[role].add(folder)
        counted = [_classes(names[CLASS])] if CLASS in roles else ["no class"]
        if any("{class}" in role for role in roles):
            counted = ["class and split from one name"]
        if names[PATIENT]:
            counted.append(many(len(names[PATIENT]), "patient"))
        choices.append(f"--layout '{template_of(shown, roles)}' ({', '.join(counted)})")
        if len(choices) == 4:
            break
    return OctoscopeError(
        f"{root}: {unclear.why} (as in {example}); say how to read them: "
        f"{' or '.join(choices)}; or give a table"
    )


def template_of(place: Place, roles: Sequence[str]) -> str:
    """Return the layout template of a reading for a place."""
    left = iter(roles)
    parts = []
    for own in place.roles:
        role = own or next(left, PASSED)
        parts.append(role if role == PASSED or "{" in role else f"{{{role}}}")
    return "/".join([*parts, "*"])


def _classes(names: set[str]) -> str:
    """Return "3 classes (CNV, DME, NORMAL)"."""
    if not names:
        return "no class"
    shown = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
    return f"{many(len(names), 'class', 'classes')} ({shown})"
