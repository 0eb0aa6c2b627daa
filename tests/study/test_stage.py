from __future__ import annotations

from pathlib import Path

import pytest

from octoscope.study.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, "evaluate net-seed0")


def working(out: Path, log: list[str]) -> str:
    out.write_text("done")
    log.append("worked")
    return "0.9 [0.8, 1.0]"


def test_work_is_done_once_and_said_again(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, log = tmp_path / "out.txt", []
    assert stage.run({"a": 1}, [out], lambda: working(out, log))
    assert not stage.run({"a": 1}, [out], lambda: working(out, log))
    assert log == ["worked"]
    assert capsys.readouterr().err.count("0.9 [0.8, 1.0]") == 2, "brackets are not markup"


def test_other_inputs_or_a_missing_output_mean_work(stage: Stage, tmp_path: Path) -> None:
    out, log = tmp_path / "out.txt", []
    stage.run({"a": 1}, [out], lambda: working(out, log))
    assert stage.run({"a": 2}, [out], lambda: working(out, log))
    out.unlink()
    assert stage.run({"a": 2}, [out], lambda: working(out, log))
    assert len(log) == 3


def test_an_interrupted_stage_is_not_done(stage: Stage, tmp_path: Path) -> None:
    out, log = tmp_path / "out.txt", []
    stage.run({"a": 1}, [out], lambda: working(out, log))

    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.run({"a": 2}, [out], interrupted)
    assert not stage.is_done({"a": 2}, [out])
    assert not stage.is_done({"a": 1}, [out]), "its output may have been half replaced"


def test_work_begun_before_counts_in_its_seconds(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.txt"
    began = stage.begin() - 75
    stage.run({"a": 1}, [out], lambda: working(out, []), started=began)
    said = capsys.readouterr().err
    assert said.count("▸") == 1
    assert "(75 s)" in said
    assert stage.recorded()["seconds"] == pytest.approx(75, abs=5)
