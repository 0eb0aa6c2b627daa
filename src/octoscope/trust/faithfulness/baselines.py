"""What stands in for removed pixels: the same image without what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from octoscope.attribution.perturbation.baselines import baseline_of
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.trust.faithfulness.inpainting import Retina, inpainted, surfaces_of

Named = Literal["mean", "blur", "retina"]
Baseline = float | Named | Callable[[Tensor], Tensor]


def baseline_images(images: Tensor, baseline: Baseline, retina: Retina | None = None) -> Tensor:
    """Return the images of which nothing is left.

    Args:
        images: (B, C, *S).
        baseline: ``"blur"``, the image blurred by a Gaussian of a fourteenth of each side (RISE's
            insertion starts from a blurred image, too); ``"mean"``, each image's own mean per
            channel; ``"retina"``, the retina that the neighbourhood would lead one to expect (see
            `inpainting`); a number, in units of the images; or a function of the images.
        retina: Where the retina is, for ``"retina"``.

    Returns:
        (B, C, *S).

    Raises:
        OctoscopeError: If the baseline is not known, gives another shape, or ``"retina"`` is asked
            for without one.
    """
    if callable(baseline):
        found = baseline(images)
        if found.shape != images.shape:
            raise OctoscopeError(
                f"the baseline function gives {tuple(found.shape)} for images of "
                f"{tuple(images.shape)}; return one image of the same shape for each"
            )
        return found.to(images)
    if baseline == "retina":
        if retina is None:
            raise OctoscopeError(
                'baseline="retina" needs to know where the retina is; pass retina= a mask '
                "(B, H, W), or the rows of ILM and RPE"
            )
        return inpainted(images, *surfaces_of(retina, images))
    if isinstance(baseline, str) and baseline not in ("mean", "blur"):
        raise OctoscopeError(
            f'baseline "{baseline}" is not known{did_you_mean(baseline, get_args(Named))}; use '
            '"blur", "mean", "retina", a number or a function'
        )
    return baseline_of(images, baseline)
