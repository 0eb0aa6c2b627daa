"""Every opening of the test split is kept, whatever happens around it."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from octoscope.errors import OctoscopeError
from octoscope.evaluation.ledger import (
    LEDGER,
    begin_table_ledger,
    elsewhere_sentence,
    ledger_sentence,
    model_digest,
    open_test_split,
    openings,
    table_ledger,
)
from octoscope.evaluation.test_scans import TestScans


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "resnet18-seed0" / "model").mkdir(parents=True)
    (tmp_path / "resnet18-seed0" / "model" / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "resnet18-seed0"


def test_openings_are_appended(run: Path) -> None:
    assert openings(run) == []
    assert ledger_sentence(run) == "The test split has never been opened."
    first = open_test_split(run, why="final numbers", table_digest="abc")
    assert ledger_sentence(run) == (
        f"The test split was opened once: {first['time']} by resnet18-seed0 (final numbers)."
    )
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


@pytest.fixture
def in_study(tmp_path: Path) -> Path:
    """A run in a study."""
    (tmp_path / "study/runs/net-seed0/model").mkdir(parents=True)
    (tmp_path / "study/runs/net-seed0/model/weights.safetensors").write_bytes(b"weights")
    return tmp_path / "study/runs/net-seed0"


def test_the_ledger_of_a_study_outlives_its_runs(in_study: Path) -> None:
    study = in_study.parents[1]
    open_test_split(in_study, why="first look")
    assert (study / LEDGER).is_file()
    shutil.rmtree(in_study)
    (in_study / "model").mkdir(parents=True)
    (in_study / "model/weights.safetensors").write_bytes(b"trained anew")
    open_test_split(in_study, why="second look")
    assert [entry["why"] for entry in openings(study)] == ["first look", "second look"]
    assert openings(in_study) == openings(study)
    said = ledger_sentence(in_study)
    assert "opened 2 times" in said
    assert "by net-seed0, a model since deleted (first look)" in said
    assert "by net-seed0 (second look)" in said


def test_a_run_takes_its_openings_along(in_study: Path, tmp_path: Path) -> None:
    study = in_study.parents[1]
    for why in ("first look", "second look"):
        open_test_split(in_study, why=why)
    other = in_study.with_name("other-seed0")
    other.mkdir()
    open_test_split(other, why="other look")
    assert [entry["why"] for entry in openings(study)].count("first look") == 1
    assert len(openings(study)) == 3 and len(openings(in_study)) == 2
    alone = shutil.copytree(in_study, tmp_path / "net-seed0")
    assert [entry["why"] for entry in openings(alone)] == ["first look", "second look"]
    (study / LEDGER).unlink()
    assert [entry["why"] for entry in openings(in_study)] == ["first look", "second look"]


def test_another_run_of_the_study_is_told_too(in_study: Path) -> None:
    other = in_study.with_name("other-seed0")
    other.mkdir()
    open_test_split(in_study, why="first look")
    assert openings(other) == []
    assert "by net-seed0 (first look)" in ledger_sentence(other)


def test_ledgers_that_earlier_versions_kept_in_runs_are_read(in_study: Path) -> None:
    old = {"time": "2020-01-01T00:00:00+00:00", "run": "net-seed0", "split": "test", "why": "old"}
    (in_study / LEDGER).write_text(json.dumps(old) + "\n")
    open_test_split(in_study, why="new")
    assert [entry["why"] for entry in openings(in_study)] == ["old", "new"]
    assert [entry["why"] for entry in openings(in_study.parents[1])] == ["old", "new"]


def test_other_data_have_lines_of_their_own(in_study: Path) -> None:
    entry = open_test_split(in_study, why="elsewhere", split="external", data="clinic")
    assert entry["split"] == "external" and entry["data"] == "clinic"
    assert openings(in_study) == [entry]
    assert ledger_sentence(in_study) == "The test split has never been opened."


def test_studies_of_one_table_know_of_each_other(in_study: Path, tmp_path: Path) -> None:
    other = tmp_path / "second/runs/net-seed0"
    shutil.copytree(in_study, other)
    for run in (in_study, other):
        about = {"root": str(tmp_path), "config": {"data": "somewhere/table.csv"}}
        (run.parents[1] / "study.json").write_text(json.dumps(about))
    table_ledger(tmp_path / "table.csv").touch()
    open_test_split(in_study, why="first study")
    open_test_split(other, why="second study")
    for run in (in_study, other):
        found = [entry["why"] for entry in openings(run.parents[1])]
        assert sorted(found) == ["first study", "second study"]
        assert "opened 2 times" in ledger_sentence(run)
    assert "by net-seed0, in the study second (second" in ledger_sentence(in_study)


def test_a_table_ledger_begins_empty_and_is_kept(tmp_path: Path) -> None:
    begin_table_ledger(tmp_path / "table.csv")
    assert (tmp_path / "table.ledger.jsonl").read_text() == ""
    (tmp_path / "table.ledger.jsonl").write_text("line\n")
    begin_table_ledger(tmp_path / "table.csv")
    assert (tmp_path / "table.ledger.jsonl").read_text() == "line\n"


def studies(folder: Path, **test_splits: set[int]) -> dict[str, Path]:
    """Make studies beside each other, each with a run; return name → run."""
    runs = {}
    for name, scans in test_splits.items():
        runs[name] = folder / name / "runs/net-seed0"
        (runs[name] / "model").mkdir(parents=True)
        (runs[name] / "model/weights.safetensors").write_bytes(name.encode())
        held = TestScans.of(hashlib.sha256(bytes([scan])).hexdigest() for scan in scans)
        (folder / name / "study.json").write_text(json.dumps({"test_scans": held.to_dict()}))
    return runs


def test_studies_beside_each_other_know_who_looked_at_the_same_scans(tmp_path: Path) -> None:
    runs = studies(tmp_path, first={1, 2, 3, 4}, same={1, 2, 3, 4}, half={3, 4, 5, 6}, other={7, 8})
    open_test_split(runs["first"], why="paper")
    open_test_split(runs["first"], why="the clinic", split="external", data="clinic")
    assert "opened once" in ledger_sentence(runs["first"])
    assert "in the study" not in ledger_sentence(runs["first"])
    said = ledger_sentence(runs["same"])
    assert "opened once" in said and "by net-seed0, in the study first (paper)." in said
    said = ledger_sentence(runs["half"])
    assert "in the study first, which has 50% of these test scans (paper)" in said
    assert elsewhere_sentence(tmp_path / "first") is elsewhere_sentence(tmp_path / "other") is None
    assert "opened once by other studies" in str(elsewhere_sentence(tmp_path / "same"))
    assert ledger_sentence(runs["other"]) == "The test split has never been opened."
    assert openings(runs["same"]) == [], "a run of the same name there is another"
    [entry] = openings(tmp_path / "half")
    assert (entry["study"], entry["elsewhere"], entry["shared"]) == ("first", "first", 0.5)


def test_an_opening_in_the_tables_ledger_and_beside_counts_once(tmp_path: Path) -> None:
    runs = studies(tmp_path / "studies", first={1, 2}, second={1, 2})
    for run in runs.values():
        path = run.parents[1] / "study.json"
        about = json.loads(path.read_text())
        path.write_text(
            json.dumps({**about, "root": str(tmp_path), "config": {"data": "table.csv"}})
        )
    begin_table_ledger(tmp_path / "table.csv")
    open_test_split(runs["first"], why="paper")
    for name in runs:
        assert [entry["why"] for entry in openings(tmp_path / "studies" / name)] == ["paper"]
    shutil.rmtree(tmp_path / "studies/first")
    said = ledger_sentence(runs["second"])
    assert "opened once" in said and "in the study first (paper)" in said


@pytest.mark.parametrize("text", ["", "[]", '{"test_scans": 3}', '{"test_scans": {"n": "x"}}'])
def test_a_damaged_study_beside_is_passed_over(tmp_path: Path, text: str) -> None:
    runs = studies(tmp_path, first={1}, second={1})
    open_test_split(runs["first"], why="paper")
    (tmp_path / "first/study.json").write_text(text)
    assert ledger_sentence(runs["second"]) == "The test split has never been opened."
