"""Running a model without a graph on any number of images, in batches that fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octoscope.attribution.memory import fitting, in_pieces
from octoscope.models.probe import logits_of

MOST_IMAGES = 64
"""Images per pass where memory is plenty."""


class Forward:
    """Images to logits, for the methods that ask a model what it says to changed images.

    Attributes:
        images_per_pass: Most images in one pass, measured with the first call unless it is given;
            halved for good when memory runs out.
        autocast: Lower precision of the passes (``torch.bfloat16``), or None.
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

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (n, K), float32, of images (n, C, *S) on the model's device."""

        def run(piece: Tensor) -> Tensor:
            with torch.autocast(
                images.device.type, dtype=self.autocast, enabled=self.autocast is not None
            ):
                return logits_of(self._module(piece)).float()

        if self.images_per_pass is None:
            self.images_per_pass = fitting(self._module, images[:1], MOST_IMAGES, graph=False)
        with torch.inference_mode():
            logits, self.images_per_pass = in_pieces(run, images, self.images_per_pass)
        return logits.clone()  # no inference tensor leaves: it could not be used in a graph
