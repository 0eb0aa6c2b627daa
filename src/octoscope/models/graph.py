"""Which tensors of a forward pass everything goes through, read from its autograd graph.

A node d *cuts* a graph if every path from the images to the logits goes through it: without d
nothing of the images would arrive. In the graph's topological order that is the case exactly where
no edge jumps over d, so one sweep finds all cuts, without a backward.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from torch.autograd.graph import GradientEdge, Node


def cuts(
    end: Node, starts: Iterable[Node], weighing: Iterable[Node], channels: int
) -> list[GradientEdge]:
    """Find the tensors through which every path from the images to the logits goes.

    What an image has in few numbers before any weights see it, such as its mean brightness, does
    not count: it says nothing of places.

    Args:
        end: Node of the logits, or of what is made of them.
        starts: Nodes of the leaves at which the graph begins.
        weighing: Nodes of what layers with weights give.
        channels: The most numbers of an image that do not count.

    Returns:
        One edge for each, from the images to the logits; a node that gives several tensors which
        are used is left out, since none of them is everything.
    """
    first = set(starts)
    order = _from_the_end(end, first, set(weighing), channels)
    place = {node: number for number, node in enumerate(order)}
    used: dict[Node, set[int]] = {}
    found, farthest = [], 0
    for number, node in enumerate(order):
        if number == farthest and number:  # no edge of a node before goes beyond this one
            outputs = used[node]
            if len(outputs) == 1:
                found.append(GradientEdge(node, next(iter(outputs))))
        for before, output in node.next_functions:
            if before in place:
                used.setdefault(before, set()).add(output)
                farthest = max(farthest, place[before])
        if node in first:
            farthest = max(farthest, len(order))  # all leaves end in one place
    return found[::-1]


def _from_the_end(end: Node, starts: set[Node], weighing: set[Node], channels: int) -> list[Node]:
    """Return the nodes on paths from `end` to `starts`, every node before what it is made of."""
    reaches: dict[Node, bool] = {}
    weighed: dict[Node, bool] = {}
    finished: list[Node] = []
    stack: list[tuple[Node, bool]] = [(end, False)]
    while stack:
        node, done = stack.pop()
        inputs = [before for before, _ in node.next_functions if before is not None]
        if done:
            weighed[node] = node in weighing or any(weighed[before] for before in inputs)
            counts = node is end or weighed[node] or _numbers(node) > channels
            reaches[node] = node in starts or (counts and any(reaches[one] for one in inputs))
            finished.append(node)
        elif node not in reaches:
            reaches[node] = False  # seen; a graph has no circles, so this is never read too early
            stack.append((node, True))
            stack += [(before, False) for before in inputs if before not in reaches]
    return [node for node in reversed(finished) if reaches[node]]


def most_in_a_row(end: Node, start: Node, counted: Iterable[Node]) -> int:
    """Count the most of some nodes that one path from `start` to `end` goes through."""
    some = set(counted)
    deep: dict[Node, int] = {}
    for node in reversed(_from_the_end(end, {start}, set(), 0)):
        below = [deep[before] for before, _ in node.next_functions if before in deep]
        if node is start:
            deep[node] = 0
        else:
            deep[node] = max(below, default=0) + (node in some)
    return deep.get(end, 0)


def _numbers(node: Node) -> int:
    """Count the numbers that a node gives."""
    return sum(prod(given.shape) for given in node._input_metadata)
