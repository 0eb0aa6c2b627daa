"""The saved model of a run: whether it is there, and whether it is what the run trained.

Apart from the rest of the training, so that who only reads a study needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octoscope.errors import OctoscopeError

MODEL_FILES = ("classifier.json", "model.safetensors")
"""What `Classifier.save` leaves in ``model/``."""


def model_is_there(run: Path) -> bool:
    """Say whether a run's saved model has both its files, neither of them empty."""
    files = [run / "model" / name for name in MODEL_FILES]
    return all(path.is_file() and path.stat().st_size > 0 for path in files)


def require_own_model(run: Path, record: Mapping[str, Any]) -> None:
    """Require that ``model/`` is what the training of a run left there.

    Args:
        run: Folder of the run.
        record: Its run.json.

    Raises:
        OctoscopeError: If a file has been changed, cut or exchanged since.
    """
    known = record.get("model_files")
    if not isinstance(known, dict):
        return  # written by an earlier version, which did not say
    for name, digest in known.items():
        if name in MODEL_FILES and sha256_of(run / "model" / name) != digest:
            raise OctoscopeError(
                f"{run / 'model' / name}: is not what this run trained (it was changed, cut or "
                f"exchanged); put it back, or delete the folder {run / 'model'} and run the same "
                "study or training again, which writes it anew from the best checkpoint"
            )


def sha256_of(path: Path) -> str | None:
    """Return the digest of a file, None if it is not there."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
