"""Settings with which every method is quick on small images; the definitions stay the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from octoscope.attribution.registry import METHODS, methods_named, sorted_out

QUICK: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 32, "stride": 32},
    "feature_ablation": {"segments": 6},
    "rise": {"most": 8, "least": 8, "score": "softmax"},
    "integrated_gradients": {"steps": 3},
    "gradient_shap": {"samples": 3},
    "smoothgrad": {"samples": 3},
}

SEVEN = ["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "eigencam", "eigengradcam"]
"""The methods that are functions of one layer's activations and gradients alone."""


def quick(names: str | Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of those methods that are asked for."""
    asked = {method.name for method in methods_named(names)}
    return {name: values for name, values in QUICK.items() if name in asked}


def defined(model: nn.Module, name: str) -> bool:
    """Say whether a method is defined for a model of images, without running either."""
    return bool(sorted_out(model, [METHODS[name]], 2)[0]) or "maps" in METHODS[name].needs
