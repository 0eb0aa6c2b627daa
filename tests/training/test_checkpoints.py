"""A checkpoint is continued by the recipe and on the scans that it was made by, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octoscope.errors import OctoscopeError
from octoscope.models import classifier
from octoscope.training.checkpoints import BEST, LAST, load_checkpoint
from octoscope.training.recipe import Recipe
from octoscope.training.saved import MODEL_FILES
from octoscope.training.supervised import train
from training.toy import stripes

QUICK = Recipe(model="test_resnet", epochs=2, batch_size=12, lr=3e-3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(stripes(), QUICK, tmp_path_factory.mktemp("checkpoints") / "run").run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a run whose record is gone: the checkpoints alone say what it is."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for name in ("run.json", "recipe.json"):
        (run / name).unlink()
    return run


def test_a_checkpoint_says_what_it_was_made_by(finished: Path) -> None:
    for name in (LAST, BEST):
        origin = load_checkpoint(finished / name)["callbacks"]["EpochKeeper"]["origin"]
        assert origin == {"format": 1, "recipe": QUICK.to_dict(), "cache": stripes().digest}


def test_a_run_without_records_is_finished_by_the_same_recipe(run: Path, finished: Path) -> None:
    train(stripes(), QUICK, run)
    weights = [(r / "model/model.safetensors").read_bytes() for r in (run, finished)]
    assert weights[0] == weights[1]
    records = [json.loads((r / "run.json").read_text()) for r in (run, finished)]
    assert records[0] == records[1]


@pytest.mark.parametrize("changed", [{"lr": 0.01}, {"epochs": 3}, {"seed": 1}])
def test_another_recipe_does_not_go_on_from_it(run: Path, changed: dict[str, Any]) -> None:
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OctoscopeError, match=f"holds a run with {next(iter(changed))} "):
        train(stripes(), replace(QUICK, **changed), run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_other_scans_do_not_go_on_from_it(run: Path) -> None:
    """Else validation would hold scans that the checkpoint was trained on."""
    cache = stripes()
    split = cache.table.frame["split"].replace({"val": "test", "test": "val"})
    moved = replace(cache, table=cache.table.noting(split=split))
    with pytest.raises(OctoscopeError, match="was trained on other scans, labels, splits"):
        train(moved, QUICK, run)


def without_origin(checkpoint: dict[str, Any]) -> None:
    checkpoint["callbacks"]["EpochKeeper"].pop("origin")


def with_nan(checkpoint: dict[str, Any]) -> None:
    next(v for v in checkpoint["state_dict"].values() if v.is_floating_point()).fill_(np.nan)


def with_a_lost_tensor(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"].popitem()


def with_a_text(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"]["classifier.network.fc.bias"] = "a text"


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no origin": (without_origin, "does not say what it was made by"),
    "nan": (with_nan, "holds NaN or infinite values"),
    "a lost tensor": (with_a_lost_tensor, "does not hold the weights of this network"),
    "a text": (with_a_text, "is no tensor"),
    "no callbacks": (lambda c: c.pop("callbacks"), "no whole checkpoint"),
    "no loops": (lambda c: c.pop("loops"), "no whole checkpoint"),
    "no rows": (lambda c: c["callbacks"]["EpochKeeper"].pop("rows"), "record of the epochs"),
    "a best beyond": (lambda c: c["callbacks"]["EpochKeeper"].update(best=9), "record of the epo"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_sentence(run: Path, damage: str) -> None:
    change, said = DAMAGES[damage]
    path = run / BEST
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    path.unlink()
    torch.save(checkpoint, path)
    with pytest.raises(OctoscopeError, match=said) as refusal:
        train(stripes(), QUICK, run)
    assert f"delete the folder {path.parent}" in str(refusal.value)


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.zeros(2)}, torch.zeros(2), "text"])
def test_what_is_no_checkpoint_is_one_sentence(run: Path, content: object) -> None:
    path = run / LAST
    path.unlink()
    torch.save(content, path)
    with pytest.raises(OctoscopeError, match=r"last\.ckpt: no (whole )?checkpoint"):
        train(stripes(), QUICK, run)


def test_the_files_of_a_model_are_those_that_a_classifier_saves() -> None:
    assert set(MODEL_FILES) == {classifier.DESCRIPTION_FILE, classifier.WEIGHTS_FILE}
