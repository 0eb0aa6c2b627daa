"""The passes that a request needs, before any of them is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from octoscope.attribution.method import Method
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import GROUP, Captured, Source

KEPT: dict[Captured, str] = {
    "target": "activations of {target}",
    "target gradient": "the graph from {target} on",
    "residual": "what passes it by",
    "attention": "attention of {blocks} blocks",
    "attention gradient": "the graph from the first attention on",
    "blocks": "tokens after every block",
}
"""What the shared pass keeps, in words."""


@dataclass(frozen=True)
class Step:
    """One kind of pass.

    Attributes:
        does: What is done.
        forwards: Its cost per image, in forward passes.
        methods: Names of the methods that it serves.
    """

    does: str
    forwards: float
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What `explain` would do: ``print(explain(..., dry_run=True))``.

    Attributes:
        steps: The passes; the shared one first, if there is one.
        images: Number of images.
        classes: Classes explained per image.
        refused: Methods left out because they are not defined for the model → why.
    """

    steps: tuple[Step, ...]
    images: int
    classes: int
    refused: dict[str, str]

    @property
    def forwards(self) -> float:
        """Cost per image, in forward passes."""
        return sum(step.forwards for step in self.steps)

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.classes} classes each; cost in forward passes (F)"]
        for step in self.steps:
            serves = ", ".join(step.methods)
            lines.append(f"{step.forwards:10.2f} F  {step.does}  → {serves}")
        lines.append(
            f"{self.forwards:10.2f} F  per image, {self.forwards * self.images:.0f} F in all"
        )
        lines += [f"   left out  {name}: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


def sources_of(methods: Iterable[Method], sources: Mapping[str, Source]) -> list[Source]:
    """Return the sources that methods need, each once."""
    needs = dict.fromkeys(need for method in methods for need in method.needs)
    return [sources[need] for need in needs if need in sources]


def captures_of(methods: Iterable[Method], sources: Mapping[str, Source]) -> set[Captured]:
    """Return what the shared pass must keep for methods."""
    return {part for source in sources_of(methods, sources) for part in source.captures}


def giving_logits(
    methods: Iterable[Method], sources: Mapping[str, Source], *, exact: bool
) -> Source | None:
    """Return the source whose passes give the logits, so that no shared pass is needed.

    Args:
        methods: Methods asked for.
        sources: All sources.
        exact: Whether passes without gradients run in full precision, as those with gradients do.

    Returns:
        None if methods need activations, if no pass of theirs includes the images as they are, or
        if the logits are to be of a lower precision.
    """
    needed = sources_of(methods, sources)
    if not exact or any(source.captures for source in needed):
        return None
    return next((source for source in needed if source.logits_from), None)


def planned(
    methods: Iterable[Method],
    sources: Mapping[str, Source],
    sizings: Sequence[Sizing],
    *,
    images: int,
    classes: int,
    refused: Mapping[str, str],
    views: int = 1,
) -> Plan:
    """List the passes of a request.

    Args:
        methods: Methods asked for.
        sources: All sources.
        sizings: Model and sizes, one for each target layer.
        images: Number of images.
        classes: Classes explained per image.
        refused: Methods left out.
        views: Versions of every image that are explained and averaged.
    """
    methods = tuple(methods)
    kept = captures_of(methods, sources)
    words = {
        "target": " and ".join(one.target.name for one in sizings if one.target),
        "blocks": len(stack.layers) if (stack := sizings[0].attention) else 0,
    }
    what = [text.format(**words) for part, text in KEPT.items() if part in kept]
    giving = giving_logits(methods, sources, exact=sizings[0].exact)
    steps = []
    if giving is None:
        does = f"one forward, keeping {', '.join(['logits', *what])}"
        steps.append(Step(does, float(views), tuple(method.name for method in methods)))
    for source in sources_of(methods, sources):
        each = sizings if "target" in source.captures else sizings[:1]
        times = (classes if source.per_class else 1) * views
        forwards = sum(source.cost(sizing) for sizing in each) * times
        forwards += sum(map(source.cost_of_group, each)) * ceil(classes / GROUP) * views
        gradient = any("gradient" in part for part in source.captures)
        if forwards or gradient:
            served = tuple(method.name for method in methods if source.name in method.needs)
            repeated = f" (× {classes} classes)" if source.per_class and classes > 1 else ""
            logits = ", with the logits" if source is giving else ""
            steps.append(Step(source.sentence + logits + repeated, forwards, served))
    return Plan(tuple(steps), images, classes, dict(refused))
