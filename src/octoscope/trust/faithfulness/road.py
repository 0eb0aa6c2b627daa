"""ROAD: remove and debias. What is left of the class when pixels are imputed from their neighbours.

A patch replaced by grey or blur shows the model where it was, so that a map can score by its shape
alone. Linear imputation leaves few traces of it, and the noise on top hides those.

Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from octoscope.attribution.forward import Forward
from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.asking import about, check_maps, check_targets, lent
from octoscope.trust.faithfulness.curves import Curves, curves_of
from octoscope.trust.faithfulness.imputation import imputed, noise_like
from octoscope.trust.faithfulness.removal import said_without

FRACTIONS = (0.2, 0.4, 0.6, 0.8)
ORDERS = {"morf": False, "lerf": True}
"""Order of removal → whether the lowest pixels go first."""


def road(
    model: nn.Module,
    images: Tensor,
    maps: Mapping[str, Tensor],
    targets: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    orders: Sequence[str] = tuple(ORDERS),
    forward: Forward | None = None,
    seed: int = 0,
) -> Curves:
    """Impute more and more pixels, most (MoRF) or least (LeRF) relevant first, and ask the model.

    All channels of a pixel go together, and every scan keeps its own values. (Quantus' ROAD ranks
    single channels of pixels and averages over its first batch alone.)

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode; it is left as it was.
        images: (B, C, *S) as the model takes them, *S of 2 or 3 axes.
        maps: Method → (B, *S), raw maps at the size of the images.
        targets: (B,) int64, the class that each map explains.
        fractions: Shares of the pixels that are imputed, rising, between 0 and 1.
        orders: ``"morf"``, ``"lerf"`` or both.
        forward: Of a model that is lent already (`asking.lent`), with images on its device.
        seed: Of the noise, which all images of one size share, and of the order of ties.

    Returns:
        The curves of kind ``"morf"`` and ``"lerf"``, from the whole image on: `Curves.fractions`
        starts with 0.

    Raises:
        OctoscopeError: If a fraction, shape or class is wrong.
    """
    check_maps(images, maps, targets)
    if images.ndim not in (4, 5):
        raise OctoscopeError(
            f"ROAD imputes images (B, C, H, W) or volumes, not shape {tuple(images.shape)}"
        )
    shares = [0.0, *map(float, fractions)]
    rises = all(low < high for low, high in zip(shares, [*shares[1:], 1.0], strict=True))
    if len(shares) < 2 or not rises:
        raise OctoscopeError(
            f"fractions={tuple(fractions)} do not rise between 0 and 1; use such as {FRACTIONS}"
        )
    pixels = images[0, 0].numel()
    counts = [min(round(pixels * share), pixels - 1) for share in shares]
    with lent(model, images, forward) as (run, taken), torch.no_grad():
        whole = run(taken)
        check_targets(targets, whole.shape[1])
        noise = noise_like(taken, seed)

        def fill(scans: Tensor, gone: Tensor) -> Tensor:
            some = taken[scans]
            return torch.where(gone[:, None], imputed(some, gone) + noise, some)

        plan = {order: [(ORDERS[order], count) for count in counts] for order in orders}
        ends = {0: about(whole, targets)}
        said = said_without(run, taken, maps, targets, plan, ends, fill, seed)
    return curves_of(torch.tensor(counts, dtype=torch.float64) / pixels, said)


def mean_height(values: Tensor) -> Tensor:
    """Return the mean over the fractions but 0, at which nothing is removed: (B, S+1) to (B,)."""
    return values[:, 1:].mean(1)
