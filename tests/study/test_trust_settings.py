"""A trust setting that is changed ends as if made anew, and no more is measured than must be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from octoscope.study import reporting
from octoscope.study import trust as trust_module
from octoscope.study.config import TrustSettings
from octoscope.study.examined import Examined
from octoscope.study.folder import RunFolder
from octoscope.study.study import run_study
from octoscope.study.trust import trust_runs
from octoscope.study.trust_measures import Part
from octoscope.study.trust_parts import TASKS
from octoscope.trust.scores import read_scores
from study.conftest import Study, write_page
from study.small import RUN, TRUST, results

METHODS = ("gradcam", "layercam")
"""Those of the small study."""

CHANGED = TrustSettings(
    scans=5, steps=3, baseline="mean", sanity_scans=4, stages=3, stability_scans=3, draws=2,
    most_passes=30, probes=True, twin=True,
)  # fmt: skip
"""Another value of every field but `run`."""


@pytest.fixture(scope="module")
def trusted(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The small study with its trust cards; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTOSCOPE_QUIET", "1")
        patch.setattr(reporting, "build_report", write_page)
        root = tmp_path_factory.mktemp("trusted")
        yield examined_anew(small_study, root, TRUST)


def examined_anew(small_study: Study, root: Path, settings: TrustSettings) -> Study:
    """Copy the study without trust cards, and examine it."""
    study = copied(small_study, root)
    run_study(study.config(trust=settings))
    return study


def copied(study: Study, root: Path) -> Study:
    """Return a copy, with its data where they were."""
    shutil.copytree(study.folder, root / "study")
    (root / "data").symlink_to(study.data.resolve(), target_is_directory=True)
    return Study(root)


class Watched:
    """Settings that remember what was asked of them."""

    def __init__(self, settings: TrustSettings) -> None:
        self.settings = settings
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self.settings, name)


def test_another_value_of_every_field() -> None:
    same = {name for name, value in asdict(TRUST).items() if asdict(CHANGED)[name] == value}
    assert same == {"run"}


def test_all_changed_end_as_made_anew_and_no_part_asks_for_what_its_key_leaves_out(
    trusted: Study, small_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = copied(trusted, tmp_path / "changed")
    run_study(changed.config(trust=CHANGED))
    asked: dict[str, set[str]] = {}

    def watching(name: str) -> Any:
        def measure(examined: Examined) -> Part:
            watched = Watched(examined.settings)
            part = TASKS[name].measure(replace(examined, settings=watched))  # type: ignore[arg-type]
            asked[name] = watched.asked
            return part

        return measure

    tasks = {name: replace(task, measure=watching(name)) for name, task in TASKS.items()}
    monkeypatch.setattr(trust_module, "TASKS", tasks)
    anew = examined_anew(small_study, tmp_path / "anew", CHANGED)
    assert set(asked) == set(TASKS)
    for name, task in TASKS.items():
        assert asked[name] <= set(task.uses), f"{name} hangs on settings that are not in its key"
    assert results(changed.folder) == results(anew.folder)


@pytest.mark.parametrize(
    "name", [field.name for field in fields(TrustSettings) if field.name != "run"]
)
def test_one_changed_measures_again_what_uses_it_and_nothing_else(
    trusted: Study, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, before = copied(trusted, tmp_path), results(trusted.folder)
    parts, measured = study.folder / RUN / "trust", []

    def as_before(part: str) -> Any:
        """Stand in for a measure: what it found before, or nothing."""
        block, scores = parts / f"{part}.json", parts / f"{part}.parquet"
        said = json.loads(block.read_text()) if block.exists() else {"findings": []}
        found = Part(read_scores(scores) if scores.exists() else None, said)

        def measure(_: Examined) -> Part:
            measured.append(part)
            return found

        return measure

    tasks = {part: replace(task, measure=as_before(part)) for part, task in TASKS.items()}
    monkeypatch.setattr(trust_module, "TASKS", tasks)
    run, changed = (
        RunFolder.open(study.folder / RUN),
        replace(TRUST, **{name: getattr(CHANGED, name)}),
    )
    trust_runs([run], run.open_cache(), METHODS, changed, resamples=20)
    wanted = {part for part, task in TASKS.items() if name in task.uses}
    assert set(measured) == (wanted if name != "probes" else {"probes"})
    settings = json.loads(run.trust.read_text())["made_by"]["settings"]
    assert {key: settings[key] for key in asdict(changed)} == asdict(changed)
    measured.clear()
    trust_runs([run], run.open_cache(), METHODS, TRUST, resamples=20)
    assert set(measured) == wanted, "the parts of the former settings were replaced"
    found = results(study.folder)
    if name == "probes":  # what was measured is kept, though the card no longer shows it
        del found[f"{RUN}/trust/probes.json"]
    assert found == before


def test_trust_switched_off_takes_the_cards_out(
    trusted: Study, tmp_path: Path, quiet: None
) -> None:
    study = copied(trusted, tmp_path)
    run_study(study.config(trust=replace(TRUST, run=False)))
    assert not list(study.folder.rglob("trust.json")) + list(study.folder.rglob("trust.parquet"))
