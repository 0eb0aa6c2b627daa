"""A classifier is its network, class names and preprocessing, and survives a folder unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import nn

from octoscope.errors import OctoscopeError, ScanError
from octoscope.models.classifier import Classifier
from octoscope.models.network import build_network
from octoscope.models.preprocess import Preprocess
from octoscope.scans.framing import Framing, frame_image

SIZE = (32, 48)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are slower on many threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CLASSES = ("CNV", "DME", "NORMAL")


def make(name: str = "resnet10t", channels: int = 1, **options: object) -> Classifier:
    network = build_network(name, 3, in_channels=channels, image_size=SIZE, seed=1, **options)
    preprocess = Preprocess(Framing(*SIZE), channels, (0.2,) * channels, (0.3,) * channels)
    architecture = {
        "name": name,
        "in_channels": channels,
        "image_size": list(SIZE),
        "options": options,
    }
    return Classifier(network, CLASSES, preprocess, architecture).eval()


def test_normalisation_is_inside() -> None:
    classifier, images = make(), torch.rand(2, 1, *SIZE)
    torch.testing.assert_close(classifier(images), classifier.network((images - 0.2) / 0.3))


def test_grey_is_repeated_for_three_channels() -> None:
    classifier, images = make(channels=3), torch.rand(2, 1, *SIZE)
    torch.testing.assert_close(classifier(images), classifier(images.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("shape", [(2, 2, *SIZE), (1, *SIZE)])
def test_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(OctoscopeError, match=r"do not fit this classifier; give \(B, 1, H, W\)"):
        make()(torch.rand(shape))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {}),
        ("convnext_atto", {}),
        ("efficientnet_lite0", {}),
        ("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 24, "num_heads": 2}),
        ("swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1], "embed_dim": 24}),
    ],
)
def test_features_are_what_the_head_sees(name: str, options: dict) -> None:
    classifier, images = make(name, **options), torch.rand(2, 1, *SIZE)
    features = classifier.features(images)
    assert features.shape == (2, classifier.network.num_features)
    head = classifier.network.get_classifier()
    torch.testing.assert_close(head(features), classifier(images))


def test_features_of_any_network_are_the_input_of_its_last_linear_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, 2))
    classifier = Classifier(network, "ab", Preprocess(Framing(4, 6), 1, (0.0,), (1.0,)))
    images = torch.rand(3, 1, 4, 6)
    torch.testing.assert_close(classifier.features(images), network[:3](images))
    assert not network[3]._forward_pre_hooks


def test_a_network_without_linear_layer_has_no_features() -> None:
    classifier = Classifier(nn.Flatten(), "ab", Preprocess(Framing(1, 2), 1, (0.0,), (1.0,)))
    with pytest.raises(OctoscopeError, match="no linear layer"):
        classifier.features(torch.rand(1, 1, 1, 2))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "channels", "options"),
    [
        ("resnet10t", 3, {}),
        ("vit_tiny_patch16_224", 1, {"depth": 2, "embed_dim": 24, "num_heads": 2}),
    ],
)
def test_saved_and_loaded_it_is_the_same(tmp_path, name, channels, options, memory_format) -> None:
    classifier = make(name, channels, **options).to(memory_format=memory_format)
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    images = torch.rand(2, 1, *SIZE)
    assert not again.training
    assert again.classes == CLASSES
    assert again.preprocess == classifier.preprocess
    assert again.architecture == classifier.architecture
    torch.testing.assert_close(again(images), classifier(images))
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "classifier.json",
        "model.safetensors",
    ]


def test_its_weights_file_starts_another_network(tmp_path) -> None:
    classifier = make()
    classifier.save(tmp_path)
    network = build_network("resnet10t", 5, image_size=SIZE, weights=tmp_path / "model.safetensors")
    assert torch.equal(network.conv1[0].weight, classifier.network.conv1[0].weight)


def test_saving_again_replaces(tmp_path) -> None:
    make().save(tmp_path)
    other = make()
    nn.init.ones_(other.network.fc.bias)
    other.save(tmp_path)
    assert torch.equal(Classifier.load(tmp_path).network.fc.bias, torch.ones(3))


def test_a_network_of_ones_own_cannot_be_saved(tmp_path) -> None:
    classifier = Classifier(nn.Flatten(), "ab", Preprocess(Framing(1, 2), 1, (0.0,), (1.0,)))
    with pytest.raises(OctoscopeError, match="cannot be built again by name"):
        classifier.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make().save(tmp_path)
    return tmp_path


def test_missing_files_are_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(OctoscopeError, match=r"model\.safetensors: no such file"):
        Classifier.load(saved)
    with pytest.raises(OctoscopeError, match=r"classifier\.json: no such file"):
        Classifier.load(saved / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "flip", "replace"])
def test_damaged_weights_are_noticed(saved: Path, damage: str) -> None:
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "cut":
        del content[-1000:]
    elif damage == "flip":
        content[-5] ^= 1
    else:
        content = bytearray(b"not tensors")
    weights.write_bytes(content)
    with pytest.raises(OctoscopeError, match=r"model\.safetensors: damaged, or not the weights"):
        Classifier.load(saved)


def change(saved: Path, **entries: object) -> None:
    path = saved / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


ARCHITECTURE = {"name": "resnet10t", "in_channels": 1, "image_size": list(SIZE), "options": {}}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"format": "something else"}, "not a classifier of this version"),
        ({"classes": ["CNV"]}, "at least 2 different names"),
        ({"classes": ["CNV", "CNV", "DME"]}, "at least 2 different names"),
        ({"classes": "abc"}, "at least 2 different names"),
        ({"classes": ["CNV", "DME"]}, "does not hold the weights of resnet10t"),
        ({"architecture": {"name": "resnet10t"}}, "architecture must have"),
        ({"architecture": {**ARCHITECTURE, "name": "os.system"}}, "is not known"),
        ({"architecture": {**ARCHITECTURE, "name": "hf-hub:a/b"}}, "is not known"),
        ({"architecture": {**ARCHITECTURE, "name": "resnet18"}}, "does not hold the weights"),
        ({"architecture": {**ARCHITECTURE, "image_size": [32]}}, "rows and columns"),
        (
            {"architecture": {**ARCHITECTURE, "options": {"checkpoint_path": "/etc/passwd"}}},
            "is no option",
        ),
        ({"preprocess": None}, "has no preprocess"),
        ({"preprocess": {"mean": [0.1]}}, "preprocess: .*framing"),
        ({"weights_sha256": "0" * 64}, "damaged, or not the weights"),
    ],
)
def test_a_changed_description_is_one_sentence(saved: Path, entries: dict, said: str) -> None:
    change(saved, **entries)
    with pytest.raises(OctoscopeError, match=said) as caught:
        Classifier.load(saved)
    assert str(saved) in str(caught.value)


def test_a_description_that_is_not_json_is_named(saved: Path) -> None:
    (saved / "classifier.json").write_text("{")
    with pytest.raises(OctoscopeError, match=r"classifier\.json: not valid JSON"):
        Classifier.load(saved)


def test_prepare_takes_arrays_and_files_alike(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 200, (60, 50)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "scan.png")
    classifier = make()
    expected = frame_image(image, classifier.preprocess.framing) / 255
    batch = classifier.prepare(
        [image, tmp_path / "scan.png", str(tmp_path / "scan.png"), image / 255]
    )
    assert batch.shape == (4, 1, *SIZE)
    assert batch.dtype == torch.float32
    for row in batch:
        np.testing.assert_allclose(row[0].numpy(), expected, atol=1e-6)


def test_prepare_names_what_it_cannot_take(tmp_path) -> None:
    (tmp_path / "scan.jpeg").write_text("text")
    with pytest.raises(ScanError, match=r"scan\.jpeg"):
        make().prepare([tmp_path / "scan.jpeg"])
    with pytest.raises(OctoscopeError, match=r"shape \(3, 60, 50\) is not a B-scan"):
        make().prepare([np.zeros((3, 60, 50), np.uint8)])
    with pytest.raises(OctoscopeError, match="no images"):
        make().prepare([])


def test_statistics_are_measured_on_the_given_rows_only() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, *SIZE)).astype(np.uint8)
    images[1::2] //= 3
    rows = np.arange(1, 9, 2)
    measured = Preprocess.measured(Framing(*SIZE), 3, images, rows)
    assert measured.mean == pytest.approx([images[rows].mean() / 255] * 3)
    assert measured.std == pytest.approx([images[rows].std() / 255] * 3)
    assert "4 training images" in measured.source


def test_blank_images_do_not_divide_by_zero() -> None:
    blank = Preprocess.measured(Framing(*SIZE), 1, np.zeros((2, *SIZE), np.uint8), np.arange(2))
    assert blank.std == (1 / 255,)


def test_pretrained_statistics_are_the_networks_own() -> None:
    network = build_network("resnet10t", 3, in_channels=3)
    three = Preprocess.of_pretrained(Framing(*SIZE), 3, network)
    one = Preprocess.of_pretrained(Framing(*SIZE), 1, network)
    assert three.mean == (0.485, 0.456, 0.406)
    assert one.mean == pytest.approx([np.mean(three.mean)])
    assert one.std == pytest.approx([np.mean(three.std)])


@pytest.mark.parametrize(
    "values",
    [
        {"mean": (0.1,), "std": (0.0,)},
        {"mean": (0.1, 0.2), "std": (0.3,)},
        {"mean": (float("nan"),), "std": (0.3,)},
        {"mean": ("a",), "std": (0.3,)},
    ],
)
def test_impossible_statistics_are_refused(values: dict) -> None:
    with pytest.raises(OctoscopeError, match="preprocess"):
        Preprocess(Framing(*SIZE), 1, **values)


def architecture(**changes: object) -> dict[str, object]:
    return {"architecture": {**ARCHITECTURE, **changes}}


@pytest.mark.parametrize(
    "entries",
    [
        architecture(options={"layers": [1, 2147483648, 1, 1]}),
        architecture(options={"layers": [1, 30_000, 1, 1]}),
        architecture(options={"channels": [64, 128, 256, 100_000]}),
        architecture(options={"stem_width": 100_000}),
        architecture(name="vit_tiny_patch16_224", options={"depth": 10**9}),
        architecture(name="vit_tiny_patch16_224", options={"depth": 100_000}),
        architecture(name="vit_tiny_patch16_224", options={"embed_dim": 100_000, "num_heads": 1}),
        architecture(name="swin_tiny_patch4_window7_224", options={"depths": [9000] * 4}),
        architecture(name="vit_giant_patch14_dinov2"),
        architecture(in_channels=10**9),
        architecture(in_channels=3),
        architecture(in_channels=True),
        architecture(image_size=[10**9, 10**9]),
        architecture(image_size=[-1, 32]),
        architecture(image_size=[True, 32]),
        architecture(image_size=[32.0, 32.0]),
        architecture(image_size=[1, 1], name="vit_tiny_patch16_224"),
        architecture(options={"weights": "/etc/passwd"}),
        architecture(options={"pretrained": True}),
        architecture(options={"seed": 1}),
        architecture(options={"act_layer": {"class_path": "subprocess.Popen"}}),
        architecture(options={"act_layer": "os.system"}),
        architecture(options={"drop_path_rate": float("nan")}),
        architecture(name="local-dir:/tmp"),
        architecture(name="x" * 10**6),
        architecture(name="resnet10t.\x00"),
        {"classes": [f"c{i}" for i in range(100_000)]},
        {"classes": ["a", "b", 3]},
        {"classes": ["a", "b", ""]},
        {"classes": ["a", "b", "c" * 10**5]},
        {"preprocess": {"framing": {"height": 10**9}, "channels": 1, "mean": [0], "std": [1]}},
        {"preprocess": []},
        {"architecture": [1, 2]},
        {"weights_sha256": ["a"]},
        {"padding": "x" * 5 * 2**20},
    ],
)
def test_a_hostile_description_is_one_sentence_at_once(saved: Path, entries: dict) -> None:
    change(saved, **entries)
    begin = time.process_time()
    with pytest.raises(OctoscopeError) as caught:
        Classifier.load(saved)
    assert time.process_time() - begin < 1
    assert str(saved) in str(caught.value)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["fc.weight", "layer1.0.bn1.running_var"])
def test_weights_that_are_no_numbers_are_refused(saved: Path, key: str, bad: float) -> None:
    classifier = Classifier.load(saved)
    classifier.network.state_dict()[key].view(-1)[-1] = bad
    classifier.save(saved)
    with pytest.raises(OctoscopeError, match=rf"{key} holds values that are no numbers"):
        Classifier.load(saved)


def rewrite(saved: Path, content: bytes) -> None:
    """Write other weights that the description believes in."""
    (saved / "model.safetensors").write_bytes(content)
    change(saved, weights_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("kind", ["less", "more", "renamed", "shape", "none", "pickle", "header"])
def test_other_tensors_than_the_network_has_are_refused(saved: Path, kind: str) -> None:
    state = load_file(saved / "model.safetensors")
    weight = state["fc.weight"]
    if kind in ("less", "renamed"):
        del state["fc.weight"]
    if kind == "more":
        state["extra"] = torch.zeros(3)
    if kind == "renamed":
        state["fc.weigth"] = weight
    if kind == "shape":
        state["fc.weight"] = weight.T.contiguous()
    content = serialise({} if kind == "none" else state)
    if kind == "pickle":
        content = pickle.dumps([1, 2, 3])
    if kind == "header":
        content = (10**12).to_bytes(8, "little") + b"{}"
    rewrite(saved, content)
    with pytest.raises(OctoscopeError, match=r"does not hold the weights|damaged, or not"):
        Classifier.load(saved)


@pytest.mark.parametrize("name", ["classifier.json", "model.safetensors"])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    (saved / name).mkdir()
    with pytest.raises(OctoscopeError, match="no such file"):
        Classifier.load(saved)
    (saved / name).rmdir()
    os.mkfifo(saved / name)
    with pytest.raises(OctoscopeError, match="no such file"):
        Classifier.load(saved)
