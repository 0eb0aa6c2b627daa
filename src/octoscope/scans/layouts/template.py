"""Layouts that the user spells out: ``--layout '{split}/{class}/{patient}/*'``."""

from __future__ import annotations

import re

import pandas as pd

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.layouts.names import eye_of, split_in
from octoscope.scans.layouts.tree import Tree, stem
from octoscope.scans.wording import first_of, many

FIELDS = {
    "class": "label",
    "label": "label",
    "patient": "patient",
    "split": "split",
    "eye": "eye",
    "visit": "visit",
}
"""Field of a template → column of the table."""

TOKEN = re.compile(r"\{([^{}/]*)\}|(\*\*/)|(\*)|([^{}*]+)|([{}])")
MOST_WILDCARDS = 12
HELP = "write one like '{split}/{class}/{patient}/*', where * is the name of a file or folder"


def is_template(layout: str) -> bool:
    """Say whether a layout is a template rather than a name."""
    return any(mark in layout for mark in "{}*/")


def compile_template(layout: str) -> re.Pattern[str]:
    """Return the pattern of a path below the folder, without the ending of the file.

    Raises:
        OctoscopeError: If a field is unknown, the braces do not close, or it names no field.
    """
    pattern, known = "", set()
    wildcards = 0
    for match in TOKEN.finditer(layout.strip("/")):
        name, deep, _, text, odd = match.groups()
        if odd is not None:
            raise OctoscopeError(f"layout '{layout}': a brace is missing; {HELP}")
        if name is not None:
            if name.strip().lower() not in FIELDS:
                raise OctoscopeError(
                    f"layout '{layout}': {{{name}}} is not a field{did_you_mean(name, FIELDS)}; "
                    f"the fields are {', '.join(FIELDS)}"
                )
            column = FIELDS[name.strip().lower()]
            again = column in known
            pattern += f"(?P={column})" if again else f"(?P<{column}>[^/]+?)"
            known.add(column)
        elif text is not None:
            pattern += re.escape(text)
        else:
            pattern += "(?:[^/]+/)*" if deep else "[^/]*?"
        wildcards += text is None
    if not known:
        raise OctoscopeError(f"layout '{layout}': names no field; {HELP}")
    if wildcards > MOST_WILDCARDS:
        raise OctoscopeError(f"layout '{layout}': has more than {MOST_WILDCARDS} fields; {HELP}")
    return re.compile(pattern, re.IGNORECASE)


def read_paths(tree: Tree, layout: str) -> tuple[pd.DataFrame, list[str]]:
    """Read the columns of a table from the paths of the images.

    Returns:
        Columns path, label, patient, eye, visit and split; notes on images that do not fit.

    Raises:
        OctoscopeError: If no image fits, or a split or eye is none.
    """
    pattern = compile_template(layout)
    rows, unfit = [], []
    for path in tree.images:
        match = pattern.fullmatch(stem(path))
        if match is None:
            unfit.append(path)
        else:
            rows.append({"path": path, **match.groupdict()})
    if not rows:
        raise OctoscopeError(
            f"{tree.root}: no image lies as the layout '{layout}' says (first: {tree.images[0]})"
            f"{_advice(pattern, layout, tree.images[0])}; {HELP}"
        )
    frame = pd.DataFrame(rows)
    for column in ("label", "patient", "eye", "visit", "split"):
        if column not in frame:
            frame[column] = None
    for column, meaning, known in (
        ("split", _split_of, "train, val or test"),
        ("eye", eye_of, "OD or OS"),
    ):
        if frame[column].isna().all():
            continue
        for name in frame[column].unique():
            if meaning(name) is None:
                raise OctoscopeError(
                    f"{tree.root}: layout '{layout}' takes {name!r} for the {column}, which is not "
                    f"{known}; use * there if it says something else"
                )
        frame[column] = frame[column].map(meaning)
    notes = []
    if unfit:
        notes.append(
            f"{many(len(unfit), 'image')} left out, as they do not lie as '{layout}' says "
            f"({first_of(unfit)})."
        )
    return frame.astype(object), notes


def _split_of(name: str) -> str | None:
    """Return the split that a folder's name says."""
    found = split_in(name)
    return found[0] if found else None


def _advice(pattern: re.Pattern[str], layout: str, path: str) -> str:
    """Propose ``/*`` at the end if the template has no place for the file."""
    fits = pattern.fullmatch(path.rpartition("/")[0]) is not None
    return f"; did you mean '{layout.rstrip('/')}/*'?" if fits else ""
