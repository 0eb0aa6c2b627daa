"""The classes of a table and those of a model, matched by their names and never by their order."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import many

Unknown = Literal["error", "drop"]
UNKNOWN_CHOICES = ("error", "drop")


@dataclass(frozen=True)
class Matched:
    """What the labels of a table are called in a model.

    Attributes:
        names: Label of the table → class of the model.
        unknown: Labels that are no class of the model, sorted.
    """

    names: Mapping[str, str]
    unknown: tuple[str, ...]


def in_order_of(table: ScanTable, classes: Sequence[str], model: str = "the model") -> ScanTable:
    """Return a table whose classes stand in the order of a model's logits.

    Args:
        table: Its labels must be names of `classes`, letter by letter.
        classes: Class names of the model, in the order of its logits.
        model: What to call the model in messages.

    Raises:
        OctoscopeError: If a label is no class of the model.
    """
    classes = tuple(classes)
    if table.classes == classes:
        return table
    strange = sorted(set(table.frame["label"].dropna()) - set(classes))
    if strange:
        raise OctoscopeError(
            f"{table.root}: {_named(strange, table)} {_no_class(strange)} {model}, which knows "
            f"{', '.join(classes)}"
        )
    return replace(table, classes=classes)


def match_classes(
    table: ScanTable,
    classes: Sequence[str],
    *,
    renamed: Mapping[str, str] | None = None,
    unknown: Unknown = "error",
    model: str = "the model",
) -> ScanTable:
    """Call the labels of a table what a model calls them; its classes are then the model's.

    A label is a class if they are the same letter by letter, or but for case, spaces, hyphens and
    underscores where no other class of the model could be meant. Every difference is noted.

    Args:
        table: Labelled scans of any origin.
        classes: Class names of the model, in the order of its logits.
        renamed: Label of the table → class of the model, on the user's word.
        unknown: What to do with scans whose label is no class of the model: stop (``error``) or
            leave them out (``drop``), which is noted.
        model: What to call the model in messages.

    Raises:
        OctoscopeError: If a label is unknown to the model, or none is known; if `renamed` names a
            label or a class that does not exist.
    """
    if unknown not in UNKNOWN_CHOICES:
        raise OctoscopeError(
            f'unknown classes "{unknown}": is no choice{did_you_mean(unknown, UNKNOWN_CHOICES)}; '
            f"use {' or '.join(UNKNOWN_CHOICES)}"
        )
    counts = Counter(table.frame["label"].dropna())
    said = _as_said(table, counts, tuple(classes), renamed or {}, model)
    found = match_names(sorted(counts), classes, said)
    if found.unknown and (unknown == "error" or not found.names):
        raise OctoscopeError(_refusal(table, found, tuple(classes), model))
    lost = table.frame["label"].isin(found.unknown).to_numpy()
    labels = [found.names.get(label) for label in table.frame["label"]]
    matched = replace(table.noting(label=labels), classes=tuple(classes))
    notes = [
        f"{many(counts[label], 'scan')} labelled {label}: taken as {name}"
        f"{', as asked' if label in said else ', which is the same but for its spelling'}."
        for label, name in found.names.items()
        if label != name
    ]
    if lost.any():
        notes.append(
            f"{many(int(lost.sum()), 'scan')} left out, as asked: {_named(found.unknown, table)} "
            f"{_no_class(found.unknown)} {model}."
        )
        matched = matched.rows(np.flatnonzero(~lost))
    return matched.noting(*notes)


def match_names(
    labels: Sequence[str], classes: Sequence[str], said: Mapping[str, str] | None = None
) -> Matched:
    """Find for every label the class of a model that it names.

    Args:
        labels: Different labels.
        classes: Class names of the model.
        said: Label → class, taken as it is.
    """
    said = said or {}
    alike = Counter(folded(name) for name in classes)
    by_fold = {folded(name): name for name in classes if alike[folded(name)] == 1}
    names: dict[str, str] = {}
    for label in labels:
        if label in said:
            names[label] = said[label]
        elif label in classes:
            names[label] = label
        elif (name := by_fold.get(folded(label))) is not None:
            names[label] = name
    return Matched(names, tuple(sorted(set(labels) - set(names))))


def folded(name: str) -> str:
    """Return a name without case, and with one space for spaces, hyphens and underscores."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def _as_said(
    table: ScanTable,
    counts: Mapping[str, int],
    classes: tuple[str, ...],
    renamed: Mapping[str, str],
    model: str,
) -> dict[str, str]:
    """Check what the user says of labels, and return it with the names as they are written."""
    said: dict[str, str] = {}
    for label, name in renamed.items():
        to = match_names([name], classes).names.get(name)
        if to is None:
            raise OctoscopeError(
                f"classes {label}={name}: {name} is no class of {model}"
                f"{did_you_mean(name, classes)}, which knows {', '.join(classes)}"
            )
        own = match_names([label], sorted(counts)).names.get(label)
        if own is None:
            there = ", ".join(sorted(counts)) or "none"
            raise OctoscopeError(
                f"classes {label}={name}: no scan of {table.root} is labelled {label}"
                f"{did_you_mean(label, counts)} (labels there: {there})"
            )
        said[own] = to
    return said


def _refusal(table: ScanTable, found: Matched, classes: tuple[str, ...], model: str) -> str:
    """Say which labels a model does not know, and what can be done."""
    first = found.unknown[0]
    similar = [name for name in classes if folded(name) == folded(first)]
    if len(similar) > 1:
        which = f"could be {' or '.join(similar)} of {model}"
        return f"{table.root}: the label {first} {which}; say which with --classes {first}=CLASS"
    drop = f", or leave {'them' if len(found.unknown) > 1 else 'it'} out with "
    return (
        f"{table.root}: {_named(found.unknown, table)} {_no_class(found.unknown)} {model}, which "
        f"knows {', '.join(classes)}; name the class that is meant with --classes {first}=CLASS"
        f"{drop + '--unknown-classes drop' if found.names else ''}"
    )


def _named(labels: Sequence[str], table: ScanTable, most: int = 6) -> str:
    """Return "AMD (3 scans) and ERM (1 scan)"."""
    counts = Counter(table.frame["label"].dropna())
    parts = [f"{label} ({many(counts[label], 'scan')})" for label in labels[:most]]
    if len(labels) > most:
        parts.append(f"{len(labels) - most} more")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _no_class(labels: Sequence[str]) -> str:
    return "is no class of" if len(labels) == 1 else "are no classes of"
