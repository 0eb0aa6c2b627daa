"""Runs that kill themselves: `python runs.py FOLDER` does all, each in a process of its own.

The processes are forked from one that has imported everything and started nothing, so that a
dozen of them cost little more than one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from octoscope.models.classifier import Classifier
from octoscope.training import keeper
from octoscope.training.keeper import EpochKeeper
from octoscope.training.supervised import Recipe, SupervisedTask, train
from training.toy import stripes

# Everything random and everything with a state is on: dropout, stochastic depth, augmentation,
# balanced drawing, a moving average, a frozen start, patience.
RECIPE = {
    "model": "test_resnet",
    "model_options": {"drop_rate": 0.3, "drop_path_rate": 0.2},
    "epochs": 5,
    "batch_size": 12,
    "lr": 3e-3,
    "label_smoothing": 0.1,
    "balance": "sampler",
    "average": 0.9,
    "freeze_epochs": 1,
    "patience": 4,
}


def _best_is_new(temporary: Path, target: Path) -> bool:
    """Say whether best.ckpt stands and last.ckpt is about to, not for the first time."""
    best = target.with_name("best.ckpt")
    return target.name == "last.ckpt" and target.exists() and best.samefile(temporary)


KILLS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "before anything is saved": (SupervisedTask, "training_step", lambda t, *_: t.global_step == 2),
    "in the third epoch": (SupervisedTask, "training_step", lambda t, *_: t.global_step == 10),
    "in a validation": (SupervisedTask, "validation_step", lambda t, *_: t.current_epoch == 3),
    "before a checkpoint": (EpochKeeper, "_save", lambda kept, *_: len(kept.rows) == 2),
    "between best.ckpt and last.ckpt": (Path, "replace", _best_is_new),
    "before the end of the log": (keeper, "write_log", lambda _, rows, __: len(rows) == 5),
    "before the model is written": (Classifier, "save", lambda *_: True),
}
"""Where a run is killed: a function, and when its call is the last."""


def kill_before(owner: Any, name: str, reached: Callable[..., bool]) -> None:
    """Make the process kill itself at a call of `owner.name`."""
    original = getattr(owner, name)

    def killing(*args: Any) -> Any:
        if reached(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    setattr(owner, name, killing)


def in_own_process(work: Callable[[], object]) -> int:
    """Return how a process that does `work` ended: 0, 1, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(folder: Path, place: str) -> list[int]:
    """Start the run in `folder` and have it killed at `place`, then start it again."""

    def first() -> None:
        kill_before(*KILLS[place])
        train(stripes(), Recipe.from_dict(RECIPE), folder)

    return [in_own_process(first), unbroken(folder)]


def killed_at_steps(folder: Path, steps: list[int], optimizer: str) -> list[int]:
    """Have a run killed at each of `steps`, then let it end."""
    recipe = Recipe.from_dict({**RECIPE, "optimizer": optimizer})
    ends = []
    for step in steps:

        def one(step: int = step) -> None:
            kill_before(SupervisedTask, "training_step", lambda t, *_: t.global_step == step)
            train(stripes(), recipe, folder)

        ends.append(in_own_process(one))
    return [*ends, in_own_process(lambda: train(stripes(), recipe, folder))]


def unbroken(folder: Path) -> int:
    """Start the run in `folder` and let it end."""
    return in_own_process(lambda: train(stripes(), Recipe.from_dict(RECIPE), folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    ends: dict[str, list[int]] = {"unbroken": [unbroken(root / "unbroken")]}
    for place in KILLS:
        ends[place] = killed(root / place, place)
    for optimizer in ("sgd", "rmsprop"):
        ends[f"{optimizer} unbroken"] = killed_at_steps(
            root / f"{optimizer} unbroken", [], optimizer
        )
        ends[optimizer] = killed_at_steps(root / optimizer, [5, 13], optimizer)
    (root / "ends.json").write_text(json.dumps(ends))
