"""CSV and Parquet tables that name the scans."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from octoscope.errors import OctoscopeError
from octoscope.files import read_parquet
from octoscope.scans.layouts import cells, lesions
from octoscope.scans.layouts.columns import name_columns, names_paths, parse_columns
from octoscope.scans.layouts.csv_text import read_csv
from octoscope.scans.layouts.locate import forward, locate, refuse_outside
from octoscope.scans.layouts.tree import lies_in
from octoscope.scans.table import COLUMNS, ScanTable
from octoscope.scans.wording import headline, many, unknown_patients

SUFFIXES = (".csv", ".parquet", ".tsv")
USUAL_NAMES = ("table.csv", "table.parquet", "manifest.csv", "manifest.parquet")
MAX_BYTES = 2**28
MAX_ROWS = 10_000_000

NOT_TABLES = {".xlsx": "an Excel file", ".xls": "an Excel file", ".ods": "a spreadsheet"}
"""Files that hold tables but are not read."""


def find(folder: Path) -> Path:
    """Return the one table of a folder.

    Raises:
        OctoscopeError: If there is none, or several.
    """
    own = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name.lower().endswith(SUFFIXES) and lies_in(entry, folder)
    )
    there = [name for name in USUAL_NAMES if name in own] or own
    if len(there) != 1:
        raise OctoscopeError(
            f"{folder}: holds {' and '.join(there[:4]) or 'no table.csv or manifest.csv'}; "
            "give the path of the table itself"
        )
    return folder / there[0]


def read(file: Path, columns: str | Mapping[str, str] | None = None) -> ScanTable:
    """Read a table and find every file it names.

    Paths are relative to the folder of the table; or all absolute, then to their common folder.

    Args:
        file: The table.
        columns: Names of its columns, see `octoscope.scans.layouts.columns.parse_columns`.

    Raises:
        OctoscopeError: If the table cannot be read, lacks the column ``path`` or names a file
            that is missing.
    """
    mapping = parse_columns(columns)
    rows, notes = read_rows(file, mapping)
    if "label" not in rows:
        notes.append(f"{file.name} has no column 'label', so the scans are unlabelled.")
    try:
        root, rows, more = _located(file, rows)
        rows, yet_more = without_repeats(rows)
    except OctoscopeError as error:
        raise OctoscopeError(f"{file}: {error}") from None
    beside = {folder / lesions.NAME for folder in (file.parent, root)}
    names = lesions.read_lesions(
        sorted(path for path in beside if path.is_file() and lies_in(path, path.parent))
    )
    table = ScanTable.from_frame(rows, root, layout="table", lesions=names)
    return table.noting(
        headline(f"a table ({file.name})", table.frame),
        *notes,
        *more,
        *yet_more,
        *unknown_patients(table.frame),
    )


def read_rows(
    file: Path, mapping: Mapping[str, str], *, quote: bool = True
) -> tuple[pd.DataFrame, list[str]]:
    """Read the rows of a CSV or Parquet file into our columns; others follow as they are.

    Args:
        file: The table.
        mapping: Which column is which, as the user says.
        quote: Whether an error may quote the file. A table that was found beside scans may be a
            link to something that is none.

    Returns:
        Rows with text columns as text (``007`` stays ``007``), missing cells None, paths with
        forward slashes; notes.

    Raises:
        OctoscopeError: If it is too large, damaged, or has no column ``path`` or no rows.
    """
    raw, notes = _raw(file, mapping, quote)
    try:
        rows, more = name_columns(raw, mapping, quote=quote)
        if rows.empty:
            raise OctoscopeError("has no rows; add one for each scan")
        rows, yet_more = _meanings(rows)
    except OctoscopeError as error:
        fault = str(error) if quote else "does not name scans as a table should"
        raise OctoscopeError(f"{file}: {fault}") from None
    return rows, [*notes, *more, *yet_more]


def _raw(file: Path, mapping: Mapping[str, str], quote: bool) -> tuple[pd.DataFrame, list[str]]:
    """Read the cells of a file as text."""
    try:
        if file.suffix.lower() == ".parquet":
            return _parquet(file), []
        if file.stat().st_size > MAX_BYTES:
            raise OctoscopeError(f"it is larger than {MAX_BYTES >> 20} MiB")
        return read_csv(file, lambda header: names_paths(header, mapping))
    # Parsers of damaged tables raise errors of many kinds (Arrow, pandas, Unicode, csv).
    except Exception as error:
        detail = next(iter(str(error).splitlines()), "") or type(error).__name__
        detail = f" ({detail.rstrip('.')})" if quote else ""
        raise OctoscopeError(
            f"{file}: cannot be read as a table{detail}; save it again as CSV"
        ) from None


def _parquet(file: Path) -> pd.DataFrame:
    """Read Parquet, an index with a name among the columns; cells become text.

    Raises:
        OctoscopeError: If it holds too much, or cells that are no text.
    """
    with file.open("rb") as content:
        about = pq.ParquetFile(content).metadata
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if about.num_rows > MAX_ROWS or size > 4 * MAX_BYTES:
        raise OctoscopeError(f"it holds {about.num_rows:,} rows in {size >> 20:,} MiB, too much")
    frame = read_parquet(file)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    texts = [
        cells.as_text(frame.iloc[:, at].astype(object).tolist(), _plain(name))
        for at, name in enumerate(frame.columns)
    ]
    names = [str(name).strip() for name in frame.columns]
    done = pd.DataFrame(dict(enumerate(texts)), dtype=object)
    return done.set_axis(names, axis=1)


def _plain(name: object) -> str:
    """Return the name of a column as `cells` knows it."""
    return str(name).strip().lower()


def _meanings(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Bring every column to the one spelling that the product uses.

    Raises:
        OctoscopeError: If a cell has no meaning, or a row no path.
    """
    notes: list[str] = []
    done: dict[str, object] = {}
    for name in rows.columns:
        given: cells.Cells = rows[name].tolist()
        if name in ("path", "mask"):
            done[name] = [None if cell is None else forward(cell) for cell in given]
            continue
        if name not in COLUMNS:
            done[name] = cells.other(given)
            continue
        given, more = cells.clean(given, name)
        notes += more
        if (meaning := MEANINGS.get(name)) is not None:
            given, more = meaning(given)
            notes += more
        done[name] = given
    frame = pd.DataFrame(
        {n: pd.Series(v, dtype=object) if n in COLUMNS else v for n, v in done.items()}
    )
    empty = frame["path"].isna()
    if empty.any():
        raise OctoscopeError(f"row {int(empty.argmax()) + 1} has no path; fill it or remove it")
    return frame, notes


MEANINGS: dict[str, Callable[[cells.Cells], tuple[cells.Cells, list[str]]]] = {
    "label": cells.labels,
    "patient": lambda given: (given, cells.note_near_patients(given)),
    "split": lambda given: (cells.splits(given), []),
    "eye": lambda given: (cells.eyes(given), []),
    "visit": cells.visits,
}
"""Column → what its cells are brought to, and notes."""


def without_repeats(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one of the rows that say the same of the same file.

    Raises:
        OctoscopeError: If two rows say different things of one file.
    """
    again = rows["path"].duplicated()
    if not again.any():
        return rows, []
    own = [column for column in COLUMNS if column in rows]
    for name in own:
        several = rows.groupby("path")[name].agg(lambda cell: len({*cell}))
        if (several > 1).any():
            path = several.index[(several > 1).argmax()]
            said = sorted({str(cell) for cell in rows.loc[rows["path"] == path, name]})
            raise OctoscopeError(
                f"{path} stands twice, with {name} {' and '.join(said[:3])}; keep one row of it"
            )
    note = f"{many(int(again.sum()), 'row')} that repeat another: left out."
    return rows[~again].reset_index(drop=True), [note]


def _located(file: Path, rows: pd.DataFrame) -> tuple[Path, pd.DataFrame, list[str]]:
    """Find the files of the columns of paths; return the folder they are relative to."""
    columns = [
        column for column in ("path", "mask") if column in rows and rows[column].notna().any()
    ]
    absolute = rows["path"].map(os.path.isabs)
    root = file.parent
    notes: list[str] = []
    if absolute.any():
        if not absolute.all():
            raise OctoscopeError(
                f"has absolute paths and relative ones (row {int((~absolute).argmax()) + 1}); "
                "use one kind"
            )
        root, rows, notes = _below_common(root, rows, columns)
    for column in columns:
        found, more = locate(root, rows[column].tolist(), column)
        rows[column] = pd.Series(found, dtype=object)
        notes += more
    return root, rows, notes


def _below_common(
    folder: Path, rows: pd.DataFrame, columns: list[str]
) -> tuple[Path, pd.DataFrame, list[str]]:
    """Make absolute paths relative to the folder that they share, if that is here at all."""
    files = [path for column in columns for path in rows[column].dropna()]
    refuse_outside((path.lstrip("/") for path in files), Path("/"))
    if not all(map(os.path.isabs, files)):
        raise OctoscopeError("has absolute paths in one column and relative ones in another")
    files = [os.path.normpath(path) for path in files]
    root = Path(os.path.commonpath([os.path.dirname(path) for path in files]))  # noqa: PTH120
    if not _is_folder(root):
        return folder, rows, []  # of another machine; `locate` looks for them below the table
    for column in columns:
        below = [None if p is None else forward(os.path.relpath(p, root)) for p in rows[column]]
        rows[column] = pd.Series(below, dtype=object)
    return root, rows, [f"paths are absolute; they are taken relative to {root}."]


def _is_folder(path: Path) -> bool:
    """Say whether a path is a folder; a name that is too long is none."""
    try:
        return path.is_dir()
    except OSError:
        return False
