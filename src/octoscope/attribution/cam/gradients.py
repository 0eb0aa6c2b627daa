"""Class activation maps as pure functions of activations A and gradients g = dy_c/dA.

Shapes: A is (B, C, *s) and g the same, or (..., B, C, *s) for several classes at once; a map is
(..., B, *s). Sums over i run over the n positions *s, of which there may be any number of axes, and
sums over k over the C channels. y_c is the logit of class c, before softmax.

Every function returns the *signed* sum that stands inside its paper's final ReLU, where there is
one (`Method.rectified` in the registry says so, and `explain` applies it). The negative part is
evidence against the class; it is never thrown away silently.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octoscope.attribution.cam.eigen import project_on_first_direction

NEAR_ZERO = 1e-6
"""Denominators closer to zero than this, relative to what they are sums of, are rounding noise."""
CANCELLED = 1e-5
"""Sums smaller than this, relative to the magnitudes summed, are rounding noise."""


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: M = Σ_k a_k A_k with a_k = (1/n) Σ_i g_ki.

    Selvaraju et al., ICCV 2017, equations 1-2. The paper's map is ReLU(M).
    """
    s = _positions(activations)
    return _weigh(activations, gradients.mean(s))


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++: M = Σ_k a_k A_k with a_k = Σ_i α_ki ReLU(g_ki).

    Chattopadhay et al., WACV 2018, equations 10-19, with Y = exp(y_c) as there:
    α_ki = g² / (2 g² + (Σ_j A_kj) g³) = 1 / (2 + g_ki Σ_j A_kj), and 0 where g is 0. The factor
    exp(y_c) of ReLU(dY/dA) scales the whole map and is left out. The second form has no underflow
    of g² for small gradients. The paper's map is ReLU(M).

    For signed activations (transformers, ConvNeXt), which the paper does not have, α has poles;
    a denominator nearer to 0 than 1e-6 is moved to ±1e-6.
    """
    s = _positions(activations)
    alpha = 1 / _away_from_zero(2 + gradients * activations.sum(s, keepdim=True), NEAR_ZERO)
    return _weigh(activations, (alpha * gradients.relu()).sum(s))


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM: M = Σ_k g_k ⊙ A_k, signed; the paper has no ReLU.

    Draelos & Carin 2020, section 3. Where the layers after A are affine, Σ_i M_i = y_c - b_c.

    A layer norm over the channels right after A does not see their scale, so Σ_k g_k A_k = 0 at
    every position, and what is computed is rounding noise. Sums that cancel to 1e-5 of their terms
    are therefore exactly 0, such a map is flagged ``all_zero``, and the layer to explain is the
    output of that norm.
    """
    k = _channels(activations)
    terms = gradients * activations
    total = terms.sum(k)
    return total.masked_fill(total.abs() <= CANCELLED * terms.abs().sum(k), 0)


def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM: M = Σ_k a_k A_k with a_k = Σ_i g_ki A_ki / Σ_i A_ki.

    Fu et al., BMVC 2020, equation 9. The paper's map is ReLU(M). The paper's A are not negative.
    Where signed activations cancel, so that |Σ_i A_ki| < 1e-6 Σ_i |A_ki|, the denominator is kept
    at that bound with its sign; a channel of zeros weighs nothing.
    """
    s = _positions(activations)
    bound = NEAR_ZERO * activations.abs().sum(s)
    total = _away_from_zero(activations.sum(s), bound)
    weights = (gradients * activations).sum(s) / total
    return _weigh(activations, weights.masked_fill(bound == 0, 0))


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: M = Σ_k ReLU(g_k) ⊙ A_k.

    Jiang et al., TIP 2021, equations 5-6. The paper's map is ReLU(M).
    """
    return (gradients.relu() * activations).sum(_channels(activations))


def eigencam(activations: Tensor) -> Tensor:
    """Eigen-CAM: M = A v₁, the projection of A (n x C) on its first right singular vector.

    Muhammad & Yeasin, IJCNN 2020, section III. A is not centred, as in the paper. A singular vector
    has no sign of its own: a map whose largest magnitude is negative is flipped. The map belongs to
    no class.
    """
    return project_on_first_direction(activations)


def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """EigenGrad-CAM: Eigen-CAM of g ⊙ A, which makes it class-specific (same sign rule)."""
    return project_on_first_direction(gradients * activations, axes=activations.ndim - 2)


def _weigh(activations: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_k a_k A_k for weights (..., B, C): (..., B, *s)."""
    flat = activations.flatten(2)  # (B, C, n)
    maps = torch.einsum("...bc,bcn->...bn", weights, flat)
    return maps.unflatten(-1, activations.shape[2:])


def _positions(activations: Tensor) -> tuple[int, ...]:
    """Return the axes *s, counted from the end."""
    return tuple(range(2 - activations.ndim, 0))


def _channels(activations: Tensor) -> int:
    """Return the axis C, counted from the end."""
    return 1 - activations.ndim


def _away_from_zero(values: Tensor, bound: Tensor | float) -> Tensor:
    """Move values within ±bound to +bound or -bound, keeping their sign (0 counts as positive)."""
    bound = torch.as_tensor(bound, dtype=values.dtype, device=values.device)
    return torch.where(values.abs() < bound, torch.where(values < 0, -bound, bound), values)
