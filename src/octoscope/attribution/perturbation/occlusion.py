"""Occlusion: what the logit loses when a window of the image is covered.

Shapes: images (b, C, *S), W windows t, logits y (b, W, K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from octoscope.attribution.linear import quick_linear
from octoscope.attribution.perturbation.baselines import Baseline, baseline_of, require_baseline
from octoscope.attribution.perturbation.chain import LOW, SAME
from octoscope.attribution.perturbation.cones import Cones
from octoscope.attribution.perturbation.scores import Score, require_score, scored
from octoscope.attribution.perturbation.windows import Windows
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.layout import say
from octoscope.models.probe import at_least_float32, logits_of

Sides = int | tuple[int, ...]
PARTS = 7
"""A side of the image holds this many default windows: 32 pixels of 224, 13 × 13 with overlap."""
ROUNDING = 64
"""Rounding of logits that come about in two ways, in units of their precision."""


@dataclass(frozen=True)
class Occlusion:
    """Settings of occlusion.

    Attributes:
        window: Side of the window in pixels, one for all axes or one for each; by default a seventh
            of each side of the image, rounded up (32 of 224).
        stride: Step in pixels, likewise; by default half the window, rounded up (16 of 32).
        baseline: What covers: a number in units of the images, ``"mean"`` (of each channel of the
            image), ``"blur"`` or a tensor that broadcasts to the images.
        score: What is lost: the ``"logit"``, or the probability of the class by ``"softmax"`` or
            ``"sigmoid"``.
    """

    window: Sides | None = None
    stride: Sides | None = None
    baseline: Baseline = 0.0
    score: Score = "logit"
    per_image: ClassVar[dict[str, int]] = {"baseline": 0}

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            sides = getattr(self, name)
            sides = tuple(sides) if isinstance(sides, list | tuple) else sides
            object.__setattr__(self, name, sides)
            for side in sides if isinstance(sides, tuple) else (sides,):
                if side is not None and (isinstance(side, bool) or not _positive(side)):
                    raise OctoscopeError(
                        f"occlusion: {name}={sides!r} is no number of pixels; use 1 or more, "
                        "one for all axes or one for each"
                    )
        require_baseline("occlusion", self.baseline)
        require_score("occlusion", self.score)

    def windows(self, size: tuple[int, ...]) -> Windows:
        """Lay the windows over images of *S.

        Raises:
            OctoscopeError: If the sides do not match the axes, or a step leaves gaps.
        """
        window = _each("window", self.window, size) or tuple(-(-side // PARTS) for side in size)
        stride = _each("stride", self.stride, size) or tuple(-(-side // 2) for side in window)
        window = tuple(map(min, window, size))
        for step, side, whole in zip(stride, window, size, strict=True):
            if step > side and side < whole:
                raise OctoscopeError(
                    f"occlusion: stride={say(stride)} is wider than window={say(window)}, so parts "
                    "of the image would never be covered; use a stride of at most the window"
                )
        return Windows(size, window, stride)


@dataclass(frozen=True)
class Occlusions:
    """What a model says to images with a window covered, for every window and class.

    Attributes:
        windows: Where the windows are.
        before: (b, K) logits of the images as they are.
        after: (b, W, K) logits with each window covered.
        score: What is compared of them.
    """

    windows: Windows
    before: Tensor
    after: Tensor
    score: Score = "logit"


def occlusions(batch: Batch) -> Occlusions:
    """Cover every window of every image in turn, at most W forward passes per image."""
    settings: Occlusion = batch.settings["occlusion"]
    images = batch.images
    windows = settings.windows(tuple(images.shape[2:]))
    after = covered_logits(batch, windows, baseline_of(images, settings.baseline))
    return Occlusions(windows, at_least_float32(batch.evidence.logits), after, settings.score)


def covered_logits(batch: Batch, windows: Windows, baseline: Tensor) -> Tensor:
    """Return the logits (b, W, K) of images with each window in turn replaced by a baseline."""
    images, boxes = batch.images, windows.boxes

    def covered(rows: Tensor) -> Tensor:
        which = rows // len(boxes)
        copies = images[which.to(images.device)]
        for copy, b, w in zip(copies, which.tolist(), (rows % len(boxes)).tolist(), strict=True):
            box = (slice(None), *boxes[w])
            copy[box] = baseline[b][box]
        return copies

    cones = _cones(batch, windows, baseline, covered)
    if cones is None:
        logits = batch.forward.made(covered, len(images) * len(boxes))
        return logits.unflatten(0, (len(images), len(boxes)))
    found = []
    for one, cover in zip(images.split(1), baseline.split(1), strict=True):  # bounds what is kept
        with batch.forward.precision(images.device):
            with torch.inference_mode():
                cones.keep(one, cover)
            found.append(batch.forward.rows(cones, len(boxes), covered))
    return torch.stack(found)


def _cones(
    batch: Batch, windows: Windows, baseline: Tensor, covered: Callable[[Tensor], Tensor]
) -> Cones | None:
    """Return a quicker way to the same logits, None where the network does not let us.

    Whatever in a network cannot be followed, or lets some windows lose something else than the
    whole network does, is no error: the whole network runs for every window instead.
    """
    rows = windows.spread()
    full = torch.autocast(batch.images.device.type, enabled=False)
    try:
        with torch.inference_mode(), full, quick_linear():
            cones = Cones(batch.module, batch.images[:1], baseline[:1], windows)
            if not cones.links:
                return None
            found = cones(rows)
            before = logits_of(batch.module(batch.images[:1]))
            expected = logits_of(batch.module(covered(rows)))
    except Exception:
        return None
    return cones if _same_drops(before, found, expected) else None


def _same_drops(before: Tensor, found: Tensor, expected: Tensor) -> bool:
    """Say whether logits lose the same, but for rounding: before (1, K), with windows (m, K)."""
    if found.shape != expected.shape or not bool((found - expected).isfinite().all()):
        return False
    rounding = min(ROUNDING * torch.finfo(found.dtype).eps, LOW) * before.abs().max()
    return bool((found - expected).abs().max() <= SAME * (before - expected).abs().max() + rounding)


def windows_per_image(sizing: Sizing) -> float:
    """Return the forward passes per image."""
    return float(len(sizing.settings["occlusion"].windows(sizing.size)))


def occlusion(occlusions: Occlusions, classes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Occlusion: M_i = mean over the windows t that cover i of d_t = y_c(x) - y_c(x, t ← baseline).

    Zeiler & Fergus, ECCV 2014, section 4.1, with the mean where windows overlap. Signed: where M is
    negative, covering raises the logit. The last windows end at the border of the image. With
    `Occlusion.score` y_c is a probability.

    Returns:
        The map (b, *S), and ``windows`` (b, W), y_c with each window covered; ``best_window``
        (b, 2 n), first pixel along each of the n axes and then side along each, of the window that
        raises y_c most (or lowers it least) when it is covered; ``logits_before`` (b, K) and
        ``logits_best`` (b, K), all logits without and with that window covered.
    """
    before, after = occlusions.before, occlusions.after
    image = torch.arange(len(after), device=after.device)
    scores = scored(after, occlusions.score)[image, :, classes]  # (b, W)
    drops = scored(before, occlusions.score)[image, classes][:, None] - scores
    best = scores.argmax(1)
    details = {
        "windows": scores,
        "best_window": occlusions.windows.corners().to(best.device)[best],
        "logits_before": before,
        "logits_best": after[image, best],
    }
    return occlusions.windows.mean(drops), details


def _each(name: str, sides: Sides | None, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return one side per axis, None if none is set."""
    if sides is None or isinstance(sides, int):
        return None if sides is None else (sides,) * len(size)
    if len(sides) != len(size):
        raise OctoscopeError(
            f"occlusion: {name}={sides} has {len(sides)} sides and the images have {len(size)} "
            "axes; give one number, or one per axis"
        )
    return sides


def _positive(side: object) -> bool:
    return isinstance(side, int) and side > 0
