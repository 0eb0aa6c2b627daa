from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.data import cache as cache_module
from octoscope.data import entry as entry_module
from octoscope.data.cache import ScanCache
from octoscope.data.identity import DECODE_SOURCES, SETTLED_NS
from octoscope.data.rows import RowWriter
from octoscope.errors import OctoscopeError
from octoscope.scans.framing import Framing, frame_image, place
from octoscope.scans.table import ScanTable

FRAMING = Framing(32, 48)


@pytest.fixture
def no_decoding(monkeypatch):
    """Return a function after which decoding is an error."""

    def forbid() -> None:
        def refuse(*args: object, **kwargs: object) -> None:
            raise AssertionError("decoded again")

        monkeypatch.setattr(cache_module, "write_entry", refuse)

    return forbid


def age(table: ScanTable) -> None:
    """Let the files look as old as files are as a rule (their ctime is new all the same)."""
    old = time.time() - 10 * SETTLED_NS / 1e9
    for path in [*table.paths, *(p for p in table.mask_paths if p)]:
        os.utime(path, (old, old))


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def script(body: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start a Python program that builds a cache of a CSV table."""
    head = """
        import os, sys, time
        from pathlib import Path
        import pandas as pd
        from octoscope.data.cache import ScanCache
        from octoscope.errors import OctoscopeError
        from octoscope.scans.framing import Framing
        from octoscope.scans.table import ScanTable
        root, folder = map(Path, sys.argv[1:3])
        table = ScanTable.from_frame(pd.read_csv(root / "table.csv"), root)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_images_and_masks_are_framed_alike_and_in_the_order_of_the_table(scans, tmp_path):
    table = scans(13)
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert cache.table == table
    assert cache.framing == FRAMING
    assert len(cache) == 13
    assert cache.quarantined == []
    assert cache.images.shape == cache.masks.shape == (13, 32, 48)
    for row, (path, mask) in enumerate(zip(table.paths, table.mask_paths, strict=True)):
        picture = np.asarray(Image.open(path))
        np.testing.assert_array_equal(cache.images[row], frame_image(picture, FRAMING))
        placed = np.zeros((32, 48), np.uint8)
        if mask is not None:
            placed = place(picture, FRAMING).apply(np.asarray(Image.open(mask)), nearest=True)
        np.testing.assert_array_equal(cache.masks[row], placed)
        assert cache.has_mask[row] == (mask is not None)
    assert not cache.images.flags.writeable


def test_without_masks_there_is_no_array_of_them(scans, tmp_path):
    cache = ScanCache.build(scans(4, masks=False), FRAMING, tmp_path / "cache")
    assert cache.masks is None
    assert not cache.has_mask.any()


def test_the_number_of_workers_changes_nothing(scans, tmp_path):
    table = scans(20)
    one, many = (
        ScanCache.build(table, FRAMING, tmp_path / str(workers), workers=workers)
        for workers in (1, 5)
    )
    np.testing.assert_array_equal(one.images, many.images)
    np.testing.assert_array_equal(one.masks, many.masks)
    assert one.digest == many.digest


def test_processes_that_look_for_the_retina_give_what_threads_give(scans, tmp_path, monkeypatch):
    table, framing = scans(10), Framing(32, 48, "band")
    threads = ScanCache.build(table, framing, tmp_path / "threads", workers=2)
    monkeypatch.setattr(entry_module, "PROCESSES_FROM", 1)
    processes = ScanCache.build(table, framing, tmp_path / "processes", workers=2)
    np.testing.assert_array_equal(threads.images, processes.images)
    np.testing.assert_array_equal(threads.masks, processes.masks)
    assert threads.flagged == processes.flagged


def test_scans_that_the_framing_could_not_treat_by_its_rule_are_listed(tmp_path):
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "blank.png")
    table = ScanTable.from_frame(pd.DataFrame({"path": ["blank.png"]}), tmp_path)
    cache = ScanCache.build(table, Framing(32, 48, "band"), tmp_path / "cache")
    assert [flagged["path"] for flagged in cache.flagged] == ["blank.png"]
    assert "retina not found" in cache.flagged[0]["flag"]


# -- What makes a cache valid ------------------------------------------------------------------


def test_the_same_again_decodes_nothing(scans, tmp_path, no_decoding):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    no_decoding()
    for _ in range(2):  # by content at first (the files are new), by their stamps then
        again = ScanCache.build(table, FRAMING, tmp_path / "cache")
        assert again.digest == first.digest
        np.testing.assert_array_equal(again.images, first.images)
    opened = ScanCache.open(tmp_path / "cache")
    assert opened.digest == first.digest
    assert opened.table == table
    assert opened.table.lesions == {1: "drusen", 2: "fluid"}
    assert list(opened.table.frame["device"]) == ["D1"] * len(table)


def test_files_with_the_same_stamps_are_not_read(scans, tmp_path, monkeypatch, no_decoding):
    table = scans()
    monkeypatch.setattr("octoscope.data.identity.SETTLED_NS", -(10**18))  # all files are old
    ScanCache.build(table, FRAMING, tmp_path / "cache")
    no_decoding()
    monkeypatch.setattr("octoscope.data.identity.fingerprint", None)
    ScanCache.build(table, FRAMING, tmp_path / "cache")


def test_touched_and_moved_files_are_recognised_by_content(scans, tmp_path, no_decoding):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    no_decoding()
    age(table)
    assert ScanCache.build(table, FRAMING, tmp_path / "cache").digest == first.digest
    shutil.copytree(table.root, tmp_path / "moved")
    moved = ScanTable.from_frame(table.frame, tmp_path / "moved", lesions=table.lesions)
    again = ScanCache.build(moved, FRAMING, tmp_path / "cache")
    assert again.digest == first.digest
    assert ScanCache.open(tmp_path / "cache").table.root == tmp_path / "moved"


@pytest.mark.parametrize("settled", [SETTLED_NS, -(10**18)])  # by content, or by ctime
@pytest.mark.parametrize("column", ["path", "mask"])
def test_a_file_that_changed_under_its_name_is_read_again(
    scans, tmp_path, monkeypatch, column, settled
):
    monkeypatch.setattr("octoscope.data.identity.SETTLED_NS", settled)
    table = scans()
    age(table)
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    target = table.root / table.frame[column][5]
    status = target.stat()
    changed = np.asarray(Image.open(target)).copy()
    changed[20:30, 20:40] = 1
    Image.fromarray(changed).save(target)
    content = target.read_bytes()
    if len(content) < status.st_size:  # same size, same time: only the content tells
        target.write_bytes(content + bytes(status.st_size - len(content)))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert second.digest != first.digest
    before, after = (
        (first.images, second.images) if column == "path" else (first.masks, second.masks)
    )
    differing = [row for row in range(len(table)) if (before[row] != after[row]).any()]
    assert differing == [5]
    assert entries(tmp_path / "cache") == [second.folder]  # the outdated one is gone


@pytest.mark.parametrize(
    "other", [Framing(32, 47), Framing(32, 48, "stretch"), Framing(32, 48, fill=9)]
)
def test_another_framing_is_another_cache_beside_the_first(scans, tmp_path, no_decoding, other):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    second = ScanCache.build(table, other, tmp_path / "cache")
    assert second.digest != first.digest
    assert second.framing == other
    no_decoding()
    assert ScanCache.build(table, FRAMING, tmp_path / "cache").digest == first.digest
    assert ScanCache.build(table, other, tmp_path / "cache").digest == second.digest
    with pytest.raises(OctoscopeError, match="several caches; name one of"):
        ScanCache.open(tmp_path / "cache")
    assert ScanCache.open(tmp_path / "cache", first.digest).framing == FRAMING
    assert ScanCache.open(second.folder).framing == other


def test_other_code_is_another_cache(scans, tmp_path, monkeypatch):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    for module in (cache_module, entry_module):
        monkeypatch.setattr(module, "decode_code", lambda: "tomorrow's")
    second = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert second.digest != first.digest
    assert entries(tmp_path / "cache") == [second.folder]
    assert ScanCache.build(table, FRAMING, tmp_path / "cache").folder == second.folder


def test_other_labels_and_splits_need_no_decoding(scans, tmp_path, no_decoding):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    no_decoding()
    turned = table.noting("labels turned", label=table.frame["label"][::-1].to_numpy())
    second = ScanCache.build(turned, FRAMING, tmp_path / "cache")
    assert second.table == turned
    assert second.digest != first.digest
    assert second.pixels == first.pixels
    opened = ScanCache.open(tmp_path / "cache")
    assert opened.digest == second.digest
    assert opened.table.notes == ("labels turned",)
    with pytest.raises(OctoscopeError, match="build it anew"):
        ScanCache.open(tmp_path / "cache", first.digest)


def test_other_rows_are_another_cache(scans, tmp_path):
    table = scans()
    ScanCache.build(table, FRAMING, tmp_path / "cache")
    some = ScanCache.build(table.rows(np.array([3, 1])), FRAMING, tmp_path / "cache")
    assert len(some) == 2
    assert list(some.table.frame["path"]) == list(table.frame["path"][[3, 1]])


def test_all_code_that_decides_pixels_is_in_the_key():
    """Whatever octoscope modules decoding imports, their text is part of the code version."""
    listing = "import sys, octoscope.data.decode; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in modules if name.startswith(("octoscope.scans.", "octoscope.data."))}
    covered = [f"octoscope/{name}".removesuffix(".py").replace("/", ".") for name in DECODE_SOURCES]
    left = {name for name in ours if not name.startswith(tuple(covered))}
    assert left == set()


# -- What cannot be read -----------------------------------------------------------------------


def break_files(table: ScanTable) -> dict[int, str]:
    """Spoil the first files of a table, each in its own way; return row → what will be said."""
    paths = table.paths
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[: len(content) // 2])
    paths[1].write_text("not a picture at all")
    paths[2].unlink()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(paths[3])
    with paths[4].open("wb") as file:
        np.save(file, np.zeros((3, 40, 40), np.uint8))
    paths[5].write_bytes(b"")
    header = bytearray(content)
    header[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height in IHDR
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    paths[6].write_bytes(header)
    return {
        0: "damaged",
        1: "text",
        2: "no such file",
        3: "1×1",
        4: "volume",
        5: "empty",
        6: "20000×20000",
    }


def test_unreadable_scans_are_listed_and_left_out(scans, tmp_path):
    table = scans(12)
    expected = break_files(table)
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    kept = np.arange(7, 12)
    assert cache.table == table.rows(kept)
    assert len(cache.images) == 5
    for row, source in enumerate(kept):
        picture = np.asarray(Image.open(table.paths[source]))
        np.testing.assert_array_equal(cache.images[row], frame_image(picture, FRAMING))
    assert [q["path"] for q in cache.quarantined] == list(table.frame["path"][:7])
    for row, words in expected.items():
        assert words in cache.quarantined[row]["reason"]
        assert str(table.root) not in cache.quarantined[row]["reason"]
    opened = ScanCache.open(tmp_path / "cache")
    assert opened.table == cache.table
    assert opened.quarantined == cache.quarantined


def test_a_repaired_scan_is_read(scans, tmp_path):
    table = scans(4)
    content = table.paths[1].read_bytes()
    table.paths[1].unlink()
    assert len(ScanCache.build(table, FRAMING, tmp_path / "cache")) == 3
    table.paths[1].write_bytes(content)
    assert len(ScanCache.build(table, FRAMING, tmp_path / "cache")) == 4


def test_a_broken_mask_costs_the_mask_only(scans, tmp_path):
    table = scans(6)
    table.mask_paths[1].write_text("nothing")
    cache = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert len(cache) == 6
    assert list(cache.has_mask) == [True, False, True, False, True, True]
    assert not cache.masks[1].any()
    assert cache.table.frame["mask"][1] is None
    (listed,) = cache.quarantined
    assert listed["path"] == table.frame["mask"][1]
    assert "without lesions" in listed["reason"]


def test_if_nothing_is_readable_it_is_an_error_and_no_cache(scans, tmp_path):
    table = scans(7)
    break_files(table)
    with pytest.raises(OctoscopeError, match=r"none of the 7 scans can be read; the first, images"):
        ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_column_of_mixed_types_is_named(scans, tmp_path):
    table = scans(3)
    mixed = table.noting(device=pd.Series([1, "two", 3.0], dtype=object))
    with pytest.raises(OctoscopeError, match="column device"):
        ScanCache.build(mixed, FRAMING, tmp_path / "cache")


# -- Full disks, damage, interruption, company -------------------------------------------------


def test_too_little_room_is_said_before_anything_is_read(scans, tmp_path, monkeypatch, no_decoding):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    no_decoding()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    with pytest.raises(OctoscopeError, match=r"takes 40 MiB but only 1 MiB .*free some space"):
        ScanCache.build(table, Framing(1000, 1700), tmp_path / "cache")
    assert ScanCache.build(table, FRAMING, tmp_path / "cache").digest == first.digest


@pytest.mark.parametrize("row", [0, 3, 9])
def test_a_disk_that_fills_up_leaves_what_was_there(scans, tmp_path, monkeypatch, row):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    before = np.array(first.images)
    append = RowWriter.append

    def full(self: RowWriter, array: np.ndarray) -> None:
        if self.count == row:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, array)

    monkeypatch.setattr(RowWriter, "append", full)
    with pytest.raises(OctoscopeError, match=r"cache.*the disk is full"):
        ScanCache.build(table, Framing(16, 16), tmp_path / "cache")
    table.paths[0].write_bytes(table.paths[1].read_bytes())  # outdated, but nothing better yet
    with pytest.raises(OctoscopeError, match="the disk is full"):
        ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert entries(tmp_path / "cache") == [first.folder]
    np.testing.assert_array_equal(ScanCache.open(tmp_path / "cache").images, before)


def test_a_file_that_may_not_grow_is_one_sentence(scans, tmp_path):
    """A real refusal by the kernel: the process may write no file above 20 kB."""
    table = scans()
    table.save(table.root / "table.csv")
    process = script(
        """
        try:
            ScanCache.build(table, Framing(64, 64), folder)
        except OctoscopeError as error:
            print(error)
        """,
        table.root,
        tmp_path / "cache",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    out, err = process.communicate(timeout=100)
    assert "larger than the disk or your quota allows" in out, err
    assert entries(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made_is_one_sentence(scans, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OctoscopeError, match="file"):
        ScanCache.build(scans(3), FRAMING, tmp_path / "file" / "cache")


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "record", "version"])
def test_a_damaged_cache_is_named_and_built_anew(scans, tmp_path, damage):
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    images = np.array(first.images)
    folder = first.folder
    if damage == "cut":
        os.truncate(folder / "images.npy", 1000)
    elif damage == "gone":
        (folder / "images.npy").unlink()
    elif damage == "json":
        (folder / "cache.json").write_text("{")
    elif damage == "record":
        (folder / "files.parquet").write_text("nothing")
    else:
        facts = json.loads((folder / "cache.json").read_text())
        (folder / "cache.json").write_text(json.dumps({**facts, "version": 0}))
    if damage != "record":
        with pytest.raises(OctoscopeError, match="delete it to build it anew"):
            ScanCache.open(tmp_path / "cache")
    again = ScanCache.build(table, FRAMING, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, images)
    assert entries(tmp_path / "cache") == [again.folder]


def test_a_damaged_cache_does_not_hide_the_others(scans, tmp_path):
    table = scans()
    broken = ScanCache.build(table, FRAMING, tmp_path / "cache")
    whole = ScanCache.build(table, Framing(16, 16), tmp_path / "cache")
    (broken.folder / "images.npy").unlink()
    assert ScanCache.open(tmp_path / "cache").digest == whole.digest


def test_there_is_nothing_to_open(tmp_path):
    with pytest.raises(OctoscopeError, match="no finished cache"):
        ScanCache.open(tmp_path)


def test_an_interrupted_build_leaves_no_half_cache(scans, tmp_path, monkeypatch):
    table = scans()
    append = RowWriter.append

    def interrupt(self: RowWriter, array: np.ndarray) -> None:
        if self.count == 5:
            raise KeyboardInterrupt
        append(self, array)

    monkeypatch.setattr(RowWriter, "append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []
    monkeypatch.undo()
    assert len(ScanCache.build(table, FRAMING, tmp_path / "cache")) == 12


def test_a_killed_build_leaves_nothing_that_counts_and_is_cleared_away(scans, tmp_path):
    table = scans()
    table.save(table.root / "table.csv")
    process = script(
        """
        import octoscope.data.rows
        append = octoscope.data.rows.RowWriter.append
        def slow(self, array):
            append(self, array)
            if self.count == 5:
                print("halfway", flush=True)
                time.sleep(100)
        octoscope.data.rows.RowWriter.append = slow
        ScanCache.build(table, Framing(32, 48), folder)
        """,
        table.root,
        tmp_path / "cache",
    )
    assert process.stdout.readline() == "halfway\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=100)
    (half,) = entries(tmp_path / "cache")
    assert half.name.startswith(".")
    with pytest.raises(OctoscopeError, match="no finished cache"):
        ScanCache.open(tmp_path / "cache")
    csv = ScanTable.from_frame(pd.read_csv(table.root / "table.csv"), table.root)
    cache = ScanCache.build(csv, FRAMING, tmp_path / "cache")
    assert entries(tmp_path / "cache") == [cache.folder]


def test_several_processes_build_one_cache(scans, tmp_path):
    table = scans()
    table.save(table.root / "table.csv")
    go = tmp_path / "go"
    processes = [
        script(
            f"""
            import octoscope.data.cache as module
            write = module.write_entry
            def counted(*args, **options):
                print("decoding", flush=True)
                time.sleep(0.3)
                write(*args, **options)
            module.write_entry = counted
            print("ready", flush=True)
            while not Path({str(go)!r}).exists():
                time.sleep(0.01)
            cache = ScanCache.build(table, Framing(32, 48), folder)
            print(cache.digest, int(cache.images.sum()), flush=True)
            """,
            table.root,
            tmp_path / "cache",
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    said = [process.communicate(timeout=100)[0].split("\n") for process in processes]
    assert sorted(lines[0] == "decoding" for lines in said) == [False, False, True]
    assert len({lines[-2] for lines in said}) == 1
    assert len(entries(tmp_path / "cache")) == 1


def test_it_works_where_there_are_no_locks(scans, tmp_path, monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    table = scans()
    first = ScanCache.build(table, FRAMING, tmp_path / "cache")
    assert ScanCache.build(table, FRAMING, tmp_path / "cache").folder == first.folder


def test_an_open_cache_survives_its_removal(scans, tmp_path):
    """What another process does to the folder does not take pixels from under a running one."""
    cache = ScanCache.build(scans(), FRAMING, tmp_path / "cache")
    before = np.array(cache.images)
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(cache.images, before)


def test_real_scans(real_data, tmp_path):
    from octoscope.scans.layouts import load_table

    table = load_table(real_data / "kermany-lesions").rows(np.arange(0, 300, 25))
    cache = ScanCache.build(table, Framing(64, 128), tmp_path / "cache")
    assert cache.quarantined == []
    assert cache.has_mask.all()
    assert cache.masks.any(axis=(1, 2)).mean() > 0.9
    assert set(np.unique(cache.masks)) <= {0, *table.lesions}
    # Lesions lie in the retina, which is brighter than the vitreous and the padding.
    lesion, rest = cache.images[cache.masks > 0].mean(), cache.images[cache.masks == 0].mean()
    assert lesion > 1.3 * rest
