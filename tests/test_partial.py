"""Killed processes leave nothing for long, and nobody else's folder is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octoscope import partial
from octoscope.files import atomic_folder, atomic_path, write_text

WRITER = """
import sys, time
from pathlib import Path
from octoscope.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """A process in the middle of writing ``study``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "study")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_living_process_keeps_its_folder_and_a_killed_one_does_not(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    (held,) = left(tmp_path)
    assert held.startswith(".study-") and held.endswith(".octoscope")
    write_text(tmp_path / "other.txt", "x")
    with atomic_folder(tmp_path / "more") as folder:
        (folder / "a").touch()
    assert left(tmp_path) == [held, "more", "other.txt"], "its writer lives"
    writer.kill()
    writer.wait()
    assert held in left(tmp_path), "SIGKILL leaves no time to tidy"
    with atomic_folder(tmp_path / "study") as folder:
        (folder / "whole").touch()
    assert left(tmp_path) == ["more", "other.txt", "study"]
    assert left(tmp_path / "study") == ["whole"]


def test_sigterm_tidies_at_once_and_ends_as_sigterm_does(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    writer.send_signal(signal.SIGTERM)
    assert writer.wait(10) == -signal.SIGTERM
    assert left(tmp_path) == []


def test_a_write_clears_leftovers_once_for_each_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / ".a.json-0123456789abcdef.octoscope"
    leftover.mkdir()
    (leftover / "a.json").write_text("{")
    write_text(tmp_path / "a.json", "1")
    assert left(tmp_path) == ["a.json"]

    def again(parent: Path) -> None:
        raise AssertionError("a folder of a million files is not listed for each of them")

    monkeypatch.setattr(partial, "clear_leftovers", again)
    write_text(tmp_path / "b.json", "1")


def test_what_only_looks_alike_is_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / ".notes-0123456789abcdef.octoscope").write_text("a file of somebody's")
    (folder / ".x-0123456789abcdef.octoscope").symlink_to(outside)
    for name in (
        ".study-abc.octoscope",
        "study-0123456789abcdef.octoscope",
        ".x.octoscope",
        ".git",
    ):
        (folder / name).mkdir()
    before = left(folder)
    partial.clear_leftovers(folder)
    assert left(folder) == before and left(outside) == ["precious"]


def test_a_name_that_another_process_clears_away_is_tried_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a folder and locking it."""
    names = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(partial.secrets, "token_hex", lambda count: next(names))
    flock = partial.fcntl.flock

    def cleared(handle: int, how: int) -> None:
        flock(handle, how)
        if (tmp_path / f".a-{'0' * 16}.octoscope").exists():
            (tmp_path / f".a-{'0' * 16}.octoscope").rmdir()

    monkeypatch.setattr(partial.fcntl, "flock", cleared)
    with atomic_path(tmp_path / "a") as temporary:
        assert temporary.parent.name == f".a-{'1' * 16}.octoscope"
        temporary.write_text("x")
    assert left(tmp_path) == ["a"]


def test_without_locks_files_are_written_and_nothing_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    leftover = tmp_path / ".a.json-0123456789abcdef.octoscope"
    leftover.mkdir()
    monkeypatch.setattr(partial.fcntl, "flock", none)
    write_text(tmp_path / "a.json", "1")
    assert left(tmp_path) == [leftover.name, "a.json"]


def test_a_handler_of_somebody_else_stays(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with atomic_folder(tmp_path / "a"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert seen == [signal.SIGTERM] and left(tmp_path) == ["a"]
    finally:
        signal.signal(signal.SIGTERM, before)
    with atomic_folder(tmp_path / "b"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from octoscope.partial import leave_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=leave_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_workers_leave_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(200):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent by ten seconds")
