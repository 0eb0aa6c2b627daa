"""Visits as day numbers: from numbers as they stand, or from dates."""

from __future__ import annotations

import datetime
import re

from octoscope.errors import OctoscopeError

ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?")
RUN_TOGETHER = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)")
DAY_FIRST_OR_NOT = re.compile(r"(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})(?:[T ].*)?")

Cells = list[str | None]


def days_of(cells: Cells) -> tuple[Cells, list[str]]:
    """Return visits as day numbers; dates are counted from the first of the table, day 0.

    Raises:
        OctoscopeError: If dates and numbers are mixed, if day and month cannot be told apart, or
            if a date does not exist.
    """
    dates = _dates(cells)
    if dates is None:
        return cells, []
    first = min(date for date in dates if date is not None)
    days: Cells = [None if date is None else str((date - first).days) for date in dates]
    return days, [f"visits are dates: counted in days from the first of them, {first}."]


def is_date(text: str) -> bool:
    """Say whether a folder's name is a date (2019-05-17 or 20190517)."""
    try:
        return _iso(text) is not None
    except OctoscopeError:
        return False


def _dates(cells: Cells) -> list[datetime.date | None] | None:
    """Return the cells as dates, or None if none of them is one."""
    there = [cell for cell in cells if cell is not None]
    patterns = (ISO, DAY_FIRST_OR_NOT)
    looks = [any(p.fullmatch(cell) for p in patterns) for cell in there]
    if there and all(RUN_TOGETHER.fullmatch(cell) and is_date(cell) for cell in there):
        looks = [True] * len(there)
    if not any(looks):
        return None
    if not all(looks):
        odd = there[looks.index(False)]
        raise OctoscopeError(
            f"column visit holds dates, but also {odd!r}; write all visits as YYYY-MM-DD or all as "
            "day numbers"
        )
    day_first = _day_first([m for cell in there if (m := DAY_FIRST_OR_NOT.fullmatch(cell))])
    return [None if cell is None else _date(cell, day_first) for cell in cells]


def _day_first(found: list[re.Match[str]]) -> bool:
    """Say whether the day stands before the month, by what can only be a day, or by dots."""
    pairs = [(int(m[1]), int(m[3])) for m in found]
    before, after = any(a > 12 for a, _ in pairs), any(b > 12 for _, b in pairs)
    if not pairs or (before and not after) or (not after and all(m[2] == "." for m in found)):
        return True
    if after and not before:
        return False
    raise OctoscopeError(
        f"visit {found[0][0]!r} may be day/month or month/day; write dates as YYYY-MM-DD"
    )


def _date(text: str, day_first: bool) -> datetime.date:
    """Return one date."""
    if (iso := _iso(text)) is not None:
        return iso
    match = DAY_FIRST_OR_NOT.fullmatch(text)
    assert match is not None  # `_dates` has looked
    first, second, year = int(match[1]), int(match[3]), int(match[4])
    day, month = (first, second) if day_first else (second, first)
    return _checked(text, year, month, day)


def _iso(text: str) -> datetime.date | None:
    """Return the date of ``2019-05-17`` or ``20190517``."""
    match = ISO.fullmatch(text) or RUN_TOGETHER.fullmatch(text)
    return _checked(text, *map(int, match.groups())) if match else None


def _checked(text: str, year: int, month: int, day: int) -> datetime.date:
    """Return a date that exists."""
    try:
        return datetime.date(year, month, day)
    except ValueError:
        raise OctoscopeError(f"visit {text!r} is not a date that exists; correct it") from None
