"""What the methods of the head cost, found by running an image of noise through the head.

The head is tried as the sources try it. A replay costs what PyTorch counts of floating-point
operations above the layer, relative to the whole model. Not counted is what is done once per batch,
whatever its size: about three passes of its first image.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from octoscope.attribution.capture import as_the_model_takes
from octoscope.attribution.forward import Forward
from octoscope.attribution.head.affine import affine_head
from octoscope.attribution.head.last_block import last_block
from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.vit_recipro import MaskedSequences
from octoscope.attribution.sizing import Sizing
from octoscope.models.layers import layout_of


def ablation_cost(sizing: Sizing) -> float:
    """Return the passes of Ablation-CAM: one replay per channel, none if the head is affine."""
    return _unless_affine(sizing, sizing.channels)


def position_cost(sizing: Sizing) -> float:
    """Return the passes of Recipro-CAM: one replay per position, none if the head is affine."""
    assert sizing.target is not None
    return _unless_affine(sizing, prod(sizing.target.grid))


def sequence_cost(sizing: Sizing) -> float:
    """Return the passes of ViT-ReciproCAM: one to record, and every patch through the last block.

    With the closed form, only the prefix tokens of each patch's sequence go through the block.
    """
    module, last = sizing.module, last_block(sizing.module)
    image = _noise(sizing)
    suffix = Suffix(module, last.norm, image, Forward(module))
    layer = layout_of(
        module, last.norm_name, last.norm, suffix.activations.shape, tuple(image.shape)
    )
    gaussian = sizing.settings["vit_reciprocam"].gaussian
    sequences = MaskedSequences(suffix, layer, last, gaussian=gaussian)
    _ = sequences.closed  # tried once per batch, and not counted
    return 1 + _flops(sequences) / _flops(lambda: module(image))


def _unless_affine(sizing: Sizing, replays: int) -> float:
    """Return the passes of so many replays, with one to record what they need."""
    assert sizing.target is not None
    module, image = sizing.module, _noise(sizing)
    suffix = Suffix(module, sizing.target.module, image, Forward(module))
    if affine_head(module, sizing.target, suffix) is not None:
        return 0.0
    own = suffix.activations
    share = _flops(lambda: suffix(0, own)) / _flops(lambda: module(image))
    return suffix.records + replays * share


def _flops(run: Callable[[], object]) -> int:
    """Count the floating-point operations of a run."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _noise(sizing: Sizing) -> Tensor:
    """Return an image (1, C, *S) that the model takes, of as many channels as it asks for."""
    first = next((p for p in sizing.module.modules() if isinstance(p, nn.Conv2d | nn.Conv3d)), None)
    channels = dict.fromkeys([first.in_channels if first is not None else 3, 1, 3])
    generator = torch.Generator().manual_seed(0)
    for count in channels:
        image = as_the_model_takes(
            sizing.module, torch.rand(1, count, *sizing.size, generator=generator)
        )
        with suppress(Exception), torch.no_grad():  # whatever it raises at too many channels
            sizing.module(image)
            return image
    raise AssertionError("the model was run on an image of this size before")
