"""Several threads on one model: what each is given is what it would be given alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attribution.quick import defined, quick
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS

THREADS = 4


class Small(nn.Module):
    """A network with a norm and dropout, whose statistics and noise would show a changed flag."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.layer4 = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.stem, x, use_reentrant=False)
        return self.fc(self.layer4(x).mean((2, 3)))


@cache
def networks() -> dict[str, nn.Module]:
    vit = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 32, "num_classes": 4}
    torch.manual_seed(0)
    return {
        "cnn": Small().eval(),
        "vit": timm.create_model("vit_tiny_patch16_224", **vit, patch_size=8).eval(),
    }


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAMES = [name for name in METHODS if "maps" not in METHODS[name].needs]


def kind_for(name: str) -> str:
    return "cnn" if defined(networks()["cnn"], name) else "vit"


def together(work: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.mark.parametrize("name", NAMES)
def test_every_method(name: str) -> None:
    model = networks()[kind_for(name)]
    alone = explain(model, IMAGES, name, 1, options=quick(name)).native[name]

    def work(_number: int) -> bool:
        found = [explain(model, IMAGES, name, 1, options=quick(name)) for _ in range(2)]
        return all(maps.native[name].equal(alone) for maps in found)

    assert all(together(work))


def test_different_methods_at_once() -> None:
    model = networks()["vit"]
    names = ["gradcam", "rollout", "attnlrp", "occlusion"]
    alone = [explain(model, IMAGES, name, 1, options=quick(name)).native[name] for name in names]

    def work(number: int) -> bool:
        name = names[number]
        found = [explain(model, IMAGES, name, 1, options=quick(name)) for _ in range(3)]
        return all(maps.native[name].equal(alone[number]) for maps in found)

    assert all(together(work))


def trained(explaining: bool) -> dict[str, Tensor]:
    """Train a network for a few steps while three other threads explain it, or do not."""
    model = Small().train()
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    torch.manual_seed(1)
    batches = [(torch.rand(4, 3, 32, 32), torch.randint(4, (4,))) for _ in range(12)]
    errors: list[BaseException] = []

    def train() -> None:
        for x, y in batches:
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()

    def work(number: int) -> None:
        if number == 0:
            train()
        elif explaining:
            for name in ("gradcam", "occlusion", "ablationcam", "guided_backprop"):
                maps = explain(model, IMAGES, name, 1, options=quick(name))
                assert maps[name].isfinite().all()

    torch.manual_seed(2)  # of the dropout, which the training thread alone draws
    together(work)
    assert not errors and all(part.training for part in model.modules())
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())
    return model.state_dict()


def test_training_meanwhile_is_not_disturbed() -> None:
    """Weights and statistics come out bit by bit as without the explaining threads."""
    alone, watched = trained(False), trained(True)
    for name, value in alone.items():
        assert value.equal(watched[name]), name


def test_running_meanwhile_is_not_disturbed() -> None:
    """A thread that only runs the model sees neither hooks nor switches of ours, nor we its own."""
    model = networks()["vit"]
    names = ["gradcam", "legrad", "occlusion"]
    with torch.no_grad():
        expected = model(IMAGES)
    alone = explain(model, IMAGES, names, 1, options=quick(names)).native

    def work(number: int) -> bool:
        if number < 2:
            with torch.no_grad():
                return all(model(IMAGES).equal(expected) for _ in range(40))
        if number == 2:  # hooks that come and go
            for _ in range(20):
                hook = model.blocks[1].register_forward_hook(lambda _m, _i, out: out)
                hook.remove()
            return True
        found = explain(model, IMAGES, names, 1, options=quick(names)).native
        return all(found[name].equal(maps) for name, maps in alone.items())

    assert all(together(work))
