"""`ScanTable`: which scans there are, whose they are, and what they are labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path, digest_of, inside, write_parquet

COLUMNS = ("path", "label", "patient", "eye", "visit", "split", "mask")
TEXT_COLUMNS = tuple(name for name in COLUMNS if name != "visit")
SPLITS = ("train", "val", "test")
EYES = ("OD", "OS")


@dataclass(frozen=True, eq=False)
class ScanTable:
    """A checked table with one row per scan.

    Attributes:
        frame: DataFrame with the columns ``path, label, patient, eye, visit, split, mask`` (and
            any others, kept as they are), index 0…N-1. All text columns hold ``str`` or None.
            `path` and `mask` are relative to `root`, with forward slashes; `split` is train,
            val, test or None; `visit` is a day number or missing.
        root: Folder that paths are relative to.
        classes: Class names in the order of the logits.
        layout: How the table came to be: ``kermany``, ``folders``, ``table``…
        notes: What was assumed or changed on the way, one sentence each, for the user to read.
        lesions: Mask value → lesion name (0 is background), empty where there are no masks.
    """

    frame: pd.DataFrame
    root: Path
    classes: tuple[str, ...]
    layout: str = "table"
    notes: tuple[str, ...] = ()
    lesions: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        root: Path,
        *,
        classes: Iterable[str] | None = None,
        layout: str = "table",
        notes: Iterable[str] = (),
        lesions: Mapping[int, str] | None = None,
    ) -> ScanTable:
        """Check a DataFrame and make it a table; missing optional columns are added empty.

        Args:
            frame: At least the column ``path``.
            root: Folder that ``path`` and ``mask`` are relative to.
            classes: Class order; by default the labels that occur, sorted.
            layout: Name of the layout it was read from.
            notes: Sentences for the user.
            lesions: Mask value → lesion name.

        Raises:
            OctoscopeError: If there is no ``path`` column or no row, a path stands twice or
                leads out of `root`, a split is not train, val or test, an eye is not OD or OS,
                a visit is not a number, or a label is not among `classes`.
        """
        if "path" not in frame.columns:
            raise OctoscopeError(f"{root}: the table has no column 'path'; add one")
        if frame.empty:
            raise OctoscopeError(f"{root}: holds no scans; point to a folder or table that does")
        frame = frame.reset_index(drop=True).copy()
        for column in COLUMNS:
            if column not in frame.columns:
                frame[column] = None
        for column in ("label", "patient", "eye", "split"):
            frame[column] = pd.Series([_text(v) for v in frame[column].tolist()], dtype=object)
        for column in ("path", "mask"):  # a file name may begin or end with a space
            frame[column] = pd.Series(
                [_text(v, strip=False) for v in frame[column].tolist()], dtype=object
            )
        short = frame["visit"].map(lambda day: len(str(day)) < 40)  # endless digits are no number
        visit = pd.to_numeric(frame["visit"].where(short), errors="coerce")
        days = visit.astype(float)
        visit = visit.where((np.abs(days) < 2**31) & (days == days.round()))
        _require(
            visit.notna() | frame["visit"].map(_text).isna(),
            frame,
            "visit",
            "is not a day number; count days from any fixed date",
        )
        frame["visit"] = pd.array(visit.round(), dtype="Int64")
        _require(frame["path"].notna(), frame, "path", "is empty; every row needs a path")
        _require(~frame["path"].duplicated(), frame, "path", "stands twice; keep one row of it")
        _require(
            frame["split"].isin(SPLITS) | frame["split"].isna(),
            frame,
            "split",
            "is not a split; use train, val or test",
        )
        _require(
            frame["eye"].isin(EYES) | frame["eye"].isna(),
            frame,
            "eye",
            "is not an eye; use OD or OS",
        )
        for column in ("path", "mask"):
            for value in frame[column].dropna():
                if ".." in value or ":" in value or value[0] in "/\\":  # the check itself is slow
                    inside(root, value)
        known = tuple(sorted(set(frame["label"].dropna()))) if classes is None else tuple(classes)
        _require(
            frame["label"].isin(known) | frame["label"].isna(),
            frame,
            "label",
            f"is not one of the classes {', '.join(known)}",
        )
        others = [c for c in frame.columns if c not in COLUMNS]
        return cls(
            frame[[*COLUMNS, *others]], root, known, layout, tuple(notes), dict(lesions or {})
        )

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScanTable) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def paths(self) -> list[Path]:
        """Full path of every scan, in row order."""
        return [self.root / p for p in self.frame["path"]]

    @property
    def mask_paths(self) -> list[Path | None]:
        """Full path of every lesion mask, None where there is none."""
        return [None if m is None else self.root / m for m in self.frame["mask"]]

    @property
    def targets(self) -> np.ndarray:
        """Class index of every scan ``(N,)`` int64, -1 where unlabelled."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index.get(v, -1) for v in self.frame["label"]], dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """Patient of every scan ``(N,)``, the unit that splits and bootstraps must not cut.

        Scans of unknown patients of one class count as *one* patient (``unknown:CLASS``): the
        only assumption that cannot leak or narrow an interval. `patients_assumed_distinct`
        makes the other assumption, on purpose and said in the notes.
        """
        return np.array(
            [
                f"unknown:{label}" if patient is None else patient
                for patient, label in zip(self.frame["patient"], self.frame["label"], strict=True)
            ],
            dtype=object,
        )

    def split(self, name: str) -> ScanTable:
        """Return the rows of one split.

        Raises:
            OctoscopeError: If no row carries it.
        """
        rows = self.frame["split"] == name
        if not rows.any():
            there = ", ".join(sorted(set(self.frame["split"].dropna()))) or "none"
            raise OctoscopeError(
                f'{self.root}: no scan is in split "{name}" (splits there: {there})'
            )
        return self.rows(np.flatnonzero(rows.to_numpy()))

    def rows(self, index: np.ndarray) -> ScanTable:
        """Return the rows at positions `index`, classes and notes unchanged."""
        return replace(self, frame=self.frame.iloc[index].reset_index(drop=True))

    def noting(self, *sentences: str, **columns: Iterable[object]) -> ScanTable:
        """Return a copy with more notes and with `columns` set to new values ``(N,)``."""
        plain = {  # left to itself, pandas would make strings of its own kind, where None is NaN
            name: pd.Series(list(values), dtype=object) if name in TEXT_COLUMNS else values
            for name, values in columns.items()
        }
        return replace(self, frame=self.frame.assign(**plain), notes=(*self.notes, *sentences))

    def patients_assumed_distinct(self) -> ScanTable:
        """Return a copy in which every scan without a patient id is a patient of its own."""
        unknown = self.frame["patient"].isna()
        if not unknown.any():
            return self
        invented = [
            f"scan:{path}" if patient is None else patient
            for path, patient in zip(self.frame["path"], self.frame["patient"], strict=True)
        ]
        return self.noting(
            f"{int(unknown.sum())} scans without a patient id are taken as that many patients, "
            "as asked; if some are of one patient, every interval is too narrow and splits leak.",
            patient=invented,
        )

    def digest(self) -> str:
        """Return 16 hex digits that change with any row, class or lesion name."""
        return digest_of(
            {
                "rows": self.frame[list(COLUMNS)]
                .astype(object)
                .where(self.frame[list(COLUMNS)].notna(), None)
                .values.tolist(),
                "classes": self.classes,
                "lesions": dict(self.lesions),
            }
        )

    def save(self, path: Path, *, findable: bool = False) -> None:
        """Write the rows as CSV or Parquet, chosen by suffix, atomically.

        Args:
            path: The file.
            findable: Write paths by which `load_table` finds the scans from where the table
                lies: relative to its folder if `root` is in there, else absolute. Without it,
                paths stay relative to `root`.
        """
        frame = self._findable_from(path.parent) if findable else self.frame
        with atomic_path(path) as temporary:
            if path.suffix == ".parquet":
                write_parquet(frame, temporary)
            else:
                frame.to_csv(temporary, index=False)

    def _findable_from(self, folder: Path) -> pd.DataFrame:
        """Return the rows with `path` and `mask` relative to `folder`, or absolute."""
        root = self.root.absolute()
        below = root.is_relative_to(folder.absolute())
        start = root.relative_to(folder.absolute()) if below else root
        columns = {
            column: [
                None if name is None else (start / name).as_posix() for name in self.frame[column]
            ]
            for column in ("path", "mask")
        }
        return self.frame.assign(**columns)


def _text(value: object, *, strip: bool = True) -> str | None:
    """Return a cell as text; empty and missing cells become None, 12.0 becomes '12'."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (str(value).strip() if strip else str(value)) or None


def _require(good: pd.Series, frame: pd.DataFrame, column: str, fault: str) -> None:
    """Raise an `OctoscopeError` that names the first row where `good` is false."""
    if not good.all():
        row = int(np.flatnonzero(~good.to_numpy(dtype=bool))[0])
        raise OctoscopeError(
            f"row {row + 1} of the table ({frame['path'].iloc[row]}): "
            f"{column} {frame[column].iloc[row]!r} {fault}"
        )
