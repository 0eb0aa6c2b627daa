"""Checkpoints: what they were made by, and refusing those that are damaged or of something else.

A checkpoint carries its `origin`: the recipe and the digest of the scans. Nothing beside it in the
folder can make it pass for the checkpoint of another recipe or of other scans.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.training.recipe import Recipe

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"

LOCK = "checkpoints/.train.lock"
"""Held while a run is trained: a second process waits, and finds it finished."""

FORMAT = 1
"""To be raised when a checkpoint of before can no longer be continued."""

RECORD = "EpochKeeper"
"""Under which name among the callbacks the record of the run stands."""

INDIFFERENT = ("tracker",)
"""Fields of a recipe that may differ between calls: they change where numbers go, not which."""

PARTS: dict[str, type] = {
    "state_dict": Mapping,
    "optimizer_states": list,
    "callbacks": Mapping,
    "loops": Mapping,
    "epoch": int,
    "global_step": int,
}
"""What Lightning needs to go on, and of which type it is."""


def origin_of(recipe: Recipe, cache_digest: str) -> dict[str, Any]:
    """Return what a checkpoint says of its own making; plain JSON values."""
    return {"format": FORMAT, "recipe": recipe.to_dict(), "cache": cache_digest}


def require_same_recipe(run: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to go on with, or to pass off, a run of another recipe.

    Raises:
        OctoscopeError: Naming the first field that differs, what was asked and what is there.
    """
    for name in {**asked, **there}:
        if name not in INDIFFERENT and there.get(name) != asked.get(name):
            raise OctoscopeError(
                f"{run}: holds a run with {name} {there.get(name)!r}, but {asked.get(name)!r} is "
                f"asked for; choose another folder with --out, or delete {run} to train it anew"
            )


def require_same_scans(run: Path, there: Any, asked: str) -> None:
    """Refuse a run of other scans.

    Raises:
        OctoscopeError: If the digests differ.
    """
    if there != asked:
        raise OctoscopeError(
            f"{run}: was trained on other scans, labels, splits or framing than are given now; "
            f"choose another folder with --out, or delete {run} to train it anew"
        )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; nothing in it is executed.

    Raises:
        OctoscopeError: If it is damaged, or is no checkpoint of a training.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise OctoscopeError(f"{path}: is missing; {_anew(path)}") from None
    except Exception as error:  # torch.load raises many kinds on damaged files
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise OctoscopeError(f"{path}: damaged ({said[0][:120]}); {_anew(path)}") from None
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise OctoscopeError(f"{path}: no checkpoint of a training (a {kind}); {_anew(path)}")
    for name, wanted in PARTS.items():
        if not isinstance(checkpoint.get(name), wanted):
            raise OctoscopeError(f"{path}: no whole checkpoint (no {name}); {_anew(path)}")
    _require_record(path, checkpoint["callbacks"].get(RECORD))
    _require_numbers(path, checkpoint["state_dict"])
    return checkpoint


def load_own_checkpoint(run: Path, name: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of a run and require that it was made by this recipe on these scans.

    Args:
        run: Folder of the run.
        name: `LAST` or `BEST`.
        origin: As `origin_of` gives it, of what is asked for.

    Raises:
        OctoscopeError: If it is damaged or of another recipe, other scans or another version.
    """
    path = run / name
    checkpoint = load_checkpoint(path)
    there = checkpoint["callbacks"][RECORD].get("origin")
    if not isinstance(there, dict) or there.get("format") != FORMAT:
        raise OctoscopeError(
            f"{path}: does not say what it was made by (it is of another version of octoscope); "
            f"{_anew(path)}"
        )
    if not isinstance(there.get("recipe"), dict):
        raise OctoscopeError(f"{path}: does not say its recipe; {_anew(path)}")
    require_same_recipe(run, there["recipe"], origin["recipe"])
    require_same_scans(run, there.get("cache"), origin["cache"])
    return checkpoint


def require_fitting(path: Path, there: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Require that the tensors of a checkpoint are those of a network.

    Raises:
        OctoscopeError: Naming the first that is missing, too many, or of another shape.
    """
    for name in [*wanted, *there]:
        if name not in there or name not in wanted or there[name].shape != wanted[name].shape:
            raise OctoscopeError(
                f"{path}: does not hold the weights of this network ({name} is missing or has "
                f"another shape); {_anew(path)}"
            )


def _require_record(path: Path, record: Any) -> None:
    """Require a record as `EpochKeeper` leaves it: rows, the best of them, whether it stopped."""
    fault = f"{path}: its record of the epochs is damaged; {_anew(path)}"
    if not isinstance(record, dict) or not isinstance(record.get("rows"), list):
        raise OctoscopeError(fault)
    rows, best = record["rows"], record.get("best")
    whole = all(
        isinstance(row, dict)
        and {"epoch", "seconds", "val_loss"} <= row.keys()
        and all(isinstance(value, int | float) for value in row.values())
        for row in rows
    )
    known = isinstance(best, int) and not isinstance(best, bool) and 0 <= best < len(rows)
    if not (whole and known and isinstance(record.get("stopped"), bool)):
        raise OctoscopeError(fault)


def _require_numbers(path: Path, state: Mapping[Any, Any]) -> None:
    """Require tensors of finite numbers."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise OctoscopeError(f"{path}: {name!r} is no tensor; {_anew(path)}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise OctoscopeError(f"{path}: {name} holds NaN or infinite values; {_anew(path)}")


def _anew(path: Path) -> str:
    return f"delete the folder {path.parent} to train anew"
