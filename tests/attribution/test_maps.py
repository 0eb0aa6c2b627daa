"""Maps as a mapping, their words, and the files that keep them."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from octoscope.attribution.maps import Maps, NoSuchMapError, flags_of
from octoscope.errors import OctoscopeError


def made(count: int = 3, classes: int | None = None, **more: Any) -> Maps:
    """Maps of two methods, one of them signed, without a model."""
    generator = torch.Generator().manual_seed(0)
    lead = (count,) if classes is None else (count, classes)
    cam = torch.rand(*lead, 2, 3, generator=generator)
    cam[0] = 0
    native = {"gradcam": cam, "saliency": torch.randn(*lead, 20, 30, generator=generator)}
    given: dict[str, Any] = {
        "targets": torch.arange(count) % 4 if classes is None else torch.zeros(*lead).long(),
        "logits": torch.randn(count, 4, generator=generator),
        "size": (20, 30),
        "layer": "layer4",
        "details": {"saliency": {"error": torch.rand(*lead, generator=generator)}},
        "refused": {"rollout": "the network has no attention"},
        "class_names": ("NORMAL", "CNV", "DME", "DRUSEN"),
    }
    return Maps(
        native=native, flags={k: flags_of(v, v, 2) for k, v in native.items()}, **(given | more)
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.equal(other)
    return bool(one == other)


def test_maps_are_a_mapping() -> None:
    maps = made()
    assert list(maps) == ["gradcam", "saliency"] and len(maps) == 2
    assert maps.get("rise") is None and maps.get("rise", 3) == 3
    assert "GradCAM" in maps and "rise" not in maps and 3 not in maps
    assert maps["Grad-CAM"].equal(maps["gradcam"]) and maps["gradcam"].shape == (3, 20, 30)
    with pytest.raises(KeyError) as caught:
        maps["sailency"]
    assert isinstance(caught.value, NoSuchMapError | OctoscopeError)
    assert str(caught.value) == (
        'no maps of "sailency" here (did you mean "saliency"?); there are gradcam, saliency'
    )
    assert {name: values.shape for name, values in maps.items()} == {
        name: values.shape for name, values in maps.numpy().items()
    }


def test_what_is_printed_is_short() -> None:
    assert repr(made()).splitlines() == [
        "Maps of 3 images of 20×30, layer layer4, targets NORMAL, CNV, DME",
        "  gradcam              (3, 2, 3)          1 all zero",
        "  saliency             (3, 20, 30)",
        "  left out: rollout; maps.refused says why",
    ]
    every = made(1, 4, targets="all", class_names=(), refused={}, layer="")
    assert repr(every).splitlines()[0] == "Maps of 1 image of 20×30, all 4 classes"
    assert every.target_names() == [["class 0", "class 1", "class 2", "class 3"]]
    scores = made(2, targets="scores", scores=("CNV − DME",), score_of=torch.zeros(2).long())
    assert repr(scores).splitlines()[0].endswith("targets CNV − DME")
    assert len(repr(made(500))) < 400


def test_maps_move() -> None:
    maps = made()
    there = maps.to("meta")
    assert there.native["gradcam"].is_meta and there.flags["saliency"]["all_zero"].is_meta
    assert isinstance(there.targets, Tensor) and there.targets.is_meta and there.logits.is_meta
    assert there.details["saliency"]["error"].is_meta and there.layer == maps.layer
    assert not maps.native["gradcam"].is_meta and same(maps.cpu().native, maps.native)
    assert maps.numpy()["gradcam"].dtype == np.float32


@pytest.mark.parametrize("kind", ["one", "several", "all", "scores", "empty"])
def test_a_file_gives_back_what_was_saved(kind: str, tmp_path: Path) -> None:
    maps = {
        "one": lambda: made(),
        "several": lambda: made(2, 3),
        "all": lambda: made(2, 4, targets="all"),
        "scores": lambda: made(
            targets="scores", scores=("CNV − “DME”",), score_of=torch.zeros(3).long()
        ),
        "empty": lambda: made(layer="", class_names=(), refused={}, details={}),
    }[kind]()
    maps.save(tmp_path / "some" / "maps.npz")
    found = Maps.load(str(tmp_path / "some" / "maps.npz"))
    for field in fields(Maps):
        assert same(getattr(maps, field.name), getattr(found, field.name)), field.name
    with np.load(tmp_path / "some" / "maps.npz", allow_pickle=False) as file:
        assert file["native/gradcam"].shape == maps.native["gradcam"].shape
        assert json.loads(str(file["about"]))["format"] == "octoscope maps 1"
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["maps.npz"]


def test_pictures_and_figures_are_files(tmp_path: Path) -> None:
    maps, images = made(2), torch.rand(2, 1, 20, 30)
    maps.save(tmp_path / "figure.png", images)
    assert Image.open(tmp_path / "figure.png").size[0] > 300
    maps.save(tmp_path / "folder", images)
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [
        "000-gradcam.png", "000-saliency.png", "001-gradcam.png", "001-saliency.png", "maps.npz",
    ]  # fmt: skip
    picture = np.asarray(Image.open(tmp_path / "folder" / "001-gradcam.png"))
    assert (picture == maps.overlay(images, "gradcam")[1]).all()
    assert same(Maps.load(tmp_path / "folder").native, maps.native)
    several = made(1, 2, class_names=("a/b", "../c"), targets=torch.tensor([[0, 1]]))
    several.save(tmp_path / "classes", images[:1])
    written = list((tmp_path / "classes").iterdir())
    assert len(written) == 5 and all(path.parent == tmp_path / "classes" for path in written)


@pytest.mark.parametrize(
    ("name", "images", "sentence"),
    [
        ("maps.zip", None, r"saved as .npz, .png"),
        ("maps.png", None, "a figure needs the images"),
        ("maps.png", torch.rand(2, 1, 20, 30), r"no images for 3 maps of 20×30"),
    ],
)
def test_what_cannot_be_saved_is_said(
    name: str, images: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        made().save(tmp_path / name, images)
    assert not list(tmp_path.iterdir())


def packed(path: Path, change: Any) -> None:
    """Write the file of maps anew, its entries changed."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def array(values: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(values), allow_pickle=True)
    return out.getvalue()


def about(**changes: Any) -> bytes:
    text = {
        "format": "octoscope maps 1", "size": [20, 30], "layer": "", "class_names": [],
        "scores": [], "refused": {},
    }  # fmt: skip
    return array(json.dumps(text | changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop("about.npy"),
        lambda e: e.pop("logits.npy"),
        lambda e: e.pop("flags/gradcam/all_zero.npy") and e.pop("native/gradcam.npy"),
        lambda e: e.update({"about.npy": array("[]")}),
        lambda e: e.update({"about.npy": array("{" * 5000)}),
        lambda e: e.update({"about.npy": about(format="octoscope maps 2")}),
        lambda e: e.update({"about.npy": about(size=[1e999])}),
        lambda e: e.update({"about.npy": about(size=5)}),
        lambda e: e.update({"about.npy": about(refused=[1])}),
        lambda e: e.update({"native/gradcam.npy": array(np.zeros(5))}),
        lambda e: e.update({"native/gradcam.npy": array([{"a": 1}])}),
        lambda e: e.update({"native/gradcam.npy": array(["text"])}),
        lambda e: e.update({"logits.npy": array(1.0)}),
        lambda e: e.update({"logits.npy": e["logits.npy"][:40]}),
        lambda e: e.update({"logits.npy": e["logits.npy"].replace(b"(3, 4)", b"(9**9,)")}),
    ],
)
def test_a_changed_file_is_one_sentence(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    made().save(path)
    packed(path, change)
    with pytest.raises(OctoscopeError, match=r"maps.npz: not a file of maps"):
        Maps.load(path)


def test_a_damaged_file_is_one_sentence_or_the_same_maps(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    made().save(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for cut in [*range(0, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(OctoscopeError):
            Maps.load(path)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[draw.integers(len(whole))] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        try:
            Maps.load(path)
        except OctoscopeError:
            refused += 1
    assert refused > 50
    with pytest.raises(OctoscopeError, match="no such file of maps"):
        Maps.load(tmp_path / "none.npz")
    np.savez_compressed(path, about=np.zeros(10**6))
    with pytest.raises(OctoscopeError, match="packed"):
        Maps.load(path)
