"""Which column of a table is which: by its own name, by a name in wide use, or as the user says."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

import pandas as pd

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.layouts.names import compact, eye_of, split_of_cell
from octoscope.scans.table import COLUMNS

USUAL = {
    "path": {"filename", "file", "filepath", "fname", "image", "imagepath", "img", "imgpath",
             "imagename", "imagefile", "imageid", "imgname", "imagefilename", "idcode"},
    "label": {"class", "classname", "labels", "labelname", "disease", "diagnosis", "category",
              "dx"},
    "patient": {"patientid", "patientno", "patientnumber", "patientname", "subject", "subjectid",
                "person", "personid", "pid", "participant", "participantid"},
    "eye": {"laterality", "side", "eyeside"},
    "visit": {"visitday", "visitdate", "examdate", "acquisitiondate", "studydate"},
    "split": {"subset", "partition", "set", "dataset"},
    "mask": {"maskpath", "maskfile", "maskname"},
}  # fmt: skip
"""Column of ours → names in wide use for it, as `compact` gives them."""

TRUE_WORDS = {"1", "1.0", "true", "yes"}
FALSE_WORDS = {"0", "0.0", "false", "no"}

Mapped = Mapping[str, str]


def parse_columns(given: str | Mapped | None) -> dict[str, str]:
    """Read ``path=file_name,label=Disease``; nothing behind a ``=`` leaves that column out.

    Raises:
        OctoscopeError: If it is not of that form or names a column that is not ours.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = [(str(ours), "" if theirs is None else str(theirs))
                 for ours, theirs in given.items()]  # fmt: skip
    else:
        parts = next(csv.reader([given], skipinitialspace=True), [])
        split = [part.partition("=") for part in parts if part.strip()]
        if not split or any(not equals for _, equals, _ in split):
            raise OctoscopeError(
                f'columns "{given}" is not of the form path=file_name,label=Disease; correct it'
            )
        pairs = [(ours, theirs) for ours, _, theirs in split]
    mapping: dict[str, str] = {}
    for ours, theirs in pairs:
        ours, theirs = ours.strip().lower(), theirs.strip()
        if ours not in COLUMNS:
            raise OctoscopeError(
                f'columns: "{ours}" is not a column that octoscope knows'
                f"{did_you_mean(ours, COLUMNS)}; it knows {', '.join(COLUMNS)}"
            )
        if ours in mapping:
            raise OctoscopeError(f"columns: {ours} stands twice; say it once")
        mapping[ours] = theirs
    if mapping.get("path") == "":
        raise OctoscopeError("columns: path is empty; name the column that holds the files")
    return mapping


def names_paths(header: Sequence[str], mapping: Mapped) -> bool:
    """Say whether these cells can be a header: one of them names the files."""
    if "path" in mapping:
        return any(_same(name, mapping["path"]) for name in header)
    keys = {compact(name) for name in header}
    return "path" in keys or bool(keys & USUAL["path"])


def name_columns(
    frame: pd.DataFrame, mapping: Mapped, *, quote: bool = True
) -> tuple[pd.DataFrame, list[str]]:
    """Rename the columns that are known; a table with one column per class gets a `label`.

    Args:
        frame: Cells of text, under the names that the file gives them.
        mapping: What the user says, see `parse_columns`.
        quote: Whether an error may name the columns that there are.

    Raises:
        OctoscopeError: If there is no column of paths, one that was named is missing, or two may
            be the same.
    """
    frame = _without_index(_without_twins(frame))
    taken: dict[str, str] = {}
    notes: list[str] = []
    for ours in COLUMNS:
        theirs = _find(frame, ours, mapping, notes)
        if theirs is not None:
            taken[theirs] = ours
    if "path" not in taken.values():
        raise OctoscopeError(_no_path(list(map(str, frame.columns)), quote))
    hidden = {ours: f"{ours} (not used)" for ours in mapping if ours in frame and not mapping[ours]}
    hidden |= {
        ours: f"{ours} (of the file)"
        for ours in taken.values()
        if ours in frame and taken.get(ours) != ours
    }
    frame = frame.rename(columns=hidden).rename(columns=taken)
    if "label" not in frame and mapping.get("label") is None:
        frame, more = _one_hot(frame)
        notes += more
    return frame, notes


def _find(frame: pd.DataFrame, ours: str, mapping: Mapped, notes: list[str]) -> str | None:
    """Find the column of the file that is ours, and note it if its name is another."""
    names = list(map(str, frame.columns))
    if ours in mapping:
        if not mapping[ours]:
            return None
        exact = [name for name in names if name == mapping[ours]]
        near = exact or [name for name in names if _same(name, mapping[ours])]
        if len(near) != 1:
            raise OctoscopeError(
                f'has no column "{mapping[ours]}"{did_you_mean(mapping[ours], names)}, which '
                f"--columns names as {ours} (there are: {_some(names)})"
            )
        return near[0]
    said = set(mapping.values())
    own = [name for name in names if compact(name) == ours and name not in said]
    if len(own) > 1:
        raise OctoscopeError(
            f"has the columns {' and '.join(own)}, which may both be {ours}; say which with "
            f"--columns {ours}=NAME"
        )
    if own:
        return own[0]
    usual = [n for n in names if compact(n) in USUAL.get(ours, set()) and n not in said]
    usual = [name for name in usual if _fits(ours, frame[name])]
    if len(usual) > 1:
        raise OctoscopeError(
            f"has no column {ours}, but {' and '.join(usual)}; say which it is with "
            f"--columns {ours}={_quoted(usual[0])}"
        )
    if usual:
        notes.append(f"column {usual[0]} is taken for the {ours}.")
    return usual[0] if usual else None


def _fits(ours: str, cells: pd.Series) -> bool:
    """Say whether the cells of a column with a usual name can be that column of ours."""
    there = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    if ours == "split":
        return bool(there) and all(split_of_cell(cell) for cell in there)
    if ours == "eye":
        return bool(there) and all(eye_of(cell) for cell in there)
    return True


def _without_twins(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop a column that stands twice with the same cells.

    Raises:
        OctoscopeError: If a column stands twice with others.
    """
    if frame.columns.is_unique:
        return frame
    keep = [True] * len(frame.columns)
    for at, name in enumerate(frame.columns):
        first = list(frame.columns).index(name)
        if first == at:
            continue
        if name and list(frame.iloc[:, first]) != list(frame.iloc[:, at]):
            raise OctoscopeError(
                f'has two columns named "{name}" with different cells; rename or remove one'
            )
        keep[at] = False
    return frame.loc[:, keep]


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop the unnamed column of row numbers that pandas and R write."""
    nameless = [n for n in frame.columns if not str(n) or str(n).startswith("Unnamed: ")]
    return frame.drop(columns=nameless)


def _one_hot(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Make `label` of a table that has one column of 0 and 1 per class instead."""
    columns = []
    for name in frame.columns.drop([c for c in COLUMNS if c in frame]):
        cells = {str(cell).strip().lower() for cell in frame[name]}
        if cells <= TRUE_WORDS | FALSE_WORDS and cells & TRUE_WORDS:
            columns.append(name)
    if len(columns) < 2:
        return frame, []
    ones = pd.DataFrame(
        {name: [str(c).strip().lower() in TRUE_WORDS for c in frame[name]] for name in columns}
    )
    named = ", ".join(map(str, columns[:6]))
    if not (ones.sum(axis=1) == 1).all():
        row = int((ones.sum(axis=1) != 1).to_numpy().argmax())
        return frame, [
            f"there is no column label; the columns {named} hold 0 and 1, but "
            f"{int(ones.iloc[row].sum())} of them are 1 in row {row + 1}, so they are not taken "
            "for classes."
        ]
    label = ones.to_numpy().argmax(axis=1)
    frame = frame.assign(label=pd.Series([str(columns[k]) for k in label], dtype=object))
    return frame.drop(columns=columns), [f"the class is the column that is 1 ({named})."]


def _no_path(names: list[str], quote: bool) -> str:
    """Say that no column names the files, and propose what to say."""
    if not quote:
        return "has no column that names scans"
    usual = next((name for name in names if "file" in name.lower() or "im" in name.lower()), None)
    example = usual or next((name for name in names if name), "NAME")
    return (
        f"has no column 'path'{did_you_mean('path', names)} (there are: {_some(names)}); "
        f"say which one names the image files: --columns path={_quoted(example)}"
    )


def _some(names: list[str]) -> str:
    """Return the first few names of columns, long ones cut."""
    return ", ".join(name if len(name) <= 40 else f"{name[:39]}…" for name in names[:12])


def _same(name: str, wanted: str) -> bool:
    """Compare column names as people type them."""
    return " ".join(name.split()).casefold() == " ".join(wanted.split()).casefold()


def _quoted(name: str) -> str:
    """Return a column name as the command line takes it."""
    short = name[:40]
    return f"'{short}'" if " " in short else short
