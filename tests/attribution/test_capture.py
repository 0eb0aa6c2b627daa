"""The capture gives the gradients of a plain pass, and leaves the model as it found it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from attribution.quick import SEVEN
from octoscope.attribution.capture import Capture
from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import borrowed, eager


class Net(nn.Module):
    """Two convolutions with batch norm, dropout, in-place ReLU after each layer, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))
        self.late = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.side = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)
        self.fault = ""

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "prefix":
            raise ValueError("prefix")
        x = self.act(self.late(self.act(self.early(x)))) + self.side(x)
        if self.fault == "suffix":
            raise ValueError("suffix")
        return self.head(self.drop(x).mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 20, generator=torch.Generator().manual_seed(1))


def plain(model: nn.Module, layers: list[nn.Module], x: Tensor, c: Tensor) -> list[Tensor]:
    """Gradients at some layers by the whole graph."""
    seen: list[Tensor] = []

    def watch(_module: nn.Module, _inputs: Any, out: Tensor) -> Tensor:
        seen.append(out)
        return out.clone()

    hooks = [layer.register_forward_hook(watch) for layer in layers]
    logits = model.eval()(x)
    for hook in hooks:
        hook.remove()
    return list(torch.autograd.grad(logits.gather(1, c[:, None]).sum(), seen))


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything an explanation might leave behind."""
    return {
        "training": [part.training for part in model.modules()],
        "hooks": [
            (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for part in model.modules()
        ],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [
            None if p.grad is None else (id(p.grad), p.grad.sum().item())
            for p in model.parameters()
        ],
        "attributes": [sorted(vars(part)) for part in model.modules()],
        "numbers": [value.double().sum().item() for value in model.state_dict().values()],
        "checkpointing": [getattr(part, "grad_checkpointing", None) for part in model.modules()],
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_num_threads(),
        ),
    }


@pytest.fixture
def lived_in() -> Net:
    """A model in the middle of training: mixed modes, a frozen part, gradients in place."""
    model = net().train()
    model.early.eval()
    model.side.requires_grad_(False)
    model(images()).sum().backward()
    return model


def test_nothing_is_left_behind(lived_in: Net) -> None:
    before = state_of(lived_in)
    explain(lived_in, images(), "all", targets="all", batch_size=2)
    assert state_of(lived_in) == before


@pytest.mark.parametrize(
    ("fault", "arguments", "error"),
    [
        ("prefix", {}, ValueError),
        ("suffix", {}, ValueError),
        ("", {"targets": 9}, OctoscopeError),
        ("", {"targets": [0, 1]}, OctoscopeError),
        ("", {"layer": "drop"}, None),
        ("", {"layer": "act"}, OctoscopeError),  # runs twice
        ("", {"layer": "head"}, OctoscopeError),  # no positions
        ("", {"methods": ["gradcam", "gradacm"]}, OctoscopeError),
        ("", {"batch_size": 0}, OctoscopeError),
    ],
)
def test_nothing_is_left_behind_after_a_fault(
    lived_in: Net, fault: str, arguments: dict[str, Any], error: type[Exception] | None
) -> None:
    lived_in.fault = fault
    before = state_of(lived_in)
    with pytest.raises(error) if error else nullcontext():
        explain(lived_in, images(), **{"layer": "late", **arguments})
    assert state_of(lived_in) == before


def test_nothing_is_left_behind_after_an_interrupt(lived_in: Net) -> None:
    before = state_of(lived_in)
    with pytest.raises(KeyboardInterrupt), Capture(lived_in, {"late": lived_in.late}) as capture:
        capture(images())
        raise KeyboardInterrupt
    assert state_of(lived_in) == before


def test_dropout_and_batch_norm_do_not_train() -> None:
    model = net().train()
    trained, still = explain(model, images(), SEVEN), explain(net().eval(), images(), SEVEN)
    for name in trained:
        assert trained.native[name].equal(still.native[name])


def test_several_layers_are_cut_only_once() -> None:
    model, x, c = net().eval(), images(), torch.tensor([0, 3, 1])
    layers = {"early": model.early, "late": model.late, "side": model.side}
    with Capture(model, layers) as capture:
        evidence = capture(x)
        found = evidence.gradients(c)
    for name, expected in zip(layers, plain(model, list(layers.values()), x, c), strict=True):
        torch.testing.assert_close(found[name], expected)
    with torch.no_grad():
        torch.testing.assert_close(evidence.activations["early"], model.early(x))
        torch.testing.assert_close(evidence.logits, model(x))


def test_activations_are_those_before_an_in_place_operation() -> None:
    model, x = net().eval(), images()
    with Capture(model, {"late": model.late}) as capture:
        found = capture(x).activations["late"]
    assert (found < 0).any()  # the in-place ReLU that follows did not reach them


def test_gradients_for_class_after_class() -> None:
    model, x = net().eval(), images()
    with Capture(model, {"late": model.late}) as capture:
        evidence = capture(x)
    for k in range(4):  # also after the context has ended
        c = torch.full((3,), k)
        torch.testing.assert_close(
            evidence.gradients(c)["late"], plain(model, [model.late], x, c)[0]
        )


def test_the_prefix_holds_no_graph() -> None:
    model = timm.create_model("resnet10t", num_classes=4)  # parameters not frozen
    x = torch.rand(4, 3, 96, 96)
    explain(model, x[:1])  # looks at the model once, whatever is explained afterwards
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        explain(model, x, SEVEN)
        ours = sum(saved)
        saved.clear()
        model(x)
    assert ours < sum(saved) / 100
    assert ours <= 4 * model.num_features * 4 + 4 * model.num_features * 4  # pooled row and head


REFERENCE = ("gradcam", "hirescam", "eigengradcam")


@cache
def reference() -> dict[str, Tensor]:
    return dict(explain(net().eval(), images(), REFERENCE, targets=1, layer="late").native)


def assert_same(model: nn.Module, x: Tensor, tolerance: float = 1e-5, **options: Any) -> None:
    layer = {"layer": eager(model).get_submodule("late")} if hasattr(eager(model), "late") else {}
    found = explain(model, x, REFERENCE, targets=1, **{**layer, **options}).native
    for name, expected in reference().items():
        scale = expected.abs().max()
        assert (found[name] - expected).abs().max() <= tolerance * scale, name


def test_under_no_grad_and_inference_mode() -> None:
    with torch.no_grad():
        assert_same(net(), images())
    with torch.inference_mode():
        x = images()
        assert x.is_inference()
    assert_same(net(), x)
    model = net()
    with torch.inference_mode():
        assert_same(model, images())


def test_a_backbone_that_runs_under_no_grad() -> None:
    """Usual where only a head is trained: gradients must flow from the layer all the same."""

    class HeadOnly(nn.Module):
        def __init__(self, block: bool) -> None:
            super().__init__()
            self.network, self.block = net(), block

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad() if self.block else torch.enable_grad():
                x = self.network.act(self.network.late(self.network.early(x)))
            return self.network.head(x.mean((2, 3)))

    free, blocked = (explain(HeadOnly(block), images(), layer="network.late") for block in (0, 1))
    assert blocked.native["gradcam"].equal(free.native["gradcam"])
    assert blocked.native["gradcam"].any()


def test_frozen_parameters() -> None:
    assert_same(net().requires_grad_(False), images())


def test_images_that_require_gradients() -> None:
    x = images().requires_grad_()
    assert_same(net(), x)
    assert x.grad is None


def test_memory_formats() -> None:
    x = images().to(memory_format=torch.channels_last)
    assert_same(net().to(memory_format=torch.channels_last), x)
    assert_same(net(), images(6)[::2].clone().expand(3, -1, -1, -1) * 0 + images())
    wide = torch.cat([images(), images()], dim=3)[..., :20]  # rows are not contiguous
    assert_same(net(), wide)


def test_double_and_half_models() -> None:
    assert_same(net().double(), images())
    assert_same(net().bfloat16(), images(), tolerance=0.2)
    maps = explain(net().bfloat16(), images(), layer="late")
    assert maps.native["gradcam"].dtype == maps.logits.dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "test_convnext"])
def test_outer_autocast_ends_at_the_layer(name: str) -> None:
    torch.manual_seed(0)
    model, x = timm.create_model(name, num_classes=4).eval(), torch.rand(2, 3, 160, 160)
    exact = explain(model, x, "hirescam", targets=1)
    with torch.autocast("cpu", torch.bfloat16):
        low = explain(model, x, "hirescam", targets=1)
        assert torch.is_autocast_enabled("cpu")
    assert low.logits.dtype == torch.float32
    a, b = exact.native["hirescam"], low.native["hirescam"]
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.99


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


class Wrapper(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
        in_place,
    ],
)
def test_wrappers_are_explained_eagerly(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert_same(wrap(net()), images())


def test_a_compiled_part_inside_a_model() -> None:
    inner = net().eval()
    model = Wrapper(torch.compile(inner, backend="eager"))
    model(images())  # compiled and cached before we come
    assert_same(model, images(), layer=inner.late)
    model(images())


def test_gradient_checkpointing_is_off_meanwhile() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=4, img_size=64)
    x = torch.rand(2, 3, 64, 64)
    expected = explain(model, x).native["gradcam"]
    model.set_grad_checkpointing(True)
    assert explain(model, x).native["gradcam"].equal(expected)
    assert model.grad_checkpointing


def test_switches_are_turned_and_turned_back() -> None:
    model = timm.create_model("test_vit", num_classes=4, img_size=64)
    attention = model.blocks[-1].attn
    before = attention.fused_attn
    seen: list[Tensor] = []
    hook = attention.attn_drop.register_forward_hook(lambda _m, _i, out: seen.append(out))
    switches = [(attention, "fused_attn", False)]
    with Capture(model, {"attn": attention.attn_drop}, switches) as capture:
        evidence = capture(torch.rand(2, 3, 64, 64))
        gradients = evidence.gradients(torch.tensor([0, 1]))
    hook.remove()
    assert attention.fused_attn is before
    assert len(seen) == 1  # softmax ran in the open
    assert evidence.activations["attn"].sum(-1).allclose(torch.ones(1))
    assert gradients["attn"].shape == evidence.activations["attn"].shape


def test_borrowing_twice_and_nested() -> None:
    model = net().train()
    before = state_of(model)
    with borrowed(model) as outer, borrowed(outer) as inner:
        assert inner is outer and inner is not model
        assert not any(
            part.training or p.requires_grad for part in inner.modules() for p in part.parameters()
        )
        assert state_of(model) == before
    assert state_of(model) == before


def test_faults_have_a_sentence() -> None:
    model, x = net(), images()
    with pytest.raises(OctoscopeError, match="4 channels and the model takes 3"):
        explain(model, torch.rand(1, 4, 16, 16), layer="late")
    with pytest.raises(OctoscopeError, match="layer unused does not run"):
        model.unused = nn.Conv2d(3, 3, 1)
        explain(model, x, layer="unused")
    with pytest.raises(OctoscopeError, match="layer act runs more than once"):
        explain(model, x, layer="act")
    with torch.inference_mode():
        built = net()
    with pytest.raises(OctoscopeError, match=r"built under torch.inference_mode\(\)"):
        explain(built, x, layer="late")
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=4, img_size=64)
    with pytest.raises(OctoscopeError, match=r"refuses images of 64×80: .*width"):
        explain(vit, torch.rand(1, 3, 64, 80))
    with pytest.raises(
        OctoscopeError, match=r"no patch token of layer blocks\.\d, only on its class"
    ):
        explain(vit, torch.rand(1, 3, 64, 64), layer="blocks.1")


def test_logits_that_ignore_the_layer() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.conv(x)
            return self.head(x.mean((2, 3)))

    with pytest.raises(OctoscopeError, match="do not depend on layer conv"):
        explain(Aside(), images(), layer="conv")


def test_outputs_that_are_no_logits() -> None:
    dense = nn.Conv2d(3, 4, 1)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), dense)
    with pytest.raises(OctoscopeError, match=r"gives a tensor \(3, 4, 16, 20\) instead of logits"):
        explain(model, images(), layer="0")
