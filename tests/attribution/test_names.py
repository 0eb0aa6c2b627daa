"""Names of methods: the list for editors, and other ways of writing them."""

from __future__ import annotations

from typing import get_args

import pytest

from octoscope.attribution.names import ALIASES, FamilyName, MethodName, folded
from octoscope.attribution.registry import FAMILIES, METHODS, SPELLINGS, methods_named
from octoscope.errors import OctoscopeError


def test_the_lists_for_editors_are_the_registry() -> None:
    assert get_args(MethodName) == tuple(METHODS)
    assert get_args(FamilyName) and set(get_args(FamilyName)) == set(FAMILIES)


def test_no_two_methods_share_a_spelling() -> None:
    spelt = [(folded(name), key) for key, row in METHODS.items() for name in (key, row.title)]
    spelt += [(folded(alias), key) for alias, key in ALIASES.items()]
    assert len(set(spelt)) == len({spelling for spelling, _ in set(spelt)})
    assert not {spelling for spelling, _ in spelt} & {*map(folded, FAMILIES), "all"} - {
        folded(key) for key in METHODS
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("GradCAM", "gradcam"),
        ("Grad-CAM", "gradcam"),
        ("grad_cam", "gradcam"),
        ("LayerGradCam", "gradcam"),
        ("GradCAMPlusPlus", "gradcam++"),
        ("gradcam_plus_plus", "gradcam++"),
        ("GradCAMpp", "gradcam++"),
        ("Grad-CAM++", "gradcam++"),
        ("HiResCAM", "hirescam"),
        ("EigenGradCAM", "eigengradcam"),
        ("AblationCAM", "ablationcam"),
        ("IntegratedGradients", "integrated_gradients"),
        ("ig", "integrated_gradients"),
        ("InputXGradient", "input_x_gradient"),
        ("GuidedGradCam", "guided_gradcam"),
        ("GuidedBackprop", "guided_backprop"),
        ("GradientShap", "gradient_shap"),
        ("FeatureAblation", "feature_ablation"),
        ("RISE", "rise"),
        ("LeGrad", "legrad"),
        ("attention rollout", "rollout"),
        ("Transformer Attribution", "chefer_lrp"),
    ],
)
def test_near_names_are_understood(name: str, key: str) -> None:
    assert [row.name for row in methods_named(name)] == [key]
    left = [row.name for row in methods_named(["all", f"-{name}"])]
    assert left == [other for other in METHODS if other != key]


@pytest.mark.parametrize(
    "name", ["SmoothGradCAMpp", "SSCAM", "ISCAM", "KPCA_CAM", "LRP", "DeepLift"]
)
def test_a_relative_is_not_taken_for_the_method(name: str) -> None:
    assert SPELLINGS.key_of(name) is None
    with pytest.raises(OctoscopeError, match="is not known"):
        methods_named(name)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(
        OctoscopeError, match=r'method "gradcma" is not known \(did you mean "gradcam"'
    ):
        methods_named("gradcma")
    with pytest.raises(OctoscopeError, match="3 is no name of a method"):
        methods_named(["gradcam", 3])  # type: ignore[list-item]
