"""What a model would say if a layer gave something else, for one image at a time.

Only what lies above the layer runs. In a pass of the whole model every module that had ended when
the layer began is recorded; to go on from other activations the model is called again, but those
modules return at once what they gave then, and the layer returns the activations. Code between
modules (residual sums, reshapes, position embeddings) runs as ever, so paths that pass the layer
by, such as ``x + attn(norm1(x))``, are exact. Most modules below the layer do not matter to the
logits once the layer's output is given; a graph through one replay tells which do, and only those
are recorded for all images.

Whether a model can be run in this way is tried at first use, on unchanged and on changed
activations. Where it cannot, the whole model runs, with a hook that replaces the layer's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from octoscope.attribution.head.record import (
    Call,
    Rows,
    calls_until,
    first,
    giving,
    leaves_kept,
    of_image,
    rows_of,
)
from octoscope.attribution.head.replay import How, Kept, Replay
from octoscope.attribution.memory import fitting, in_pieces, out_of_memory
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.probe import logits_of

MOST_ROWS = 128
"""Changed activations in one pass where memory is plenty."""
EXACT = 1e-5
"""Deviation of a replay from the whole model, relative to the largest logit, that is rounding."""
EXACT_AUTOCAST = 2e-2
"""The same for passes in bfloat16."""

Change = Callable[[Tensor, Tensor], Tensor]
"""A (1, …) of one image, and numbers (m,), to the changed activations (m, …) of these numbers."""


class Suffix:
    """Activations of a layer to logits.

    ```python
    suffix = Suffix.of(batch)
    suffix(row, activations)              # (m, …) → (m, K)
    suffix.each(row, numbers, change)     # the same, made piece by piece
    ```

    Attributes:
        layer: The layer.
        activations: (b, …) its output for the images, in its own layout.
    """

    def __init__(
        self, module: nn.Module, layer: nn.Module, images: Tensor, forward: Forward
    ) -> None:
        self.layer = layer
        self._module = module
        self._images = images
        self._forward = forward
        self._given: Tensor | None = None
        self._most: int | None = None

    @classmethod
    def of(cls, batch: Batch) -> Suffix:
        """Return what lies above the target layer of a batch."""
        assert batch.target is not None
        suffix = cls(batch.module, batch.target.module, batch.images, batch.forward)
        suffix._given = batch.evidence.activations.get(batch.target.name)
        return suffix

    @property
    def exact(self) -> float:
        """What counts as rounding, relative to the largest logit."""
        return EXACT if self._forward.autocast is None else EXACT_AUTOCAST

    @property
    def partial(self) -> bool:
        """Whether only what lies above the layer runs, not the whole model."""
        return self._replay is not None

    @property
    def records(self) -> int:
        """Passes of all images that record what the replays need: 0 or 1."""
        return int(bool(self._wanted))

    @cached_property
    def activations(self) -> Tensor:
        """(b, …) the layer's output for the images, in its own layout."""
        return self._recorded[-1] if self._given is None else self._given

    def __call__(self, row: int, activations: Tensor) -> Tensor:
        """Return the logits (m, K), float32, of image `row` with activations (m, …)."""
        numbers = torch.arange(len(activations), device=activations.device)
        return self.each(row, numbers, lambda _own, piece: activations[piece])

    def each(self, row: int, numbers: Tensor, change: Change) -> Tensor:
        """Return the logits of an image with activations that are made piece by piece.

        Args:
            row: Number of the image.
            numbers: (m,).
            change: Makes the activations of some of the numbers.

        Returns:
            (m, K), float32.
        """
        own = self.activations[row : row + 1]
        image = self._images[row : row + 1]
        kept = self._kept(row)

        def run(piece: Tensor) -> Tensor:
            with self._lower_precision():
                return self._run(image, kept, change(own, piece))

        if self._most is None:
            self._most = self._fitting(own, image, kept)
        with torch.inference_mode():
            logits, self._most = in_pieces(run, numbers, self._most)
        return logits.clone()

    def _run(self, image: Tensor, kept: Kept, activations: Tensor) -> Tensor:
        if self._replay is not None:
            return self._replay(image, kept, activations)
        return self._whole(image, activations)

    def _whole(self, image: Tensor, activations: Tensor) -> Tensor:
        """Run the whole model with the layer's output replaced."""
        images = image.expand(len(activations), *image.shape[1:])
        with giving(self.layer, lambda _own: activations):
            return logits_of(self._module(images)).float()

    @contextmanager
    def _lower_precision(self) -> Iterator[None]:
        lower = self._forward.autocast
        with torch.autocast(self._images.device.type, dtype=lower, enabled=lower is not None):
            yield

    def _fitting(self, own: Tensor, image: Tensor, kept: Kept) -> int:
        """Return how many rows a pass may take."""
        if self._replay is None:
            self._forward(image)  # measures how many images a pass may take
            return min(self._forward.images_per_pass or 1, MOST_ROWS)
        above = _Above(self._replay, image, kept)
        with self._lower_precision():
            return fitting(above, own, MOST_ROWS, graph=False)

    # What is recorded.

    @cached_property
    def _probed(self) -> tuple[list[Call], list[list[Rows | None]] | None, Tensor, Tensor]:
        """Run the first image once, then twice with its second copy changed.

        Returns:
            The calls of one image; where the images lie in their leaves, None if that cannot be
            told; the two activations, unchanged and changed; and the logits of both.
        """
        image = self._images[:1]
        pairs: list[Tensor] = []

        def changed(own: Tensor) -> Tensor:
            pairs.append(torch.cat([own[:1], 0.5 * own[:1].flip(-1)]))
            return pairs[0]

        with torch.inference_mode(False), torch.no_grad(), self._lower_precision():
            with calls_until(self._module, self.layer) as seen:
                self._module(image)
                one = list(seen)
            with giving(self.layer, changed), calls_until(self._module, self.layer) as seen:
                logits = logits_of(self._module(image.expand(2, *image.shape[1:]))).float()
                two = list(seen)
        if not pairs:
            raise OctoscopeError("the layer does not run in the model's forward pass")
        return one, _rows(one, two), pairs[0], logits

    @cached_property
    def _plan(self) -> tuple[Replay | None, list[list[bool]]]:
        """Return the replay that gives what the whole model gives, None if none does.

        Returns:
            It, and for each call and leaf whether it must be recorded.
        """
        calls, rows, pair, logits = self._probed
        if rows is not None:
            image, everything = self._images[:1], [[True] * len(c.leaves) for c in calls]
            for how in (How(True, False), How(True, True), How(False, True)):
                replay = Replay(self._module, self.layer, calls, rows, how)
                try:
                    needed = self._needed(replay, pair[:1]) if how.lean else everything
                    with torch.inference_mode(), self._lower_precision():
                        found = replay(image, _chosen(calls, needed), pair)
                except Exception as error:  # whatever a model may raise that is run in part
                    if out_of_memory(error):
                        raise
                    continue
                if found.shape == logits.shape and self.equal(found, logits):
                    return replay, needed
        return None, [[False] * len(call.leaves) for call in calls]

    @property
    def _replay(self) -> Replay | None:
        return self._plan[0]

    def equal(self, found: Tensor, expected: Tensor, within: float = 0.0) -> bool:
        """Say whether logits are the same but for rounding, or `within` of the largest logit."""
        scale = expected.abs().nan_to_num(0, 0).amax().clamp(min=1e-30)
        most = max(within, self.exact)
        return torch.allclose(found / scale, expected / scale, rtol=0, atol=most, equal_nan=True)

    def _needed(self, replay: Replay, own: Tensor) -> list[list[bool]]:
        """Find the leaves on which the logits depend when the layer's output is given."""
        with torch.inference_mode(False), torch.enable_grad(), self._lower_precision():
            kept = [
                [
                    leaf.clone().requires_grad_() if _varies(leaf, where) else leaf
                    for leaf, where in zip(call.leaves, rows, strict=True)
                ]
                for call, rows in zip(replay.calls, replay.rows, strict=True)
            ]
            leaves = [leaf for call in kept for leaf in call if _differentiable(leaf)]
            score = replay(self._images[:1], kept, own).sum()
            grads: tuple[Any, ...] = (None,) * len(leaves)
            if score.requires_grad:
                grads = torch.autograd.grad(score, leaves, allow_unused=True)
        reached = {id(leaf) for leaf, grad in zip(leaves, grads, strict=True) if grad is not None}
        return [
            [
                isinstance(leaf, Tensor) and (not leaf.requires_grad or id(leaf) in reached)
                for leaf in call
            ]
            for call in kept
        ]

    @cached_property
    def _wanted(self) -> list[tuple[int, int]]:
        """The call and leaf numbers of what is recorded for every image."""
        calls, rows, _, _ = self._probed
        _, needed = self._plan
        return [
            (i, j)
            for i, call in enumerate(calls)
            for j in range(len(call.leaves))
            if rows is not None and needed[i][j] and rows[i][j] is not None
        ]

    @cached_property
    def _recorded(self) -> list[Tensor]:
        """(b·each, …) what is recorded, in the order of `_wanted`; the activations last."""
        calls, rows, _, _ = self._probed
        own = calls[-1]
        place = next(j for j, leaf in enumerate(own.leaves) if leaf is first(own.leaves))
        leaves = [(calls[i].module, calls[i].number, j) for i, j in self._wanted]
        axes = [rows[i][j][0] for i, j in self._wanted] + [0]  # type: ignore[index]
        self._forward(self._images[:1])  # measures how many images a pass may take
        with leaves_kept(self._module, [*leaves, (self.layer, 0, place)]) as passes:
            self._forward(self._images)
        return [
            torch.cat(pieces, axis).clone()
            for pieces, axis in zip(zip(*passes, strict=True), axes, strict=True)
        ]

    def _kept(self, row: int) -> Kept:
        """Return what the replay of one image needs."""
        calls, rows, _, _ = self._probed
        kept: list[list[Any]] = [[None] * len(call.leaves) for call in calls]
        if self._wanted:
            for (i, j), tensor in zip(self._wanted, self._recorded, strict=False):
                kept[i][j] = of_image(tensor, rows[i][j], row)  # type: ignore[index, arg-type]
        return kept


class _Above(nn.Module):
    """What lies above a layer as a module from activations to logits, to measure its memory."""

    def __init__(self, replay: Replay, image: Tensor, kept: Kept) -> None:
        super().__init__()
        self.given = nn.Identity()
        ends = [part for part in replay.module.modules() if not any(True for _ in part.children())]
        self.parts = nn.ModuleList(part for part in ends if part not in replay.silent)
        self._replay = (replay, image, kept)

    def forward(self, activations: Tensor) -> Tensor:
        replay, image, kept = self._replay
        return replay(image, kept, self.given(activations))


def _rows(one: list[Call], two: list[Call]) -> list[list[Rows | None]] | None:
    """Return where the images lie in every leaf of every call, None if it cannot be told."""
    same = [(c.module, c.number, c.spec) for c in one] == [
        (c.module, c.number, c.spec) for c in two
    ]
    if not same:
        return None
    try:
        return [
            [rows_of(a, b) for a, b in zip(c.leaves, d.leaves, strict=True)]
            for c, d in zip(one, two, strict=True)
        ]
    except (OctoscopeError, ValueError):
        return None


def _chosen(calls: list[Call], needed: list[list[bool]]) -> Kept:
    """Return the leaves that are needed, None for the others."""
    return [
        [leaf if keep else None for leaf, keep in zip(call.leaves, keeps, strict=True)]
        for call, keeps in zip(calls, needed, strict=True)
    ]


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad


def _varies(leaf: Any, where: Rows | None) -> bool:
    """Say whether a leaf belongs to an image and can be differentiated."""
    return isinstance(leaf, Tensor) and where is not None and leaf.is_floating_point()
