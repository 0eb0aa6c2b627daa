"""What methods are functions of: sources of evidence, each computed once per batch.

A `Source` computes one thing from a `Batch`. Several methods that need the same source share it;
one that does not depend on the class serves all classes. What a source needs from the one shared
forward pass, it says by `captures`; what passes it adds, by `cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Evidence
from octoscope.attribution.forward import Forward
from octoscope.attribution.memory import GraphLimit, fitting, in_pieces, most_at_once
from octoscope.attribution.sizing import Sizing
from octoscope.models.attention import AttentionStack
from octoscope.models.layout import TargetLayer

Captured = Literal[
    "target", "target gradient", "residual", "attention", "attention gradient", "blocks"
]
"""Parts of the shared pass: A of the target layer; the graph from it on; what passes it
by, which is the output of the block before its own, where there is one; the attention of every
block; the graph from the first block's attention on; the tokens that every block gives."""


GROUP = 16
"""Classes whose gradients share a forward pass: more would save little, and their gradients take
memory."""

Choose = Callable[[slice, Tensor], Tensor]
"""Rows of a batch, and their logits (m, K), to the classes explained (m, M)."""


class Batch:
    """A batch of images on its way: what is known of it, and what has been computed.

    ``batch["gradients"]`` computes a source when first asked for.

    Attributes:
        module: The eager model, lent: evaluating, parameters frozen. Sources may run it.
        images: (b, C, *S) on the model's device and of its floating type.
        forward: Runs the model without a graph on any number of images.
        graph_limit: How many images share a pass that keeps the whole graph.
        target: The layer explained; None if no method needs one.
        attention: The attention layers; None if no method needs them.
        settings: Name of a method to its settings.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Tensor,
        evidence: Evidence | str,
        forward: Forward,
        sources: Mapping[str, Source],
        choose: Choose,
        *,
        graph_limit: GraphLimit | None = None,
        target: TargetLayer | None = None,
        attention: AttentionStack | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.module = module
        self.images = images
        self.forward = forward
        self.graph_limit = graph_limit or GraphLimit()
        self.target = target
        self.attention = attention
        self.settings = dict(settings or {})
        self._sources = sources
        self._evidence = evidence
        self._choose = choose
        self._column = 0
        self._once: dict[str, Any] = {}
        self._per_group: dict[str, Any] = {}
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
    def evidence(self) -> Evidence:
        """The shared pass; without one, just the logits, of the source whose passes give them."""
        if isinstance(self._evidence, str):
            logits: Tensor = self[self._evidence].logits
            self._evidence = Evidence(logits, {}, logits, {})
        return self._evidence

    def chosen(self, rows: slice, logits: Tensor) -> Tensor:
        """Return the classes explained in some rows (m, M), given their logits (m, K)."""
        # A copy is no inference tensor, whatever the caller's were.
        return self._choose(rows, logits).to(self.images.device, copy=True)

    @cached_property
    def table(self) -> Tensor:
        """(b, M) all classes explained, on the model's device."""
        return self.chosen(slice(0, len(self.images)), self.evidence.logits)

    def turn_to(self, column: int) -> None:
        """Go on to a column of `table`; columns come in order."""
        if column // GROUP != self._column // GROUP:
            self._per_group = {}
        if column != self._column:
            self._per_class = {}
        self._column = column

    @property
    def classes(self) -> Tensor:
        """(b,) the class of each image that is being explained, on the model's device."""
        return self.table[:, self._column]

    @property
    def group(self) -> slice:
        """The columns of `table` that share forward passes with the one being explained."""
        start = self._column // GROUP * GROUP
        return slice(start, start + GROUP)

    @property
    def place(self) -> int:
        """The place within `group` of the column being explained."""
        return self._column % GROUP

    def __getitem__(self, need: str) -> Any:
        """Return what a source gives for this batch and, if it depends on it, this class."""
        source = self._sources[need]
        if source.per_class:
            kept = self._per_class
        else:
            kept = self._per_group if source.per_group else self._once
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
        per_group: Whether it is computed for a group of classes at once (`Batch.group`).
        captures: What the shared pass must keep for it.
        cost: Passes it adds, in forward passes per image (and per class, if `per_class`).
        cost_of_group: Passes it adds beside, per image and `GROUP` of classes.
        logits_from: Name of the source, itself or one it rests on, whose passes include the images
            as they are, exactly, and that has their logits (b, K) as ``.logits``; empty if none.
    """

    name: str
    provide: Callable[[Batch], Any]
    sentence: str = ""
    per_class: bool = False
    per_group: bool = False
    captures: frozenset[Captured] = field(default_factory=frozenset)
    cost: Callable[[Sizing], float] = nothing
    cost_of_group: Callable[[Sizing], float] = nothing
    logits_from: str = ""
