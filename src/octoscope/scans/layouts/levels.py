"""Which level of folders is the class and which the patient: by names and structure, or a question.

A level is recognised by what its names are (diagnoses, numbered patients, eyes, dates, formats),
and by how they repeat. What fits two readings is asked about: a patient taken for a class, or a
class for a patient, would be wrong in silence.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from octoscope.scans.layouts.days import is_date
from octoscope.scans.layouts.names import (
    CLASS_WORDS,
    PASSED_WORDS,
    PATIENT_WORDS,
    class_and_split,
    eye_of,
    is_diagnosis,
    is_technical,
    nfc,
    split_folders,
    split_in,
)

MOST_CLASSES = 20
"""Folders of unknown names at one level that may be classes without a question."""

NUMBERED = re.compile(r"(.*?)[\s_\-#.]*(\d+)([\s_\-]*[a-zA-Z]?)")

CLASS, PATIENT, SPLIT, EYE, VISIT, PASSED = "class", "patient", "split", "eye", "visit", "*"
WITH_NUMBER = "class+number"
"""A folder that is a class with the number of a patient, as ``AMD12``."""


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        folders: Its folders, from the top.
        roles: What each says if its name alone tells, else None.
        split: The split that they say.
    """

    folders: tuple[str, ...]
    roles: tuple[str | None, ...]
    split: str | None

    @property
    def free(self) -> tuple[str, ...]:
        """The folders that the names alone do not explain."""
        return tuple(f for f, role in zip(self.folders, self.roles, strict=True) if role is None)

    def named(self, role: str) -> str | None:
        """Return the deepest folder of a role."""
        found = [f for f, r in zip(self.folders, self.roles, strict=True) if r == role]
        return found[-1] if found else None


@dataclass(frozen=True)
class Reading:
    """What the free folders of images say, level by level; `said` are notes about it."""

    roles: tuple[str, ...]
    said: tuple[str, ...] = ()


class Unclear(Exception):
    """Several readings fit; `readings` are those to choose from, the likeliest first."""

    def __init__(self, why: str, readings: Sequence[tuple[str, ...]]) -> None:
        super().__init__(why)
        self.why = why
        self.readings = tuple(readings)


def place_images(images: Sequence[str]) -> dict[str, Place]:
    """Find the place of each folder with images; splits, eyes and formats by their names."""
    folders = {path.rpartition("/")[0] for path in images}
    children: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        parts = folder.split("/") if folder else []
        for at, part in enumerate(parts):
            children["/".join(parts[:at])].add(part)
    splits = {above: split_folders(names) for above, names in children.items()}
    eyes = {above: all(map(eye_of, names)) for above, names in children.items()}
    places = {}
    for folder in folders:
        parts = folder.split("/") if folder else []
        roles: list[str | None] = []
        split = None
        for at, part in enumerate(parts):
            above = "/".join(parts[:at])
            if part in splits[above]:
                roles.append(SPLIT)
                split = splits[above][part]
            elif eyes[above]:
                roles.append(EYE)
            else:
                roles.append(PASSED if is_technical(part) else None)
        places[folder] = Place(tuple(parts), tuple(roles), split)
    return places


def read_levels(free: Sequence[tuple[str, ...]], repeated: bool) -> Reading:
    """Decide what the levels of free folders are.

    Args:
        free: The free folders of each place, from the top.
        repeated: Whether places of several splits have the same names, as classes do and patients
            do not.

    Raises:
        Unclear: If several readings fit.
    """
    depth = max(map(len, free), default=0)
    levels = [{folders[k] for folders in free if len(folders) > k} for k in range(depth)]
    for k, names in enumerate(levels):
        if mixed := class_and_split(names):
            before = all(split_in(name.split("_")[0]) for name in mixed)
            both = "{split}_{class}" if before else "{class}_{split}"
            parts = [PASSED] * k + [both] + [PASSED] * (depth - k - 1)
            raise Unclear(
                f"folders name class and split at once ({', '.join(mixed[:3])})", [tuple(parts)]
            )
    wrapping = [len(names) == 1 and all(len(f) > k + 1 for f in free)
                for k, names in enumerate(levels)]  # fmt: skip
    roles: list[str | None] = [_by_names(names) for names in levels]
    if any(role == CLASS for role, wrap in zip(roles, wrapping, strict=True) if not wrap):
        roles = [PASSED if wrap else role for role, wrap in zip(roles, wrapping, strict=True)]
    open_ = [k for k in range(depth) if roles[k] is None or roles[k] == PATIENT]
    open_ = [k for k in open_ if not wrapping[k]]
    roles = [PASSED if wrap and role is None else role
             for role, wrap in zip(roles, wrapping, strict=True)]  # fmt: skip
    if roles.count(CLASS) > 1:
        kept = [k for k, role in enumerate(roles) if role == CLASS]
        raise Unclear(
            "folders at several levels have names of classes",
            [tuple(_only(roles, k, CLASS)) for k in kept],
        )
    if CLASS not in roles and WITH_NUMBER not in roles:
        _find_class(levels, roles, open_, repeated)
    return Reading(tuple(_settle_rest(levels, roles, free)))


def _by_names(names: set[str]) -> str | None:
    """Return the role that the names of a level tell by themselves, or None."""
    if sum(map(is_diagnosis, names)) * 2 > len(names):
        return CLASS
    if all(map(is_date, names)):
        return VISIT
    stems = _stems(names)
    if stems is None:
        return None
    if stems <= PATIENT_WORDS:
        return PATIENT
    if stems <= CLASS_WORDS:
        return CLASS
    if stems <= PASSED_WORDS:
        return PASSED
    counts: dict[str | None, int] = defaultdict(int)
    for name in names:
        counts[_stem(name)] += 1
    known = all(map(is_diagnosis, stems))
    if known and (max(counts.values()) > 1 and len(names) >= 3):
        return WITH_NUMBER
    return None


def _stem(name: str) -> str | None:
    """Return what stands before the number of a name in lower case, None if there is no number."""
    match = NUMBERED.fullmatch(nfc(name))
    return None if match is None else match[1].strip(" _-#.").lower()


def _stems(names: set[str]) -> set[str] | None:
    """Return the stems of numbered names; None unless all are numbered, with a word before it."""
    stems = {_stem(name) for name in names}
    if None in stems or "" in stems:
        return None
    return {stem for stem in stems if stem is not None}


def is_id(name: str) -> bool:
    """Say whether a name looks like the id of something: a number, or letters with digits."""
    return re.search(r"\d", name) is not None


def _find_class(
    levels: list[set[str]], roles: list[str | None], open_: list[int], repeated: bool
) -> None:
    """Choose the level of the class among those that no name explains.

    Raises:
        Unclear: If several readings fit.
    """
    ids = {k: sum(map(is_id, levels[k])) * 2 > len(levels[k]) for k in open_}
    plain = [k for k in open_ if roles[k] is None and not ids[k]]
    patients = [k for k in open_ if roles[k] == PATIENT]
    numbers = [k for k in open_ if roles[k] is None and ids[k]]
    if not plain and not numbers:
        return
    if len(plain) == 1 and len(levels[plain[0]]) <= MOST_CLASSES:
        k = plain[0]
        if not patients and not numbers:
            roles[k] = CLASS
            return
        if k == open_[0] and all(k < other for other in (*patients, *numbers)):
            roles[k] = CLASS
            return
        raise Unclear(
            "no level of folders has names of classes that are known",
            [_with(roles, {k: CLASS, other: PATIENT}) for other in (*patients, *numbers)]
            + [_with(roles, {k: PATIENT, open_[0]: CLASS})],
        )
    if not plain and len(numbers) == 1 and not patients:
        k = numbers[0]
        if (repeated and len(levels[k]) <= MOST_CLASSES) or _counts_from_zero(levels[k]):
            roles[k] = CLASS
            return
        raise Unclear(
            "folders with numbers may be classes or patients",
            [_with(roles, {k: CLASS}), _with(roles, {k: PATIENT})],
        )
    candidates = [*plain, *numbers]
    others = [*patients, *numbers, *plain]
    raise Unclear(
        "no level of folders has names of classes that are known",
        [_with(roles, {k: CLASS}) for k in plain if len(open_) == 1]
        + [_with(roles, {k: PATIENT}) for k in plain if len(open_) == 1]
        + [
            _with(roles, {k: CLASS, other: PATIENT})
            for k in candidates
            for other in others
            if other != k
        ],
    )


def _settle_rest(
    levels: list[set[str]], roles: list[str | None], free: Sequence[tuple[str, ...]]
) -> list[str]:
    """Find the patients among the levels beside the class.

    Raises:
        Unclear: If a level may be patients or something else.
    """
    patients = [k for k, role in enumerate(roles) if role == PATIENT]
    unknown = [k for k, role in enumerate(roles) if role is None]
    ids = [k for k in unknown if sum(map(is_id, levels[k])) * 2 > len(levels[k])]
    if len(patients) > 1 and WITH_NUMBER not in roles:
        raise Unclear(
            "several levels of folders have names of patients",
            [_only(roles, k, PATIENT) for k in patients],
        )
    if WITH_NUMBER in roles:
        return list(_with(roles, dict.fromkeys(patients, PASSED)))
    if patients:
        roles = list(_with(roles, dict.fromkeys(ids, PASSED)))
        unknown = [k for k in unknown if k not in ids]
    elif len(ids) == 1 and len(unknown) == 1:
        roles = list(_with(roles, {ids[0]: PATIENT}))
        unknown = []
    if unknown:
        raise Unclear(
            "beside the classes there are folders that may be patients or something else",
            [
                *(() if patients else [_with(roles, {k: PATIENT}) for k in unknown]),
                _with(roles, {}),
            ],
        )
    return [role or PASSED for role in roles]


def _with(roles: Sequence[str | None], chosen: dict[int, str]) -> tuple[str, ...]:
    """Return roles with some chosen, and those that are still open passed over."""
    return tuple(chosen.get(k, role or PASSED) for k, role in enumerate(roles))


def _only(roles: Sequence[str | None], kept: int, role: str) -> tuple[str, ...]:
    """Return roles in which one level alone has a role."""
    return tuple(
        PASSED if known == role and k != kept else known or PASSED for k, known in enumerate(roles)
    )


def _counts_from_zero(names: set[str]) -> bool:
    """Say whether names are the grades 0, 1, 2 … as class folders may be called."""
    return 2 <= len(names) <= 10 and names == {str(n) for n in range(len(names))}


def words_before(name: str) -> str:
    """Return the class of ``AMD12``: what stands before the number."""
    match = NUMBERED.fullmatch(nfc(name))
    return name if match is None else match[1].strip(" _-#.")
