"""What the cells of a table mean, column by column: text as it stands, or one sentence.

Everything is read as text first (patient ``007`` is not patient ``7``). Then each column is
brought to the one spelling that the product uses, and what was changed is said.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts.days import days_of
from octoscope.scans.layouts.names import alike, eye_of, nfc, one_spelling, split_of_cell
from octoscope.scans.wording import many

NEVER_A_NAME = {"nan", "<na>", "nat", "#n/a"}
"""What programs write into a cell that is empty, in lower case."""

PERHAPS_A_NAME = {"none", "na", "n/a", "null", "nil", "-", "?", "unknown", "missing"}
"""What people write; as a label it may be a class of that name."""

SPREADSHEET_FAULTS = {"#ref!", "#name?", "#value!", "#div/0!", "#num!", "#null!", "#spill!"}
UNSEEN = "\u200b\u200c\u200d\u200e\u200f\ufeff"
"""Marks around a cell that no one sees, and that are no blanks to Python."""

LONGEST = 500
"""Letters that the name of a class or patient may have."""


WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
SHORTENED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

LONGEST_NUMBER = 40

Cells = list[str | None]


def as_text(values: Sequence[object], column: str) -> Cells:
    """Return cells of any type as text, None where empty; blanks around it stand.

    Raises:
        OctoscopeError: If a cell is a list, a structure, or bytes that are no text.
    """
    return [_one_text(value, column, row) for row, value in enumerate(values)]


def _one_text(value: object, column: str, row: int) -> str | None:
    """Return one cell as text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            raise OctoscopeError(
                f"row {row + 1}: column {column} holds bytes that are no text; store it as text"
            ) from None
    if isinstance(value, float | np.floating):
        return _float_text(float(value), column, row)
    if isinstance(value, Decimal):
        return str(value.to_integral_value() if value == value.to_integral_value() else value)
    if isinstance(value, int | bool | np.integer | np.bool_) or hasattr(value, "isoformat"):
        return str(value)
    raise OctoscopeError(
        f"row {row + 1}: column {column} holds a {type(value).__name__} instead of one value; "
        "store text in it"
    )


def _float_text(value: float, column: str, row: int) -> str | None:
    """Return a floating-point cell as text, whole numbers without ``.0``."""
    if math.isnan(value):
        return None
    if column == "patient" and abs(value) > 2**53:
        raise OctoscopeError(
            f"row {row + 1}: patient {value!r} is a number too large to be exact; store patients "
            "as text"
        )
    return str(int(value)) if value.is_integer() else str(value)


def clean(cells: Cells, column: str) -> tuple[Cells, list[str]]:
    """Strip the cells of a text column and find out which are empty.

    Raises:
        OctoscopeError: If a cell holds a line break, far too much, the error of a spreadsheet, or
            a patient's number that a spreadsheet has shortened.
    """
    notes: list[str] = []
    done: Cells = [
        None if cell is None else nfc(cell.strip().strip(UNSEEN).strip()) or None for cell in cells
    ]
    emptied: dict[str, int] = defaultdict(int)
    kept: dict[str, int] = defaultdict(int)
    for row, cell in enumerate(done):
        if cell is None:
            continue
        if "\n" in cell:
            raise OctoscopeError(
                f"row {row + 1}: {column} {cell[:20]!r} holds a line break; close the quote before "
                "it, or remove the break"
            )
        if len(cell) > LONGEST:
            raise OctoscopeError(
                f"row {row + 1}: {column} {cell[:20]!r}… is {len(cell):,} letters long, which "
                "is no name; correct the cell"
            )
        lower = cell.lower()
        if lower in SPREADSHEET_FAULTS:
            raise OctoscopeError(
                f"row {row + 1}: {column} {cell!r} is the error of a spreadsheet; correct the cell"
            )
        if column == "patient" and SHORTENED.fullmatch(cell):
            raise OctoscopeError(
                f"row {row + 1}: patient {cell!r} is a number that a spreadsheet has shortened; "
                "give that column the format text and enter the ids again"
            )
        if lower in NEVER_A_NAME or (lower in PERHAPS_A_NAME and column != "label"):
            done[row] = None
            emptied[cell] += 1
        elif lower in PERHAPS_A_NAME:
            kept[cell] += 1
    if emptied:
        notes.append(
            f"{many(sum(emptied.values()), 'cell')} of column {column} that say "
            f"{_listed(emptied)}: taken as empty."
        )
    if kept:
        notes.append(
            f"{_listed(kept)} is taken for the name of a class ({many(sum(kept.values()), 'scan')})"
            "; leave these cells empty if the scans have no label."
        )
    return _without_point_zero(done), notes


def _without_point_zero(cells: Cells) -> Cells:
    """Return ``100.0`` as ``100`` if every cell of the column is a whole number."""
    there = [cell for cell in cells if cell is not None]
    if not all(WHOLE.fullmatch(cell) for cell in there):
        return cells
    return [None if cell is None else cell.partition(".")[0] for cell in cells]


def labels(cells: Cells) -> tuple[Cells, list[str]]:
    """Give class names that differ in case, blanks, underscores or form one spelling; say so."""
    spelling = one_spelling(cells)
    changed: dict[str, list[str]] = defaultdict(list)
    for name in sorted(spelling):
        if spelling[name] != nfc(name):
            changed[spelling[name]].append(name)
    notes = [
        f"class {name} is also spelled {', '.join(others)}: taken as one class."
        for name, others in changed.items()
    ]
    return [None if cell is None else spelling[cell] for cell in cells], notes


def note_near_patients(cells: Cells) -> list[str]:
    """Note patients whose ids differ only in leading zeros, case, blanks or hyphens."""
    groups: dict[str, set[str]] = defaultdict(set)
    for cell in set(cells) - {None}:
        key = re.sub(r"[\s_\-]+", "", alike(str(cell)))
        groups[re.sub(r"(?<!\d)0+(?=\d)", "", key)].add(str(cell))
    near = [sorted(group) for group in groups.values() if len(group) > 1]
    if not near:
        return []
    first = " and ".join(min(near))
    return [
        f"patients {first} are taken as {len(min(near))} persons, though only leading zeros, case "
        f"or blanks tell them apart ({many(len(near), 'such group')}); write them alike if they "
        "are one."
    ]


def splits(cells: Cells) -> Cells:
    """Return train, val or test for any usual way to say it.

    Raises:
        OctoscopeError: If the column holds numbers, which do not say which split they are.
    """
    numbers = sorted({cell for cell in cells if cell is not None and WHOLE.fullmatch(cell)})
    if numbers:
        raise OctoscopeError(
            f"column split holds the numbers {', '.join(numbers[:5])}, which may be splits or "
            "folds in any order; write train, val and test instead, or leave the column out with "
            "--columns split="
        )
    return [cell if cell is None else split_of_cell(cell) or cell for cell in cells]


def eyes(cells: Cells) -> Cells:
    """Return OD or OS for any usual way to say it; others stand (and are refused later)."""
    return [cell if cell is None else eye_of(cell) or cell for cell in cells]


def visits(cells: Cells) -> tuple[Cells, list[str]]:
    """Return day numbers; dates are counted from the first of the table, which is said."""
    return days_of(cells)


def other(cells: Cells) -> pd.Series:
    """Return a column of another kind as numbers or truth values if it holds nothing else."""
    stripped = pd.Series([_said(cell) for cell in cells], dtype=object)
    there = stripped.dropna()
    if len(there) and there.isin(["True", "False"]).all():
        truth = stripped.map({"True": True, "False": False})
        return truth if stripped.isna().any() else truth.astype(bool)
    plain = there.map(_is_number)
    if len(there) and plain.all():
        return pd.to_numeric(stripped)
    return stripped


def _is_number(text: str) -> bool:
    """Say whether a cell is a number: ``007`` is none, nor are digits without end."""
    short = len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text) is not None
    return short and not re.match(r"[+-]?0\d", text)


def _said(cell: str | None) -> str | None:
    """Return a cell stripped, None where a program wrote that it is empty."""
    text = None if cell is None else cell.strip()
    return None if text is None or not text or text.lower() in NEVER_A_NAME else text


def _listed(names: dict[str, int]) -> str:
    """Return the first few names in quotes."""
    return ", ".join(repr(name) for name in sorted(names)[:3])
