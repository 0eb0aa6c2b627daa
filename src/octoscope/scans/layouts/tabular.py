"""CSV and Parquet tables that name the scans."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.layouts import lesions
from octoscope.scans.layouts.tree import SPLIT_NAMES
from octoscope.scans.table import COLUMNS, TEXT_COLUMNS, ScanTable
from octoscope.scans.wording import first_of, headline, many, unknown_patients

SUFFIXES = (".csv", ".parquet")
USUAL_NAMES = ("table.csv", "table.parquet", "manifest.csv", "manifest.parquet")
MAX_BYTES = 2**30


def find(folder: Path) -> Path:
    """Return the one table of a folder.

    Raises:
        OctoscopeError: If there is none, or several.
    """
    there = [name for name in USUAL_NAMES if (folder / name).is_file()]
    if len(there) != 1:
        raise OctoscopeError(
            f"{folder}: holds {' and '.join(there) or 'no table.csv or manifest.csv'}; "
            "give the path of the table itself"
        )
    return folder / there[0]


def read(file: Path) -> ScanTable:
    """Read a table and check that every file it names is there.

    Paths are relative to the folder of the table; or all absolute, then to their common folder.

    Raises:
        OctoscopeError: If the table cannot be read, lacks the column ``path`` or names a file
            that is missing.
    """
    rows = read_rows(file)
    root, notes = file.parent, []
    if "label" not in rows:
        notes.append(f"{file.name} has no column 'label', so the scans are unlabelled.")
    absolute = rows["path"].map(os.path.isabs)
    if absolute.any():
        root, rows = _relative(file, rows, absolute)
        notes.append(f"paths are absolute; they are taken relative to {root}.")
    if "split" in rows:
        rows["split"] = rows["split"].map(
            lambda s: SPLIT_NAMES.get(s.lower(), s), na_action="ignore"
        )
    for column in ("path", "mask"):
        if column in rows:
            _require_files(file, root, rows[column])
    beside = {folder / lesions.NAME for folder in (file.parent, root)}
    names = lesions.read_lesions(sorted(path for path in beside if path.is_file()))
    table = ScanTable.from_frame(rows, root, layout="table", lesions=names)
    return table.noting(
        headline(f"a table ({file.name})", table.frame), *notes, *unknown_patients(table.frame)
    )


def read_rows(file: Path) -> pd.DataFrame:
    """Read the rows of a CSV or Parquet file; text columns as text (``007`` stays ``007``).

    Raises:
        OctoscopeError: If it is too large, damaged, or has no column ``path`` or no rows.
    """
    if file.stat().st_size > MAX_BYTES:
        raise OctoscopeError(f"{file}: is larger than {MAX_BYTES >> 20} MiB; split the table")
    try:
        rows = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    # Parsers of damaged tables raise errors of many kinds (Arrow, pandas, Unicode, csv).
    except Exception as error:
        detail = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise OctoscopeError(
            f"{file}: cannot be read as a table ({detail.rstrip('.')}); save it again as CSV"
        ) from error
    known = {column.strip().lower(): column for column in rows.columns}
    rows = rows.rename(columns={known[name]: name for name in COLUMNS if name in known})
    if "path" not in rows:
        raise OctoscopeError(
            f"{file}: has no column 'path'{did_you_mean('path', known)}; rename the column "
            f"that names the image files (there are: {', '.join(rows.columns[:12])})"
        )
    if rows.empty:
        raise OctoscopeError(f"{file}: has no rows; add one for each scan")
    empty = rows["path"].isna()
    if empty.any():
        raise OctoscopeError(
            f"{file}: row {int(empty.argmax()) + 1} has no path; fill it or remove it"
        )
    for column in ("path", "mask"):
        if column in rows:
            rows[column] = rows[column].map(_forward, na_action="ignore")
    return rows


def _forward(path: object) -> str:
    """Return a path with forward slashes and without a leading ``./``."""
    return str(path).replace("\\", "/").removeprefix("./")


def _csv(file: Path) -> pd.DataFrame:
    """Parse CSV separated by commas, semicolons or tabs."""
    with file.open(encoding="utf-8-sig") as lines:
        header = lines.readline()
    separator = max(",;\t", key=header.count)
    names = [name.strip().strip('"') for name in header.rstrip("\n").split(separator)]
    return pd.read_csv(
        file,
        sep=separator,
        encoding="utf-8-sig",
        dtype={name: str for name in names if name.lower() in TEXT_COLUMNS},
        keep_default_na=False,  # a class may be called NA or None
        na_values=[""],
        low_memory=False,
    )


def _parquet(file: Path) -> pd.DataFrame:
    """Parse Parquet; cells of text columns become text."""
    rows = pd.read_parquet(file)
    rows.columns = rows.columns.astype(str)
    for name in rows.columns:
        if name.strip().lower() in TEXT_COLUMNS:
            rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
    return rows.reset_index(drop=True)


def _relative(file: Path, rows: pd.DataFrame, absolute: pd.Series) -> tuple[Path, pd.DataFrame]:
    """Make absolute paths relative to the folder that they share."""
    if not absolute.all():
        raise OctoscopeError(
            f"{file}: has absolute paths and relative ones (row {int((~absolute).argmax()) + 1}); "
            "use one kind"
        )
    columns = [column for column in ("path", "mask") if column in rows]
    files = pd.concat([rows[column].dropna() for column in columns])
    root = Path(os.path.commonpath([os.path.dirname(name) for name in files]))  # noqa: PTH120
    for column in columns:
        rows[column] = rows[column].map(
            lambda name: _forward(os.path.relpath(name, root)), na_action="ignore"
        )
    return root, rows


def _require_files(file: Path, root: Path, paths: pd.Series) -> None:
    """Raise if a file is missing; each folder is listed once instead of asking for each file."""
    listings: dict[str, set[str]] = {}
    missing = []
    for path in paths.dropna():
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(root / folder))  # noqa: PTH208 (names only)
            except OSError:
                listings[folder] = set()
        if name not in listings[folder]:
            missing.append(path)
    if missing:
        raise OctoscopeError(
            f"{file}: names {many(len(missing), 'missing file')} "
            f"({first_of([str(root / path) for path in missing])}); put what is missing there or "
            "remove its rows"
        )
