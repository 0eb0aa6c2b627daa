"""What a model would say if a layer gave something else, for one image at a time.

Only what lies above the layer runs. In a pass of the whole model every module that had ended when
the layer began is recorded; to go on from other activations the model is called again, but those
modules return at once what they gave then, and the layer returns the activations. Code between
modules (residual sums, reshapes, position embeddings) runs as ever, so paths that pass the layer
by, such as ``x + attn(norm1(x))``, are exact. Most modules below the layer do not matter to the
logits once the layer's output is given; a graph through one replay tells which do, and only those
are recorded for all images.

Whether a model can be run in this way is tried once, on unchanged and on changed activations of
noise (`octoscope.attribution.head.known`). Where it cannot, the whole model runs, with a hook that
replaces the layer's output. Where the shared pass kept all that matters (of a transformer, the
block before the layer's), no image runs again.

What is recorded for all images may come from a pass in lower precision (`Forward.autocast`), but
replays run in the model's own: methods look at differences between logits, which bfloat16 would
drown in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from octoscope.attribution.head.known import Known
from octoscope.attribution.head.record import first, leaves_kept, of_images
from octoscope.attribution.head.replay import Kept, Replay
from octoscope.attribution.head.trial import Trial, full_precision, trial_of, whole
from octoscope.attribution.memory import fitting, in_pieces
from octoscope.attribution.source import Batch
from octoscope.models.probe import noise_like

MOST_ROWS = 128
"""Changed activations in one pass where memory is plenty."""
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
        image: (1, C, *S) the first image.
        known: What is known of the model.
    """

    def __init__(
        self,
        module: nn.Module,
        layer: nn.Module,
        images: Tensor,
        forward: Forward,
        captured: Mapping[nn.Module, Tensor] | None = None,
    ) -> None:
        """Look at what lies above a layer.

        Args:
            module: The lent model.
            layer: The layer, which runs once.
            images: (b, C, *S).
            forward: Runs the model.
            captured: Module to the first tensor that it gave for the images, where that is known.
        """
        self.layer = layer
        self.image = images[:1]
        self.known = Known(module)
        self._module = module
        self._images = images
        self._forward = forward
        self._captured = dict(captured or {})
        self._given = self._captured.get(layer)
        self._most: int | None = None

    @classmethod
    def of(cls, batch: Batch) -> Suffix:
        """Return what lies above the target layer of a batch."""
        assert batch.target is not None
        captured = {
            batch.module.get_submodule(name): tensor
            for name, tensor in batch.evidence.activations.items()
        }
        return cls(batch.module, batch.target.module, batch.images, batch.forward, captured)

    def of_noise(self, images: int = 1) -> Suffix:
        """Return the same of some images of noise, on which to try things."""
        noise = noise_like(self.image.expand(images, *self.image.shape[1:]))
        return Suffix(self._module, self.layer, noise, self._forward)

    @property
    def partial(self) -> bool:
        """Whether only what lies above the layer runs, not the whole model."""
        return self._trial.replay is not None

    @property
    def records(self) -> int:
        """Passes of all images that record what the replays need: 0 or 1."""
        return int(self._served is None)

    @cached_property
    def activations(self) -> Tensor:
        """(b, …) the layer's output for the images, in its own layout."""
        return self._passed[-1].to(self._images.dtype) if self._given is None else self._given

    def __call__(self, row: int, activations: Tensor) -> Tensor:
        """Return the logits (m, K), at least float32, of image `row` with activations (m, …)."""
        numbers = torch.arange(len(activations), device=activations.device)
        return self.each(row, numbers, lambda _own, piece: activations[piece])

    def each(self, row: int, numbers: Tensor, change: Change) -> Tensor:
        """Return the logits of an image with activations that are made piece by piece.

        Args:
            row: Number of the image.
            numbers: (m,).
            change: Makes the activations of some of the numbers.

        Returns:
            (m, K), at least float32.
        """
        own = self.activations[row : row + 1]
        image = self._images[row : row + 1]
        kept = self._kept(slice(row, row + 1))

        def run(piece: Tensor) -> Tensor:
            with full_precision(self._images):
                return self._run(image, kept, change(own, piece))

        if self._most is None:
            self._most = self._fitting(own, image, kept)
        with torch.inference_mode():
            logits, self._most = in_pieces(run, numbers, self._most)
        return logits.clone()

    def together(self, images: slice, activations: Tensor) -> Tensor:
        """Return the logits of several images in one replay, without a graph.

        What passes the layer by has a row per image, however many rows the activations have: where
        these are not as many, the caller makes them match above.

        Args:
            images: Which.
            activations: (m, …).

        Returns:
            (m, K), at least float32.

        Raises:
            RuntimeError: If only the whole model can be run.
        """
        if self._trial.replay is None:
            raise RuntimeError("the model cannot be run in part")
        with torch.inference_mode(), full_precision(self._images):
            found = self._trial.replay(self.image, self._kept(images), activations)
        return found.clone()

    def _run(self, image: Tensor, kept: Kept, activations: Tensor) -> Tensor:
        if self._trial.replay is not None:
            return self._trial.replay(image, kept, activations)
        return whole(self._module, self.layer, image, activations)

    def _fitting(self, own: Tensor, image: Tensor, kept: Kept) -> int:
        """Return how many rows a pass may take."""
        if self._trial.replay is None:
            self._forward(image)  # measures how many images a pass may take
            return min(self._forward.images_per_pass or 1, MOST_ROWS)
        above = _Above(self._trial.replay, image, kept)
        with full_precision(self._images):
            return fitting(above, own, MOST_ROWS, graph=False)

    # What is recorded.

    @cached_property
    def _trial(self) -> Trial:
        """How the layers above are run."""
        return trial_of(self._module, self.layer, self.image, self.known)

    @cached_property
    def _served(self) -> list[Tensor] | None:
        """What is recorded, if the shared pass kept all of it."""
        found = []
        for i, j, _ in self._trial.wanted:
            call = self._trial.calls[i]
            tensor = self._captured.get(call.module)
            if tensor is None or call.number or call.leaves[j] is not first(call.leaves):
                return None
            found.append(tensor)
        return found

    @property
    def _recorded(self) -> list[Tensor]:
        """(b·each, …) what is recorded, in the order of `Trial.wanted`."""
        return self._passed[:-1] if self._served is None else self._served

    @cached_property
    def _passed(self) -> list[Tensor]:
        """The same from a pass of all images, and the activations last."""
        trial = self._trial
        own = trial.calls[-1]
        place = next(j for j, leaf in enumerate(own.leaves) if leaf is first(own.leaves))
        leaves = [(trial.calls[i].module, trial.calls[i].number, j) for i, j, _ in trial.wanted]
        axes = [*(axis for _, _, (axis, _) in trial.wanted), 0]
        if self._forward.images_per_pass is None:
            self._forward(self._images[:1])  # measures how many images a pass may take
        with leaves_kept(self._module, [*leaves, (self.layer, 0, place)]) as passes:
            self._forward(self._images)
        return [
            torch.cat(pieces, axis)
            for pieces, axis in zip(zip(*passes, strict=True), axes, strict=True)
        ]

    def _kept(self, images: slice) -> Kept:
        """Return what the replay of some images needs."""
        calls, wanted = self._trial.calls, self._trial.wanted
        kept: list[list[Any]] = [[None] * len(call.leaves) for call in calls]
        for number, (i, j, rows) in enumerate(wanted):
            own = of_images(self._recorded[number], rows, images)
            kept[i][j] = own.to(calls[i].leaves[j].dtype)
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
