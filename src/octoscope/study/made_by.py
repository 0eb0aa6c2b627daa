"""What results were made by: the code of the formulas, as a digest of its source files.

Numbers and maps that another version of a formula made are not taken for those of this one. The
precedent is `octoscope.data.identity.decode_code`, for the pixels of a cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import octoscope
from octoscope.data.cache import ScanCache
from octoscope.files import digest_of
from octoscope.scans.table import ScanTable
from octoscope.study.folder import RunFolder
from octoscope.study.stage import content_digest

Work = Literal["audit", "evaluate", "explain", "localise", "trust", "report"]

EVALUATION = ("evaluation", "models/classifier.py", "models/preprocess.py", "study/evaluate.py")
MAPS = (
    "attribution",
    "models/attention.py",
    "models/classifier.py",
    "models/layers.py",
    "models/layout.py",
    "models/preprocess.py",
)

TRUST = tuple(
    f"study/{name}.py"
    for name in ("examined", "spread", "subject", "trust_costs", "trust_measures", "twin")
)

SOURCES: dict[Work, tuple[str, ...]] = {
    "audit": ("scans",),
    "evaluate": EVALUATION,
    "explain": MAPS,
    "localise": (*MAPS, "evaluation", "scans/geometry", "trust", "study/explain.py"),
    "trust": (*MAPS, "evaluation", "scans/geometry", "training", "trust", *TRUST),
    "report": ("report",),
}
"""Work → the code that decides its results, below the package's folder."""


@cache
def code_of(work: Work) -> str:
    """Return 16 hex digits that change with any source file which decides the results of `work`."""
    package = Path(octoscope.__file__).parent
    sources = hashlib.sha256()
    for name in SOURCES[work]:
        place = package / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            sources.update(file.relative_to(package).as_posix().encode() + b"\0")
            sources.update(file.read_bytes() + b"\0")
    return sources.hexdigest()[:16]


def maps_about(run: RunFolder, cache: ScanCache) -> dict[str, str]:
    """Return what the maps of a run are made of; a store of anything else is made anew."""
    return {"model": run.digest, "cache": cache.digest, "code": code_of("explain")}


def made_by(
    run: RunFolder, cache: ScanCache, settings: Mapping[str, Any], *files: Path
) -> Mapping[str, dict[str, Any]]:
    """Return the block ``made_by`` of a result: model, scans, settings, and its files by digest.

    Args:
        run: The run.
        cache: The scans.
        settings: Options that it was made with; JSON.
        *files: Tables that belong to the result, and lie beside it.
    """
    return {
        "made_by": {
            "model": run.digest,
            "cache": cache.digest,
            "settings": dict(settings),
            "files": {path.name: content_digest(path) for path in files},
        }
    }


def rows_digest(table: ScanTable) -> str:
    """Return 16 hex digits that change with any cell of a table, of further columns too."""
    frame = table.frame.astype(object)
    frame = frame.where(frame.notna(), None)
    return digest_of([list(frame.columns), frame.map(str).values.tolist(), table.digest()])
