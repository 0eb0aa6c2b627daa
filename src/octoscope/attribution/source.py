"""What methods are functions of: sources of evidence, each computed once per batch.

A `Source` computes one thing from a `Batch`. Several methods that need the same source share it;
one that does not depend on the class serves all classes. What a source needs from the one shared
forward pass, it says by `captures`; what passes it adds, by `cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Evidence
from octoscope.attribution.forward import Forward
from octoscope.attribution.memory import fitting, in_pieces, most_at_once
from octoscope.attribution.sizing import Sizing
from octoscope.models.attention import AttentionStack
from octoscope.models.layout import TargetLayer

Captured = Literal[
    "target", "target gradient", "residual", "attention", "attention gradient", "blocks"
]
"""Parts of the shared pass: A of the target layer; the graph from it on; what passes it
by, which is the output of the block before its own, where there is one; the attention of every
block; the graph from the first block's attention on; the tokens that every block gives."""


class Batch:
    """A batch of images on its way: what is known of it, and what has been computed.

    ``batch["gradients"]`` computes a source when first asked for.

    Attributes:
        module: The eager model, lent: evaluating, parameters frozen. Sources may run it.
        images: (b, C, *S) on the model's device and of its floating type.
        evidence: The shared pass.
        forward: Runs the model without a graph on any number of images.
        target: The layer explained; None if no method needs one.
        attention: The attention layers; None if no method needs them.
        settings: Name of a method to its settings.
        of_scores: Whether the columns of the "logits" are scores, each its own number, and not
            the logits of classes.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Tensor,
        evidence: Evidence,
        forward: Forward,
        sources: Mapping[str, Source],
        *,
        target: TargetLayer | None = None,
        attention: AttentionStack | None = None,
        settings: Mapping[str, Any] | None = None,
        of_scores: bool = False,
    ) -> None:
        self.module = module
        self.images = images
        self.evidence = evidence
        self.forward = forward
        self.target = target
        self.attention = attention
        self.settings = dict(settings or {})
        self.of_scores = of_scores
        self._sources = sources
        self._classes: Tensor | None = None
        self._once: dict[str, Any] = {}
        self._per_class: dict[str, Any] = {}
        self._images_per_graph: int | None = None

    def with_graph(self, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function that needs the whole graph, to as many images at once as memory allows.

        Args:
            run: Row numbers (m,) of images to (m, …); rows must be independent.

        Returns:
            (b, …).
        """
        if self._images_per_graph is None:
            most = min(len(self.images), most_at_once(self.images.device))
            self._images_per_graph = fitting(self.module, self.images[:1], most, graph=True)
        rows = torch.arange(len(self.images), device=self.images.device)
        found, self._images_per_graph = in_pieces(run, rows, self._images_per_graph)
        return found

    @property
    def classes(self) -> Tensor:
        """(b,) the class of each image that is being explained, on the model's device."""
        assert self._classes is not None
        return self._classes

    @classes.setter
    def classes(self, classes: Tensor) -> None:
        self._classes = classes
        self._per_class = {}

    def __getitem__(self, need: str) -> Any:
        """Return what a source gives for this batch and, if it depends on it, this class."""
        source = self._sources[need]
        kept = self._per_class if source.per_class else self._once
        if need not in kept:
            kept[need] = source.provide(self)
        return kept[need]


def nothing(_sizing: Sizing) -> float:
    """Cost no pass of its own."""
    return 0.0


@dataclass(frozen=True)
class Source:
    """Something that methods are functions of.

    Attributes:
        name: Its key, which is the name of the functions' parameter.
        provide: Computes it. It must not depend on which other images are in the batch.
        sentence: What is done, for the plan: "one backward from the logit to the layer".
        per_class: Whether it must be computed anew for every class.
        captures: What the shared pass must keep for it.
        cost: Passes it adds, in forward passes per image (and per class, if `per_class`).
    """

    name: str
    provide: Callable[[Batch], Any]
    sentence: str = ""
    per_class: bool = False
    captures: frozenset[Captured] = field(default_factory=frozenset)
    cost: Callable[[Sizing], float] = nothing
