"""Which parameters learn, how fast, and which shrink."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from octoscope.models.network import build_network
from octoscope.training.optimisers import (
    build_optimiser,
    freeze_backbone,
    head_parameters,
    parameter_groups,
    unfreeze,
)
from octoscope.training.recipe import Recipe

VIT = {"depth": 2, "embed_dim": 24, "num_heads": 2}


def test_groups_hold_every_parameter_once() -> None:
    network = build_network("test_resnet", 3, image_size=(32, 32))
    groups = parameter_groups(network, 0.1, 0.5, 0.02)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in network.parameters())
    by_name = {group["name"]: group for group in groups}
    assert {name: (g["lr"], g["weight_decay"]) for name, g in by_name.items()} == {
        "head": (0.1, 0.02),
        "head, no decay": (0.1, 0.0),
        "backbone": (0.05, 0.02),
        "backbone, no decay": (0.05, 0.0),
    }
    assert by_name["head"]["params"] == [network.fc.weight]
    assert all(p.ndim > 1 for p in by_name["backbone"]["params"])


def test_position_embeddings_do_not_decay() -> None:
    network = build_network("vit_tiny_patch16_224", 3, image_size=(32, 32), **VIT)
    spared = {
        id(p)
        for group in parameter_groups(network, 1, 1, 1)
        if not group["weight_decay"]
        for p in group["params"]
    }
    assert {id(network.pos_embed), id(network.cls_token)} <= spared


def test_heads_of_two_layers_and_of_any_network() -> None:
    deit = build_network("deit_tiny_distilled_patch16_224", 3, image_size=(32, 32), **VIT)
    assert len(head_parameters(deit)) == 4
    own = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert head_parameters(own) == [own[2].weight, own[2].bias]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_every_optimiser_steps_and_leaves_the_frozen_alone(name, kind) -> None:
    network = build_network("test_resnet", 3, image_size=(32, 32))
    optimiser = build_optimiser(network, Recipe(optimizer=name), torch.device("cpu"))
    assert isinstance(optimiser, kind)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    freeze_backbone(network)
    network(torch.rand(4, 1, 32, 32)).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert changed == {"fc.weight", "fc.bias"}  # neither weights nor running statistics


def test_thawed_everything_learns() -> None:
    network = build_network("test_resnet", 3, image_size=(32, 32))
    freeze_backbone(network)
    unfreeze(network)
    assert all(p.requires_grad for p in network.parameters())
    assert all(module.training for module in network.modules())


def test_dropout_in_a_frozen_backbone_is_off() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    freeze_backbone(network)
    assert [module.training for module in network] == [False, False, False, True]
