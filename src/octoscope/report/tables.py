"""Tables of a study, read for the report: a damaged one is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from octoscope.errors import OctoscopeError
from octoscope.files import explained_reading


def read_table(path: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    """Read a table.

    Args:
        path: The file.
        read: Reads it.

    Raises:
        OctoscopeError: If it cannot be read.
    """
    try:
        with explained_reading(path):
            return read(path)
    except OctoscopeError:
        raise
    except Exception as error:  # a parser of bytes from anywhere raises what it likes
        reason = str(error).strip().splitlines()
        raise OctoscopeError(
            f"{path}: is damaged ({reason[0][:120] if reason else type(error).__name__}); "
            "delete it, and octoscope study makes it anew"
        ) from None


def require_columns(
    path: Path, frame: pd.DataFrame, names: Iterable[str], *, numbers: Iterable[str]
) -> pd.DataFrame:
    """Require columns, and that some hold numbers; return the table.

    Raises:
        OctoscopeError: Naming the first column at fault.
    """
    lacking = [name for name in names if name not in frame.columns]
    odd = [
        name
        for name in numbers
        if name in frame.columns
        and (not is_numeric_dtype(frame[name]) or is_bool_dtype(frame[name]))
        and frame[name].notna().any()
    ]
    if lacking or odd:
        what = f"lacks the column {lacking[0]}" if lacking else f"{odd[0]} does not hold numbers"
        raise OctoscopeError(
            f"{path}: is damaged ({what}); delete it, and octoscope study makes it anew"
        )
    return frame
