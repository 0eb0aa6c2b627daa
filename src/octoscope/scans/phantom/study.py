"""Writing a whole synthetic study: patients, splits, images, masks and what is true of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from octoscope.errors import OctoscopeError
from octoscope.files import atomic_folder, digest_of, read_json, write_json
from octoscope.partial import ending, leave_with_parent
from octoscope.progress import track
from octoscope.scans.phantom.bscan import Acquisition, draw_acquisition, positions, render
from octoscope.scans.phantom.cut import cut_eye, lesion_area
from octoscope.scans.phantom.diseases import CLASSES, HALLMARKS
from octoscope.scans.phantom.lesions import LESION_VALUES
from octoscope.scans.phantom.patient import Eye, draw_eye
from octoscope.scans.phantom.plan import PlannedScan, plan_study
from octoscope.scans.phantom.shortcut import Shortcut
from octoscope.scans.table import SPLITS, ScanTable

GENERATOR = 2
"""Raised whenever the same options would give other pictures."""

MANIFEST = "manifest.csv"
DESCRIPTION = "phantom.json"

LEAST_AREA = 0.015
"""Area in mm² of what makes the diagnosis that a scan shows at least, if a cut of eight does."""


@dataclass(frozen=True)
class Task:
    """All scans of one patient, the unit of work of a process."""

    scans: tuple[PlannedScan, ...]
    folder: str
    height: int
    width: int
    shortcut: Shortcut | None


NO_GUARD = "the calling script has no `if __name__ == '__main__':` line; mend that or use workers=1"


def write_study(
    out: Path,
    *,
    patients: int = 60,
    scans_per_patient: int = 8,
    height: int = 256,
    width: int = 384,
    seed: int = 0,
    severity: tuple[float, float] = (0.3, 1.0),
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    both_classes: float = 0.05,
    shortcut: Shortcut | None = None,
    layout: str = "kermany",
    workers: int | None = None,
) -> ScanTable:
    """Write phantom B-scans with masks in Kermany layout, or find them written already.

    Files: ``images/{train,val,test}/CLASS/CLASS-patient-n.png``, ``masks/`` likewise,
    ``lesions.json``, ``manifest.csv``, ``phantom.json``. The folder appears when it is whole. The
    same options give the same bytes, whatever the number of workers.

    Args:
        out: Folder to make.
        patients: Patients, shared evenly by the four classes; splits are by patient.
        scans_per_patient: B-scans of each.
        height: Rows.
        width: Columns.
        seed: Of everything.
        severity: Interval from which the severity of each diseased patient is drawn.
        fractions: Of patients in train, val and test.
        both_classes: Share of diseased patients whose last scan is of their healthy other eye.
        shortcut: An artefact to plant.
        layout: Only "kermany".
        workers: Processes; None uses all cores.

    Returns:
        The table of the study.

    Raises:
        OctoscopeError: If an option is out of range or `out` holds something else.
    """
    config: dict[str, Any] = {
        "generator": GENERATOR,
        "patients": patients,
        "scans_per_patient": scans_per_patient,
        "height": height,
        "width": width,
        "seed": seed,
        "severity": list(severity),
        "fractions": list(fractions),
        "both_classes": both_classes,
        "shortcut": None if shortcut is None else asdict(shortcut),
        "layout": layout,
    }
    _check(config)
    if workers is not None and workers < 1:
        raise OctoscopeError(f"phantom workers {workers} is too few; use 1 or more")
    if _already_written(out, config):
        return read_study(out)
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker that is importing the script would write what it was started to help with.
        raise OctoscopeError(f"phantoms are not written here because {NO_GUARD}")
    plan = plan_study(
        patients, scans_per_patient, seed, severity, fractions, both_classes, shortcut
    )
    with atomic_folder(out) as folder:
        for scan in plan:
            for part in ("images", "masks"):
                (folder / part / scan.name).parent.mkdir(parents=True, exist_ok=True)
        tasks = [
            Task(tuple(s for s in plan if s.patient == name), str(folder), height, width, shortcut)
            for name in dict.fromkeys(s.patient for s in plan)
        ]
        rows: list[dict[str, Any]] = []
        for done in track(_run(tasks, workers), "Phantoms", total=len(tasks)):
            rows += done
        frame = pd.DataFrame(rows).sort_values("path", ignore_index=True)
        frame.to_csv(folder / MANIFEST, index=False)
        lesions = {"0": "background"} | {str(v): name for name, v in LESION_VALUES.items()}
        write_json(folder / "lesions.json", lesions)
        write_json(folder / DESCRIPTION, _description(config, frame))
    if not _already_written(out, config):
        raise OctoscopeError(f"{out}: came to hold something else while it was being written")
    return read_study(out)


def read_study(out: Path) -> ScanTable:
    """Return the table of a study that `write_study` wrote.

    Raises:
        OctoscopeError: If `out` holds no such study.
    """
    if not (out / MANIFEST).is_file():
        raise OctoscopeError(f"{out}: holds no {MANIFEST}; write the study with octoscope phantom")
    frame = pd.read_csv(out / MANIFEST, dtype={"patient": str})
    lesions = {value: name for name, value in LESION_VALUES.items()}
    return ScanTable.from_frame(frame, out, classes=CLASSES, layout="kermany", lesions=lesions)


def _check(config: dict[str, Any]) -> None:
    """Raise an `OctoscopeError` that names the first option out of range."""
    if config["layout"] != "kermany":
        raise OctoscopeError(f'phantom layout "{config["layout"]}" is unknown; use "kermany"')
    if config["patients"] < 3 * len(CLASSES):
        raise OctoscopeError(
            f"{config['patients']} patients are too few: each of the {len(CLASSES)} classes needs "
            f"one in train, val and test; ask for at least {3 * len(CLASSES)}"
        )
    for name, least, most in (
        ("scans_per_patient", 1, 10_000),
        ("height", 64, 4096),
        ("width", 64, 8192),
    ):
        if not least <= config[name] <= most:
            raise OctoscopeError(f"phantom {name} {config[name]} is not in {least} … {most}")
    low, high = config["severity"]
    if not 0 < low <= high <= 1:
        raise OctoscopeError(f"phantom severity {low} … {high} is not an interval within 0 … 1")
    shares = config["fractions"]
    if len(shares) != len(SPLITS) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise OctoscopeError(
            f"phantom fractions {shares} are not three positive shares that sum to 1"
        )
    if not 0 <= config["both_classes"] <= 1:
        raise OctoscopeError(f"phantom both_classes {config['both_classes']} is not in 0 … 1")


def _already_written(out: Path, config: dict[str, Any]) -> bool:
    """Say whether `out` holds the very study asked for; refuse if it holds anything else."""
    if out.exists() and not out.is_dir():
        raise OctoscopeError(f"{out}: is a file, not a folder; choose another name")
    if not out.exists() or not any(out.iterdir()):
        return False
    if not (out / DESCRIPTION).is_file():
        raise OctoscopeError(f"{out}: holds something else; choose a new folder for the phantoms")
    description = read_json(out / DESCRIPTION)
    there = description.get("config") if isinstance(description, dict) else None
    there = there if isinstance(there, dict) else {}
    if digest_of(there) != digest_of(config):
        differs = [name for name in config if digest_of(there.get(name)) != digest_of(config[name])]
        raise OctoscopeError(
            f"{out}: holds phantoms written with other options ({', '.join(differs)} differ); "
            "choose a new folder or delete it"
        )
    return True


def _run(tasks: list[Task], workers: int | None) -> Iterator[list[dict[str, Any]]]:
    """Yield the manifest rows of every task, in order, from as many processes as are useful."""
    scans = sum(len(task.scans) for task in tasks)
    # A process takes a second to start, so a small study is faster in this one.
    wanted = min(_cores(), 1 + scans // 100) if workers is None else workers
    if wanted <= 1:
        yield from map(write_patient, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(wanted, len(tasks)), mp_context=context, initializer=leave_with_parent
    )
    try:
        with ending(pool):
            yield from pool.map(write_patient, tasks)
    except BrokenProcessPool as error:
        raise OctoscopeError(
            f"a process that writes phantoms died, for want of memory or because {NO_GUARD}"
        ) from error


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_patient(task: Task) -> list[dict[str, Any]]:
    """Render and write the scans of one patient; return their rows of the manifest."""
    folder = Path(task.folder)
    eyes: dict[int, Eye] = {}
    rows = []
    for scan in task.scans:
        if scan.eye_seed not in eyes:
            eyes[scan.eye_seed] = draw_eye(
                scan.patient,
                scan.label,
                scan.severity,
                scan.eye_seed,
                laterality=scan.laterality,
                device=scan.device,
            )
        eye = eyes[scan.eye_seed]
        how = cut_through_lesion(eye, task.height, task.width, scan.scan_seed)
        planted = task.shortcut if scan.shortcut else None
        if planted is not None:
            how = planted.before(how)
        bscan = render(eye, how)
        image = bscan.image
        if planted is not None:
            image = planted.after(image, np.random.default_rng([scan.scan_seed, 1]))
        for part, pixels in (("images", image), ("masks", bscan.mask)):
            Image.fromarray(pixels).save(folder / part / scan.name, compress_level=1)
        rows.append(
            {
                "path": f"images/{scan.name}",
                "label": scan.label,
                "patient": scan.patient,
                "eye": scan.laterality,
                "visit": 0,
                "split": scan.split,
                "mask": f"masks/{scan.name}",
                "device": bscan.device,
                "severity": round(scan.severity, 4),
                "shortcut": scan.shortcut,
                "width": image.shape[1],
                "height": image.shape[0],
            }
        )
    return rows


def cut_through_lesion(eye: Eye, height: int, width: int, seed: int) -> Acquisition:
    """Draw an acquisition that passes through a lesion, if the eye has any."""
    if eye.disease.label == "NORMAL":
        return draw_acquisition(eye, height, width, seed)
    tries = [draw_acquisition(eye, height, width, s) for s in range(seed, seed + 8)]
    areas = []
    for how in tries:
        x, y = positions(eye, replace(how, width=96))
        cut = cut_eye(eye.anatomy, eye.disease, x, y)
        areas.append(lesion_area(cut, eye.disease, HALLMARKS[eye.disease.label]))
        if areas[-1] >= LEAST_AREA:
            return how
    return tries[int(np.argmax(areas))]


def _description(config: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Return what phantom.json says."""
    return {
        "config": config,
        "classes": list(CLASSES),
        "scans": len(frame),
        "scans_by_class": frame["label"].value_counts().sort_index().to_dict(),
        "shortcut_scans_by_class": frame.groupby("label")["shortcut"].sum().astype(int).to_dict(),
        "devices": frame["device"].value_counts().sort_index().to_dict(),
    }
