"""What a result came from: versions, machine, state of the source."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import octoscope

PACKAGES = ("torch", "timm", "lightning", "numpy", "scikit-learn", "pandas", "pillow", "zarr")


def provenance() -> dict[str, Any]:
    """Return versions of octoscope, Python and the packages that shape results, and the machine."""
    return {
        "octoscope": octoscope.__version__,
        "source": source_state(Path(octoscope.__file__)),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {"system": platform.system(), "cores": os.cpu_count()},
    }


def source_state(file: Path) -> str | None:
    """Return the git commit that tracks `file` (``+changes`` if edited), None if none does."""
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None  # installed, perhaps below somebody else's checkout
    return _git(file.parent, "describe", "--always", "--dirty=+changes", "--abbrev=12")


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints, None when it fails or is not there."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
