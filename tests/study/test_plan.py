"""A refused study changes no byte; one that is not refused ends as one that was made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd
import pytest
from PIL import Image

from octoscope.errors import OctoscopeError
from octoscope.evaluation.ledger import open_test_split, openings
from octoscope.report.files import StudyFiles
from octoscope.scans.framing import Framing
from octoscope.scans.levels import Levels
from octoscope.study.config import ExplainSettings, StudyConfig
from octoscope.study.folder import StudyFolder
from octoscope.study.study import run_study
from octoscope.training.recipe import Recipe
from study.conftest import Study
from study.small import RUN, results, state, write_scans

ELSEWHERE = ("out", "data", "columns", "models", "trust")
"""Fields that lead to other folders or scans or are of tables only; those whose parts are
changed one by one; the trust cards have tests of their own (test_trust_settings.py)."""

OTHER: dict[str, Any] = {
    "layout": "kermany",
    "seeds": (0, 1),
    "model": "test_vit",
    "model_options": {"drop_rate": 0.1},
    "weights": None,  # what is not there is refused before anything
    "augment": {"flip": 0.25},
    "channels_last": True,
    "methods": ("layercam", "hirescam"),
    "severity": (0.5, 0.9),
    "shortcut": "marker",
    "levels": Levels(whole=(0, 4095)),
    "patience": 3,
    "average": 0.5,
    "warmup_epochs": 0.5,
    "in_channels": 3,
    "pretrained": False,  # would load weights from the network
}
"""Another value of what cannot be changed by its type alone."""


def other_value(name: str, value: Any, hint: Any) -> Any:
    """Return another valid value of a field."""
    if name in OTHER:
        return OTHER[name]
    if get_origin(hint) is Literal:
        return next(choice for choice in get_args(hint) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + (8 if name in ("height", "width") else 1)
    if isinstance(value, float):
        return value / 2 if value else 0.5
    if isinstance(value, str):
        return value + "-2"
    raise AssertionError(f"no other value of {name} is known; add one to OTHER")


def other_settings(settings: Any) -> Iterator[tuple[str, Any]]:
    """Yield every field of a dataclass, and of those in it, with a copy in which it is changed."""
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(settings, StudyConfig) and field.name in ELSEWHERE:
            continue
        if is_dataclass(value):
            for name, changed in other_settings(value):
                yield f"{field.name}.{name}", replace(settings, **{field.name: changed})
        elif (new := other_value(field.name, value, hints[field.name])) != value:
            yield field.name, replace(settings, **{field.name: new})


def every_change(config: StudyConfig) -> Iterator[tuple[str, StudyConfig]]:
    """Yield the study with each of its settings changed, and its recipe's."""
    yield from other_settings(config)
    for name, recipe in other_settings(config.models[0]):
        yield f"models.{name}", replace(config, models=(recipe,))
    second = Recipe(model="test_efficientnet", epochs=1, batch_size=8)
    yield "a second model", replace(config, models=(*config.models, second))


NAMES = [name for name, _ in every_change(Study(Path()).config())]
KEPT = {
    *("name", "layout", "seeds", "resamples", "explain.methods", "explain.panels"),
    *("models.tracker", "models.seed", "models.model", "a second model"),
    *(name for name in NAMES if name.startswith("phantom.")),  # there are scans
    *("on_overlap", "unknown_patients"),  # no patient is unknown, or in two splits
}
"""Settings that a finished study takes; the others are refused."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - KEPT))
def test_what_a_trained_model_hangs_on_is_refused_and_no_byte_changed(
    small_study: Study, name: str, quiet: None
) -> None:
    before = state(small_study.folder)
    with pytest.raises(OctoscopeError) as refusal:
        run_study(dict(every_change(small_study.config()))[name])
    assert state(small_study.folder) == before
    said = str(refusal.value)
    assert RUN in said and "--out" in said and "delete" in said
    if name != "models.pretrained":
        assert name.removeprefix("models.") in said, "what was changed is named"


@pytest.mark.parametrize(
    "name", sorted(KEPT - {name for name in KEPT if "phantom." in name} | {"phantom.seed"})
)
def test_what_is_not_refused_ends_as_if_made_anew(study: Study, name: str, tmp_path: Path) -> None:
    changed = dict(every_change(study.config()))[name]
    run_study(changed)
    anew = StudyFolder(tmp_path / "anew")
    shutil.copytree(study.folder / "cache", anew.cache)
    for recipe, seed in product(changed.models, changed.seeds):
        # Training anew gives these bytes: tests/training/test_resume.py.
        run, copy = StudyFolder(study.folder).run(recipe.model, seed), anew.run(recipe.model, seed)
        copy.mkdir(parents=True)
        for part in ("recipe.json", "run.json", "log.csv"):
            shutil.copy(run / part, copy)
        for part in ("checkpoints", "model"):
            shutil.copytree(run / part, copy / part)
    run_study(replace(changed, out=anew.path))
    found, expected = results(study.folder), results(anew.path)
    if name == "explain.methods":  # maps of methods that are no longer asked for are kept
        found = {key: value for key, value in found.items() if "/gradcam/" not in key}
    if name == "models.model":  # so is the model that is no longer asked for
        found = {key: value for key, value in found.items() if not key.startswith(RUN)}
        expected = {key: value for key, value in expected.items() if not key.startswith(RUN)}
    assert found == expected


def test_every_setting_is_either_kept_or_refused() -> None:
    assert set(NAMES) >= KEPT
    assert len(NAMES) == len(set(NAMES)) > 45


@pytest.mark.parametrize("change", ["pixel", "label", "file more", "file less", "split"])
def test_changed_data_are_refused_and_named(study: Study, change: str, tmp_path: Path) -> None:
    data, config = study.data, study.config()
    scan = min((data / "images/CNV").glob("*.png"))
    match change:
        case "pixel":
            picture = Image.open(scan)
            picture.putpixel((3, 3), 255 - picture.getpixel((3, 3)))
            picture.save(scan)
            named = f"1 file changed (images/CNV/{scan.name})"
        case "label":
            for part in ("images", "masks"):
                moved = data / part / "CNV" / scan.name
                moved.rename(data / part / "NORMAL" / scan.name)
            named = "1 scan more (images/NORMAL/"
        case "file more":
            shutil.copy(scan, scan.with_name("CNV-99-1.png"))
            named = "1 scan more (images/CNV/CNV-99-1.png)"
        case "file less":
            scan.unlink()
            named = f"1 scan fewer (images/CNV/{scan.name})"
        case "split":
            table = pd.read_parquet(study.folder / "table.parquet")
            table["path"] = [str(data / path) for path in table["path"]]
            table["mask"] = [str(data / path) for path in table["mask"]]
            table.loc[table["split"] == "test", "split"] = "train"
            table.to_csv(tmp_path / "table.csv", index=False)
            config, named = (
                replace(config, data=tmp_path / "table.csv"),
                "the split of 6 scans is another",
            )
    before = state(study.folder)
    with pytest.raises(OctoscopeError) as refusal:
        run_study(config)
    said = str(refusal.value)
    assert named in said and ("file changed (" in said) == (change == "pixel")
    assert state(study.folder) == before


def test_times_alone_change_nothing(study: Study) -> None:
    before = results(study.folder)
    for path in study.data.rglob("*.png"):
        path.touch()
    run_study(study.config())
    assert results(study.folder) == before


def test_moved_scans_are_taken_if_they_are_the_same(study: Study) -> None:
    before = results(study.folder)
    study.data.rename(study.root / "moved")
    with pytest.raises(OctoscopeError, match=r"were moved, say where they are now with --data"):
        run_study(study.config())
    run_study(study.config(data=study.root / "moved"))
    after = results(study.folder)
    assert after == before
    about = json.loads((study.folder / "study.json").read_text())
    assert about["root"] == str((study.root / "moved").resolve())


def test_other_scans_in_another_place_are_refused(study: Study) -> None:
    write_scans(study.root / "others", patients=11)
    before = state(study.folder)
    with pytest.raises(OctoscopeError, match=r"holds the study of .*4 scans more") as refusal:
        run_study(study.config(data=study.root / "others"))
    assert "another folder" in str(refusal.value)
    assert state(study.folder) == before


def test_phantoms_are_not_written_into_the_study_of_scans(study: Study) -> None:
    before = state(study.folder)
    with pytest.raises(OctoscopeError, match="not of phantoms"):
        run_study(study.config(data=None))
    assert state(study.folder) == before
    assert not (study.folder / "phantoms").exists()


def test_a_model_that_cannot_be_built_spares_a_finished_study(study: Study) -> None:
    before = state(study.folder)
    wrong = Recipe(model="test_vit", epochs=1, model_options={"deep": 3})
    config = study.config()
    for models in ((*config.models, wrong), (wrong, *config.models)):
        with pytest.raises(OctoscopeError, match='no option "deep"'):
            run_study(replace(config, models=models))
        assert state(study.folder) == before


def test_a_layer_of_one_position_is_refused_before_anything_is_trained(study: Study) -> None:
    out = study.root / "new"
    with pytest.raises(OctoscopeError, match=r"single position for images of 16×16.*; use larger"):
        run_study(replace(study.config(framing=Framing(height=16, width=16)), out=out))
    assert not out.exists()


def test_the_cache_is_built_aside_and_refused_if_it_is_not_that_of_the_models(
    study: Study,
) -> None:
    shutil.rmtree(study.folder / "cache")
    before = state(study.folder)
    with pytest.raises(OctoscopeError, match=r"framing.height was 32 and is 40"):
        run_study(study.config(framing=Framing(height=40, width=48)))
    assert state(study.folder) == before
    run_study(study.config())
    assert len(list((study.folder / "cache").glob("[!.]*"))) == 1


def test_train_keeps_the_settings_of_the_study_it_adds_to(study: Study) -> None:
    second = Recipe(model="test_vit", epochs=1, batch_size=8)
    run_study(study.config(models=(second,), resamples=2000, name="study"), until="train")
    about = json.loads((study.folder / "study.json").read_text())
    assert about["config"]["resamples"] == 20 and about["name"] == "small"
    assert [model["model"] for model in about["config"]["models"]] == ["test_resnet", "test_vit"]


def test_a_reader_of_the_advice_loses_no_opening(study: Study) -> None:
    run = study.folder / RUN
    open_test_split(run, why="first look")
    with pytest.raises(OctoscopeError, match=f"delete {run} to train it anew"):
        run_study(study.config(models=(Recipe(model="test_resnet", epochs=2, batch_size=8),)))
    shutil.rmtree(run)
    run_study(
        study.config(models=(Recipe(model="test_resnet", epochs=2, batch_size=8),)),
        until="train",
    )
    assert [entry["why"] for entry in openings(run)] == ["first look"]


def test_a_new_study_of_the_same_scans_knows_that_they_were_looked_at(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    open_test_split(study.folder / RUN, why="first look")
    other = study.folder.with_name("other")
    shutil.copytree(study.folder / "cache", other / "cache")
    run_study(replace(study.config(split_seed=2), out=other), until="train")
    said = " ".join(capsys.readouterr().err.split())
    held = [
        set(table.loc[table["split"] == "test", "path"])
        for table in (pd.read_parquet(place / "table.parquet") for place in (other, study.folder))
    ]
    shared = held[0] & held[1]
    assert 0 < len(shared) < len(held[0]), "the seed was chosen so"
    share = f"which has {len(shared) / len(held[0]):.0%} of these test scans (first look)"
    assert "opened once by other studies: " in said and f"in the study study, {share}" in said
    looked = [where for where, entries in StudyFiles.read(other).ledger if entries]
    assert len(looked) == 1 and looked[0].startswith("test_resnet-seed0, in the study study")
    assert openings(other / RUN) == []


def test_numbers_made_by_hand_do_not_pass_for_the_studys(study: Study) -> None:
    from octoscope.study.evaluate import evaluate_run
    from octoscope.study.explain import explain_run
    from octoscope.study.folder import RunFolder

    before = results(study.folder)
    run = RunFolder.open(study.folder / RUN)
    evaluate_run(run, run.open_cache(), resamples=7)
    explain_run(run, run.open_cache(), ["layercam"], resamples=9)
    assert results(study.folder) != before
    run_study(study.config())
    assert results(study.folder) == before


def test_a_changed_column_is_audited_anew(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from octoscope.study import study as module

    audited: list[int] = []
    audit = module.audit
    monkeypatch.setattr(module, "audit", lambda table: audited.append(1) or audit(table))
    manifest = study.data / "images" / "manifest.csv"
    names = sorted(path.relative_to(study.data) for path in study.data.glob("images/*/*.png"))
    run_study(study.config())
    assert not audited
    manifest = study.data / "manifest.csv"
    rows = [f"{name},{'A' if n % 2 else 'B'}" for n, name in enumerate(names)]
    manifest.write_text("\n".join(["path,device", *rows]))
    run_study(study.config())
    assert audited == [1]


def test_a_read_only_folder_is_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is to be done nothing is written; where something is, one sentence says it."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    run_study(study.config())
    before = state(study.folder)
    monkeypatch.setattr("octoscope.files.partial_folder", refuse)
    monkeypatch.setattr("os.access", lambda *_: False)
    run_study(study.config())
    assert state(study.folder) == before
    with pytest.raises(OctoscopeError, match=r"cannot be written .*choose another folder"):
        run_study(study.config(explain=ExplainSettings(methods=("eigencam",), panels=1)))
    assert {name for name in before if not name.startswith("stages")} <= set(state(study.folder))
