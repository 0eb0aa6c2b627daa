"""An external test set: labelled scans from elsewhere, for a model that is trained already.

``RUN/external/NAME`` holds ``external.json`` (what the set is and how it was read), its cache,
predictions and metrics, and whatever else is measured on it. Everything is looked at before
anything is written: a refusal leaves no trace.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.classes import Unknown, match_classes
from octoscope.files import write_json
from octoscope.models.classifier import Classifier
from octoscope.progress import tell
from octoscope.scans.layouts import load_table
from octoscope.scans.splits.ready import OVERLAP_CHOICES
from octoscope.scans.table import ScanTable
from octoscope.scans.wording import first_of, many
from octoscope.study.contents import contents_digest, hashes_of, note_copies
from octoscope.study.copies import find_copies
from octoscope.study.elsewhere import EXTERNAL, ExternalRun
from octoscope.study.folder import RunFolder
from octoscope.study.leak import SEEN, Leak, Overlap, find_leak, settle_leak
from octoscope.study.moved import move_study, moved_root

LONGEST_NAME = 100

UNKNOWN_TRAINING = (
    "The scans that the model was trained on are not beside it, so that it cannot be known whether "
    "it has met some of these."
)


@dataclass(frozen=True)
class Reading:
    """How an external set is read.

    Attributes:
        layout: Layout of the data.
        columns: Which column of a table is which, as ``path=file_name,label=Disease``.
        split: Use the scans of one of its splits only; None for all.
        classes: Label of the data → class of the model, where they are called differently.
        unknown_classes: What to do with scans whose label is no class of the model.
        unknown_patients: Scans without a patient id are grouped by class, or taken as distinct.
        on_overlap: What to do with scans and patients that the model has met.
        own_ids: Patient ids that stand in the study too are of other people here.
    """

    layout: str = "auto"
    columns: str | None = None
    split: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    unknown_classes: Unknown = "error"
    unknown_patients: Literal["grouped", "distinct"] = "grouped"
    on_overlap: Overlap = "error"
    own_ids: bool = False


def open_external(
    run: RunFolder, data: Path, reading: Reading | None = None, *, name: str | None = None
) -> tuple[RunFolder, ScanCache]:
    """Read an external test set for a run, or find it read.

    Args:
        run: A finished run.
        data: Folder or table of labelled scans.
        reading: How to read it; by default as it was read before, or else by `Reading()`.
        name: What to call it; by default as its folder.

    Returns:
        The run on this set, and the set's cache in the model's frame, its classes in the order of
        the model's logits. If the data are the study's own scans, which are gone from where they
        were: the run as it is, and the cache of its study, which knows the new place from then on.

    Raises:
        OctoscopeError: If classes do not match, no scan is labelled or readable, the model has
            met some of the scans, or a set of this name holds other scans.
    """
    place = ExternalRun(run.path, set_name=_name(data, reading, name), data=str(data.absolute()))
    known = place.known
    if reading is None:
        reading = Reading(**known["reading"]) if known else Reading()
    classifier = Classifier.load(run.model)
    table = _labelled(_whole(data, reading), data, reading, classifier, run.name)
    hashes = hashes_of(table)
    study = _study_of(run)
    same: set[str] = set()
    if study is None:
        table = table.noting(UNKNOWN_TRAINING)
    else:
        if (root := moved_root(table, hashes, study)) is not None:
            return RunFolder(run.path), move_study(run, study, root)
        leak = find_leak(table, hashes, study, own_ids=reading.own_ids)
        same = set(table.frame.loc[leak.scans, "path"])
        by_path = dict(zip(table.frame["path"], hashes, strict=True))
        table = settle_leak(table, leak, reading.on_overlap, run.name)
        hashes = [by_path[path] for path in table.frame["path"]]
    table = table.noting(*note_copies(table, hashes))
    digest = contents_digest(table, hashes)
    if known is not None and known["model_digest"] != place.digest:
        raise OctoscopeError(
            f"{place.results}: holds the results of another model, for {run.name} was trained anew "
            "since; delete that folder, or call this set otherwise with --name"
        )
    if known is not None and known["digest"] != digest:
        raise OctoscopeError(
            f"{place.results}: holds the results of other scans or labels ({known['data']}, "
            f"{many(known['n_scans'], 'scan')}); call this set otherwise with --name, or delete "
            "that folder"
        )
    _tell(table.notes)
    framing = classifier.preprocess.framing
    with _undone_on_refusal(place.results):
        cache = ScanCache.build(table, framing, place.results / "cache")
        left = None if study is None else _without_copies(cache, study, same, reading, run.name)
        if left is not None:
            # Copies stay in the cache, in no split: what it holds does not hang on the choice.
            kept, said = set(left.frame["path"]), left.notes[len(cache.table.notes) :]
            split = ["test" if path in kept else None for path in table.frame["path"]]
            table = table.noting(*said, split=split)
            _tell(said)
            cache = ScanCache.build(table, framing, place.results / "cache")
    levels = cache.framing.levels
    if levels is not None and levels != classifier.preprocess.framing.levels:
        tell(f"· The model knows no grey levels of such files. {levels.describe()}")
    for fault in cache.quarantined:
        tell(f"· {fault['path']}: {fault['reason']} (set aside)", "yellow")
    _describe(place, reading, table, cache, digest)
    return place, cache


def _name(data: Path, reading: Reading | None, name: str | None) -> str:
    """Return the name of a set.

    Raises:
        OctoscopeError: If it could not be a folder's.
    """
    if name is None:
        resolved = data.resolve()
        name = resolved.stem if resolved.is_file() else resolved.name
        name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:LONGEST_NAME] or "external"
        if reading is not None and reading.split is not None:
            name += f"-{reading.split}"
    if not re.fullmatch(r"\w[\w. -]*", name) or len(name.encode()) > 2 * LONGEST_NAME:
        raise OctoscopeError(
            f'name "{name}": becomes the name of a folder; use letters, digits, dots and hyphens, '
            f"{LONGEST_NAME} at most, a letter or digit first"
        )
    return name


def _whole(data: Path, reading: Reading) -> ScanTable:
    """Return the scans of a set, as its own table has them, all or those of one split."""
    if reading.on_overlap not in OVERLAP_CHOICES:
        raise OctoscopeError(
            f'on_overlap "{reading.on_overlap}": is no choice; use {", ".join(OVERLAP_CHOICES)}'
        )
    table = load_table(data, reading.layout, reading.columns)
    if reading.split is not None:
        table = table.split(reading.split)
    if reading.unknown_patients == "distinct":
        table = table.patients_assumed_distinct()
    return table


def _labelled(
    table: ScanTable, data: Path, reading: Reading, classifier: Classifier, run: str
) -> ScanTable:
    """Return the labelled scans, called as the model calls its classes, all in the test split."""
    bare = table.frame["label"].isna().to_numpy()
    if bare.all():
        raise OctoscopeError(
            f"{data}: no scan is labelled, so nothing can be measured on them; for the "
            "probabilities use octoscope predict"
        )
    if bare.any():
        first = first_of(table.frame.loc[bare, "path"].tolist())
        table = table.rows(np.flatnonzero(~bare)).noting(
            f"{many(int(bare.sum()), 'scan')} without a label left out ({first})."
        )
    table = match_classes(
        table,
        classifier.classes,
        renamed=reading.classes,
        unknown=reading.unknown_classes,
        model=run,
    )
    return table.noting(split=["test"] * len(table))


def _study_of(run: RunFolder) -> ScanCache | None:
    """Return the cache that a run was trained on, None where it is not beside it."""
    try:
        return run.open_cache()
    except OctoscopeError:
        return None


def _without_copies(
    cache: ScanCache, study: ScanCache, same: Collection[str], reading: Reading, run: str
) -> ScanTable | None:
    """Return the scans that are left without those that show what the model was trained on.

    Args:
        cache: The scans.
        study: Those of the study.
        same: Paths of those that are the same byte by byte, and are settled already.
        reading: What to do with copies.
        run: Name of the run.

    Returns:
        The scans, with a note; None if there are no copies.

    Raises:
        PatientOverlapError: If there are, and it is not said what to do with them.
    """
    seen = np.flatnonzero(study.table.frame["split"].isin(SEEN))
    copies = find_copies(cache.images, study.images[seen])
    copies &= ~cache.table.frame["path"].isin(same).to_numpy()
    if not copies.any():
        return None
    return settle_leak(cache.table, Leak.of_copies(copies), reading.on_overlap, run)


@contextmanager
def _undone_on_refusal(folder: Path) -> Iterator[None]:
    """Remove a folder that is made in the block, if the block does not end well."""
    new = not folder.exists()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.parent.is_dir() and not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        raise


def _describe(
    place: ExternalRun, reading: Reading, table: ScanTable, cache: ScanCache, digest: str
) -> None:
    """Write what the set is, unless that is what stands there."""
    about: dict[str, Any] = {
        "name": place.set_name,
        "data": place.data,
        "root": str(table.root.resolve()),
        "digest": digest,
        "reading": asdict(reading),
        "classes": list(table.classes),
        "n_scans": int((cache.table.frame["split"] == "test").sum()),
        "unreadable": cache.quarantined,
        "notes": list(table.notes),
        "model_digest": place.digest,
    }
    if place.known != about:
        write_json(place.about, about)


def _tell(notes: Sequence[str]) -> None:
    """Say notes of a table, in red where something was overridden."""
    for note in notes:
        tell(f"· {note}", "red" if note.startswith("OVERRIDE") else "dim")


def sets_of(run: RunFolder) -> list[str]:
    """Return the names of the external sets that a run was opened on."""
    return sorted(path.parent.name for path in run.path.glob(f"{EXTERNAL}/*/external.json"))
