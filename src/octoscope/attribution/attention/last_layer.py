"""What the head reads in the last attention, with and without gradients.

Shapes: rows and their gradients are (b, h, N) for h heads and N tokens; maps are (b, *s), or
(b, h, *s) for heads. With class pooling the row is the class token's; with average pooling the mean
over patches; with an attention pool the latent's.
"""

from __future__ import annotations

from torch import Tensor

from octoscope.models.layout import TargetLayer


def raw_attention(last_rows: Tensor, token_layout: TargetLayer) -> Tensor:
    """Mean over heads of the last attention's row: which patches the head's token looks at."""
    return on_grid(last_rows.mean(1), token_layout)


def dino_heads(last_rows: Tensor, token_layout: TargetLayer) -> Tensor:
    """The last attention's row, one map per head, (b, h, *s).

    Caron et al., ICCV 2021, figures 1 and 3.
    """
    return token_layout.maps(last_rows.mT)


def attention_gradcam(
    last_rows: Tensor, last_row_gradients: Tensor, token_layout: TargetLayer
) -> Tensor:
    """Grad-CAM with heads as channels: M = mean_h w_h A_h, w_h the mean gradient over patches.

    The baseline "GradCAM" of Chefer et al., CVPR 2021, section 4; their map is ReLU(M).
    """
    maps = token_layout.maps(last_rows.mT)
    weights = token_layout.maps(last_row_gradients.mT).flatten(2).mean(-1)
    return (weights[:, :, None, None] * maps).mean(1)


def on_grid(row: Tensor, layout: TargetLayer) -> Tensor:
    """Return the patches of a row (b, N) as maps (b, *s)."""
    return layout.maps(row[..., None])[:, 0]
