"""Two processes that run one study in one folder make it once, and the same as one alone."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from octoscope.study.config import StudyConfig
from octoscope.study.stage import Stage
from octoscope.study.study import run_study
from octoscope.training import supervised
from study.conftest import Study
from study.small import RUN, results

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here"
)


def work(config: StudyConfig, tally: Path) -> None:
    """Run a study, and add a line to a file for every training and stage that this process does."""

    def told(what: str) -> None:
        with tally.open("a") as file:
            file.write(f"{what}\n")

    fit, run = supervised._fit, Stage.run

    def counted_fit(*args: object) -> None:
        told("train")
        fit(*args)  # type: ignore[arg-type]

    def counted_run(stage: Stage, *args: object) -> bool:
        done = run(stage, *args)  # type: ignore[arg-type]
        if done:
            told(stage.name)
        return done

    supervised._fit, Stage.run = counted_fit, counted_run  # type: ignore[method-assign]
    run_study(config)


def test_two_processes_in_one_folder(small_study: Study, tmp_path: Path, quiet: None) -> None:
    config, tally = replace(small_study.config(), out=tmp_path / "both"), tmp_path / "tally.txt"
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=work, args=(config, tally)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    name = Path(RUN).name
    once = ["audit", f"evaluate {name}", f"explain {name}", "report", "train"]
    assert sorted(tally.read_text().splitlines()) == sorted(once), "each was done by one of them"
    assert results(tmp_path / "both") == results(small_study.folder)
