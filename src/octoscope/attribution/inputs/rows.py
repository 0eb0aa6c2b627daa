"""Maps from gradients with respect to the pixels, at the resolution of the image."""

from __future__ import annotations

from octoscope.attribution.inputs import expected, guided, path, plain, smooth
from octoscope.attribution.inputs.rectifiers import require_rectifiers
from octoscope.attribution.method import Method

_CNN = ("cnn",)

ROWS: tuple[Method, ...] = (
    Method(
        "saliency",
        "Saliency",
        "input",
        plain.saliency,
        ("input_gradients",),
        "Simonyan et al., ICLR workshop 2014, section 3.1",
        rectified=False,
        unsigned=True,
        sentence="How strongly the logit reacts to each pixel.",
    ),
    Method(
        "input_x_gradient",
        "Input × gradient",
        "input",
        plain.input_x_gradient,
        ("images", "input_gradients"),
        "Shrikumar et al., arXiv 1605.01713, section 2.2",
        rectified=False,
        sentence="Each pixel times how the logit reacts to it.",
    ),
    Method(
        "integrated_gradients",
        "Integrated gradients",
        "input",
        path.integrated_gradients,
        ("images", "classes", "path_baseline", "path_gradients", "path_rise"),
        "Sundararajan et al., ICML 2017, section 3, Eq 1",
        rectified=False,
        sentence="What each pixel adds to the logit on the way from a baseline to the image.",
        settings=path.IntegratedGradients,
    ),
    Method(
        "gradient_shap",
        "GradientSHAP",
        "input",
        expected.gradient_shap,
        ("expected_gradients",),
        "Lundberg & Lee, NeurIPS 2017; Erion et al., Nature Machine Intelligence 2021",
        rectified=False,
        sentence="What each pixel adds to the logit on average over baselines and noise.",
        settings=expected.GradientShap,
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        "input",
        smooth.smoothgrad,
        ("noisy_gradients",),
        "Smilkov et al., arXiv 1706.03825, section 3",
        rectified=False,
        unsigned=True,
        sentence="How strongly the logit reacts to each pixel, averaged over noisy copies.",
        settings=smooth.SmoothGrad,
    ),
    Method(
        "guided_backprop",
        "Guided backpropagation",
        "input",
        guided.guided_backprop,
        ("guided_gradients",),
        "Springenberg et al., ICLR workshop 2015, section 3.4",
        rectified=False,
        sentence="Paths of positive influence through active ReLUs; mostly edges.",
        families=_CNN,
        requires=require_rectifiers,
    ),
    Method(
        "deconvolution",
        "Deconvolution",
        "input",
        guided.deconvolution,
        ("deconvolved_gradients",),
        "Zeiler & Fergus, ECCV 2014, section 2.1",
        rectified=False,
        sentence="Positive influence passed down through all ReLUs; mostly edges.",
        families=_CNN,
        requires=require_rectifiers,
    ),
    Method(
        "guided_gradcam",
        "Guided Grad-CAM",
        "input",
        guided.guided_gradcam,
        ("activations", "gradients", "guided_gradients"),
        "Selvaraju et al., ICCV 2017, section 3.2",
        rectified=False,
        sentence="Guided backpropagation where Grad-CAM is positive.",
        families=_CNN,
        requires=require_rectifiers,
    ),
)
