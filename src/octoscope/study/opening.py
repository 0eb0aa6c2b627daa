"""Which scans a verb works on: a split of the study, or an external test set, opened on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.ledger import openings
from octoscope.scans.wording import many
from octoscope.study.elsewhere import OpenedRun
from octoscope.study.evaluate import evaluate_run, record_opening, rows_of
from octoscope.study.external import Reading, open_external
from octoscope.study.folder import RunFolder

UNSAID = "by command"
"""The reason that the ledger keeps where none was given."""


def evaluate_on(
    run: RunFolder,
    data: Path | None,
    reading: Reading,
    *,
    name: str | None = None,
    resamples: int = 2000,
    why: str = "",
) -> tuple[RunFolder, str, dict[str, Any]]:
    """Evaluate a run on a split of its study, or on an external test set.

    Args:
        run: A finished run.
        data: Folder or table of an external set; None for the study's own scans.
        reading: Its split, by default validation; and how an external set is read.
        name: What to call an external set.
        resamples: Bootstrap resamples of the patients.
        why: What test scans are opened for.

    Returns:
        The run as it was judged, the split, and the metrics.

    Raises:
        OctoscopeError: If an option is given that needs an external set; or as `open_external`.
    """
    if data is None:
        _require_data(reading, name)
        judged, cache = run, run.open_cache()
    else:
        judged, cache = open_external(run, data, reading, name=name)
    split = judged.split if judged.external else reading.split or judged.split
    metrics = evaluate_run(judged, cache, split=split, resamples=resamples, why=why or UNSAID)
    return judged, split, metrics


def open_scans(
    runs: Sequence[RunFolder],
    *,
    split: str | None = None,
    data: Path | None = None,
    name: str | None = None,
    why: str = "",
    record: bool = True,
) -> tuple[list[RunFolder], ScanCache]:
    """Return runs as they are explained and examined, and the cache of the scans.

    Opening the test split, of the study or of elsewhere, is recorded for every run. An external
    set that was evaluated before is read as it was then.

    Args:
        runs: Finished runs of one study.
        split: ``val`` (by default) or ``test``; None with `data`.
        data: Folder or table of an external test set.
        name: What the set is called, by default as its folder.
        why: What test scans are opened for.
        record: Whether this process is the one, of several, that writes to the ledger.

    Raises:
        OctoscopeError: If there is no such split; or as `open_external`.
    """
    if data is None and name is not None:
        raise OctoscopeError(f"--name {name}: names an external set; give its folder with --data")
    if data is not None and split is not None:
        raise OctoscopeError(
            "--split: an external set is taken as it was evaluated; leave it out with --data"
        )
    if data is None and split in (None, "val"):
        return list(runs), runs[0].open_cache()
    opened: list[RunFolder] = []
    if data is None:
        cache = runs[0].open_cache()
        rows_of(cache, "test")
        opened = [OpenedRun(run.path) for run in runs]
    else:
        pairs = [open_external(run, data, None, name=name) for run in runs]
        opened, cache = [run for run, _ in pairs], pairs[0][1]
        if not all(run.external for run in opened):  # the study's own scans in a new place
            return opened, cache
        for run, other in pairs[1:]:
            if other.digest != cache.digest:
                raise OctoscopeError(
                    f"{run.path}: sees these scans in another frame or order of classes than "
                    f"{opened[0].name}; examine it alone"
                )
    for run in opened if record else ():
        record_opening(run, cache, why or UNSAID)
    return opened, cache


def opening_sentence(run: RunFolder) -> str:
    """Say how often an external set was opened with the model of a run."""
    name = run.external["external"]
    times = sum(entry.get("external") == name for entry in openings(run.path))
    return f"The external set {name} was opened {'once' if times == 1 else many(times, 'time')}."


def _require_data(reading: Reading, name: str | None) -> None:
    """Refuse options that say how an external set is read where there is none."""
    plain = Reading(split=reading.split)
    options = {
        "layout": reading.layout != plain.layout,
        "columns": reading.columns is not None,
        "classes": bool(reading.classes),
        "unknown-classes": reading.unknown_classes != plain.unknown_classes,
        "unknown-patients": reading.unknown_patients != plain.unknown_patients,
        "on-overlap": reading.on_overlap != plain.on_overlap,
        "own-ids": reading.own_ids,
        "name": name is not None,
    }
    given = ", ".join(f"--{option}" for option, there in options.items() if there)
    if given:
        raise OctoscopeError(f"{given}: for scans from elsewhere; give them with --data")
