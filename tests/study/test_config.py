from __future__ import annotations

from pathlib import Path

import pytest

from octoscope.errors import OctoscopeError
from octoscope.study.config import StudyConfig
from octoscope.training.recipe import Recipe


def test_folder_tells_phantoms_from_data_of_ones_own(tmp_path: Path) -> None:
    assert StudyConfig(name="demo").folder == Path("studies/demo")
    assert StudyConfig(name="demo", data=tmp_path / "oct").folder == Path("studies/demo-oct")
    assert StudyConfig(data=tmp_path, out=tmp_path / "x").folder == tmp_path / "x"


def test_a_model_is_given_by_default_and_once() -> None:
    assert [recipe.model for recipe in StudyConfig().models] == ["resnet18"]
    with pytest.raises(OctoscopeError, match="resnet18 stands twice"):
        StudyConfig(models=(Recipe(), Recipe()))
    with pytest.raises(OctoscopeError, match="seeds"):
        StudyConfig(seeds=())
