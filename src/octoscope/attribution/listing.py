"""A list of the methods for people: what there is, what it needs, and what it shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from octoscope.attribution.method import Method
from octoscope.attribution.names import FamilyName
from octoscope.attribution.plan import captures_of, sources_of
from octoscope.attribution.registry import FAMILIES, METHODS, SOURCES, sorted_out
from octoscope.errors import OctoscopeError, did_you_mean

WORDS = {
    "target": "a layer",
    "target gradient": "its gradient",
    "attention": "attention",
    "attention gradient": "its gradient",
}
"""What the shared pass keeps, as a need; what is not among them needs nothing of its own."""


@dataclass(frozen=True)
class About:
    """What there is to know of one method.

    Attributes:
        name: Its key.
        title: Its name in running text.
        family: Which kind of evidence it weighs.
        needs: What of the model it needs, in words.
        sentence: What the map shows.
        paper: Authors, venue, year and equation.
        signed: Whether maps have negative values.
    """

    name: str
    title: str
    family: FamilyName
    needs: str
    sentence: str
    paper: str
    signed: bool


class MethodList(tuple[About, ...]):
    """Methods, printed as a table."""

    def __repr__(self) -> str:
        wide = max((len(one.name) for one in self), default=0)
        needs = max((len(one.needs) for one in self), default=0)
        return "\n".join(
            f"{one.name:<{wide}}  {one.family:<12}  {one.needs:<{needs}}  {one.sentence}"
            for one in self
        )

    __str__ = __repr__


def methods(
    family: FamilyName | str | None = None, model: nn.Module | None = None, axes: int = 2
) -> MethodList:
    """List the methods of attribution.

    ```python
    octoscope.methods()                      # prints a table
    octoscope.methods("cam")                 # of one family
    [one.name for one in octoscope.methods(model=model)]  # those that are defined for a model
    ```

    Args:
        family: Only those of a family.
        model: Only those that are defined for a model.
        axes: Number of spatial axes of its images: 2, or 3 for volumes.

    Raises:
        OctoscopeError: If the family is not known.
    """
    if family is not None and family not in FAMILIES:
        raise OctoscopeError(
            f'"{family}" is no family{did_you_mean(family, FAMILIES)}; '
            f"there are {', '.join(FAMILIES)}"
        )
    found: Iterable[Method] = [
        row for row in METHODS.values() if family is None or row.family == family
    ]
    if model is not None:
        found, _ = sorted_out(model, found, axes)
    return MethodList(
        About(row.name, row.title, row.family, _needs(row), row.sentence, row.paper, row.signed)
        for row in found
    )


def _needs(method: Method) -> str:
    """Say what a method needs of a model."""
    if "maps" in method.needs:
        return "other maps"
    kept = captures_of([method], SOURCES)
    words = [word for part, word in WORDS.items() if part in kept]
    sources = {source.name for source in sources_of([method], SOURCES)}
    if any("gradients" in name for name in sources) and not any("gradient" in k for k in kept):
        words.append("gradients at the pixels")
    if method.family == "perturbation" or "channel_scores" in sources:
        words.append("many passes")
    return " and ".join(words) or "images"
