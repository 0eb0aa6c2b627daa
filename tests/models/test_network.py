"""Any timm classifier by name, channels and image size, or one sentence why not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import save_file

from octoscope.errors import OctoscopeError
from octoscope.models.network import build_network, count_parameters, nearest_sizes


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are slower on many threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = [  # one small network per way of treating image size and channels
    "resnet10t",
    "convnext_atto",
    "efficientnet_lite0",
    "mobilenetv3_small_050",
    "densenet121",
    "regnetx_002",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "mobilevit_xxs",
    "levit_128s",
    "mixer_s32_224",
    "coatnet_pico_rw_224",
    "test_efficientnet",
]


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_one_logit_per_class_at_a_size_that_is_not_square(name: str, in_channels: int) -> None:
    network = build_network(name, 3, in_channels=in_channels, image_size=(64, 96)).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, in_channels, 64, 96)).shape == (2, 3)


TINY_VIT = {"depth": 2, "embed_dim": 24, "num_heads": 2}
TINY = {
    "resnet10t": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": TINY_VIT,
    "swin_tiny_patch4_window7_224": {"depths": [1, 1, 1, 1], "embed_dim": 24},
}


@pytest.mark.parametrize("name", TINY)
def test_what_the_dry_run_accepts_does_run(name: str) -> None:
    accepted = 0
    for size in ((64, 64), (96, 160), (70, 101)):
        try:
            network = build_network(name, 2, image_size=size, **TINY[name]).eval()
        except OctoscopeError:
            continue
        accepted += 1
        with torch.inference_mode():
            assert network(torch.rand(1, 1, *size)).shape == (1, 2)
    assert accepted >= 2


def test_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(OctoscopeError, match=r'"resnet81" is not known.*did you mean "resnet18"'):
        build_network("resnet81", 4)


@pytest.mark.parametrize("name", ["hf-hub:somebody/net", "local-dir:/tmp/net", "../resnet18", ""])
def test_a_name_never_leads_out_of_the_library(name: str) -> None:
    with pytest.raises(OctoscopeError, match="is not known"):
        build_network(name, 4)


def test_pixels_are_never_cut_off_silently() -> None:
    with pytest.raises(OctoscopeError) as caught:
        build_network("vit_tiny_patch16_224", 4, image_size=(100, 250), **TINY_VIT)
    assert "100×250" in str(caught.value)
    assert "would leave out 4 rows, 10 columns" in str(caught.value)
    proposed = re.findall(r"(\d+)×(\d+)", str(caught.value).split("that fit:")[1])
    assert proposed == [("96", "240"), ("112", "256")]
    for rows, columns in proposed:
        size = (int(rows), int(columns))
        build_network("vit_tiny_patch16_224", 4, image_size=size, **TINY_VIT)


def test_the_proposed_size_follows_the_patch_asked_for() -> None:
    with pytest.raises(OctoscopeError, match=r"80×140 or 100×160"):
        build_network("vit_tiny_patch16_224", 4, image_size=(96, 144), patch_size=20)


def test_a_network_for_square_images_says_so() -> None:
    with pytest.raises(OctoscopeError, match=r"nest_tiny cannot take images of 128×192.*224×224"):
        build_network("nest_tiny", 4, image_size=(128, 192))


def test_sizes_too_small_for_a_network_propose_a_larger_one() -> None:
    with pytest.raises(OctoscopeError, match=r"vgg11 cannot take images of 10×10.*fit: 32×32"):
        build_network("vgg11", 4, image_size=(10, 10))


def test_nearest_sizes_brackets_on_the_finest_grid_that_fits() -> None:
    assert nearest_sizes(lambda s: s[0] % 8 == s[1] % 8 == 0, (30, 50)) == [(24, 48), (32, 56)]
    assert nearest_sizes(lambda s: s[0] == s[1] and s[0] % 14 == 0, (30, 50)) == [
        (28, 28),
        (56, 56),
    ]
    assert nearest_sizes(lambda s: False, (30, 50)) == []


def test_options_pass_through() -> None:
    network = build_network(
        "vit_tiny_patch16_224",
        4,
        image_size=(96, 144),
        patch_size=24,
        depth=3,
        embed_dim=48,
        num_heads=4,
    )
    assert len(network.blocks) == 3
    assert network.patch_embed.grid_size == (4, 6)
    assert network.blocks[0].attn.num_heads == 4
    assert network.embed_dim == 48
    assert network.pos_embed.shape == (1, 1 + 4 * 6, 48)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depht": 3}, r'no option "depht" \(did you mean "depth"\?\)'),
        ({"num_heads": 5}, "num_heads=5"),
        ({"patch_size": "large"}, "patch_size=large"),
        ({"checkpoint_path": "weights.pth"}, '"checkpoint_path" is no option'),
        ({"pretrained_cfg": "x"}, '"pretrained_cfg" is no option'),
        ({"norm_layer": print}, "use a number, a text, or a list"),
        ({"norm_layer": "os.system"}, "option norm_layer .* plain words"),
    ],
)
def test_wrong_options_are_named(options: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        build_network("vit_tiny_patch16_224", 4, **options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_classes": 1}, "at least 2 classes"),
        ({"num_classes": 4, "in_channels": 2}, "1 or 3 channels"),
        ({"num_classes": 4, "image_size": (0, 8)}, "is empty"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        build_network("resnet10t", **arguments)


def test_an_encoder_without_logits_is_refused() -> None:
    with pytest.raises(OctoscopeError, match="not one logit per class"):
        build_network("vit_tiny_patch16_224", 4, global_pool="", class_token=False, **TINY_VIT)


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (build_network("resnet10t", 4, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.conv1[0].weight, same.conv1[0].weight)
    assert not torch.equal(one.conv1[0].weight, other.conv1[0].weight)


def test_parameters_are_counted() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    network[0].requires_grad_(False)
    assert count_parameters(network) == (3 * 5 + 5 + 5 * 2 + 2, 5 * 2 + 2)


def test_pretrained_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(OctoscopeError, match=r"weights of resnet18 could not.*pretrained=False"):
        build_network("resnet18", 4, pretrained=True)


def test_local_weights_are_adapted_to_one_channel_and_other_classes(tmp_path) -> None:
    source = build_network("resnet10t", 1000, in_channels=3, seed=5)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = build_network("resnet10t", 4, weights=tmp_path / "w.safetensors")
    # A grey image in all three channels meets the sum of the three kernels.
    expected = source.conv1[0].weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(network.conv1[0].weight, expected)
    assert torch.equal(network.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert network.fc.weight.shape == (4, 512)


def test_weights_of_another_architecture_are_not_half_loaded(tmp_path) -> None:
    save_file(build_network("resnet18", 4).state_dict(), tmp_path / "w.safetensors")
    for name, options in (("resnet34", {}), ("vit_tiny_patch16_224", TINY_VIT), ("resnet50", {})):
        with pytest.raises(OctoscopeError, match=r"w\.safetensors: .* belongs to"):
            build_network(name, 4, weights=tmp_path / "w.safetensors", **options)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.pth", b"\x80\x04", r"\.safetensors files only"),
        ("w.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable safetensors file"),
        ("w.safetensors", None, "no such file"),
    ],
)
def test_unreadable_weights_are_named(
    tmp_path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(OctoscopeError, match=said):
        build_network("resnet10t", 4, weights=tmp_path / name)
