"""What a method is: one row of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from octoscope.attribution.names import FamilyName

Explained = Literal["class", "linear", "score"]
"""What a map is of: the logit of a class, a sum of logits with weights (a difference), or any
number that a function makes of what the model gives."""

Found = Tensor | tuple[Tensor, dict[str, Tensor]]
"""What a method gives: a map, or a map and by-products by name, each with the map's leading axes"""


def any_model(_module: nn.Module) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes:
        name: Its key.
        title: Its name in running text.
        family: Which kind of evidence it weighs.
        function: Pure function of its needs, passed by keyword, to a signed map (b, *s), at the
            resolution that is natural to it; or to a map and a dict of by-products (b, …).
        needs: Names of the function's parameters, each a key of `SOURCES`.
        paper: Authors, venue, year and equation.
        rectified: Whether the definition ends in a ReLU, which is applied after `function`.
        sentence: What the map shows, for menus and docs.
        class_specific: Whether the map depends on the class explained.
        dims: Numbers of spatial axes that it is defined for.
        families: Architectures that it is defined for.
        unsigned: Whether a method without a final ReLU still gives no negative values (RISE, as
            long as it weighs by probabilities).
        own_layer: Whether it looks at a layer of its own, whatever layer is explained.
        parts: Where a method gives several maps per image, whatever the class, what they are of
            (``"heads"``): its maps are (b, parts, *s).
        settings: Frozen dataclass of what can be set, each field with a default; None if nothing.
            A function that needs ``"settings"`` gets an instance.
        explains: What it can explain at most. The formulas of most hold for any score, those of
            some for sums of logits alone, and some are rules about one class.
        requires: Called with the eager module before anything runs; raises `OctoscopeError` with
            the reason, and what to use instead, if the method is not defined for it.
    """

    name: str
    title: str
    family: FamilyName
    function: Callable[..., Found]
    needs: tuple[str, ...]
    paper: str
    rectified: bool
    sentence: str
    class_specific: bool = True
    dims: tuple[int, ...] = (2, 3)
    families: tuple[str, ...] = ("cnn", "transformer")
    unsigned: bool = False
    own_layer: bool = False
    parts: str = ""
    settings: type[Any] | None = None
    explains: Explained = "score"
    requires: Callable[[nn.Module], None] = any_model

    @property
    def signed(self) -> bool:
        """Whether maps have negative values, and want a diverging colour scale."""
        return not (self.rectified or self.unsigned)

    def about(self) -> dict[str, str | bool]:
        """Return title, paper, meaning and sign, for readers that do not load torch."""
        return {
            "title": self.title,
            "family": self.family,
            "paper": self.paper,
            "sentence": self.sentence,
            "signed": self.signed,
        }
