"""LeGrad: how sensitive the score of every layer is to its attention."""

from __future__ import annotations

from torch import Tensor

from octoscope.attribution.attention.last_layer import on_grid
from octoscope.attribution.attention.readout import LayerScores
from octoscope.models.layout import TargetLayer


def legrad(
    layer_scores: LayerScores,
    layer_sensitivity: Tensor,
    classes: Tensor,
    token_layout: TargetLayer,
) -> tuple[Tensor, dict[str, Tensor]]:
    """LeGrad: M = mean_l E^l with E^l = mean over heads and queries of ReLU(ds^l/dA^l).

    Bousselham et al., arXiv 2404.03214, section 3. s^l is the score of class c that norm, pooling
    and classifier give the tokens after block l. All layers count; the paper's min-max scaling is
    left to the display. Networks with an attention pool are explained by the same equation: the
    pool is a part of the score.

    Args:
        layer_scores: What the head says of the tokens after every block.
        layer_sensitivity: (b, L, N) E of every layer.
        classes: (b,) the class c.
        token_layout: Where the patches are.

    Returns:
        (b, *s), and ``"scores"``: s^l (b, L), from which layer on the class is seen.
    """
    chosen = classes[:, None, None].expand(-1, layer_scores.count, 1)
    scores = layer_scores.by_layer.detach().gather(2, chosen)[:, :, 0]
    return on_grid(layer_sensitivity.mean(1), token_layout), {"scores": scores}
