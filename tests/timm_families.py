"""Tiny members of every timm family whose target layer is known, and where that layer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

VIT = {"embed_dim": 48, "depth": 2, "num_heads": 3}
VGG = [8, "M", 16, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"]
SWIN = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}


@dataclass(frozen=True)
class Family:
    """A network small enough for tests, and what must be found in it."""

    name: str
    layer: str
    kind: str
    grid: tuple[int, int]
    prefix: int = 0
    size: tuple[int, int] = (64, 96)
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    constructor: Callable[..., nn.Module] | None = None  # where timm's factory takes no small sizes

    def build(self) -> nn.Module:
        """Build it, the same every time."""
        return _built(self)

    def images(self, count: int = 2, seed: int = 0) -> Tensor:
        """(B, 3, H, W), not square."""
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(count, 3, *self.size, generator=generator)


@cache
def _built(family: Family) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if family.constructor is not None:
            network = family.constructor(**family.options)
        else:
            network = timm.create_model(family.name, num_classes=4, **family.options)
        for name, parameter in network.named_parameters():
            # Heads that start at zero, and layer scales near it, would make every map zero.
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
            if "gamma" in name:
                nn.init.ones_(parameter)
        _calibrate(network, family.images(8, seed=1))
    return network.eval()


def _calibrate(network: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of some images, so that activations are of usual size."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # average over all batches seen
            if not part.weight.any():  # a residual branch that starts switched off
                nn.init.ones_(part.weight)
    with torch.no_grad():
        network.train()(images)


def _vit(name: str, prefix: int, **options: Any) -> Family:
    patch = 14 if "14" in name else 16
    return Family(
        name,
        "blocks.1.norm1",
        "tokens",
        (4, 6),
        prefix,
        (4 * patch, 6 * patch),
        dict(img_size=(4 * patch, 6 * patch), **VIT, **options),
    )


_SIZED = {"img_size": (64, 96)}

FAMILIES = (
    Family("resnet10t", "layer4", "nchw", (2, 3)),
    Family(
        "resnext50_32x4d",
        "layer4",
        "nchw",
        (2, 3),
        options={"layers": (1, 1, 1, 1), "cardinality": 8, "base_width": 4, "num_classes": 4},
        constructor=partial(timm.models.resnet.ResNet, timm.models.resnet.Bottleneck),
    ),
    Family("regnetx_002", "s4", "nchw", (2, 3)),
    Family("convnext_atto", "stages.3", "nchw", (2, 3), options={"dims": (8, 16, 24, 32)}),
    Family("convnextv2_atto", "stages.3", "nchw", (2, 3), options={"dims": (8, 16, 24, 32)}),
    Family("efficientnet_b0", "bn2", "nchw", (2, 3)),
    Family("tf_efficientnetv2_b0", "bn2", "nchw", (2, 3)),
    Family("mobilenetv3_small_050", "blocks.5", "nchw", (2, 3)),
    Family(
        "densenet121",
        "features.norm5",
        "nchw",
        (2, 3),
        options={"block_config": (2, 2, 2, 2), "growth_rate": 8},
    ),
    Family(
        "vgg11",
        "features.20",
        "nchw",
        (2, 3),
        options={"cfg": VGG, "num_classes": 4},
        constructor=timm.models.vgg.VGG,
    ),
    Family("inception_v3", "Mixed_7c", "nchw", (2, 3), size=(128, 160)),
    Family("xception41", "blocks.12", "nchw", (2, 3)),
    Family("hrnet_w18_small", "final_layer", "nchw", (2, 3)),
    Family("repvgg_a0", "final_conv", "nchw", (2, 3)),
    Family("mobilevit_xxs", "final_conv", "nchw", (2, 3)),
    Family("pvt_v2_b0", "stages.3", "nchw", (2, 3)),
    Family("poolformer_s12", "stages.3", "nchw", (2, 3)),
    Family("maxvit_pico_rw_256", "stages.3", "nchw", (2, 3), options=_SIZED),
    Family("coatnet_pico_rw_224", "stages.3", "nchw", (2, 3), options=_SIZED),
    Family("focalnet_tiny_srf", "layers.3", "nchw", (2, 3)),
    Family(
        "convmixer_768_32",
        "blocks.2",
        "nchw",
        (8, 12),
        options={"dim": 32, "depth": 3, "patch_size": 8, "num_classes": 4},
        constructor=timm.models.convmixer.ConvMixer,
    ),
    Family("swin_tiny_patch4_window7_224", "norm", "nhwc", (2, 3), options=dict(**_SIZED, **SWIN)),
    Family("swinv2_tiny_window8_256", "norm", "nhwc", (2, 3), options=dict(**_SIZED, **SWIN)),
    _vit("vit_tiny_patch16_224", 1),
    _vit("deit3_small_patch16_224", 1),
    _vit("deit_tiny_distilled_patch16_224", 2),
    _vit("vit_small_patch14_reg4_dinov2", 5),
    _vit("vit_small_patch16_dinov3", 5),
    _vit("vit_base_patch16_siglip_224", 0),
    _vit("beit_base_patch16_224", 1),
    _vit("eva02_tiny_patch14_224", 1),
    Family("xcit_nano_12_p16_224", "blocks.1", "tokens", (4, 6), options=dict(**VIT, **_SIZED)),
    Family(
        "levit_128s",
        "stages.2",
        "tokens",
        (2, 3),
        size=(128, 192),
        options={"img_size": (128, 192)},
    ),
    Family(
        "mixer_s16_224",
        "blocks.1.norm1",
        "tokens",
        (4, 6),
        options=dict(**_SIZED, embed_dim=48, num_blocks=2, num_classes=4),
        constructor=timm.models.mlp_mixer.MlpMixer,
    ),
)
