"""What a model says while pixels are taken away or put in, in the order of a map.

Deletion and insertion: Petsiuk, Das & Saenko, "RISE", BMVC 2018, section 4.2. Positive and
negative perturbation: Chefer, Gur & Wolf, CVPR 2021, section 4.1. With one baseline these are two
series of images and not four: positive perturbation removes what deletion removes, and an image
without its lowest 30 % is one with its highest 70 % inserted. Each image is asked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.trust.faithfulness.asking import (
    KEPT,
    LOGIT,
    PROBABILITY,
    about,
    check_maps,
    check_targets,
    lent,
)
from octoscope.trust.faithfulness.baselines import Baseline, baseline_images
from octoscope.trust.faithfulness.inpainting import Retina
from octoscope.trust.faithfulness.removal import State, said_without

KINDS: dict[str, Callable[[int, int], State]] = {
    "deletion": lambda count, pixels: (False, count),
    "insertion": lambda count, pixels: (True, pixels - count),
    "positive": lambda count, pixels: (False, count),
    "negative": lambda count, pixels: (True, count),
}
"""Kind of curve → what is gone at its point of `count` pixels."""


@dataclass(frozen=True, eq=False)
class Curves:
    """What a model says to images of which more and more is changed.

    Attributes:
        fractions: (S+1,) float64 on the CPU, share of the pixels removed (inserted, of kind
            ``"insertion"``).
        values: Kind → method → (B, S+1) float64, softmax probability of the target class; NaN
            where the map says nothing.
        logits: The same of the target's logit.
        kept: The same of whether the target is the class predicted, 0 or 1.
    """

    fractions: Tensor
    values: dict[str, dict[str, Tensor]]
    logits: dict[str, dict[str, Tensor]]
    kept: dict[str, dict[str, Tensor]]


def curves(
    model: nn.Module,
    images: Tensor,
    maps: Mapping[str, Tensor],
    targets: Tensor,
    *,
    kinds: Sequence[str] = ("deletion", "insertion"),
    steps: int = 20,
    baseline: Baseline = "blur",
    retina: Retina | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> Curves:
    """Take pixels away and put pixels in, in the order of each map, and ask the model each time.

    ``"deletion"`` and ``"positive"`` replace the pixels ranked highest first, ``"negative"`` those
    ranked lowest first; ``"insertion"`` puts those ranked highest first into the baseline image.
    All channels of a pixel go together. Quantus' PixelFlipping ranks single channels of pixels.

    Costs two passes per scan, the whole image and the baseline image, and at most S - 1 per scan,
    method and kind.

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode; it is left as it was.
        images: (B, C, *S) as the model takes them.
        maps: Method → (B, *S), raw maps at the size of the images.
        targets: (B,) int64, the class that each map explains.
        kinds: Keys of `KINDS`.
        steps: S, into which the pixels are cut, to whole pixels.
        baseline: See `baseline_images`.
        retina: Where the retina is, for the baseline ``"retina"``.
        forward: Of a model that is lent already (`asking.lent`), with images on its device.
        seed: Of the order in which pixels of equal value go.

    Returns:
        The curves, on the model's device.

    Raises:
        OctoscopeError: If a kind, baseline, shape or class is wrong, or there is no step.
    """
    check_maps(images, maps, targets)
    for kind in kinds:
        if kind not in KINDS:
            raise OctoscopeError(
                f'curve "{kind}" is not known{did_you_mean(kind, KINDS)}; use {", ".join(KINDS)}'
            )
    if steps < 1:
        raise OctoscopeError(f"steps={steps} leaves no curve; use 1 or more")
    pixels = images[0, 0].numel()
    counts = [round(pixels * step / steps) for step in range(steps + 1)]
    with lent(model, images, forward) as (run, taken), torch.no_grad():
        filled = baseline_images(taken, baseline, retina)
        whole = run(taken)
        check_targets(targets, whole.shape[1])
        ends = {0: about(whole, targets), pixels: about(run(filled), targets)}

        def fill(scans: Tensor, gone: Tensor) -> Tensor:
            return torch.where(gone[:, None], filled[scans], taken[scans])

        plan = {kind: [KINDS[kind](count, pixels) for count in counts] for kind in kinds}
        said = said_without(run, taken, maps, targets, plan, ends, fill, seed)
    return curves_of(torch.tensor(counts, dtype=torch.float64) / pixels, said)


def curves_of(fractions: Tensor, said: Mapping[str, Mapping[str, Tensor]]) -> Curves:
    """Return curves from kind → method → (B, S+1, 3), as `about` returns them."""

    def part(place: int) -> dict[str, dict[str, Tensor]]:
        return {
            kind: {method: one[..., place] for method, one in by_method.items()}
            for kind, by_method in said.items()
        }

    return Curves(fractions, part(PROBABILITY), part(LOGIT), part(KEPT))


def joined(parts: Sequence[Curves]) -> Curves:
    """Return the curves of several batches of scans as one, on the CPU."""

    def together(name: str) -> dict[str, dict[str, Tensor]]:
        first: dict[str, dict[str, Tensor]] = getattr(parts[0], name)
        return {
            kind: {
                method: torch.cat([getattr(part, name)[kind][method].cpu() for part in parts])
                for method in by_method
            }
            for kind, by_method in first.items()
        }

    return Curves(parts[0].fractions, together("values"), together("logits"), together("kept"))


def area(values: Tensor, fractions: Tensor) -> Tensor:
    """Return the mean height of curves by the trapezoidal rule: area / width.

    Args:
        values: (B, S+1).
        fractions: (S+1,), rising.

    Returns:
        (B,) float64; NaN where a curve is.
    """
    at = fractions.to(values)
    return torch.trapezoid(values, at, dim=-1) / (at[-1] - at[0])


def mean_kept(kept: Tensor, fractions: Tensor) -> Tensor:
    """Return the share of the steps from 10 to 90 % at which the class is still predicted.

    Chefer et al. report the area under the accuracy over these steps. For one scan it is a share.

    Args:
        kept: (B, S+1), 0 or 1, from the whole image on.
        fractions: (S+1,).

    Returns:
        (B,) float64; NaN where the class is not predicted of the whole image, which no removal
        can then be blamed for, or the map says nothing.
    """
    inner = (fractions > 0.1 - 1e-3) & (fractions < 0.9 + 1e-3)
    share = kept[:, inner.to(kept.device)].mean(1)
    return share.where(kept[:, 0] > 0, torch.nan)
