"""Feature ablation: what the logit loses when a superpixel is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from octoscope.attribution.perturbation.baselines import Baseline, baseline_of, require_baseline
from octoscope.attribution.perturbation.scores import Score, require_score, scored
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch
from octoscope.errors import OctoscopeError
from octoscope.models.layout import say
from octoscope.models.probe import at_least_float32


@dataclass(frozen=True)
class FeatureAblation:
    """Settings of feature ablation.

    Attributes:
        segments: About how many superpixels per image; or the superpixels themselves, whole
            numbers (*S) for all images or (B, *S), one number for each.
        compactness: Weight of nearness against likeness of pixels, whose range is 0 to 1; larger
            values give squarer superpixels, much smaller ones let speckle merge them all.
        baseline: What replaces: a number in units of the images, ``"mean"`` (of each channel of the
            image), ``"blur"`` or a tensor that broadcasts to the images.
        score: What is lost: the ``"logit"``, or the probability of the class by ``"softmax"`` or
            ``"sigmoid"``.
    """

    segments: int | Tensor = 50
    compactness: float = 1.0
    baseline: Baseline = 0.0
    score: Score = "logit"
    per_image: ClassVar[dict[str, int]] = {"segments": 1, "baseline": 0}

    def __post_init__(self) -> None:
        if isinstance(self.segments, Tensor):
            if self.segments.is_floating_point() or self.segments.is_complex():
                raise OctoscopeError(
                    f"feature_ablation: segments of type {self.segments.dtype} are no numbers of "
                    "superpixels; give whole numbers"
                )
        elif isinstance(self.segments, bool) or not isinstance(self.segments, int):
            raise OctoscopeError(f"feature_ablation: segments={self.segments!r} is no number")
        elif self.segments < 2:
            raise OctoscopeError(
                f"feature_ablation: segments={self.segments} leaves nothing to compare; use 2 or "
                "more"
            )
        if not self.compactness > 0:
            raise OctoscopeError(
                f"feature_ablation: compactness={self.compactness} must be positive, such as 1"
            )
        require_baseline("feature_ablation", self.baseline)
        require_score("feature_ablation", self.score)


@dataclass(frozen=True)
class Ablations:
    """What a model says to images with a superpixel replaced, for every superpixel and class.

    Attributes:
        labels: (b, *S) the superpixel of every pixel, counted through all images: a row of `after`.
        first: (b,) the number of each image's first superpixel.
        before: (b, K) scores of the images as they are: logits, unless set otherwise.
        after: (R, K) scores with each superpixel replaced.
        owner: (R,) the image that each superpixel belongs to.
    """

    labels: Tensor
    first: Tensor
    before: Tensor
    after: Tensor
    owner: Tensor


def superpixels(image: Tensor, settings: FeatureAblation) -> Tensor:
    """Label the superpixels of an image (C, *S), by SLIC: (*S), from 0 on.

    Channels are compared together, scaled so that the image's values span 0 to 1.
    """
    pixels = image.detach().double().cpu().numpy()
    low, high = pixels.min(), pixels.max()
    scaled = (pixels - low) / (high - low if high > low else 1.0)
    labels = slic(
        scaled,
        n_segments=settings.segments,
        compactness=settings.compactness,
        start_label=0,
        channel_axis=0,
        convert2lab=False,
    )
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))


def ablations(batch: Batch) -> Ablations:
    """Replace every superpixel of every image in turn, one forward pass each."""
    settings: FeatureAblation = batch.settings["feature_ablation"]
    images = batch.images
    own = list(_segments(images, settings))
    counts = torch.tensor([int(labels.max()) + 1 for labels in own])
    first = counts.cumsum(0) - counts
    labels = torch.stack([one + start for one, start in zip(own, first, strict=True)])
    labels = labels.to(images.device)
    owner = torch.arange(len(images)).repeat_interleave(counts).to(images.device)
    baseline = baseline_of(images, settings.baseline)

    def replaced(rows: Tensor) -> Tensor:
        rows = rows.to(images.device)
        which = owner[rows]
        inside = labels[which] == rows.view(-1, *[1] * (images.ndim - 2))
        return torch.where(inside[:, None], baseline[which], images[which])

    after = batch.forward.made(replaced, len(owner))
    before = at_least_float32(batch.evidence.logits)
    before, after = scored(before, settings.score), scored(after, settings.score)
    return Ablations(labels, first.to(images.device), before, after, owner)


def _segments(images: Tensor, settings: FeatureAblation) -> Iterator[Tensor]:
    """Yield the superpixels (*S) of every image, numbered from 0 on.

    Raises:
        OctoscopeError: If those given do not fit the images.
    """
    if not isinstance(settings.segments, Tensor):
        for image in images:
            yield superpixels(image, settings)
        return
    shape = (len(images), *images.shape[2:])
    given = settings.segments.detach().cpu()
    if given.shape not in (shape, shape[1:], (1, *shape[1:])):
        raise OctoscopeError(
            f"feature_ablation: segments of shape {tuple(given.shape)} do not fit {len(images)} "
            f"images of {say(shape[1:])}; give {shape[1:]}, or one such per image"
        )
    for one in given.expand(shape):
        yield one.unique(return_inverse=True)[1]


def segments_per_image(sizing: Sizing) -> float:
    """Return about how many forward passes there are per image."""
    segments = sizing.settings["feature_ablation"].segments
    if not isinstance(segments, Tensor):
        return float(segments)
    alike = segments.ndim == len(sizing.size)
    rows = [segments] if alike else segments
    return float(sum(len(one.unique()) for one in rows) / len(rows))


def feature_ablation(ablations: Ablations, classes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Feature ablation over superpixels: M_i = y_c(x) - y_c(x, s ← baseline) for i in superpixel s.

    Superpixels are SLIC's (Achanta et al., TPAMI 2012), each image's its own. Signed: where M is
    negative, replacing raises the logit.

    Returns:
        The map (b, *S), constant on each superpixel, and ``superpixels`` (b, *S), their numbers.
    """
    wanted = classes[ablations.owner]  # (R,)
    before = ablations.before[ablations.owner, wanted]
    drops = before - ablations.after.gather(1, wanted[:, None])[:, 0]
    first = ablations.first.view(-1, *[1] * (ablations.labels.ndim - 1))
    return drops[ablations.labels], {"superpixels": ablations.labels - first}
