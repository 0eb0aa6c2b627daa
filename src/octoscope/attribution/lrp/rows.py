"""Relevance propagated backwards through transformers."""

from __future__ import annotations

from octoscope.attribution.lrp.attnlrp import attnlrp
from octoscope.attribution.lrp.chefer_lrp import chefer_lrp
from octoscope.attribution.lrp.defined import require_attnlrp, require_chefer_lrp
from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = (
    Method(
        "attnlrp",
        "AttnLRP",
        "attention",
        attnlrp,
        ("attnlrp_inputs", "attnlrp_gradients", "logits", "classes"),
        "Achtibat et al., ICML 2024, Eq 7-9, Prop 3.1, 3.3 and 3.4",
        rectified=False,
        sentence="What each pixel adds to the logit, propagated through every step of attention.",
        dims=(2,),
        families=("transformer",),
        explains="linear",
        requires=require_attnlrp,
    ),
    Method(
        "chefer_lrp",
        "Chefer LRP",
        "attention",
        chefer_lrp,
        (
            "attention",
            "attention_gradients",
            "lrp_recording",
            "logit_relevance",
            "readout",
            "token_layout",
        ),
        "Chefer, Gur & Wolf, CVPR 2021, Eq 2-14",
        rectified=False,
        sentence="Attention of all blocks chained, weighed by its gradient and its relevance.",
        dims=(2,),
        families=("transformer",),
        unsigned=True,
        explains="class",
        requires=require_chefer_lrp,
    ),
)
