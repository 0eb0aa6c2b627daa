"""Classifiers of transformers, built from small configurations, and LoRA of peft."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import peft
import pytest
import timm
import torch
import transformers
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.errors import OctoscopeError

SIZE = 64
TOKENS: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": SIZE,
    "patch_size": 16,
    "num_labels": 4,
}
WIDE = {"intermediate_size": 96}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_labels": 4}

# Name of the classifier and its configuration, settings, tokens before the patches, grid.
NETWORKS: list[tuple[str, str, dict[str, Any], int, tuple[int, int]]] = [
    ("ViTForImageClassification", "ViTConfig", TOKENS | WIDE, 1, (4, 4)),
    ("DeiTForImageClassification", "DeiTConfig", TOKENS | WIDE, 2, (4, 4)),
    ("DeiTForImageClassificationWithTeacher", "DeiTConfig", TOKENS | WIDE, 2, (4, 4)),
    ("Dinov2ForImageClassification", "Dinov2Config", TOKENS, 1, (4, 4)),
    ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", TOKENS, 5, (4, 4)),
    ("BeitForImageClassification", "BeitConfig", TOKENS | WIDE, 1, (4, 4)),
    (
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": SIZE,
            "patch_size": 4,
            "embed_dim": 24,
            "depths": [1, 1, 2],
            "num_heads": [1, 2, 2],
            "window_size": 4,
            "num_labels": 4,
        },
        0,
        (4, 4),
    ),
    ("ConvNextForImageClassification", "ConvNextConfig", STAGES, 0, (2, 2)),
    ("ResNetForImageClassification", "ResNetConfig", STAGES | {"embedding_size": 8}, 0, (2, 2)),
]
LAYERS = {
    "ViTForImageClassification": "vit.layers.1.layernorm_before",
    "DeiTForImageClassification": "deit.layers.1.layernorm_before",
    "DeiTForImageClassificationWithTeacher": "deit.layers.1.layernorm_before",
    "Dinov2ForImageClassification": "dinov2.layernorm",
    "Dinov2WithRegistersForImageClassification": "dinov2_with_registers.layernorm",
    "BeitForImageClassification": "beit.layernorm",
    "SwinForImageClassification": "swin.layernorm",
    "ConvNextForImageClassification": "convnext.encoder.stages.3",
    "ResNetForImageClassification": "resnet.encoder.stages.3",
}
"""The last layer whose patches the logits come from, and nothing passes by: where only the class
token is read, what the last attention is given."""
each = pytest.mark.parametrize(
    ("name", "config", "settings", "prefix", "grid"), NETWORKS, ids=[one[0] for one in NETWORKS]
)


@cache
def built(name: str, config: str, settings: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(transformers, name)(getattr(transformers, config)(**dict(settings)))
        for parameter in network.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.05:  # as drawn, nothing would differ
                nn.init.normal_(parameter, std=0.1)
    return network.eval()


def network_of(name: str, config: str, settings: dict[str, Any]) -> nn.Module:
    frozen = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.items())
    return built(name, config, frozen)


def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def hirescam_at(
    network: nn.Module,
    layer: str,
    prefix: int,
    grid: tuple[int, int],
    logits: Callable[[Any], Tensor] = lambda output: output.logits,
) -> Tensor:
    """Σ over channels of A ⊙ dy_1/dA at a layer, by a hook and autograd."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    hook = network.get_submodule(layer).register_forward_hook(keep)
    score = logits(network(images().requires_grad_()))[:, 1].sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    product = (gradient * kept[0]).detach()
    if product.ndim == 3:
        return product[:, prefix:].sum(-1).unflatten(1, grid)
    return product.sum(1)


@each
def test_the_map_is_that_of_a_hook_and_autograd(
    name: str, config: str, settings: dict[str, Any], prefix: int, grid: tuple[int, int]
) -> None:
    network = network_of(name, config, settings)
    maps = explain(network, images(), "hirescam", targets=1, signed=True)
    assert maps.native["hirescam"].shape == (2, *grid)
    expected = hirescam_at(network, maps.layer, prefix, grid)
    torch.testing.assert_close(maps.native["hirescam"], expected, rtol=1e-5, atol=1e-6)
    assert maps.layer == LAYERS[name]


@each
def test_inside_another_module_the_map_is_the_same(
    name: str, config: str, settings: dict[str, Any], prefix: int, grid: tuple[int, int]
) -> None:
    class Cooled(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.temperature = network, nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x).logits / self.temperature

    network = network_of(name, config, settings)
    methods = ["gradcam", "hirescam", "layercam"]
    bare = explain(network, images(), methods, targets=1, signed=True)
    inside = explain(Cooled(network), images(), methods, targets=1, signed=True)
    assert inside.layer == f"network.{bare.layer}"
    for method in methods:
        found, expected = 2 * inside.native[method], bare.native[method]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@each
def test_attention_is_refused_with_the_reason(
    name: str, config: str, settings: dict[str, Any], prefix: int, grid: tuple[int, int]
) -> None:
    network = network_of(name, config, settings)
    attends = "Conv" not in name and "ResNet" not in name
    reason = "whose attention is not read here" if attends else "has no attention"
    with pytest.raises(OctoscopeError, match=reason):
        explain(network, images(), "rollout")


def test_lora_is_explained_as_the_network_it_makes() -> None:
    torch.manual_seed(0)
    options = {"img_size": SIZE, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 4}
    network = timm.create_model("vit_tiny_patch16_224", **options)
    lora = peft.LoraConfig(r=2, target_modules=["qkv", "fc1"], init_lora_weights=False)
    adapted = peft.get_peft_model(network, lora).eval()
    methods = ["gradcam", "hirescam", "rollout", "chefer", "legrad"]
    found = explain(adapted, images(), methods, targets=1, signed=True)
    merged = adapted.merge_and_unload()
    expected = explain(merged, images(), methods, targets=1, signed=True)
    assert found.layer.endswith(expected.layer)
    for method in methods:
        torch.testing.assert_close(
            found.native[method], expected.native[method], rtol=1e-3, atol=1e-5
        )
