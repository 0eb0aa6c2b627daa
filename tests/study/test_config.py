from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from octoscope.errors import OctoscopeError
from octoscope.options.hints import hints_of
from octoscope.study.config import PhantomSettings, StudyConfig, TrustSettings
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


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "x" * 101])
def test_a_name_never_leads_out_of_the_studies(name: str) -> None:
    with pytest.raises(OctoscopeError, match="name"):
        StudyConfig(name=name)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seeds": (0, 0)}, "0 stands twice"),
        ({"seeds": tuple(range(2000))}, "2000 are too many"),
        ({"seeds": (-1,)}, r"study: seeds\[0\] must be a whole number from 0"),
        ({"split_seed": -1}, "study: split_seed must be a whole number from 0"),
        ({"resamples": 10**12}, "study: resamples must be a whole number from 1 to 1000000"),
        ({"on_overlap": "mvoe"}, r'on_overlap "mvoe" is unknown \(did you mean "move"\?\)'),
    ],
)
def test_impossible_studies_are_refused(values: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        StudyConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"patients": 11}, "patients must be a whole number from 12"),
        ({"severity": (0.0, 1.0)}, r"severity\[0\] must be a number above 0 to 1"),
        ({"severity": (0.9, 0.1)}, "the lower end first"),
        ({"shortcut": "markr"}, 'did you mean "marker"'),
        ({"shortcut_label": "CNW"}, 'did you mean "CNV"'),
        ({"shortcut_strength": 1.5}, "shortcut_strength must be a number from 0 to 1"),
    ],
)
def test_impossible_phantoms_are_refused(values: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        PhantomSettings(**values)


def test_phantoms_of_a_recipe_are_written_with_every_setting(tmp_path: Path) -> None:
    settings = PhantomSettings(
        12, 1, 64, 64, 3, (0.8, 1.0), shortcut="marker", shortcut_label="CNV", shortcut_strength=0.5
    )
    table = settings.write(tmp_path / "phantoms", workers=1)
    assert len(table) == 12
    config = json.loads((tmp_path / "phantoms" / "phantom.json").read_text())["config"]
    assert config["severity"] == [0.8, 1.0] and config["seed"] == 3
    assert config["shortcut"]["kind"] == "marker" and config["shortcut"]["strength"] == 0.5
    assert config["shortcut"]["label"] == "CNV"


def test_choices_are_those_of_what_is_drawn() -> None:
    from octoscope.scans.phantom import CLASSES
    from octoscope.scans.phantom.shortcut import Kind

    hints = hints_of(PhantomSettings)
    assert set(get_args(hints["shortcut_label"])) == set(CLASSES)
    assert set(get_args(get_args(hints["shortcut"])[0])) == set(get_args(Kind))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"stages": 1}, "stages must be a whole number from 2"), ({"scans": 0}, "trust: scans must")],
)
def test_impossible_trust_is_refused(values: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        TrustSettings(**values)
