"""Infidelity: how far a map is from foretelling what a perturbation does to the logit.

Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, equation 1:

    INFD = E_I [ (Iᵀ Φ - (f(x) - f(x - I)))² ],

with the map Φ, the logit f of the class and a random perturbation I. The perturbed images do not
depend on the map, so one set of passes serves all methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.asking import LOGIT, about, check_maps, check_targets, lent
from octoscope.trust.faithfulness.baselines import Baseline, baseline_images
from octoscope.trust.faithfulness.inpainting import Retina
from octoscope.trust.faithfulness.order import says_an_order

Perturbation = Literal["square", "noise"]
DRAWS = 48
SIDES = (1 / 16, 1 / 3)
"""Smallest and largest square, in parts of each side of the image."""
SIGMA = 0.2
"""Of the noise, in parts of the standard deviation of each image."""


def infidelity(
    model: nn.Module,
    images: Tensor,
    maps: Mapping[str, Tensor],
    targets: Tensor,
    *,
    perturbation: Perturbation = "square",
    draws: int = DRAWS,
    normalise: bool = True,
    baseline: Baseline = "blur",
    retina: Retina | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Measure how far maps are from foretelling what perturbations do to the logit.

    ``"square"`` replaces a square by the baseline. A map is taken as what each pixel contributes
    to the logit, already multiplied by its difference from the baseline, so Iᵀ Φ is the sum of the
    map over the square. ``"noise"`` takes Gaussian noise
    from all channels of each pixel alike, and Iᵀ Φ is the sum of noise times map, as of a gradient.

    Maps come in every unit. Normalised, each is first scaled by the β >= 0 that suits it best, and
    the error is divided by that of a map of zeros:

        min_β E[(β Iᵀ Φ - Δ)²] / E[Δ²] = 1 - max(0, E[Iᵀ Φ Δ])² / (E[(Iᵀ Φ)²] E[Δ²]).

    β is not let below zero, as it is in the authors' code: a map with the wrong sign is wrong.

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode; it is left as it was.
        images: (B, C, *S) as the model takes them.
        maps: Method → (B, *S), raw maps at the size of the images.
        targets: (B,) int64, the class that each map explains.
        perturbation: ``"square"`` or ``"noise"``.
        draws: Perturbations of each image, the same for all of them.
        normalise: Whether to let scale count for nothing; otherwise the equation as it stands.
        baseline: What squares are replaced with, see `baseline_images`.
        retina: Where the retina is, for the baseline ``"retina"``.
        forward: Of a model that is lent already (`asking.lent`), with images on its device.
        seed: Of the draws.

    Returns:
        Method → (B,) float64, on the model's device: in 0…1 if normalised. NaN where the map is
        constant or not finite, or where nothing that was drawn changes the logit.

    Raises:
        OctoscopeError: If a shape, class or setting is wrong.
    """
    check_maps(images, maps, targets)
    if perturbation not in ("square", "noise") or draws < 1:
        raise OctoscopeError(
            f'infidelity takes perturbation="square" or "noise" and 1 draw or more, not '
            f'perturbation="{perturbation}" and draws={draws}'
        )
    with lent(model, images, forward) as (run, taken), torch.no_grad():
        size = tuple(taken.shape[2:])
        whole = run(taken)
        check_targets(targets, whole.shape[1])
        if perturbation == "square":
            weights = squares(size, draws, seed).to(taken)  # (R, *S)
            scale = taken.new_ones(len(taken))
            filled = baseline_images(taken, baseline, retina)
        else:
            generator = torch.Generator().manual_seed(seed)
            weights = torch.randn(draws, *size, generator=generator).to(taken)
            scale = SIGMA * taken.flatten(1).std(1)

        def make(rows: Tensor) -> Tensor:
            rows = rows.to(taken.device)
            scan, weight = rows // draws, weights[rows % draws, None]
            if perturbation == "square":
                return torch.where(weight > 0, filled[scan], taken[scan])
            return taken[scan] - weight * scale[scan].view(-1, *[1] * (taken.ndim - 1))

        logits = run.made(make, len(taken) * draws)
        after = about(logits, targets.repeat_interleave(draws))[:, LOGIT].view(-1, draws)
        change = about(whole, targets)[:, LOGIT, None] - after  # Δ (B, R)
        found = {}
        for method, given in maps.items():
            one = given.to(taken.device)
            said = one.flatten(1).double() @ weights.flatten(1).double().T * scale[:, None]
            error = _error(said, change, normalise=normalise)
            found[method] = error.where(says_an_order(one), torch.nan)
    return found


def _error(said: Tensor, change: Tensor, *, normalise: bool) -> Tensor:
    """Return the error (B,) of what maps say (B, R) of changes (B, R)."""
    if not normalise:
        return ((said - change) ** 2).mean(1)
    together = (said * change).mean(1).clamp(min=0)
    says, changes = (said**2).mean(1), (change**2).mean(1)
    share = 1 - together**2 / (says * changes)
    # A map whose sums are all zero foretells nothing; a logit that never changes asks nothing.
    return share.where(says > 0, 1.0).clamp(min=0).where(changes > 0, torch.nan)


def squares(size: tuple[int, ...], draws: int, seed: int = 0) -> Tensor:
    """Draw boxes wholly inside images of a size, of one share of every side, (R, *S) bool."""
    generator = torch.Generator().manual_seed(seed)
    share = SIDES[0] + (SIDES[1] - SIDES[0]) * torch.rand(draws, generator=generator)
    inside = torch.ones(draws, *[1] * len(size), dtype=torch.bool)
    for axis, length in enumerate(size):
        side = (share * length).round().clamp(1, length)
        room = length - side + 1
        start = (torch.rand(draws, generator=generator) * room).floor().clamp(max=room - 1)
        at = torch.arange(length)
        covers = (at >= start[:, None]) & (at < (start + side)[:, None])  # (R, length)
        along = [length if other == axis else 1 for other in range(len(size))]
        inside = inside & covers.view(draws, *along)
    return inside
