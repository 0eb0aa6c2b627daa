"""Maps from the attention of transformers."""

from __future__ import annotations

from torch import nn

from octoscope.attribution.attention import chains, last_layer
from octoscope.attribution.attention.legrad import legrad
from octoscope.attribution.method import Method
from octoscope.models.attention import find_attention

_GRADIENTS = (
    "attention",
    "attention_gradients",
    "readout_relevance",
    "latent_pool",
    "token_layout",
)


def _has_attention(module: nn.Module) -> None:
    """Refuse networks whose attention is no matrix between all tokens."""
    find_attention(module)


ROWS: tuple[Method, ...] = (
    Method(
        "raw_attention",
        "Raw attention",
        "attention",
        last_layer.raw_attention,
        ("last_rows", "token_layout"),
        "Mean over heads of the last attention",
        rectified=False,
        unsigned=True,
        class_specific=False,
        sentence="Which patches the class token looks at in the last layer, whatever the class.",
        dims=(2,),
        families=("transformer",),
        requires=_has_attention,
    ),
    Method(
        "rollout",
        "Attention rollout",
        "attention",
        chains.rollout,
        ("attention", "readout", "token_layout"),
        "Abnar & Zuidema, ACL 2020, section 3",
        rectified=False,
        unsigned=True,
        class_specific=False,
        sentence="Attention followed through all layers, whatever the class.",
        dims=(2,),
        families=("transformer",),
        requires=_has_attention,
    ),
    Method(
        "gradient_rollout",
        "Gradient rollout",
        "attention",
        chains.gradient_rollout,
        (*_GRADIENTS, "settings"),
        "Gildenblat 2020, attention rollout weighted by gradients",
        rectified=False,
        unsigned=True,
        sentence="Attention that raises the logit followed through all layers, weak links dropped.",
        dims=(2,),
        families=("transformer",),
        settings=chains.GradientRolloutSettings,
        requires=_has_attention,
    ),
    Method(
        "attention_gradcam",
        "Attention Grad-CAM",
        "attention",
        last_layer.attention_gradcam,
        ("last_rows", "last_row_gradients", "token_layout"),
        "Chefer et al., CVPR 2021, section 4, baseline GradCAM",
        rectified=True,
        sentence="Heads of the last attention weighted by their mean gradient.",
        dims=(2,),
        families=("transformer",),
        requires=_has_attention,
    ),
    Method(
        "chefer",
        "Chefer's relevance",
        "attention",
        chains.chefer,
        _GRADIENTS,
        "Chefer et al., ICCV 2021, Eq 5-6",
        rectified=False,
        unsigned=True,
        sentence="Attention that raises the logit, added up over all paths through the layers.",
        dims=(2,),
        families=("transformer",),
        requires=_has_attention,
    ),
    Method(
        "legrad",
        "LeGrad",
        "attention",
        legrad,
        ("layer_scores", "layer_sensitivity", "classes", "token_layout"),
        "Bousselham et al., arXiv 2404.03214, section 3",
        rectified=False,
        unsigned=True,
        sentence="How much more attention to a patch would raise the score of every layer.",
        dims=(2,),
        families=("transformer",),
        requires=_has_attention,
    ),
    Method(
        "dino_heads",
        "Attention heads",
        "attention",
        last_layer.dino_heads,
        ("last_rows", "token_layout"),
        "Caron et al., ICCV 2021, figures 1 and 3",
        rectified=False,
        unsigned=True,
        class_specific=False,
        sentence="Which patches each head of the last layer looks at, whatever the class.",
        dims=(2,),
        families=("transformer",),
        parts="heads",
        requires=_has_attention,
    ),
)
