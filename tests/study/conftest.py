"""A finished small study, made once, and copies of it to do with as one likes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from octoscope.study import reporting
from octoscope.study.config import StudyConfig, TrustSettings
from octoscope.study.study import run_study
from study.small import config_of, write_scans

UNTRUSTED = TrustSettings(run=False)


@dataclass(frozen=True)
class Study:
    """A copy of a finished study with its data."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def folder(self) -> Path:
        return self.root / "study"

    def config(self, **changes: Any) -> StudyConfig:
        data = changes.pop("data", self.data)
        return config_of(data, self.folder, **{"trust": UNTRUSTED, **changes})


def write_page(study: Path, *, notes: Any = ()) -> Path:
    """Stand in for the report, which takes most of the time of a small study."""
    (study / "report.html").write_text("\n".join(notes))
    return study / "report.html"


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study without trust cards and with a stand-in for its report; not to be changed."""
    root = tmp_path_factory.mktemp("small")
    study = Study(root)
    write_scans(study.data)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTOSCOPE_QUIET", "1")
        patch.setattr(reporting, "build_report", write_page)
        torch.set_num_threads(1)
        run_study(study.config())
    torch.set_num_threads(threads)
    return study


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bars, and no real report."""
    monkeypatch.setenv("OCTOSCOPE_QUIET", "1")
    monkeypatch.setattr(reporting, "build_report", write_page)


@pytest.fixture
def study(small_study: Study, tmp_path: Path, quiet: None) -> Iterator[Study]:
    """A copy of the finished study, with times as they were."""
    copied = replace(small_study, root=tmp_path)
    shutil.copytree(small_study.root, tmp_path, dirs_exist_ok=True)
    about = json.loads((copied.folder / "study.json").read_text())
    about["root"] = str(copied.data.resolve())  # as if it had been made here
    (copied.folder / "study.json").write_text(json.dumps(about))
    yield copied
