"""Every verb prints the path of what it made byte by byte, also where its name is no text."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from PIL import Image

from octoscope import verbs
from octoscope.cli import main
from study.conftest import Study
from study.small import RUN

ODD = os.fsdecode(b"caf\xe9 \xff")
"""A name that is not UTF-8, as old archives have them."""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    try:
        (tmp_path / ODD).mkdir()
    except OSError:
        pytest.skip("this disk takes text alone as names")
    return tmp_path / ODD


def last_line(capsysbinary: pytest.CaptureFixture[bytes]) -> bytes:
    return capsysbinary.readouterr().out.splitlines()[-1]


def test_no_verb_prints_otherwise_than_by_print_path() -> None:
    for path in Path(verbs.__file__).parent.glob("*.py"):
        names = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)
        ]
        assert "print" not in {name.id for name in names}, path


def test_verbs_of_scans(odd: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    small = ["--patients=12", "--scans_per_patient=1", "--height=64", "--width=96", "--workers=1"]
    assert main(["phantom", str(odd / "p"), *small]) == 0
    assert last_line(capsysbinary) == os.fsencode(odd / "p")
    table, found = odd / "t.parquet", odd / "a.json"
    options = ["--write", str(table), "--json", str(found), "--on-overlap=allow"]
    assert main(["check", str(odd / "p"), *options]) == 0
    lines = capsysbinary.readouterr().out.splitlines()
    assert lines[-2:] == [os.fsencode(found), os.fsencode(table)]
    assert table.is_file() and (odd / "t.ledger.jsonl").read_bytes() == b""


def test_verbs_of_runs(study: Study, odd: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    run = str(study.folder / RUN)
    scan = odd / "scan.png"
    Image.open(min(study.data.glob("images/CNV/*.png"))).save(scan)
    for name in ("p.csv", "p.parquet"):
        assert main(["predict", run, str(study.data), "--out", str(odd / name)]) == 0
        assert last_line(capsysbinary) == os.fsencode(odd / name)
    assert main(["explain", run, str(scan), "--methods=gradcam", "--out", str(odd)]) == 0
    made = last_line(capsysbinary)
    assert made.startswith(os.fsencode(odd) + b"/") and Path(os.fsdecode(made)).is_file()


@pytest.mark.parametrize("verb", ["train", "study", "report", "evaluate", "explain", "trust"])
def test_models_are_refused_where_they_cannot_be_kept(
    study: Study, odd: Path, verb: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    moved = odd / "study"
    match verb:
        case "train":
            words = [str(study.data), str(odd / "new"), "--model=test_resnet"]
        case "study":
            words = ["--data", str(study.data), "--out", str(odd / "new")]
        case "report":
            study.folder.rename(moved)
            assert main(["report", str(moved)]) == 0  # reads models as plain files
            assert last_line(capsysbinary) == os.fsencode(moved / "report.html")
            return
        case _:
            study.folder.rename(moved)
            words = [str(moved / RUN)]
    assert main([verb, *words]) == 2
    said = capsysbinary.readouterr().err.decode().splitlines()[-1]
    assert "is not text in UTF-8" in said and "Traceback" not in said
    assert not (odd / "new").exists()
