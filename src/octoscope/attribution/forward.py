"""Running a model without a graph on any number of images, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from octoscope.attribution.linear import quick_linear
from octoscope.attribution.memory import fitting, in_pieces, most_at_once
from octoscope.attribution.memory_format import MemoryFormat
from octoscope.models.probe import at_least_float32, logits_of


class Forward:
    """Images to logits, for the methods that ask a model what it says to changed images.

    Attributes:
        images_per_pass: Most images in one pass, measured with the first call unless it is given;
            halved for good when memory runs out.
        autocast: Lower precision of the passes (``torch.bfloat16``), or None.
        memory_format: Gives the model its images in the order that suits it.
    """

    def __init__(
        self,
        module: nn.Module,
        images_per_pass: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._module = module
        self.images_per_pass = images_per_pass
        self.autocast = autocast
        self.memory_format = MemoryFormat(module)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (n, K), at least float32, of images (n, C, *S) on its device."""
        return self.made(lambda rows: images[int(rows[0]) : int(rows[-1]) + 1], len(images))

    def made(self, make: Callable[[Tensor], Tensor], count: int) -> Tensor:
        """Return the logits of images that are made as they are needed, never all at once.

        Args:
            make: Row numbers (m,), on the CPU and rising by one, to images (m, C, *S) on the
                model's device.
            count: Number n of images.

        Returns:
            (n, K), at least float32. But for rounding, they do not depend on how many images
            share a pass.
        """
        return self.rows(lambda rows: self.whole(make(rows)), count, make)

    def rows(
        self,
        run: Callable[[Tensor], Tensor],
        count: int,
        make: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the logits of images that have a way of their own through the model.

        Args:
            run: Row numbers (m,), on the CPU and rising by one, to logits (m, K).
            count: Number n of rows.
            make: Row numbers to images, of which the first is run to plan the memory.

        Returns:
            (n, K), at least float32.
        """
        with torch.inference_mode():
            if self.images_per_pass is None:
                image = make(torch.arange(1))
                self.images_per_pass = fitting(
                    self._module, image, most_at_once(image.device), graph=False
                )
            logits, self.images_per_pass = in_pieces(run, torch.arange(count), self.images_per_pass)
        with torch.inference_mode(False):
            return at_least_float32(
                logits
            ).clone()  # no inference tensor leaves: a graph could not use it

    def whole(self, images: Tensor) -> Tensor:
        """Run the model once: images (m, C, *S), all in one pass, to logits (m, K)."""
        return self.memory_format.apply(self._run, images)

    def _run(self, images: Tensor) -> Tensor:
        with self.precision(images.device):
            return at_least_float32(logits_of(self._module(images)))

    @contextmanager
    def precision(self, device: torch.device) -> Iterator[None]:
        """Enter a context in which the model runs as precisely as was asked for, and quickly."""
        low = self.autocast is not None
        with quick_linear(), torch.autocast(device.type, dtype=self.autocast, enabled=low):
            yield
