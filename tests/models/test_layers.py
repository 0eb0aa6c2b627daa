"""Target layers of every known family: name, layout, and the place on the grid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.models.layers import choose_layer, find_layer, resolve_target
from octoscope.models.layout import TargetLayer, covers
from timm_families import FAMILIES, Family


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run quicker on one thread, and do not disturb what runs beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


@families
def test_every_family_has_its_layer(family: Family) -> None:
    target = resolve_target(family.build(), family.images())
    assert (target.name, target.kind) == (family.layer, family.kind)
    assert (target.grid, target.prefix_tokens) == (family.grid, family.prefix)
    assert dict(family.build().named_modules())[target.name] is target.module


@pytest.mark.parametrize(
    "family",
    # Channels first need no reading, and LeViT shrinks its grid by attention that mixes everything.
    [family for family in FAMILIES if family.kind != "nchw" and family.name != "levit_128s"],
    ids=lambda f: f.name,
)
def test_positions_are_where_the_image_is(family: Family) -> None:
    """A cell of the map answers to its place in the image more than to the opposite corner."""
    network, images = family.build(), family.images(1)
    target = resolve_target(network, images)
    rows, columns = target.grid
    high, wide = family.size[0] // rows, family.size[1] // columns

    def change(where: tuple[slice, slice]) -> Tensor:
        changed = images.clone()
        changed[..., where[0], where[1]] += 3
        before, after = (target.maps(_output(family, target.module, x)) for x in (images, changed))
        return (after - before).abs().sum(1)[0]

    top_right = change((slice(0, high), slice(-wide, None)))
    bottom_left = change((slice(-high, None), slice(0, wide)))
    row, column = divmod(int((top_right / bottom_left.clamp(min=1e-9)).argmax()), columns)
    slack = int(family.name.startswith("xcit"))  # its convolutions carry it one cell further
    assert row <= slack
    assert column >= columns - 1 - slack


@pytest.mark.parametrize(
    ("name", "layer", "kind", "options"),
    [
        ("resnet18", "layer4", "nchw", {}),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1", "tokens", {"image_size": 64}),
        ("swin_t", "permute", "nchw", {}),
        ("mobilenet_v3_small", "features", "nchw", {}),
        ("densenet121", "features", "nchw", {}),
    ],
)
def test_torchvision(name: str, layer: str, kind: str, options: dict[str, int]) -> None:
    network = torchvision.models.get_model(name, num_classes=4, **options)
    size = (64, 64) if options else (64, 96)
    target = resolve_target(network, torch.rand(1, 3, *size))
    assert (target.name, target.kind) == (layer, kind)
    grid = (4, 4) if kind == "tokens" else (2, 3)
    assert (target.grid, target.prefix_tokens) == (grid, int(kind == "tokens"))


def test_probing_agrees_with_the_rules() -> None:
    """What a network shows when it runs is what the rules say, where both can tell."""
    for family in FAMILIES:
        if family.name in ("resnet10t", "densenet121", "hrnet_w18_small"):
            _, module = choose_layer(family.build(), family.images())
            ruled = find_layer(family.build())
            assert ruled is not None
            image = family.images(1)
            assert _output(family, module, image).equal(_output(family, ruled[1], image))


def _output(family: Family, module: nn.Module, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        family.build()(images)
    hook.remove()
    return seen[0]


class TinyNet(nn.Module):
    """An unknown network: two convolutions with in-place ReLU, pooling, a hidden head."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.alpha = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.beta = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.alpha(x))
        x = self.beta(x)
        return self.head(self.pool(x).flatten(1))


def test_unknown_network_is_probed() -> None:
    target = resolve_target(TinyNet(), torch.rand(2, 3, 16, 24))
    assert (target.name, target.kind, target.grid) == ("beta", "nchw", (4, 6))


def test_probing_through_a_backbone_under_no_grad() -> None:
    class HeadOnly(TinyNet):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.beta(self.act(self.alpha(x)))
            return self.head(self.pool(x).flatten(1))

    assert resolve_target(HeadOnly(), torch.rand(2, 3, 16, 24)).name == "beta"
    assert torch.is_grad_enabled()


def test_a_head_by_the_name_of_a_layer() -> None:
    """Names that families give to convolutions mean nothing on a linear layer."""

    class Named(TinyNet):
        def __init__(self) -> None:
            super().__init__()
            self.final_layer, self.layer4 = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.final_layer(self.layer4(super().forward(x)))

    assert resolve_target(Named(), torch.rand(2, 3, 16, 24)).name == "beta"


def test_probe_leaves_nothing_behind() -> None:
    network = TinyNet().train()
    network.beta.eval()
    choose_layer(network, torch.rand(1, 3, 16, 16))
    assert network.training and network.alpha.training and not network.beta.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize("wrap", ["sequential", "parallel", "compiled", "both"])
def test_wrapped_networks(wrap: str) -> None:
    class Classifier(nn.Module):  # like ours: normalises, then calls its network
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x - self.mean)

    inner = FAMILIES[0].build()
    compiled = torch.compile(inner, backend="eager")
    models = {
        "sequential": Classifier(inner),
        "parallel": nn.DataParallel(inner),
        "compiled": compiled,
        "both": nn.DataParallel(Classifier(compiled)),
    }
    target = resolve_target(models[wrap], FAMILIES[0].images())
    assert target.module is inner.layer4
    assert target.name.endswith("layer4")


def test_layer_may_be_named_or_given() -> None:
    network, images = FAMILIES[0].build(), FAMILIES[0].images()
    assert resolve_target(network, images, "layer3").grid == (4, 6)
    assert resolve_target(network, images, network.layer3).name == "layer3"
    mine = TargetLayer("layer3", network.layer3, "nchw", (4, 6))
    assert resolve_target(network, images, mine) is mine


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer5", r'no layer "layer5" \(did you mean "layer4"\?\)'),
        (nn.Identity(), "no part of the model"),
        ("global_pool", "no 2 spatial axes; pass layer="),
    ],
)
def test_wrong_layers_are_refused(layer: str | nn.Module, message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        resolve_target(FAMILIES[0].build(), FAMILIES[0].images(), layer)


def test_no_spatial_features() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(OctoscopeError, match=r"no layer with spatial features.*pass layer="):
        resolve_target(flat, torch.rand(1, 3, 4, 4))


def test_one_position_is_no_map() -> None:
    with pytest.raises(OctoscopeError, match="single position for images of 32×32"):
        resolve_target(FAMILIES[0].build(), torch.rand(1, 3, 32, 32))


def test_unequal_token_count_is_refused() -> None:
    class Odd(nn.Module):
        """A transformer that states two prefix tokens and has three."""

        def __init__(self) -> None:
            super().__init__()
            self.num_prefix_tokens = 2
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.norm1 = nn.LayerNorm(8)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x).flatten(2).mT  # (B, 16, 8)
            tokens = self.norm1(torch.cat([tokens[:, :3], tokens], dim=1))
            return self.head(tokens.mean(1))

    with pytest.raises(OctoscopeError, match=r"gives 19 tokens.*prefix_tokens"):
        resolve_target(Odd(), torch.rand(1, 3, 16, 16), "norm1")


def test_rows_must_be_images() -> None:
    class Folded(nn.Module):
        """Slices of a volume, run one by one: rows of the layer are no images."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(torch.cat([x, x]))
            return self.head(x.mean((2, 3))[: len(x) // 2])

    with pytest.raises(OctoscopeError, match="2 rows for 1 images"):
        resolve_target(Folded(), torch.rand(2, 3, 8, 8), "conv")


def test_layouts_are_views_of_the_same_numbers() -> None:
    maps = torch.rand(2, 5, 3, 4)  # (B, C, h, w)
    module = nn.Identity()
    assert TargetLayer("x", module, "nchw", (3, 4)).maps(maps).equal(maps)
    assert TargetLayer("x", module, "nhwc", (3, 4)).maps(maps.permute(0, 2, 3, 1)).equal(maps)
    tokens = torch.cat([torch.rand(2, 2, 5), maps.flatten(2).mT], dim=1)  # 2 prefix tokens
    assert TargetLayer("x", module, "tokens", (3, 4), 2).maps(tokens).equal(maps)
    volume = torch.rand(2, 3, 4, 5, 6)
    assert TargetLayer("x", module, "nhwc", (3, 4, 5)).maps(volume).equal(volume.movedim(-1, 1))
    with pytest.raises(OctoscopeError, match="not tokens on a grid of 3×4 with 1 prefix"):
        TargetLayer("x", module, "tokens", (3, 4), 1).maps(tokens)


def test_grids_that_an_image_can_have() -> None:
    assert covers((7, 7), (224, 224))
    assert covers((2, 3), (75, 100))  # strides of 32 with rounding
    assert not covers((7, 768), (224, 224))
    assert not covers((3, 2), (64, 200))


class Overwrites(TinyNet):
    """Writes into the images it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5))


@pytest.mark.parametrize("network", [TinyNet().bfloat16(), TinyNet().double(), Overwrites()])
def test_unknown_networks_get_images_of_their_type_and_of_their_own(network: nn.Module) -> None:
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    assert resolve_target(network, images).name == "beta"
    assert images.equal(before)
