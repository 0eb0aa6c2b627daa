"""jsonargparse as the oracle: it reads every study file of ours to the same settings.

Only here: it looks up classes that a file names, which the product must never do.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from octoscope.cli import main
from octoscope.study.config import StudyConfig

REPOSITORY = Path(__file__).parents[2]
STUDY_FILES = sorted([*REPOSITORY.glob("recipes/*.yaml"), *REPOSITORY.glob("docs/figures/*.yaml")])

WORDS = [
    [],
    ["--framing.height", "40", "--framing.width=56"],
    ["--seeds", "[0, 3]", "--resamples", "77"],
    ["--trust.run", "false", "--trust.steps", "4"],
    ["--explain.methods", "[gradcam, layercam]", "--explain.panels", "1"],
    ["--models", "[{model: resnet10t, lr: 0.01, augment: {flip: false}}]"],
    ["--phantom.severity", "[0.1, 0.4]", "--phantom.seed", "5"],
    ["--data", "scans", "--out", "there", "--on_overlap", "move", "--split_seed", "9"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words) or "the file alone")
@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda path: path.name)
def test_settings_of_a_study(file: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StudyConfig] = []
    monkeypatch.setattr("octoscope.study.study.run_study", lambda c: seen.append(c) or Path("out"))
    assert main(["study", str(file), *words]) == 0

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(StudyConfig, as_group=False)
    values = parser.instantiate(parser.parse_args(["--config", str(file), *words])).as_dict()
    values.pop("config")
    assert asdict(seen[0]) == asdict(StudyConfig(**values))
