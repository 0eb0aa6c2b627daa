"""Where the results come from: settings, versions, digests; without paths of this machine."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from octoscope.report.files import StudyFiles


def provenance_section(study: StudyFiles) -> dict[str, Any]:
    """Return what the template shows: facts, packages, runs, and the settings as YAML."""
    source = study.about.get("provenance") or {}
    framing: dict[str, Any] = next(
        (run.info["framing"] for run in study.runs if "framing" in run.info), {}
    )
    facts = {
        "Scans": last_part(study.about.get("root")),
        "Layout": study.about.get("layout"),
        "Table digest": study.about.get("table_digest"),
        "Cache digest": next((r.info.get("cache_digest") for r in study.runs), None),
        "Framing": ", ".join(
            f"{key} {value}" for key, value in framing.items() if value is not None
        ),
        "octoscope": source.get("octoscope"),
        "Source": source.get("source"),
        "Python": source.get("python"),
        "Machine": _machine(source.get("machine") or {}),
    }
    config = without_folders(study.about.get("config") or {})
    return {
        "facts": {name: str(value) for name, value in facts.items() if value},
        "packages": source.get("packages") or {},
        "runs": [
            {"name": run.name, "device": run.info.get("device"), "digest": _digest(run.openings)}
            for run in study.runs
        ],
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=88),
    }


def without_folders(value: Any) -> Any:
    """Return settings with absolute paths cut to their last part: a report travels."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(part) for part in value]
    if isinstance(value, str) and any(
        kind(value).is_absolute() for kind in (PurePosixPath, PureWindowsPath)
    ):
        return f"…/{last_part(value)}"
    return value


def last_part(path: str | None) -> str | None:
    """Return the name of a folder without where it lies."""
    return PurePath(path).name if path else None


def _machine(machine: dict[str, Any]) -> str:
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    return ", ".join(part for part in (machine.get("system"), cores) if part)


def _digest(openings: list[dict[str, Any]]) -> str | None:
    """Return the model digest of the last opening of the test split."""
    return openings[-1].get("model_digest") if openings else None
