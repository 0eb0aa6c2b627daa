"""Whether what a study folder holds belongs together, before any of it is shown side by side.

Every result says what it was made by. A result of another model or of other scans is refused, with
the command that makes it anew; one that was made by hand with other options than the study's is
shown, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from octoscope.errors import OctoscopeError
from octoscope.evaluation.predictions import PROBABILITY
from octoscope.files import digest_of, read_parquet
from octoscope.scans.table import SPLITS
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.stage import content_digest, read_object, read_or_none
from octoscope.training.saved import require_own_model

AGAIN = "run the study again"


def require_consistent(folder: Path) -> list[str]:
    """Require that the results in a study folder are of its models and scans.

    Args:
        folder: The study folder.

    Returns:
        A sentence on each result that was made by hand with other options than the study's, or
        that does not say what it was made by.

    Raises:
        OctoscopeError: Naming the first result that is of another model or other scans, and how it
            is made anew.
    """
    study = StudyFolder(folder)
    if not study.config.exists():
        raise OctoscopeError(
            f"{folder}: holds no study (study.json is missing); run octoscope study first"
        )
    about = read_object(study.config)
    _require_table(study, about)
    settings = about["config"] if about.get("until") == "report" else {}
    notes: list[str] = []
    for path in study.runs:
        notes += _of_run(RunFolder(path), about, settings)
    digests = read_object(study.trust).get("digests")
    for name, digest in (digests if isinstance(digests, dict) else {}).items():
        run = RunFolder(study.path / "runs" / name)
        if run.path.is_dir() and run.digest != digest:
            raise OctoscopeError(
                f"{study.trust}: compares a model {name} that is not the one there now; {AGAIN}, "
                f"or octoscope trust with all of {study.path / 'runs'}"
            )
    return notes


def _require_table(study: StudyFolder, about: Mapping[str, Any]) -> None:
    """Require the table of scans that study.json names."""
    known = about.get("table_file")
    if known and study.table.is_file() and content_digest(study.table) != known:
        raise OctoscopeError(
            f"{study.table}: is not the table that study.json names (it was changed or exchanged); "
            f"{AGAIN}"
        )


def _of_run(run: RunFolder, about: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Check the results of one run; return notes."""
    require_own_model(run.path, run.info)
    scans = run.info.get("cache_digest")
    if about.get("cache_digest", scans) != scans:
        raise OctoscopeError(
            f"{run.path}: was trained on other scans, labels, splits or framing than study.json "
            f"names; {AGAIN}, which says what differs"
        )
    resamples = {"resamples": settings.get("resamples")}
    trust = {**(settings.get("trust") or {}), **resamples}
    notes: list[str] = []
    for split in SPLITS:
        command = f"octoscope evaluate {run.path} --split {split}"
        notes += _result(run, run.metrics(split), command, resamples if split == "val" else {})
    notes += _result(run, run.localisation, f"octoscope explain {run.path}", resamples)
    notes += _result(run, run.trust, f"octoscope trust {run.path}", trust)
    _require_maps(run)
    _require_panels(run)
    return notes


def _result(run: RunFolder, path: Path, command: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Check one result with its ``made_by``; yield notes.

    Args:
        run: The run.
        path: The file.
        command: Makes it anew.
        settings: Those of the study, as far as the result depends on them; None where unknown.
    """
    if not path.is_file():
        return
    made, name = read_object(path).get("made_by"), path.relative_to(run.study.path)
    if not isinstance(made, dict):
        yield f"{name} does not say what it was made by (an earlier version made it)."
        return
    fault = None
    if made.get("model") != run.digest:
        fault = "is of another model than the one there now"
    elif made.get("cache") != run.info.get("cache_digest"):
        fault = "is of other scans, labels, splits or framing than the model was trained on"
    for file, digest in (made.get("files") or {}).items():
        if content_digest(path.parent / file) != digest:
            fault = fault or f"does not belong to {file} beside it (one of them was changed)"
    if fault:
        raise OctoscopeError(f"{path}: {fault}; {AGAIN}, or {command}")
    there = made.get("settings") or {}
    other = [
        f"{key} {there[key]} instead of {value}"
        for key, value in settings.items()
        if value is not None and key in there and digest_of(there[key]) != digest_of(value)
    ]
    if other:
        yield (
            f"{name} was made by hand with other options than the study's ({', '.join(other)}); "
            "the study, run again, makes it with its own."
        )


def _require_maps(run: RunFolder) -> None:
    """Require maps of the model and scans that are there."""
    attributes = read_object(run.maps / "zarr.json").get("attributes")
    about = attributes.get("about") if isinstance(attributes, dict) else None
    if not isinstance(about, dict):
        return  # none, or damaged, which the report says
    wanted = {"model": run.digest, "cache": run.info.get("cache_digest")}
    if any(about.get(key, value) != value for key, value in wanted.items()):
        raise OctoscopeError(
            f"{run.maps}: holds maps of another model or other scans than those there now; "
            f"{AGAIN}, or octoscope explain {run.path}"
        )


def _require_panels(run: RunFolder) -> None:
    """Require that the panels say of their scans what the predictions say."""
    panels = read_or_none(run.panels) or []
    try:
        frame = read_parquet(run.predictions("val")).set_index("scan")
        same = all(
            frame.loc[panel["scan"], "predicted"] == panel["predicted"]
            and all(
                abs(frame.loc[panel["scan"], PROBABILITY + name] - value) < 1e-9
                for name, value in panel["probabilities"].items()
            )
            for panel in panels
        )
    except FileNotFoundError:
        return
    except (KeyError, TypeError, AttributeError):
        same = False
    except (OSError, ValueError):  # not readable, which the report says
        return
    if not same:
        raise OctoscopeError(
            f"{run.panels}: shows scans or predictions that are not those of "
            f"{run.predictions('val').name}; {AGAIN}"
        )
