"""Optimisers: which parameters learn how fast, and which shrink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from octoscope.training.recipe import Recipe


def build_optimiser(network: nn.Module, recipe: Recipe, device: torch.device) -> Optimizer:
    """Return the optimiser of a recipe over head and backbone, each with and without decay.

    Frozen parameters are in it as well: without a gradient they are left alone, and when they
    thaw nothing has to be rebuilt and no momentum of the head is lost.
    """
    groups = parameter_groups(network, recipe.lr, recipe.backbone_lr_scale, recipe.weight_decay)
    # One fused kernel updates all tensors at once where there is one.
    fused = device.type in ("cpu", "cuda")
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, fused=fused)
        case "sgd":
            nesterov = recipe.momentum > 0
            return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=nesterov, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, momentum=recipe.momentum)


def parameter_groups(
    network: nn.Module, lr: float, backbone_scale: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split the parameters by head or backbone, and by whether weight decay applies.

    Biases, the scales of normalisation layers and what the architecture names (position
    embeddings, class tokens) do not decay: shrinking them does not regularise.

    Returns:
        Non-empty groups with ``params, name, lr, initial_lr, weight_decay``; `initial_lr` is the
        rate that a schedule's factor applies to.
    """
    head = {id(p) for p in head_parameters(network)}
    spared = set(getattr(network, "no_weight_decay", lambda: set())())
    members: dict[tuple[bool, bool], list[Parameter]] = {}
    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 and name not in spared
        members.setdefault((id(parameter) in head, decays), []).append(parameter)
    groups = []
    for (is_head, decays), parameters in sorted(members.items(), reverse=True):
        rate = lr if is_head else lr * backbone_scale
        name = ("head" if is_head else "backbone") + ("" if decays else ", no decay")
        decay = weight_decay if decays else 0.0
        groups.append(
            {
                "params": parameters,
                "name": name,
                "lr": rate,
                "initial_lr": rate,
                "weight_decay": decay,
            }
        )
    return groups


def head_parameters(network: nn.Module) -> list[Parameter]:
    """Return the parameters of the classifier layer(s): timm's, else the last linear layer's."""
    if hasattr(network, "get_classifier"):
        found = cast(Callable[[], Any], network.get_classifier)()
        heads = list(found) if isinstance(found, tuple | list) else [found]
    else:
        heads = [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]
    return [parameter for head in heads for parameter in head.parameters()]


def freeze_backbone(network: nn.Module) -> None:
    """Let only the head learn, and put the rest in eval mode, batch statistics included."""
    head = {id(parameter) for parameter in head_parameters(network)}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in head)
    for module in network.modules():
        own = [id(parameter) for parameter in module.parameters()]
        module.training = bool(own) and set(own) <= head


def unfreeze(network: nn.Module) -> None:
    """Let everything learn again."""
    network.requires_grad_(True)
    network.train()
