"""A damaged map store is one sentence, and never another map; a hostile one reaches no codec."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from octoscope.attribution.store import MapStore
from octoscope.attribution.store_check import DamagedMapsError
from octoscope.errors import OctoscopeError


def flags(*shape: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "all_zero": generator.random(shape) < 0.5,
        "nonfinite": np.zeros(shape),
        "clipped_fraction": generator.random(shape).astype(np.float32),
    }


def some_maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a compressed method, a plain one of several classes, details and logits."""
    path = tmp_path_factory.mktemp("whole") / "maps.zarr"
    store = MapStore.create(path, 4, precision="float16", about={"seed": 0})
    store.write(
        [0, 1, 2], "saliency", some_maps(3, 64, 96), [0, 1, 2], flags(3), {"gap": np.ones(3)}
    )
    store.write([0, 1, 2], "gradcam", some_maps(3, 2, 4, 6), "all", flags(3, 2))
    store.write_logits([0, 1, 2], some_maps(3, 3))
    return path


def read_everything(path: Path) -> list[np.ndarray]:
    """Read as the report and the measurements do."""
    store = MapStore.open(path, read_only=True)
    found = [store.logits()]
    for method in store.methods:
        rows = np.flatnonzero(store.written(method))
        found += [store.read_rows(rows, method, (64, 96)), *store.records(rows, method).values()]
        found += [value for row in rows for value in store.details(int(row), method).values()]
    return found


@pytest.fixture(scope="module")
def before(whole: Path) -> list[np.ndarray]:
    return read_everything(whole)


FILES = (
    "zarr.json", "saliency/zarr.json", "logits/zarr.json", "logits/c/1/0",
    "saliency/maps/zarr.json", "saliency/maps/c/1/0/0",
    "saliency/record/zarr.json", "saliency/record/c/1/0",
    "saliency/details/zarr.json", "saliency/details/c/1/0",
    "gradcam/maps/zarr.json", "gradcam/maps/c/1/0/0/0",
    "gradcam/record/zarr.json", "gradcam/record/c/1/0/0",
)  # fmt: skip

DAMAGES: dict[str, Any] = {
    "emptied": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "cut by one": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "a bit in the middle": lambda content: (
        content[: len(content) // 2]
        + bytes([content[len(content) // 2] ^ 64])
        + content[len(content) // 2 + 1 :]
    ),
    "deleted": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_one_sentence_and_never_another_map(
    whole: Path, before: list[np.ndarray], tmp_path: Path, file: str, damage: str
) -> None:
    """Every file, damaged in every way: a sentence, the same numbers, or rows not yet made."""
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    content = (path / file).read_bytes()
    if DAMAGES[damage] is None:
        (path / file).unlink()
    else:
        (path / file).write_bytes(DAMAGES[damage](content))
    try:
        found = read_everything(path)
    except OctoscopeError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 700
        return
    if [one.shape for one in found] != [one.shape for one in before]:
        assert damage == "deleted" and ("record" in file or "details" in file), "not made yet"
        return
    for one, other in zip(found, before, strict=True):
        if damage == "deleted" and file.endswith("c/1/0"):  # numbers that may not be written
            assert (np.isnan(one) | (one == other)).all()
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "folder", ["saliency", "saliency/maps", "saliency/record", "gradcam/maps/c"]
)
def test_a_lost_folder_is_said_or_made_anew(whole: Path, tmp_path: Path, folder: str) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    shutil.rmtree(path / folder)
    if folder in ("saliency", "saliency/record"):
        assert not MapStore.open(path).written("saliency").any(), "it is explained again"
        return
    with pytest.raises(DamagedMapsError, match=r"delete that folder, then `octoscope explain"):
        read_everything(path)


def edited(path: Path, file: str, **changes: Any) -> None:
    content = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps({**content, **changes}))


CODEC = {"name": "numcodecs.zlib", "configuration": {}}
ORDER = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**12, 64, 96]},
        {"shape": [4, 10**6, 10**6]},
        {"shape": [4, 64]},
        {"shape": [4, 64, 96.0]},
        {"shape": [4, 0, 96]},
        {"shape": [4, -1, 96]},
        {"shape": "4"},
        {"shape": []},
        {"shape": [4, True, 96]},
        {"data_type": "float32"},
        {"data_type": "float64"},
        {"data_type": {"name": "os.system", "configuration": {}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 64, 96]}}},
        {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
        {"fill_value": 7},
        {"codecs": []},
        {"codecs": None},
        {"codecs": [ORDER, CODEC]},
        {"codecs": [CODEC]},
        {"codecs": [BIG]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {}}]},
        {"codecs": [ORDER, {"name": "os.system", "configuration": {"command": "id"}}]},
        {"codecs": [ORDER] * 2},
        {"storage_transformers": [{"name": "x"}]},
        {"node_type": "group"},
        {"zarr_format": 2},
        {"attributes": []},
    ],
)
def test_a_description_that_is_not_ours_never_reaches_zarr(
    whole: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    edited(path, "saliency/maps/zarr.json", **changes)
    store = MapStore.open(path)

    def seen(self: object, name: str) -> None:
        raise AssertionError(f"zarr was asked for {name}")

    store.read(1, "gradcam")
    store.records([0], "saliency")
    monkeypatch.setattr(zarr.Group, "__getitem__", seen)
    with pytest.raises(DamagedMapsError, match=r"saliency/maps/zarr\.json"):
        store.read(0, "saliency")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 10**12}, "is no number of scans"),
        ({"rows": -1}, "is no number of scans"),
        ({"rows": True}, "is no number of scans"),
        ({"rows": "4"}, "is no number of scans"),
        ({"precision": "float64"}, "precision"),
        ({"precision": ["float16"]}, "precision"),
        ({"about": None}, "does not say what the maps were made of"),
    ],
)
def test_attributes_that_no_store_has(
    whole: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    edited(path, "zarr.json", attributes={**attributes, **changes})
    with pytest.raises(DamagedMapsError, match=words):
        MapStore.open(path)


def test_a_chunk_that_would_unpack_to_gigabytes_is_not_unpacked(
    whole: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    chunk = path / "saliency" / "maps" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[4:8] = (2**31 - 1).to_bytes(4, "little")
    chunk.write_bytes(content)
    with pytest.raises(DamagedMapsError, match="is cut short, or holds something else"):
        MapStore.open(path).read(1, "saliency")


def test_a_chunk_that_is_a_pipe_is_not_waited_for(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "maps.zarr"))
    chunk = path / "saliency" / "maps" / "c" / "1" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(DamagedMapsError, match="is no file"):
        MapStore.open(path).read(1, "saliency")
