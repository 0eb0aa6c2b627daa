"""The errors that a user can cause, each said in one sentence.

The command line prints the message of an `OctoscopeError` without a traceback and exits with 2.
A message names the file or value at fault and says what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class OctoscopeError(Exception):
    """A fault in what the user gave us: a file, a folder, an option, a table."""


class ScanError(OctoscopeError):
    """A file that cannot be read as a scan.

    Attributes:
        path: The file.
        reason: What is wrong with it, a clause without the file's name.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class PatientOverlapError(OctoscopeError):
    """A patient (or a copy of a scan) stands in more than one split."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the known name nearest to `wrong`, or ''."""
    near = difflib.get_close_matches(wrong[:80], list(known), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""
