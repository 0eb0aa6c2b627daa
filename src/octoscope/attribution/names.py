"""What methods are called: their keys, and the other ways in which people write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

MethodName = Literal[
    "gradcam",
    "gradcam++",
    "hirescam",
    "xgradcam",
    "layercam",
    "eigencam",
    "eigengradcam",
    "finercam",
    "scorecam",
    "fullgrad",
    "ablationcam",
    "reciprocam",
    "vit_reciprocam",
    "raw_attention",
    "rollout",
    "gradient_rollout",
    "attention_gradcam",
    "chefer",
    "legrad",
    "dino_heads",
    "attnlrp",
    "chefer_lrp",
    "occlusion",
    "feature_ablation",
    "rise",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "smoothgrad",
    "guided_backprop",
    "deconvolution",
    "guided_gradcam",
    "consensus",
    "null_random",
    "null_centre",
    "null_edges",
    "null_intensity",
]
"""Keys of the methods, for editors to complete; the tests hold them equal to the registry."""

FamilyName = Literal["cam", "attention", "head", "perturbation", "input", "consensus", "null"]
"""Names that stand for all methods of a family."""

Methods = MethodName | FamilyName | Literal["all"] | str
"""One name as `explain` takes it: any text, of which editors complete the known ones."""

ALIASES: dict[str, MethodName] = {
    "gradcampp": "gradcam++",
    "layer gradcam": "gradcam",
    "ig": "integrated_gradients",
    "intgrad": "integrated_gradients",
    "expected gradients": "gradient_shap",
    "vanilla gradient": "saliency",
    "gradient x input": "input_x_gradient",
    "deconvnet": "deconvolution",
    "deconv": "deconvolution",
    "chefer cvpr 2021": "chefer_lrp",
    "transformer attribution": "chefer_lrp",
    "null center": "null_centre",
}
"""Other names of the same methods, by their papers and in other libraries. Variants that give
other maps, such as Smooth Grad-CAM++, are not among them: they are unknown, not taken for another
one."""


def folded(name: str) -> str:
    """Return what two spellings of a name have in common: "Grad-CAM++", "gradcam_plus_plus"."""
    text = name.casefold().replace("++", "plusplus").replace("×", "x")
    return "".join(letter for letter in text if letter.isalnum())


class Spellings:
    """The methods by every way of writing them.

    Args:
        titles: Key → title, which counts as a name too.
    """

    def __init__(self, titles: Iterable[tuple[str, str]]) -> None:
        self._keys: dict[str, str] = {folded(alias): key for alias, key in ALIASES.items()}
        for key, title in titles:
            self._keys |= {folded(title): key, folded(key): key}

    def key_of(self, name: str) -> str | None:
        """Return the key of the method that a name means, None if it means none."""
        return self._keys.get(folded(name))
