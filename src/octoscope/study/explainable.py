"""Whether the methods of a study are defined for its models, found out before any is trained."""

from __future__ import annotations

import torch
from torch import nn

from octoscope.attribution.method import any_model
from octoscope.attribution.plan import captures_of
from octoscope.attribution.registry import METHODS, SOURCES, methods_named, sorted_out
from octoscope.errors import OctoscopeError
from octoscope.models.layers import resolve_target
from octoscope.models.network import build_network
from octoscope.study.config import StudyConfig

AXES = 2
"""A B-scan has two."""


def require_defined(config: StudyConfig, num_classes: int) -> None:
    """Refuse a method that is asked for by its own name and defined for none of the models.

    The networks are built only if a method asks something of them, and with numbers only where a
    layer must be found, which takes a run on noise.

    Args:
        config: The study.
        num_classes: K.

    Raises:
        OctoscopeError: If there is such a method, with the reason; if no method is left for any of
            the models; or if the layer that is explained has a single position.
    """
    asked = methods_named(config.explain.methods)
    own = {method.name for method in asked} & set(config.explain.methods)
    plain = all(method.requires is any_model and "maps" not in method.needs for method in asked)
    needs_layer = "target" in captures_of(asked, SOURCES)
    if plain and not needs_layer:
        return
    size = (config.framing.height, config.framing.width)
    refusals: list[dict[str, str]] = []
    for recipe in config.models:
        with torch.random.fork_rng(), torch.device("cpu" if needs_layer else "meta"):
            network: nn.Module = build_network(
                recipe.model,
                num_classes,
                in_channels=recipe.in_channels,
                image_size=size,
                **recipe.model_options,
            )
        if needs_layer:
            _require_positions(network, recipe.in_channels, size, recipe.model)
        refusals.append(sorted_out(network, asked, AXES)[1])
    nowhere = [method for method in asked if all(method.name in refused for refused in refusals)]
    for method in nowhere:
        if method.name in own or len(nowhere) == len(asked):
            raise OctoscopeError(
                f"{METHODS[method.name].title} is defined for none of the models: "
                f"{refusals[0][method.name]}"
            )


def _require_positions(
    network: nn.Module, channels: int, size: tuple[int, int], model: str
) -> None:
    """Require that the layer that is explained has several positions for images of a size."""
    try:
        resolve_target(network, torch.zeros(1, channels, *size))
    except OctoscopeError as error:
        fault = str(error).partition("; ")[0]
        raise OctoscopeError(
            f"{model}: {fault}; use larger images (framing.height, framing.width), or methods that "
            "look at no layer"
        ) from None
