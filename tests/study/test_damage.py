"""Files of a finished study that are gone, empty, cut or something else: built anew, or named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from octoscope.errors import OctoscopeError
from octoscope.study.study import run_study
from study.conftest import Study
from study.small import RUN, results, state

DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a list": lambda path: path.write_text("[1, 2]\n"),
}

MADE = (
    *("study.json", "table.parquet", "audit.json", "methods.json", "report.html"),
    *(f"{RUN}/{name}" for name in ("metrics-val.json", "predictions-val.parquet", "panels.json")),
    *(f"{RUN}/{name}" for name in ("localisation.json", "scores.parquet")),
    *(f"{RUN}/maps.zarr/{name}" for name in ("zarr.json", "gradcam/zarr.json")),
    *(f"{RUN}/maps.zarr/{name}" for name in ("gradcam/maps/zarr.json", "logits/zarr.json")),
    *("stages/audit.json", "stages/report.json"),
    *(f"stages/{stage} test_resnet-seed0.json" for stage in ("evaluate", "explain")),
)
"""Everything that a study makes of its trained models and scans."""

TRAINED = ("run.json", "recipe.json", "log.csv")
MODEL = ("model/classifier.json", "model/model.safetensors")
CACHE = ("cache.json", "images.npy", "masks.npy", "files.parquet", "table.parquet")


def test_every_file_of_a_study_is_damaged_here(small_study: Study) -> None:
    found = {name for name in state(small_study.folder) if "/c/" not in name}
    found = {name for name in found if "/maps.zarr/" not in name and "/checkpoints/" not in name}
    found = {name for name in found if not name.startswith("cache/")}
    assert found <= {*MADE, *(f"{RUN}/{name}" for name in (*TRAINED, *MODEL))}


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_that_was_made_of_the_models_is_made_again(study: Study, damage: str) -> None:
    before = results(study.folder)
    chunk = min((study.folder / RUN / "maps.zarr/layercam/maps/c").rglob("*/0"))
    for path in (*(study.folder / name for name in MADE), chunk):
        if path.is_file():  # there are no scores where no lesion is told right
            DAMAGES[damage](path)
    run_study(study.config())
    assert results(study.folder) == before
    assert (study.folder / "report.html").is_file()


@pytest.mark.parametrize("name", ["stages/explain test_resnet-seed0.json", f"{RUN}/maps.zarr"])
def test_maps_are_made_again_where_their_record_is_gone(study: Study, name: str) -> None:
    """A missing chunk of one method shows in its record, and no other method is made again."""
    before = results(study.folder)
    kept = study.folder / RUN / "maps.zarr/gradcam/maps/zarr.json"
    time = kept.stat().st_mtime_ns
    path = study.folder / name
    if path.is_dir():
        shutil.rmtree(path / "layercam")
    else:
        path.unlink()
    run_study(study.config())
    assert results(study.folder) == before
    assert kept.stat().st_mtime_ns == time


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TRAINED)
def test_records_of_a_run_are_written_again(study: Study, name: str, damage: str) -> None:
    before = results(study.folder)
    log = (study.folder / RUN / "log.csv").read_text()
    DAMAGES[damage](study.folder / RUN / name)
    run_study(study.config(), until="train")
    assert results(study.folder) == before
    assert (study.folder / RUN / "log.csv").read_text() == log


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", MODEL)
def test_a_model_is_written_again_or_named(study: Study, name: str, damage: str) -> None:
    before, path = results(study.folder), study.folder / RUN / name
    DAMAGES[damage](path)
    if damage in ("cut", "a list"):
        with pytest.raises(OctoscopeError, match=f"{path}: is not what this run trained"):
            run_study(study.config(), until="train")
        shutil.rmtree(path.parent)  # as the sentence says
    run_study(study.config(), until="train")
    assert results(study.folder) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", CACHE)
def test_a_cache_is_built_again(study: Study, name: str, damage: str) -> None:
    before = results(study.folder)
    DAMAGES[damage](next((study.folder / "cache").glob(f"[!.]*/{name}")))
    run_study(study.config(), until="train")
    assert results(study.folder) == before
    assert not list((study.folder).glob(".cache-*"))
    for path in (study.folder / "cache").glob("[!.]*"):
        assert {part.name for part in path.iterdir()} == set(CACHE)


@pytest.mark.parametrize("damage", DAMAGES)
def test_checkpoints_of_a_finished_run_are_not_needed(study: Study, damage: str) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        path = study.folder / RUN / "checkpoints" / name
        path.write_bytes(path.read_bytes())  # no longer one file with two names
        DAMAGES[damage](path)
    before = state(study.folder / RUN)
    run_study(study.config(), until="train")
    assert state(study.folder / RUN) == before


@pytest.mark.parametrize("damage", ["emptied", "cut", "a list"])
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_damaged_checkpoints_are_named_where_they_are_needed(
    study: Study, name: str, damage: str
) -> None:
    run = study.folder / RUN
    path = run / "checkpoints" / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    DAMAGES[damage](path)
    (run / "run.json").unlink()  # now the checkpoints alone know of the training
    before = state(study.folder)
    with pytest.raises(OctoscopeError, match=f"{path}: .*delete the folder {path.parent}"):
        run_study(study.config(), until="train")
    assert state(study.folder) == before
    shutil.rmtree(path.parent)  # as the sentence says
    run_study(study.config(), until="train")
    assert json.loads((run / "run.json").read_text())["finished"] is True


def test_an_exchanged_model_is_noticed_by_every_verb(study: Study) -> None:
    from octoscope.study.folder import RunFolder
    from octoscope.study.reporting import report_of

    run = RunFolder.open(study.folder / RUN)
    about = json.loads((run.model / "classifier.json").read_text())
    about["classes"].reverse()
    (run.model / "classifier.json").write_text(json.dumps(about))
    for verb in (lambda: RunFolder.open(run.path), lambda: report_of(run.study, again=True)):
        with pytest.raises(OctoscopeError, match="is not what this run trained"):
            verb()
