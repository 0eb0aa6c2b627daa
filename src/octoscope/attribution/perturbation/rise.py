"""RISE: the mean of random masks, weighted by the probability that the model gives behind each.

Shapes: images (b, C, *S), N masks m, probabilities f (b, N, K).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from octoscope.attribution.perturbation.masks import Masks, draw_masks
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError

TOGETHER = 64
"""Masks that are summed at once: never by the memory that is free, on which rounding would hang."""
POSITIONS = 2**24
"""Positions of all masks that are summed at once: a large volume has as many by itself."""
TWO_SIDED = 1.96
"""Standard errors on either side of a 95 % confidence interval."""


@dataclass(frozen=True)
class Rise:
    """Settings of RISE.

    Attributes:
        most: Masks at most, even.
        least: Masks after which, and after each multiple of which, it is asked whether they are
            enough, even.
        tolerance: They are enough when the 95 % confidence interval, in the root mean square over
            the positions, reaches this share of the map's range to either side; 0 draws `most`.
        cells: Cells of the masks' grid along every axis.
        kept: Probability p that a cell is kept.
        seed: Of the masks, which all images share.
    """

    most: int = 4000
    least: int = 500
    tolerance: float = 0.1
    cells: int = 7
    kept: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("most", "least"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 4 or count % 2:
                raise OctoscopeError(
                    f"rise: {name}={count!r} is no number of masks, which come in pairs; use an "
                    "even number of 4 or more"
                )
        if self.least > self.most:
            raise OctoscopeError(
                f"rise: least={self.least} is more than most={self.most}; lower it"
            )
        if not 0 <= self.tolerance < 1:
            raise OctoscopeError(
                f"rise: tolerance={self.tolerance} is no share of the map's range; use 0 to 1"
            )
        if not isinstance(self.cells, int) or self.cells < 2:
            raise OctoscopeError(f"rise: cells={self.cells!r} makes no grid; use 2 or more")
        if not isinstance(self.seed, int):
            raise OctoscopeError(f"rise: seed={self.seed!r} is no seed; use a whole number")
        if not 0 < self.kept < 1:
            raise OctoscopeError(
                f"rise: kept={self.kept} is no probability between 0 and 1, such as 0.5"
            )


@dataclass(frozen=True)
class Masked:
    """What a model says to masked images.

    Attributes:
        masks: The masks, shared by all images.
        probabilities: (b, N, K) softmax of the logits, sigmoid of a single one, scores as they
            are; 0 for masks not used.
        used: (b,) number of masks used for each image: the first ones.
    """

    masks: Masks
    probabilities: Tensor
    used: Tensor


class Mean:
    """Mean and standard error of g = (f m + f' m') / 2p over pairs of masks, summed up in float64.

    The masks of a pair are not independent, the pairs are; so the standard error is that of pairs.
    """

    def __init__(self, images: int, masks: Masks, kept: float) -> None:
        shape = (images, *masks.size)
        device = masks.grids.device
        self._sum = torch.zeros(shape, dtype=torch.float64, device=device).flatten(1)
        self._squares = torch.zeros_like(self._sum)
        self._masks, self._kept = masks, kept

    def add(self, rows: Tensor, scores: Tensor, which: Tensor) -> None:
        """Add masks, by their numbers (m,), with f (a, m) in the images `which` (a,)."""
        masks = self._masks(rows).flatten(1).double() / (2 * self._kept)
        scores = scores.double()
        self._sum[which] += scores @ masks
        # (f m + f' m')² = f² m² + f'² m'² + 2 f f' m m'
        self._squares[which] += scores**2 @ masks**2
        self._squares[which] += 2 * (scores[:, ::2] * scores[:, 1::2]) @ (masks[::2] * masks[1::2])

    def result(self, used: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard error (b, *S), for the masks (b,) of each image, at least 4."""
        pairs = (used.double() / 2)[:, None]
        mean = self._sum / pairs
        spread = (self._squares / pairs - mean**2).clamp(min=0)
        error = (spread / (pairs - 1)).sqrt()
        size = self._masks.size
        return mean.unflatten(1, size).float(), error.unflatten(1, size).float()


def masked(batch: Batch) -> Masked:
    """Show the model masked images, for each until the map of its predicted class is settled."""
    settings: Rise = batch.settings["rise"]
    images, device = batch.images, batch.images.device
    size = tuple(images.shape[2:])
    masks = draw_masks(size, settings.most, settings.cells, settings.kept, settings.seed, images)
    logits = batch.evidence.logits
    predicted = logits.argmax(1).to(device)
    shape = (len(images), settings.most, logits.shape[1])
    probabilities = torch.zeros(shape, device=device)
    used = torch.zeros(len(images), dtype=torch.long, device=device)
    mean = Mean(len(images), masks, settings.kept)
    going = torch.arange(len(images), device=device)
    for start in range(0, settings.most, settings.least):
        stop = min(start + settings.least, settings.most)
        seen = _probabilities(batch, masks, going, start, stop)
        probabilities[going, start:stop] = seen
        used[going] = stop
        of_predicted = seen[torch.arange(len(going), device=device), :, predicted[going]]
        for rows in _together(start, stop, masks):
            mean.add(rows, of_predicted[:, rows - start], going)
        settled = _settled(*mean.result(used), settings.tolerance)
        going = going[~settled[going]]
        if not len(going):
            break
    return Masked(masks, probabilities, used)


def masks_per_image(sizing: Sizing) -> float:
    """Return the most forward passes per image."""
    return float(sizing.settings["rise"].most)


def rise(
    masked_images: Masked, classes: Tensor, settings: Rise
) -> tuple[Tensor, dict[str, Tensor]]:
    """RISE: M = 1/(N p) Σ_m f_c(x ⊙ m) m, with f the softmax probability.

    Petsiuk et al., BMVC 2018, section 3.2, equation 6. Of a single logit f is the sigmoid. Each
    mask is a grid of cells, kept with probability p, interpolated linearly and cropped at random.
    Masks come in antithetic pairs (`Masks`), which leaves the expectation as it is and lowers the
    variance. Images stop at different numbers of masks, as the map of their predicted class
    settles.

    Returns:
        The map (b, *S), and ``standard_error`` (b, *S) and ``masks_used`` (b,), N.
    """
    seen, used = masked_images, masked_images.used
    image = torch.arange(len(used), device=used.device)
    scores = seen.probabilities[image, :, classes]  # (b, N), 0 beyond those used
    mean = Mean(len(used), seen.masks, settings.kept)
    for rows in _together(0, scores.shape[1], seen.masks):
        mean.add(rows, scores[:, rows], image)
    map_, error = mean.result(used)
    return map_, {"standard_error": error, "masks_used": used}


def _probabilities(batch: Batch, masks: Masks, which: Tensor, start: int, stop: int) -> Tensor:
    """Return the probabilities (a, stop - start, K) of some images behind some masks."""
    images, count = batch.images, stop - start

    def veiled(rows: Tensor) -> Tensor:
        rows = rows.to(images.device)
        return images[which[rows // count]] * masks(start + rows % count)[:, None]

    logits = batch.forward.made(veiled, len(which) * count)
    if batch.of_scores:
        return logits.unflatten(0, (len(which), count))
    # A softmax over a single logit would be 1 behind every mask.
    probabilities = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    return probabilities.unflatten(0, (len(which), count))


def _settled(mean: Tensor, error: Tensor, tolerance: float) -> Tensor:
    """Say of each image (b,) whether its map is known well enough."""
    flat = mean.flatten(1)
    reach = flat.amax(1) - flat.amin(1)
    return TWO_SIDED * error.flatten(1).square().mean(1).sqrt() <= tolerance * reach


def _together(start: int, stop: int, masks: Masks) -> Iterator[Tensor]:
    """Yield the numbers from start to stop, some pairs at a time."""
    step = max(2, min(TOGETHER, POSITIONS // prod(masks.size) // 2 * 2))
    for first in range(start, stop, step):
        yield torch.arange(first, min(first + step, stop), device=masks.grids.device)
