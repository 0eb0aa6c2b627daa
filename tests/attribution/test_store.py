"""Maps on disk: what is written is read back, interrupted work resumes, faults have a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.attribution.resize import resize
from octoscope.attribution.store import MapStore
from octoscope.attribution.store_check import CHECKSUM_BYTES
from octoscope.attribution.store_coding import decode, encode
from octoscope.errors import OctoscopeError


def flags(*shape: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "all_zero": generator.random(shape) < 0.5,
        "nonfinite": generator.random(shape) < 0.5,
        "clipped_fraction": generator.random(shape).astype(np.float32),
    }


def some_maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "maps.zarr"


def test_round_trip(path: Path) -> None:
    store = MapStore.create(path, 10, about={"model": "resnet18"})
    maps, facts = some_maps(3, 7, 5), flags(3)
    store.write([8, 0, 3], "gradcam++", maps, [2, 1, 0], facts)
    store = MapStore.open(path, read_only=True)
    assert (store.rows, store.precision, store.about) == (10, "float32", {"model": "resnet18"})
    assert store.methods == ["gradcam++"]
    assert store.written("gradcam++").nonzero()[0].tolist() == [0, 3, 8]
    for b, row in enumerate([8, 0, 3]):
        np.testing.assert_array_equal(store.read(row, "gradcam++"), maps[b])
        record = store.record(row, "gradcam++")
        assert record["target"] == [2, 1, 0][b]
        for name, values in facts.items():
            assert record[name] == values[b] and record[name].dtype == values.dtype


def test_no_rows_are_no_maps(path: Path) -> None:
    store = MapStore.create(path, 10)
    store.write([1], "gradcam", some_maps(1, 7, 5), np.array([0]), flags(1))
    assert store.read_rows([], "gradcam").shape == (0, 7, 5)
    assert store.read_rows([], "gradcam", (28, 20)).shape == (0, 28, 20)


def test_zarr_of_version_three_in_chunks_of_a_row(path: Path) -> None:
    MapStore.create(path, 10).write([0], "gradcam", some_maps(1, 7, 5), [1], flags(1))
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 3
    assert group["gradcam/maps"].chunks == (1, 7, 5)
    assert group["gradcam/maps"].shape == (10, 7, 5)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_half_precision_is_relative_to_each_map(path: Path, scale: float) -> None:
    store = MapStore.create(path, 4, precision="float16")
    maps = some_maps(3, 14, 14) * np.array([1, 1e-3, 0], dtype=np.float32)[:, None, None] * scale
    store.write([0, 1, 2], "hirescam", maps, [0, 0, 0], flags(3))
    for row in range(3):
        found = store.read(row, "hirescam")
        assert found.dtype == np.float32
        assert np.abs(found - maps[row]).max() <= 5e-4 * np.abs(maps[row]).max()


def test_not_a_number_is_kept(path: Path) -> None:
    maps = some_maps(1, 2, 2)
    maps[0, 0, 0] = np.nan
    for precision in ("float32", "float16"):
        shutil.rmtree(path, ignore_errors=True)
        store = MapStore.create(path, 1, precision=precision)  # type: ignore[arg-type]
        store.write([0], "gradcam", maps, [0], flags(1))
        assert np.isnan(store.read(0, "gradcam")).sum() == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-38, 1e-6, 1.0, 3e37]),
    st.sampled_from(["signed", "positive", "negative", "sparse", "zero"]),
)
def test_one_byte_is_symmetric_around_a_zero_that_stays(seed: int, scale: float, sign: str) -> None:
    maps = some_maps(3, 5, 7, seed=seed) * np.float32(scale)
    if sign == "positive":
        maps = abs(maps)
    elif sign == "negative":
        maps = -abs(maps)
    elif sign == "sparse":
        maps[np.random.default_rng(seed).random(maps.shape) < 0.8] = 0
    elif sign == "zero":
        maps[:] = 0
    stored, factor = encode(maps, 1, "uint8")
    found = decode(stored, factor, "uint8")
    assert stored.dtype == np.uint8 and found.dtype == np.float32
    assert (found[maps == 0] == 0).all()
    largest = abs(maps).max(axis=(1, 2), keepdims=True)
    assert (abs(found - maps) <= 0.004 * largest).all()
    assert (np.sign(found) * np.sign(maps) >= 0).all(), "no sign has changed"
    np.testing.assert_allclose(abs(found).max(axis=(1, 2)), largest[:, 0, 0], rtol=1e-6)
    mirrored = decode(*encode(-maps, 1, "uint8"), "uint8")
    np.testing.assert_array_equal(mirrored, -found)


def test_one_byte_keeps_what_is_not_finite_as_nan(path: Path) -> None:
    maps = some_maps(2, 3, 4)
    maps[0, 0, :3] = np.nan, np.inf, -np.inf
    maps[1] = np.nan
    store = MapStore.create(path, 2, precision="uint8")
    facts = {**flags(2), "nonfinite": np.array([True, True])}
    store.write([0, 1], "gradcam", maps, [0, 1], facts)
    assert zarr.open_group(path, mode="r")["gradcam/maps"].dtype == np.uint8
    found = store.read_rows([0, 1], "gradcam")
    np.testing.assert_array_equal(np.isnan(found), ~np.isfinite(maps))
    finite = np.isfinite(maps)
    assert abs(found[finite] - maps[finite]).max() <= 0.004 * abs(maps[finite]).max()
    assert store.record(1, "gradcam")["nonfinite"]


@pytest.mark.parametrize("precision", ["float32", "float16", "uint8"])
def test_many_rows_at_once_are_the_rows_one_by_one(path: Path, precision: Any) -> None:
    store = MapStore.create(path, 9, precision=precision)
    store.write(range(6), "gradcam", some_maps(6, 2, 5, 4), "all", flags(6, 2))
    rows = [5, 0, 3, 3]
    many, records = store.read_rows(rows, "gradcam", (10, 8)), store.records(rows, "gradcam")
    native = store.read_rows(rows, "gradcam")
    assert many.shape == (4, 2, 10, 8) and native.shape == (4, 2, 5, 4)
    for place, row in enumerate(rows):
        alone = store.read(row, "gradcam", (10, 8))
        np.testing.assert_allclose(many[place], alone, rtol=1e-5, atol=1e-6)  # sums in other order
        np.testing.assert_array_equal(native[place], store.read(row, "gradcam"))
        for name, value in store.record(row, "gradcam").items():
            np.testing.assert_array_equal(records[name][place], value)
    assert store.written("gradcam", [8, 5]).tolist() == [False, True]
    with pytest.raises(OctoscopeError, match="row 7 has no map of gradcam yet"):
        store.read_rows([1, 7, 8], "gradcam")


def test_precision_of_the_store_that_is_there(path: Path) -> None:
    assert MapStore.create(path, 2, precision=None).precision == "float16"
    shutil.rmtree(path)
    MapStore.create(path, 2, precision="uint8")
    assert MapStore.create(path, 2, precision=None).precision == "uint8"


def test_large_maps_are_compressed_and_small_ones_are_not(path: Path) -> None:
    store = MapStore.create(path, 2)
    store.write([0], "saliency", np.ones((1, 64, 96), np.float32), [0], flags(1))
    store.write([0], "gradcam", np.ones((1, 4, 6), np.float32), [0], flags(1))

    def stored(method: str) -> int:
        return (path / method / "maps" / "c" / "0" / "0" / "0").stat().st_size

    assert stored("saliency") < 1000 < 64 * 96 * 4
    assert stored("gradcam") == 4 * 6 * 4 + CHECKSUM_BYTES
    np.testing.assert_array_equal(store.read(0, "saliency"), np.ones((64, 96)))


def test_a_store_of_version_one_is_read_and_continued(path: Path) -> None:
    MapStore.create(path, 3, about={"seed": 0})
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["version"] = 1
    (path / "zarr.json").write_text(json.dumps(content))
    group = zarr.open_group(path, mode="r+")  # as version 1 made its arrays
    for name, shape in (("maps", (4, 5)), ("record", (5,))):
        array = group.create_array(
            f"gradcam/{name}",
            shape=(3, *shape),
            chunks=(1, *shape),
            dtype="float32",
            fill_value=float("nan"),
            compressors=None,
        )
        array[1] = np.arange(20).reshape(4, 5) if name == "maps" else [2, 1, 0, 0, 0.5]
    store = MapStore.create(path, 3, about={"seed": 0})
    store.write([0], "gradcam", some_maps(1, 4, 5), [1], flags(1))
    np.testing.assert_array_equal(store.read(1, "gradcam"), np.arange(20).reshape(4, 5))
    np.testing.assert_array_equal(store.read(0, "gradcam"), some_maps(1, 4, 5)[0])
    assert store.record(1, "gradcam")["target"] == 2
    assert store.written("gradcam").tolist() == [True, True, False]


@pytest.mark.parametrize("targets", [torch.tensor([2, 0]), torch.zeros(2, 4).long(), "all"])
def test_maps_of_parts_keep_their_axis_and_are_of_no_class(
    path: Path, monkeypatch: pytest.MonkeyPatch, targets: Any
) -> None:
    heads = replace(METHODS["eigencam"], name="heads", class_specific=False, parts="heads")
    monkeypatch.setitem(METHODS, "heads", heads)
    native = {"heads": torch.randn(2, 4, 3, 5)}
    facts = {name: torch.from_numpy(values) for name, values in flags(2, 4).items()}
    maps = Maps(native, targets, {"heads": facts}, torch.randn(2, 3), (12, 20), "x")
    store = MapStore.create(path, 3)
    store.add([2, 0], maps)
    np.testing.assert_array_equal(store.read(2, "heads"), native["heads"][0])
    assert store.read(0, "heads", (12, 20)).shape == (4, 12, 20)
    assert store.record(0, "heads")["target"].tolist() == [-1, -1, -1, -1]
    assert store.written("heads").tolist() == [True, False, True]


def test_by_products_of_one_number_per_map_are_kept(path: Path) -> None:
    store = MapStore.create(path, 3)
    gap, passes = torch.tensor([0.1, 0.2]), torch.tensor([3, 4])
    details = {"standard_error": torch.ones(2, 4, 6), "passes": passes, "gap": gap}
    store.add([2, 0], replace(maps_of(2, None), details={"gradcam": details}))
    assert store.details(2, "gradcam") == {"gap": np.float32(0.1), "passes": 3}
    assert store.details(0, "gradcam")["passes"] == 4
    assert store.details(0, "eigencam") == {}
    with pytest.raises(OctoscopeError, match="row 1 has no map of gradcam yet"):
        store.details(1, "gradcam")


def maps_of(count: int, classes: int | None) -> Maps:
    leading = (count,) if classes is None else (count, classes)
    native = {name: torch.randn(*leading, 4, 6) for name in ("gradcam", "eigencam")}
    facts = {name: torch.from_numpy(values) for name, values in flags(*leading).items()}
    targets: Any = "all" if classes else torch.arange(count)
    return Maps(native, targets, dict.fromkeys(native, facts), torch.randn(count, 3), (64, 96), "x")


@pytest.mark.parametrize("classes", [None, 3])
def test_everything_that_explain_returns(path: Path, classes: int | None) -> None:
    store = MapStore.create(path, 5)
    maps = maps_of(2, classes)
    store.add([4, 1], maps)
    assert store.methods == ["eigencam", "gradcam"]
    for name in maps:
        found = store.read(4, name, size=maps.size)
        np.testing.assert_allclose(found, maps[name][0].numpy(), atol=1e-5)
        target = store.record(1, name)["target"]
        assert target.tolist() == ([0, 1, 2] if classes else 1)
    logits = store.logits()
    np.testing.assert_array_equal(logits[[4, 1]], maps.logits.numpy())
    assert np.isnan(logits[[0, 2, 3]]).all()


def test_methods_and_rows_are_added_later(path: Path) -> None:
    store = MapStore.create(path, 6, about={"seed": 0})
    store.write([0, 1], "gradcam", some_maps(2, 7, 7), [0, 0], flags(2))
    store = MapStore.create(path, 6, about={"seed": 0})  # the same: continued
    store.write([1, 2], "gradcam", some_maps(2, 7, 7, seed=1), [1, 1], flags(2))
    store.write([5], "layercam", some_maps(1, 14, 14), [3], flags(1))
    assert store.methods == ["gradcam", "layercam"]
    assert store.written("gradcam").tolist() == [True, True, True, False, False, False]
    assert not store.written("eigencam").any()
    np.testing.assert_array_equal(store.read(1, "gradcam"), some_maps(2, 7, 7, seed=1)[0])


def test_a_row_counts_only_when_its_record_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MapStore.create(path, 3)
    store.write([0], "gradcam", some_maps(1, 7, 7), [0], flags(1))
    original = MapStore._put

    def killed(self: MapStore, path: str, *arguments: Any) -> None:
        if path.endswith("/record"):
            raise KeyboardInterrupt
        original(self, path, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MapStore, "_put", killed)
        store.write([1], "gradcam", some_maps(1, 7, 7), [0], flags(1))
    store = MapStore.open(path)
    assert store.written("gradcam").tolist() == [True, False, False]
    with pytest.raises(OctoscopeError, match="row 1 has no map of gradcam yet"):
        store.read(1, "gradcam")
    store.write([1], "gradcam", some_maps(1, 7, 7), [0], flags(1))
    assert store.written("gradcam").tolist() == [True, True, False]


WRITER = """
import sys
import time
from pathlib import Path
import numpy as np
from octoscope.attribution.store import MapStore

path, start = Path(sys.argv[1]), int(sys.argv[2])
while time.time() < float(sys.argv[3]):
    pass  # both begin in the same moment, so that both want to make the store
store = MapStore.create(path, 24, about={"seed": 0})
facts = {name: np.zeros(1) for name in ("all_zero", "nonfinite", "clipped_fraction")}
for row in range(start, 24, 2):
    store.write([row], "gradcam", np.full((1, 3, 3), row), [row % 4], facts)
"""


def test_two_processes_write_one_store(path: Path) -> None:
    path.parent.mkdir()
    soon = str(time.time() + 4)  # seconds; importing takes about one
    commands = [[sys.executable, "-c", WRITER, str(path), start, soon] for start in ("0", "1")]
    writers = [subprocess.Popen(command) for command in commands]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    store = MapStore.open(path)
    assert store.written("gradcam").all()
    assert [store.read(row, "gradcam")[0, 0] for row in range(24)] == list(range(24))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
)
def test_resizing_like_torch(cells: list[int], size: list[int]) -> None:
    size = size[: len(cells)]
    maps = some_maps(2, 3, *cells)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(cells)]
    expected = F.interpolate(torch.from_numpy(maps), tuple(size), mode=mode, align_corners=False)
    np.testing.assert_allclose(resize(maps, size), expected.numpy(), atol=1e-5)


def test_stores_made_otherwise_are_not_continued(path: Path) -> None:
    MapStore.create(path, 3, about={"seed": 0})
    for options in ({"rows": 4}, {"about": {"seed": 1}}, {"precision": "float16"}):
        with pytest.raises(OctoscopeError, match=f"made otherwise \\({next(iter(options))} differ"):
            MapStore.create(path, **{"rows": 3, "about": {"seed": 0}, **options})


def a_text(path: Path) -> None:
    path.write_text("hello")


def an_empty_folder(path: Path) -> None:
    path.mkdir()


def a_folder_of_files(path: Path) -> None:
    path.mkdir()
    (path / "scan.png").write_bytes(b"x")


def another_zarr(path: Path) -> None:
    zarr.create_group(path, attributes={"title": "someone's"})


def a_broken_file(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("{")


def a_list(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("[]")


def a_newer_version(path: Path) -> None:
    MapStore.create(path, 3)
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["version"] = 99
    (path / "zarr.json").write_text(json.dumps(content))


def test_maps_made_with_other_by_products_are_renewed(path: Path) -> None:
    """A consensus of other methods is another map; the methods beside it are kept."""
    store = MapStore.create(path, 4)
    maps = some_maps(2, 3, 5)
    store.write([0, 1], "gradcam", maps, [0, 1], flags(2))
    weights = {name: np.ones(2) for name in ("weight_a", "weight_b")}
    store.write([0, 1], "consensus", maps, [0, 1], flags(2), weights)
    assert not store.renew("consensus", ["weight_b", "weight_a"])
    assert not store.renew("layercam", ["weight_a"])
    assert store.written("consensus").tolist() == [True, True, False, False]
    assert store.renew("consensus", ["weight_a", "weight_c"])
    assert not store.renew("consensus", ["weight_a", "weight_c"])
    assert store.methods == ["gradcam"] and not store.written("consensus").any()
    three = {name: np.ones(2) for name in ("weight_a", "weight_b", "weight_c")}
    store.write([2, 3], "consensus", maps, [0, 1], flags(2), three)
    again = MapStore.open(path, read_only=True)
    assert again.written("consensus").tolist() == [False, False, True, True]
    assert set(again.details(3, "consensus")) == set(three)
    assert again.written("gradcam").sum() == 2


def test_renewal_that_is_interrupted_leaves_no_row_without_its_details(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MapStore.create(path, 4)
    maps, weights = some_maps(2, 3, 5), {"weight_a": np.ones(2)}
    store.write([0, 1], "consensus", maps, [0, 1], flags(2), weights)

    def one_file(folder: Path) -> None:
        """Delete the description of one array, and then no more."""
        (folder / "details" / "zarr.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", one_file)
        store.renew("consensus", ["weight_b"])
    for again in (store, MapStore.open(path)):
        assert again.methods == [] and not again.written("consensus").any()
    store.write([2, 3], "consensus", maps, [0, 1], flags(2), {"weight_b": np.ones(2)})
    assert store.written("consensus").tolist() == [False, False, True, True]
    assert set(store.details(3, "consensus")) == {"weight_b"}
    assert store.renew("consensus", ["weight_a"]), "what was left behind is not in the way"
    left = [file.name for file in (*path.iterdir(), *path.parent.iterdir())]
    assert sorted(left) == [".maps.zarr.lock", "maps.zarr", "zarr.json"]


def test_maps_that_have_lost_their_details_are_renewed(path: Path) -> None:
    store = MapStore.create(path, 4)
    maps = some_maps(2, 3, 5)
    store.write([0, 1], "consensus", maps, [0, 1], flags(2), {"weight_a": np.ones(2)})
    shutil.rmtree(path / "consensus" / "details")
    store = MapStore.open(path)
    assert store.renew("consensus", ["weight_a"]) and not store.written("consensus").any()
    store.write([0, 1], "gradcam", maps, [0, 1], flags(2))
    assert not store.renew("gradcam", []), "it has none, and should have none"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _path: None, "no map store is there"),
        (a_text, "no map store is there"),
        (an_empty_folder, "no map store is there"),
        (a_folder_of_files, "no map store is there"),
        (another_zarr, "no map store; name a maps.zarr"),
        (a_broken_file, "not valid JSON"),
        (a_list, "no map store; name a maps.zarr"),
        (a_newer_version, "version 99, and this octoscope reads versions 1 and 2"),
    ],
)
def test_what_is_no_store(path: Path, make: Any, sentence: str) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(OctoscopeError, match=sentence) as fault:
        MapStore.open(path)
    assert str(path) in str(fault.value)


def test_reading_needs_no_torch() -> None:
    """The report reads stores, and must not load a second of torch for it."""
    code = "import sys, octoscope.attribution.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_faults_have_a_sentence(path: Path) -> None:
    store = MapStore.create(path, 3)
    store.write([0], "gradcam", some_maps(1, 7, 7), [0], flags(1))

    def refused(sentence: str, rows: Any, method: str, maps: Any, count: int) -> None:
        with pytest.raises(OctoscopeError, match=sentence):
            store.write(rows, method, maps, np.zeros(count, int), flags(count))

    refused("holds .7, 7. per row, not .14, 14.", [1], "gradcam", some_maps(1, 14, 14), 1)
    refused("no row 3 among 3", [3], "gradcam", some_maps(1, 7, 7), 1)
    refused("no row -1 among 3", [-1], "gradcam", some_maps(1, 7, 7), 1)
    refused("do not fit together", [0, 1], "gradcam", some_maps(1, 7, 7), 1)
    refused("do not fit together", [0, 1], "gradcam", some_maps(2, 7, 7), 1)
    refused("is no name of a method", [0], "../elsewhere", some_maps(1, 7, 7), 1)
    with pytest.raises(OctoscopeError, match=r'no gradcamm \(did you mean "gradcam"\?\)'):
        store.read(0, "gradcamm")
    with pytest.raises(OctoscopeError, match="there is no logits"):
        store.logits()
    with pytest.raises(OctoscopeError, match=r'"int8" is not known \(did you mean "uint8"'):
        MapStore.create(path, 3, precision="int8")  # type: ignore[arg-type]
    assert store.written("gradcam").tolist() == [True, False, False]
