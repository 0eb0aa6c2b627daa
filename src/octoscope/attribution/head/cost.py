"""What the methods of the head cost, found by running an image of noise through the head.

The head is tried as the sources try it, once per model. A replay costs what PyTorch counts of
floating-point operations above the layer, relative to the whole model. Not counted is what is done
once per model, whatever the number of images: some passes of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from octoscope.attribution.forward import Forward
from octoscope.attribution.head.affine import affine_head
from octoscope.attribution.head.known import Known
from octoscope.attribution.head.last_block import last_block
from octoscope.attribution.head.record import leaves_kept
from octoscope.attribution.head.residual import block_before
from octoscope.attribution.head.suffix import Suffix
from octoscope.attribution.head.vit_recipro import MaskedSequences
from octoscope.attribution.sizing import Sizing
from octoscope.models.layers import layout_of
from octoscope.models.probe import as_the_model_takes


def ablation_cost(sizing: Sizing) -> float:
    """Return the passes of Ablation-CAM: one replay per channel, none if the head is affine."""
    return _unless_affine(sizing, sizing.channels)


def position_cost(sizing: Sizing) -> float:
    """Return the passes of Recipro-CAM: one replay per position, none if the head is affine."""
    assert sizing.target is not None
    return _unless_affine(sizing, prod(sizing.target.grid))


def sequence_cost(sizing: Sizing) -> float:
    """Return the passes of ViT-ReciproCAM: every patch through the last block.

    With the closed form, only the prefix tokens of each patch's sequence go through the block. If
    another layer is explained, one pass records what the last block is given.
    """
    module, last = sizing.module, last_block(sizing.module)
    explained = sizing.target is not None and sizing.target.module is last.norm
    gaussian = sizing.settings["vit_reciprocam"].gaussian

    def measured(image: Tensor) -> float:
        suffix, whole = _above(module, last.norm_name, last.norm, image)
        shape = suffix.activations.shape
        layer = layout_of(module, last.norm_name, last.norm, shape, image)
        sequences = MaskedSequences(suffix, layer, last, gaussian=gaussian)
        _ = sequences.form  # tried once per model, and not counted
        return suffix.records + _flops(sequences) / whole

    return (not explained) + _known(sizing, ("sequences", gaussian), measured)


def _unless_affine(sizing: Sizing, replays: int) -> float:
    """Return the passes of so many replays, with one to record what they need, if any."""
    target = sizing.target
    assert target is not None

    def measured(image: Tensor) -> float:
        suffix, whole = _above(sizing.module, target.name, target.module, image)
        if affine_head(sizing.module, target, suffix) is not None:
            return 0.0
        own = suffix.activations
        return suffix.records + replays * _flops(lambda: suffix(0, own)) / whole

    return _known(sizing, (target.name, target.kind, target.grid, replays), measured)


def _known(sizing: Sizing, what: Hashable, measure: Callable[[Tensor], float]) -> float:
    """Return what was measured of the model before, or measure it on an image of noise."""
    known, topic = Known(sizing.module), ("cost", what, sizing.image_channels, sizing.size)
    if known.get(topic) is None:
        known.put(topic, measure(_noise(sizing)))
    cost: float = known.get(topic)
    return cost


def _above(module: nn.Module, name: str, layer: nn.Module, image: Tensor) -> tuple[Suffix, int]:
    """Return what lies above a layer, as after a shared pass, and the operations of that pass."""
    before = block_before(module, name)
    watched = [layer] if before is None else [layer, before[1]]
    with leaves_kept(module, [(part, 0, 0) for part in watched]) as passes:
        whole = _flops(lambda: module(image))
    captured = dict(zip(watched, passes[0], strict=True))
    return Suffix(module, layer, image, Forward(module), captured), whole


def _flops(run: Callable[[], object]) -> int:
    """Count the floating-point operations of a run."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _noise(sizing: Sizing) -> Tensor:
    """Return an image of noise (1, C, *S) such as the model is asked to explain."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(
        (1, sizing.image_channels, *sizing.size), generator=generator, dtype=torch.float32
    )
    return as_the_model_takes(sizing.module, image)
