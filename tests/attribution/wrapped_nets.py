"""Networks that wrap others, and own ones with unusual names, token orders and grids.

Those of transformers and peft are built like theirs, with their names, in the smallest size: both
packages are large, and only structure, names and what modules hand on matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

D, HEADS, CLASSES = 24, 3, 4


def vit(size: tuple[int, int] = (32, 48), classes: int = CLASSES, **options: Any) -> nn.Module:
    """A small ViT of timm with 8×8 patches."""
    small = {"patch_size": 8, "embed_dim": D, "depth": 2, "num_heads": HEADS, "img_size": size}
    return timm.models.vision_transformer.VisionTransformer(num_classes=classes, **small, **options)


def resnet(classes: int = CLASSES, **options: Any) -> nn.Module:
    """A small ResNet of timm."""
    narrow = {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 24)}
    block = timm.models.resnet.BasicBlock
    return timm.models.resnet.ResNet(block, num_classes=classes, **(narrow | options))


def without_head(network: nn.Module) -> nn.Module:
    """Take the last linear layer off a network of timm."""
    network.reset_classifier(0)  # type: ignore[operator]
    return network


class Backbone(nn.Module):
    """A network without its head, and a head of one's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.classifier = network.get_classifier()  # type: ignore[operator]
        self.encoder = without_head(network)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder(x))


class Features(Backbone):
    """The same by parts: the class token is taken from the features."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder.forward_features(x)[:, 0])  # type: ignore[operator]


class MeanOfPatches(Backbone):
    """Pools the patches, whatever the network itself would pool."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.encoder.forward_features(x)[:, 1:].mean(1))  # type: ignore[operator]


class Temperature(nn.Module):
    """A network, and its calibration beside it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net, self.temperature = network, nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        return getattr(out, "logits", out) / self.temperature


class Lit(LightningModule):
    """A Lightning module: network, loss and a calibration that is no part of the forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(CLASSES))
        self.unused = nn.ModuleDict({"blocks": nn.ModuleList([nn.Conv2d(3, 3, 1)])})
        self.model = nn.Sequential(nn.Identity(), Backbone(network))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class LoraLinear(nn.Module):
    """A linear layer of peft: base layer, dropout, and a product of two small ones."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        down, up = (
            nn.Linear(base.in_features, rank, False),
            nn.Linear(rank, base.out_features, False),
        )
        self.lora_A, self.lora_B = nn.ModuleDict({"default": down}), nn.ModuleDict({"default": up})

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        low = self.lora_A["default"](self.lora_dropout["default"](x))
        return self.base_layer(x) + self.lora_B["default"](low)

    def merged(self) -> nn.Linear:
        """Return the same as one linear layer."""
        linear = nn.Linear(self.base_layer.in_features, self.base_layer.out_features)
        delta = self.lora_B["default"].weight @ self.lora_A["default"].weight
        linear.load_state_dict(
            {"weight": self.base_layer.weight + delta, "bias": self.base_layer.bias}
        )
        return linear


class Peft(nn.Module):
    """As peft wraps: ``base_model.model``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = network

    def forward(self, x: Tensor) -> Tensor:
        return self.base_model.model(x)


def lora(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a ViT of timm with LoRA in its attention, and the same network merged."""
    from copy import deepcopy

    merged = deepcopy(network)
    for block, whole in zip(network.blocks, merged.blocks, strict=True):  # type: ignore[arg-type]
        for name in ("qkv", "proj"):
            setattr(block.attn, name, LoraLinear(getattr(block.attn, name)))
            setattr(whole.attn, name, getattr(block.attn, name).merged())
    return Peft(network), merged


# Classifiers as transformers builds them.


class Output:
    """What they return."""

    def __init__(self, **parts: Tensor) -> None:
        self.__dict__.update(parts)


class HFEmbeddings(nn.Module):
    def __init__(self, others: int, patches: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, others, D))
        self.position_embeddings = nn.Parameter(torch.randn(1, patches + others, D))
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(3, D, 8, 8)
        self.dropout = nn.Dropout(0.1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        tokens = self.patch_embeddings.projection(pixel_values).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        return self.dropout(tokens + self.position_embeddings)


class HFSelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(D, D) for _ in range(3))

    def forward(self, hidden: Tensor) -> tuple[Tensor, None]:
        q, k, v = (
            part(hidden).view(*hidden.shape[:2], HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).flatten(2), None


class HFLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Module()
        self.attention.attention = HFSelfAttention()
        self.attention.output = nn.Linear(D, D)
        self.intermediate, self.output = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, hidden: Tensor) -> tuple[Tensor]:
        mixed, _ = self.attention.attention(self.layernorm_before(hidden))
        hidden = self.attention.output(mixed) + hidden
        return (self.output(F.gelu(self.intermediate(self.layernorm_after(hidden)))) + hidden,)


class HFEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([HFLayer() for _ in range(3)])

    def forward(self, hidden: Tensor) -> Output:
        for layer in self.layer:
            hidden = layer(hidden)[0]
        return Output(last_hidden_state=hidden)


class HFViT(nn.Module):
    """ViT, DeiT, DINOv2 and BEiT for classification; `pool` says what of the tokens is read."""

    def __init__(self, pool: str = "token", others: int = 1, patches: int = 24) -> None:
        super().__init__()
        self.vit = nn.Module()
        self.vit.embeddings, self.vit.encoder = HFEmbeddings(others, patches), HFEncoder()
        self.vit.layernorm = nn.LayerNorm(D)
        self.pool, self.others = pool, others
        self.classifier = nn.Linear(2 * D if pool == "both" else D, CLASSES)

    def forward(self, pixel_values: Tensor) -> Output:
        hidden = self.vit.encoder(self.vit.embeddings(pixel_values)).last_hidden_state
        hidden = self.vit.layernorm(hidden)
        token, mean = hidden[:, 0], hidden[:, self.others :].mean(1)
        read = {"token": token, "mean": mean, "both": torch.cat([token, mean], 1)}
        return Output(logits=self.classifier(read[self.pool]))


class HFSwinLayer(nn.Module):
    """Attention within windows of 2×2; tokens go in and out as a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layernorm_before, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)

    def forward(self, hidden: Tensor, size: tuple[int, int]) -> tuple[Tensor]:
        (b, _, c), (h, w) = hidden.shape, size
        tokens = self.layernorm_before(hidden).view(b, h // 2, 2, w // 2, 2, c)
        tokens = tokens.transpose(2, 3).reshape(-1, 4, c)  # (windows, 4, C)
        tokens = F.scaled_dot_product_attention(*self.qkv(tokens).chunk(3, -1))
        tokens = tokens.view(b, h // 2, w // 2, 2, 2, c).transpose(2, 3).reshape(b, h * w, c)
        return (hidden + tokens,)


class HFSwin(nn.Module):
    """Swin for classification: a sequence whose grid is halved once."""

    def __init__(self) -> None:
        super().__init__()
        self.swin = nn.Module()
        self.swin.embeddings = nn.Conv2d(3, 12, 4, 4)
        self.swin.stage = nn.ModuleList([HFSwinLayer(12), HFSwinLayer(24)])
        self.swin.reduction, self.swin.norm = nn.Linear(48, 24, False), nn.LayerNorm(48)
        self.swin.layernorm, self.swin.pooler = nn.LayerNorm(24), nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Linear(24, CLASSES)

    def forward(self, pixel_values: Tensor) -> Output:
        planes = self.swin.embeddings(pixel_values)
        h, w = planes.shape[2:]
        (hidden,) = self.swin.stage[0](planes.flatten(2).transpose(1, 2), (h, w))
        tokens = hidden.view(len(hidden), h // 2, 2, w // 2, 2, 12).permute(0, 1, 3, 4, 2, 5)
        hidden = self.swin.reduction(self.swin.norm(tokens.reshape(len(hidden), -1, 48)))
        (hidden,) = self.swin.stage[1](hidden, (h // 2, w // 2))
        hidden = self.swin.layernorm(hidden)
        return Output(logits=self.classifier(self.swin.pooler(hidden.transpose(1, 2)).flatten(1)))


class HFConvNextStage(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.downsampling_layer = nn.Conv2d(inside, outside, 2, 2)
        self.dwconv = nn.Conv2d(outside, outside, 7, 1, 3, groups=outside)
        self.layernorm, self.pwconv1 = nn.LayerNorm(outside), nn.Linear(outside, outside)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.downsampling_layer(hidden)
        inner = self.layernorm(self.dwconv(hidden).permute(0, 2, 3, 1))
        return hidden + F.gelu(self.pwconv1(inner)).permute(0, 3, 1, 2)


class HFConvNext(nn.Module):
    """ConvNeXt for classification."""

    def __init__(self) -> None:
        super().__init__()
        self.convnext = nn.Module()
        self.convnext.stages = nn.ModuleList(
            [HFConvNextStage(3, 8), HFConvNextStage(8, 12), HFConvNextStage(12, 24)]
        )
        self.convnext.layernorm, self.classifier = nn.LayerNorm(24), nn.Linear(24, CLASSES)

    def forward(self, pixel_values: Tensor) -> Output:
        hidden = pixel_values
        for stage in self.convnext.stages:
            hidden = stage(hidden)
        return Output(logits=self.classifier(self.convnext.layernorm(hidden.mean([-2, -1]))))


# Own networks.


class ResidualBlock(nn.Module):
    """Calls its batch norms what transformers call their layer norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class OwnResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.Sequential(ResidualBlock(12), ResidualBlock(12))
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class SixLayers(nn.Module):
    """Has a layer4, which is not the last."""

    def __init__(self) -> None:
        super().__init__()
        for i in range(1, 7):
            setattr(self, f"layer{i}", nn.Conv2d(3 if i == 1 else 8, 8, 3, 1 + (i in (1, 5)), 1))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, 7):
            x = F.relu(getattr(self, f"layer{i}")(x))
        return self.fc(x.mean((2, 3)))


class StemNorm(nn.Module):
    """Has a conv_head and a bn2, which belongs to its stem."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.body, self.conv_head = nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(12, 16, 1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.relu(self.conv_head(F.relu(self.body(x)))).mean((2, 3)))


class AttentionPool(nn.Module):
    """Weighs positions by a score, which is the last layer with positions, but not the features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1)
        )
        self.score, self.fc = nn.Conv2d(12, 1, 1), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        weights = self.score(x).flatten(2).softmax(-1)
        return self.fc((x.flatten(2) * weights).sum(-1))


class Inception(nn.Module):
    """Ends in branches that are put together by an operation of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.mixed = InceptionBlock()
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.mixed(F.relu(self.stem(x))).mean((2, 3)))


class InceptionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch1x1, self.branch3x3 = nn.Conv2d(8, 4, 1, 2), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch3x3(x), self.branch1x1(x)], 1)


class InlineResNet(nn.Module):
    """Adds in its own forward all along: no layer's output is what everything goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.convs = nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1) for _ in range(4)])
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in self.convs:
            x = x + F.relu(conv(x))
        return self.fc(x.mean((2, 3)))


class TwoNetworks(nn.Module):
    """The mean of two networks' logits."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = build(), build()

    def forward(self, x: Tensor) -> Tensor:
        return (self.first(x) + self.second(x)) / 2


class OwnViT(nn.Module):
    """A ViT of PyTorch's own layers; `arrange` puts class tokens and patches in some order.

    Args:
        grid: Patches of 4×4 pixels per axis, of images or of volumes.
        others: Class and register tokens.
        arrange: Order of all tokens, others first and patches in raster order as it is given them.
        read: Where the class token is then; None pools all tokens.
        norm_first: Whether blocks normalise before attention.
    """

    def __init__(
        self,
        grid: tuple[int, ...],
        others: int = 1,
        arrange: Callable[[Tensor], Tensor] = lambda order: order,
        read: int | None = 0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        patches = int(torch.tensor(grid).prod())
        self.order = arrange(torch.arange(others + patches)).tolist()
        self.tokenizer = (nn.Conv2d if len(grid) == 2 else nn.Conv3d)(3, D, 4, 4)
        self.extra = nn.Parameter(torch.randn(1, others, D))
        self.where = nn.Parameter(torch.randn(1, others + patches, D))
        layer = nn.TransformerEncoderLayer(
            D, HEADS, 2 * D, 0.0, batch_first=True, norm_first=norm_first
        )
        self.trunk = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        for parameter in self.trunk.parameters():
            nn.init.normal_(parameter, std=0.2)
        self.read, self.out = read, nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokenizer(x).flatten(2).mT
        tokens = torch.cat([self.extra.expand(len(tokens), -1, -1), tokens], 1)[:, self.order]
        tokens = self.trunk(tokens + self.where)
        return self.out(tokens.mean(1) if self.read is None else tokens[:, self.read])


class PixelViT(nn.Module):
    """Cuts patches by reshaping, and adds in a loop, as many short implementations do."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, D), nn.LayerNorm(D))
        self.cls = nn.Parameter(torch.randn(1, 1, D))
        self.pos = nn.Parameter(torch.randn(1, grid[0] * grid[1] + 1, D))
        self.layers = nn.ModuleList(
            [nn.ModuleList([ShortAttention(), nn.Linear(D, D)]) for _ in range(3)]
        )
        self.head = nn.Linear(D, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 16 * c)
        x = torch.cat([self.cls.expand(b, -1, -1), self.embed(x)], 1) + self.pos
        for attend, change in self.layers:
            x = attend(x) + x
            x = F.gelu(change(x)) + x
        return self.head(x[:, 0])


class ShortAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.to_qkv = nn.LayerNorm(D), nn.Linear(D, 3 * D)

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*self.to_qkv(self.norm(x)).chunk(3, -1))
