"""What results were made by: the code of the formulas, as a digest of its source files.

Numbers and maps that another version of a formula made are not taken for those of this one. The
precedent is `octoscope.data.identity.decode_code`, for the pixels of a cache.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

import octoscope

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
