"""Cuts of a graph against brute force: take a tensor away, and see whether anything arrives."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import get_gradient_edge

from octoscope.models.graph import cuts

DAGS = st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=7)
"""Of every tensor, how far back the tensors are that it is the sum of."""


def arrives(parents: list[set[int]], without: int) -> bool:
    """Say whether tensor 0 still reaches the last one if another is taken away."""
    reached = {0} - {without}
    for number, above in enumerate(parents, start=1):
        if number != without and above & reached:
            reached.add(number)
    return len(parents) in reached


@given(DAGS)
@settings(max_examples=60, deadline=None)
def test_cuts_are_what_nothing_gets_past(back: list[set[int]]) -> None:
    parents = [{max(0, n - b) for b in above} for n, above in enumerate(back)]
    tensors = [torch.ones(2, 5, requires_grad=True)]
    for above in parents:
        tensors.append(torch.stack([tensors[p] for p in above]).sum(0))
    edges = [get_gradient_edge(tensor) for tensor in tensors]
    found = {edge.node for edge in cuts(edges[-1].node, [edges[0].node], [], channels=5)}
    for number in range(len(parents)):
        expected = not arrives(parents, without=number)
        assert (edges[number].node in found) == expected, (parents, number)


def test_few_numbers_of_an_image_do_not_count() -> None:
    """A mean brightness beside the features passes them by without saying where."""
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    features = image * 2  # stands for a layer with weights
    node = features.grad_fn
    assert node is not None
    by_mean = (features.sin().sum() * image.mean()).reshape(1)
    by_sum = (features.sin().sum() * features.mean()).reshape(1)
    start = get_gradient_edge(image).node

    def passed(end: torch.Tensor, channels: int) -> bool:
        assert end.grad_fn is not None
        return any(edge.node is node for edge in cuts(end.grad_fn, [start], [node], channels))

    assert passed(by_mean, channels=3) and not passed(by_mean, channels=0)
    assert passed(by_sum, channels=3)


def test_a_second_leaf_is_a_way_of_its_own() -> None:
    first, second = (torch.rand(1, 40, requires_grad=True) for _ in range(2))
    early = first.exp()
    late = (early + second).exp()
    end = late.sum()
    assert end.grad_fn is not None
    starts = [get_gradient_edge(one).node for one in (first, second)]
    found = {edge.node for edge in cuts(end.grad_fn, starts, [], channels=3)}
    assert late.grad_fn in found and early.grad_fn not in found
