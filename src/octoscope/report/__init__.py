"""Floor 4: figures and the self-contained HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def build_report(study: Path, *, notes: Sequence[str] = ()) -> Path:
    """Write ``report.html`` into a study folder, from the files that lie there, and return it.

    Args:
        study: The study folder.
        notes: What else is to be said of it, one sentence each.

    Raises:
        OctoscopeError: If it holds no study, or one of its files is damaged.
    """
    from octoscope.report.build import build_report as build  # heavy: imported when needed

    return build(study, notes=notes)
