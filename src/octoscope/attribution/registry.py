"""The registry of methods: what `explain` plans by, and what lists, docs and menus are drawn from.

A method is a pure function whose parameters are its `needs`. `explain` collects the needs of all
methods asked for, captures them once, and calls each function with what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from octoscope.attribution import cams
from octoscope.errors import OctoscopeError, did_you_mean

Need = Literal["activations", "gradients"]
"""What a pass can give: A of the target layer, and dy_c/dA."""


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes:
        name: Its key.
        title: Its name in running text.
        family: Which kind of evidence it weighs: ``"cam"`` so far.
        function: Pure function of its needs, passed by keyword, to a signed map (..., B, *s).
        needs: Names of the function's parameters.
        paper: Authors, venue, year and equation.
        rectified: Whether the definition ends in a ReLU, which is applied after `function`.
        class_specific: Whether the map depends on the class explained.
        dims: Numbers of spatial axes that it is defined for.
        families: Architectures that it is defined for.
        cost: Forward passes it adds to the one shared by all, for one class, as a guide.
        sentence: What the map shows, for menus and docs.
    """

    name: str
    title: str
    family: str
    function: Callable[..., Tensor]
    needs: tuple[Need, ...]
    paper: str
    rectified: bool
    sentence: str
    class_specific: bool = True
    dims: tuple[int, ...] = (2, 3)
    families: tuple[str, ...] = ("cnn", "transformer")
    cost: float = 0.0

    @property
    def signed(self) -> bool:
        """Whether maps have negative values, and want a diverging colour scale."""
        return not self.rectified

    def about(self) -> dict[str, str]:
        """Return title, paper and meaning, for readers that do not load torch."""
        return {"title": self.title, "paper": self.paper, "sentence": self.sentence}


_BOTH: tuple[Need, ...] = ("activations", "gradients")

_ROWS = (
    Method(
        "gradcam",
        "Grad-CAM",
        "cam",
        cams.gradcam,
        _BOTH,
        "Selvaraju et al., ICCV 2017, Eq 1-2",
        rectified=True,
        sentence="Channels weighted by their mean gradient.",
    ),
    Method(
        "gradcam++",
        "Grad-CAM++",
        "cam",
        cams.gradcam_plus_plus,
        _BOTH,
        "Chattopadhay et al., WACV 2018, Eq 10-19",
        rectified=True,
        sentence="Channels weighted by positive gradients, small regions counting like large ones.",
    ),
    Method(
        "hirescam",
        "HiResCAM",
        "cam",
        cams.hirescam,
        _BOTH,
        "Draelos & Carin, arXiv 2011.08891, section 3",
        rectified=False,
        sentence="What each position adds to the logit; exact where the head is affine.",
    ),
    Method(
        "xgradcam",
        "XGrad-CAM",
        "cam",
        cams.xgradcam,
        _BOTH,
        "Fu et al., BMVC 2020, Eq 9",
        rectified=True,
        sentence="Channels weighted by the activation-weighted mean of their gradient.",
    ),
    Method(
        "layercam",
        "LayerCAM",
        "cam",
        cams.layercam,
        _BOTH,
        "Jiang et al., TIP 2021, Eq 5-6",
        rectified=True,
        sentence="Each activation weighted by its own positive gradient.",
    ),
    Method(
        "eigencam",
        "Eigen-CAM",
        "cam",
        cams.eigencam,
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
        cams.eigengradcam,
        _BOTH,
        "Eigen-CAM of gradient times activation",
        rectified=False,
        sentence="The strongest pattern among the channels' contributions to the logit.",
    ),
)

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
"""Every method by its key, in the order that lists show."""


def methods_named(names: str | Iterable[str]) -> tuple[Method, ...]:
    """Look up methods.

    Args:
        names: A key, several, or ``"all"``.

    Returns:
        The rows in the order asked for, each once.

    Raises:
        OctoscopeError: If a key is unknown, with the nearest one, or none is given.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted == ["all"]:
        return tuple(METHODS.values())
    for name in wanted:
        if name not in METHODS:
            raise OctoscopeError(
                f'method "{name}" is not known{did_you_mean(str(name), METHODS)}; '
                f"known are {', '.join(METHODS)}"
            )
    if not wanted:
        raise OctoscopeError(f"no method is asked for; known are {', '.join(METHODS)}")
    return tuple(METHODS[name] for name in dict.fromkeys(wanted))
