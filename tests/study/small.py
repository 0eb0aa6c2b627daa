"""A study that takes seconds: tiny scans with lesion masks, a tiny network, every stage."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from octoscope.scans.framing import Framing
from octoscope.study.config import ExplainSettings, StudyConfig, TrustSettings
from octoscope.training.recipe import Recipe

CLASSES = ("CNV", "NORMAL")
RUN = "runs/test_resnet-seed0"

TRUST = TrustSettings(
    scans=4, steps=2, sanity_scans=3, stages=2, stability_scans=2, draws=1, probes=False
)


def write_scans(folder: Path, *, patients: int = 10, scans: int = 2) -> Path:
    """Write layered pictures 48×64, those of CNV with a bright lesion and its mask."""
    for k, name in enumerate(CLASSES):
        for patient in range(patients):
            for scan in range(scans):
                rng = np.random.default_rng([k, patient, scan])
                rows = np.arange(48)[:, None]
                top = 14 + 3 * np.sin(np.linspace(0, 3, 64) + rng.uniform(0, 6))[None]
                image = np.where((rows > top) & (rows < top + 18), 140.0, 20.0)
                mask = np.zeros((48, 64), np.uint8)
                if name == "CNV":
                    x, y = rng.integers(10, 44), rng.integers(20, 28)
                    image[y : y + 8, x : x + 12], mask[y : y + 8, x : x + 12] = 230, 1
                image = np.clip(image * rng.gamma(12, 1 / 12, image.shape), 0, 255)
                file = Path(name) / f"{name}-{100 * k + patient}-{scan + 1}.png"
                for place, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                    (folder / place / file).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(folder / place / file)
    return folder


def config_of(data: Path | None, out: Path, **changes: Any) -> StudyConfig:
    """Return the settings of the small study."""
    config = StudyConfig(
        name="small",
        data=data,
        out=out,
        framing=Framing(height=32, width=48),
        models=(Recipe(model="test_resnet", epochs=1, batch_size=8),),
        resamples=20,
        explain=ExplainSettings(methods=("gradcam", "layercam"), panels=1),
        trust=TRUST,
    )
    return replace(config, **changes)


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return name → content and time of every file below a folder, but its locks."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


TIMES = ("seconds", "provenance", "time", "written", "log_sha256")
"""Keys of what differs between two runs of the same study."""


def without_times(value: Any) -> Any:
    """Return JSON content without what tells when, and how fast, it was made."""
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(part) for part in value]
    return value


def results(folder: Path) -> dict[str, Any]:
    """Return name → content of what two runs of the same study have in common.

    Left out are the files that hold times and nothing else that is not in another: the logs, the
    checkpoints, stamps of files, records of stages and the page itself.
    """
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".lock", ".ckpt", ".html", ".csv") or path.name == "files.parquet":
            continue
        if name.startswith(("stages/", "cache/")):
            continue
        if path.suffix == ".json" and ".zarr" not in name:
            found[name] = without_times(json.loads(path.read_text()))
            if name == "audit.json":
                found[name].pop("root")
            if name == "study.json":  # where it lies
                for part, key in (("", "root"), ("", "key"), ("config", "out"), ("config", "data")):
                    (found[name][part] if part else found[name]).pop(key)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
