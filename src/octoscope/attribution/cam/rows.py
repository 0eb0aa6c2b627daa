"""Class activation maps: functions of the target layer's activations."""

from __future__ import annotations

from octoscope.attribution.cam import gradients
from octoscope.attribution.method import Method

_BOTH = ("activations", "gradients")

ROWS = (
    Method(
        "gradcam",
        "Grad-CAM",
        "cam",
        gradients.gradcam,
        _BOTH,
        "Selvaraju et al., ICCV 2017, Eq 1-2",
        rectified=True,
        sentence="Channels weighted by their mean gradient.",
    ),
    Method(
        "gradcam++",
        "Grad-CAM++",
        "cam",
        gradients.gradcam_plus_plus,
        _BOTH,
        "Chattopadhay et al., WACV 2018, Eq 10-19",
        rectified=True,
        sentence="Channels weighted by positive gradients, small regions counting like large ones.",
    ),
    Method(
        "hirescam",
        "HiResCAM",
        "cam",
        gradients.hirescam,
        _BOTH,
        "Draelos & Carin, arXiv 2011.08891, section 3",
        rectified=False,
        sentence="What each position adds to the logit; exact where the head is affine.",
    ),
    Method(
        "xgradcam",
        "XGrad-CAM",
        "cam",
        gradients.xgradcam,
        _BOTH,
        "Fu et al., BMVC 2020, Eq 9",
        rectified=True,
        sentence="Channels weighted by the activation-weighted mean of their gradient.",
    ),
    Method(
        "layercam",
        "LayerCAM",
        "cam",
        gradients.layercam,
        _BOTH,
        "Jiang et al., TIP 2021, Eq 5-6",
        rectified=True,
        sentence="Each activation weighted by its own positive gradient.",
    ),
    Method(
        "eigencam",
        "Eigen-CAM",
        "cam",
        gradients.eigencam,
        ("activations",),
        "Muhammad & Yeasin, IJCNN 2020, section III",
        rectified=False,
        class_specific=False,
        sentence="The strongest pattern among the channels, whatever the class.",
    ),
    Method(
        "eigengradcam",
        "EigenGrad-CAM",
        "cam",
        gradients.eigengradcam,
        _BOTH,
        "Eigen-CAM of gradient times activation",
        rectified=False,
        sentence="The strongest pattern among the channels' contributions to the logit.",
    ),
)
