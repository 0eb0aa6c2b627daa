"""Maps from what the model says to changed images."""

from __future__ import annotations

from octoscope.attribution.method import Method
from octoscope.attribution.perturbation.ablation import FeatureAblation, feature_ablation
from octoscope.attribution.perturbation.occlusion import Occlusion, occlusion
from octoscope.attribution.perturbation.rise import Rise, rise

ROWS: tuple[Method, ...] = (
    Method(
        "occlusion",
        "Occlusion",
        "perturbation",
        occlusion,
        ("occlusions", "classes"),
        "Zeiler & Fergus, ECCV 2014, section 4.1",
        rectified=False,
        sentence="What the logit loses when a window of the image is covered.",
        settings=Occlusion,
    ),
    Method(
        "feature_ablation",
        "Feature ablation",
        "perturbation",
        feature_ablation,
        ("ablations", "classes"),
        "Ablation of superpixels; SLIC: Achanta et al., TPAMI 2012",
        rectified=False,
        sentence="What the logit loses when a superpixel is replaced.",
        settings=FeatureAblation,
    ),
    Method(
        "rise",
        "RISE",
        "perturbation",
        rise,
        ("masked_images", "classes", "settings"),
        "Petsiuk et al., BMVC 2018, section 3.2, Eq 6",
        rectified=False,
        unsigned=True,
        sentence="Random masks, weighted by what the model still gives for the class behind each.",
        settings=Rise,
    ),
)
