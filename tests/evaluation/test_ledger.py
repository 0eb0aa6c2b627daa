"""Every opening of the test split is kept, whatever happens around it."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from octoscope.errors import OctoscopeError
from octoscope.evaluation.ledger import (
    LEDGER,
    ledger_sentence,
    model_digest,
    open_test_split,
    openings,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "resnet18-seed0" / "model").mkdir(parents=True)
    (tmp_path / "resnet18-seed0" / "model" / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "resnet18-seed0"


def test_openings_are_appended(run: Path) -> None:
    assert openings(run) == []
    assert ledger_sentence(run) == "The test split has never been opened."
    first = open_test_split(run, why="final numbers", table_digest="abc")
    assert ledger_sentence(run) == f"The test split was opened once (last: {first['time']})."
    open_test_split(run, why="a reviewer asked")
    assert [entry["why"] for entry in openings(run)] == ["final numbers", "a reviewer asked"]
    assert openings(run)[0] == first
    assert first["run"] == "resnet18-seed0" and first["table_digest"] == "abc"
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0
    assert "opened 2 times" in ledger_sentence(run)


def test_an_entry_tells_nothing_about_the_person_or_machine(run: Path) -> None:
    entry = open_test_split(run, why="final")
    assert set(entry) == {"time", "run", "split", "why", "model_digest"}
    assert str(run.parent) not in json.dumps(entry)


def test_the_digest_follows_the_model(run: Path) -> None:
    before = open_test_split(run, why="final")["model_digest"]
    assert before == model_digest(run)
    (run / "model" / "weights.safetensors").write_bytes(b"others")
    assert open_test_split(run, why="again")["model_digest"] != before
    assert model_digest(run.parent) is None


def test_a_line_torn_by_a_kill_still_counts(run: Path) -> None:
    open_test_split(run, why="first")
    with (run / LEDGER).open("a") as file:
        file.write('{"time": "2026-01-0')
    open_test_split(run, why="third")
    assert [entry["why"] for entry in openings(run)] == ["first", "unreadable entry", "third"]


def _open(arguments: tuple[Path, int]) -> None:
    open_test_split(arguments[0], why=f"process {arguments[1]}")


def test_several_processes_lose_nothing(run: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_open, [(run, i) for i in range(30)]))
    assert {e["why"] for e in openings(run)} == {f"process {i}" for i in range(30)}


def test_a_run_and_a_reason_are_needed(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match="no such run"):
        open_test_split(tmp_path / "nowhere", why="final")
    with pytest.raises(OctoscopeError, match="say why"):
        open_test_split(run, why="  ")
    assert openings(run) == []
