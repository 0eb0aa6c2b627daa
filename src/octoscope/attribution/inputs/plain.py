"""Maps from one gradient at the image itself.

Pure functions: images and gradients are (b, C, *S), maps (b, *S).
"""

from __future__ import annotations

from torch import Tensor


def saliency(input_gradients: Tensor) -> Tensor:
    """Saliency: M = max over channels of |∂y_c/∂x|, never negative.

    Simonyan et al., ICLR workshop 2014, section 3.1, which takes the maximum over channels.
    """
    return input_gradients.abs().amax(1)


def input_x_gradient(images: Tensor, input_gradients: Tensor) -> Tensor:
    """Input × gradient: M = Σ over channels of x ⊙ ∂y_c/∂x, signed.

    Shrikumar et al., arXiv 1605.01713, section 2.2. Where the network is affine without a bias,
    the map sums to the logit. Pixels of value 0 get 0, whatever they mean.
    """
    return (images * input_gradients).sum(1)
