"""The engine of every curve: what a model says while pixels are removed in the order of a map.

Shapes: B scans, N pixels, P pairs of a method and a scan whose map says something, T states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from octoscope.attribution.forward import Forward
from octoscope.trust.faithfulness.asking import about
from octoscope.trust.faithfulness.order import ranks, says_an_order

State = tuple[bool, int]
"""Whether the lowest pixels go first, and how many are gone."""
Fill = Callable[[Tensor, Tensor], Tensor]
"""Scans (m,) and what is gone of each (m, *S) bool, to images (m, C, *S)."""


def said_without(
    forward: Forward,
    images: Tensor,
    maps: Mapping[str, Tensor],
    targets: Tensor,
    plan: Mapping[str, Sequence[State]],
    ends: Mapping[int, Tensor],
    fill: Fill,
    seed: int = 0,
) -> dict[str, dict[str, Tensor]]:
    """Remove pixels in the order of every map and ask the model each time.

    A state that several kinds of curves share is asked for once. So are the ends, on which no map
    has an influence.

    Args:
        forward: Of the lent model.
        images: (B, C, *S) on its device.
        maps: Method → (B, *S).
        targets: (B,) the classes asked about.
        plan: Kind of curve → its states, in the order of its points.
        ends: Number of pixels gone → what the model says there, (B, 3) as `about` returns it.
        fill: Makes the images.
        seed: Of the order of ties.

    Returns:
        Kind → method → (B, points, 3) float64; NaN where the map says nothing.
    """
    states = sorted({state for row in plan.values() for state in row if state[1] not in ends})
    out = {kind: dict[str, Tensor]() for kind in plan}
    spoken, order = _ordered(maps, images.device, seed)
    pairs = torch.cat([one.nonzero()[:, 0] for one in spoken.values()])  # (P,) scan of each pair
    lowest = torch.tensor([state[0] for state in states], device=images.device)
    gone = torch.tensor([state[1] for state in states], dtype=torch.int32, device=images.device)
    pixels = images[0, 0].numel()

    def make(rows: Tensor) -> Tensor:
        rows = rows.to(images.device)
        pair, state = rows // len(states), rows % len(states)
        place, low, count = order[pair], lowest[state, None], gone[state, None]
        removed = torch.where(low, place >= pixels - count, place < count)  # (m, N)
        return fill(pairs[pair], removed.view(-1, *images.shape[2:]))

    table = images.new_empty((len(pairs), 0, 3), dtype=torch.float64)
    if states and len(pairs):
        logits = forward.made(make, len(pairs) * len(states))
        asked = targets.to(images.device)[pairs].repeat_interleave(len(states))
        table = about(logits, asked).unflatten(0, (len(pairs), len(states)))  # (P, T, 3)
    start = 0
    for method, speaks in spoken.items():
        scans = speaks.nonzero()[:, 0]
        mine, start = table[start : start + len(scans)], start + len(scans)
        for kind, row in plan.items():
            curve = table.new_full((len(images), len(row), 3), torch.nan)
            for point, state in enumerate(row):
                known = ends.get(state[1])
                curve[scans, point] = (
                    mine[:, states.index(state)] if known is None else known[scans]
                )
            out[kind][method] = curve
    return out


def _ordered(
    maps: Mapping[str, Tensor], device: torch.device, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return method → (B,) whose maps say an order, and the ranks (P, N) of those that do."""
    spoken, order = dict[str, Tensor](), list[Tensor]()
    for method, given in maps.items():
        on = given.to(device)
        spoken[method] = says_an_order(on)
        order.append(ranks(on[spoken[method]], seed))
    return spoken, torch.cat(order)
