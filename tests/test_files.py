"""Errors are one sentence; a reader never sees half a file."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError, PatientOverlapError, ScanError, did_you_mean
from octoscope.files import (
    atomic_folder,
    atomic_path,
    digest_of,
    inside,
    read_json,
    write_json,
    write_text,
)


def test_a_scan_error_names_its_file_and_is_an_octoscope_error() -> None:
    error = ScanError("x/y.png", "is empty; remove it")
    assert isinstance(error, OctoscopeError)
    assert (error.path, error.reason) == (Path("x/y.png"), "is empty; remove it")
    assert str(error) == "x/y.png: is empty; remove it"
    assert issubclass(PatientOverlapError, OctoscopeError)


def test_did_you_mean() -> None:
    assert did_you_mean("restnet18", ["resnet18", "vit"]) == ' (did you mean "resnet18"?)'
    assert did_you_mean("zzz", ["resnet18", "vit"]) == ""
    assert did_you_mean("x", []) == ""


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result.json"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".json"
        assert temporary.parent.parent == target.parent, "a rename must not cross disks"
        temporary.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    with pytest.raises(RuntimeError, match="killed"), atomic_path(target) as temporary:
        temporary.write_text("other")
        raise RuntimeError("killed")
    assert target.read_text() == "half"
    assert os.listdir(target.parent) == ["result.json"]  # noqa: PTH208


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "a").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(target) as temporary:
        (temporary / "a").touch()
    assert [p.name for p in target.iterdir()] == ["a"]
    with atomic_folder(target) as late:  # another process was faster: its folder stands
        (late / "b").touch()
    assert [p.name for p in target.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "shared.txt"
    texts = [str(n) * 50_000 for n in range(8)]
    writers = [threading.Thread(target=write_text, args=(target, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert target.read_text() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["shared.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "cannot be written"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_a_full_or_locked_disk_is_one_sentence(tmp_path: Path, number: int, words: str) -> None:
    write_text(tmp_path / "a.txt", "earlier result")
    for opener in (atomic_path, atomic_folder):
        with (
            pytest.raises(OctoscopeError, match=words) as caught,
            opener(tmp_path / "a.txt"),
        ):
            raise OSError(number, os.strerror(number))
        assert str(tmp_path / "a.txt") in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "earlier result"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        raise FileNotFoundError  # not the disk's fault: passes unchanged


def test_a_really_full_device() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    from octoscope.files import explained_disk_errors

    with pytest.raises(OctoscopeError, match="disk is full"):  # noqa: SIM117
        with explained_disk_errors(Path("/dev/full")), Path("/dev/full").open("wb", 0) as full:
            full.write(b"x")


def test_json_keeps_numbers_and_drops_what_json_cannot_say(tmp_path: Path) -> None:
    content = {
        "nan": float("nan"),
        "inf": -np.inf,
        "array": np.array([[1, 2], [3, 4]]),
        "scalar": np.float32(0.5),
        "path": Path("x/y"),
        "tuple": (1, "é", None, True),
        3: "key",
    }
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == {
        "nan": None,
        "inf": None,
        "array": [[1, 2], [3, 4]],
        "scalar": 0.5,
        "path": "x/y",
        "tuple": [1, "é", None, True],
        "3": "key",
    }


def test_bad_json_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OctoscopeError, match="no such file"):
        read_json(tmp_path / "absent.json")
    for content in (b"{", b"\xff\xfe", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(OctoscopeError, match=r"bad\.json: not valid JSON"):
            read_json(tmp_path / "bad.json")
    with (tmp_path / "huge.json").open("wb") as huge:
        huge.truncate(300 * 2**20)  # sparse
    with pytest.raises(OctoscopeError, match="larger than 256 MiB"):
        read_json(tmp_path / "huge.json")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(OctoscopeError, match="not valid JSON"):
        read_json(tmp_path / "deep.json")


def test_digest() -> None:
    assert digest_of({"a": 1, "b": [1.5, None]}) == digest_of({"b": (1.5, None), "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert digest_of({"a": 1}) == "015abd7f5cc57a2d"  # of {"a":1}, by sha256sum
    assert len(digest_of(None)) == 16


def test_json_that_programs_read_differently_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, words in (
        ('{"a": 1, "b": {"c": 1, "c": 2}}', 'the key "c" stands twice'),
        ('{"a": NaN}', "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[" * 101 + "]" * 101, "more than 100 lists"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "not valid JSON"),
        ("1" * 5000, "not valid JSON"),
        ('\ufeff{"a": 1}', "not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(OctoscopeError, match=r"a\.json: not valid JSON") as said:
            read_json(path)
        assert words in str(said.value) and len(str(said.value)) < 300 + len(str(path))
    path.write_text("[" * 90 + "1" * 4000 + "]" * 90)
    assert read_json(path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, words in (
        (pipe, "a pipe or device"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a pipe or device"),
        (loop, "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "a\0b", "NUL"),
    ):
        with pytest.raises(OctoscopeError, match=words):
            read_json(path)


def test_names_of_files_that_are_not_utf8_are_kept_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"scan": "sc\udcffn.png"})
    assert (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert read_json(tmp_path / "a.json") == {"scan": "sc\udcffn.png"}


def test_names_that_no_file_can_have_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, words in (
        ("x" * 300 + ".json", "too long a name"),
        ("a\0b", "NUL"),
        ("folder", "is a folder"),
        ("file/a.json", "cannot be written"),
    ):
        with pytest.raises(OctoscopeError, match=words):
            write_text(tmp_path / name, "x")
    long = "é" * 125 + ".json"  # 255 bytes, the most there is
    write_text(tmp_path / long, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", long]


def test_inside() -> None:
    root = Path("data")
    assert inside(root, "a/b.png") == root / "a/b.png"
    assert inside(root, "a/../b.png") == root / "b.png"
    assert inside(root, "..a/b.png") == root / "..a/b.png"
    assert inside(root, "..a\\b.png") == root / "..a\\b.png"
    for bad in (
        "../b", "a/../../b", "/etc/passwd", "..", "a/../..",
        "C:\\Windows", "C:/x", "c:x", "\\\\server\\share\\x", "//server/share", "\\x",
        "a\\..\\..\\b", "..\\b", "\\\\?\\C:\\x",
    ):  # fmt: skip
        with pytest.raises(OctoscopeError, match="leads outside data"):
            inside(root, bad)


def test_inside_takes_no_nul() -> None:
    with pytest.raises(OctoscopeError, match="NUL"):
        inside(Path("data"), "a\0.png")


@given(st.text(alphabet="a./ \\:", max_size=12))
def test_inside_never_leaves(relative: str) -> None:
    root = Path("/srv/data")
    try:
        path = inside(root, relative)
    except OctoscopeError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)
