"""Keeping within memory: halving, sizes planned, errors told apart."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from octoscope.attribution import memory
from octoscope.attribution.memory import (
    KeptBytes,
    fitting,
    free_bytes,
    graph_bytes,
    in_pieces,
    out_of_memory,
)

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class Greedy:
    """Squares rows, but no more than some at once."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.pieces: list[int] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.pieces.append(len(rows))
        if len(rows) > self.most:
            raise self.error
        return rows**2


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: str(e)[:24])
@pytest.mark.parametrize("most", [1, 3, 4, 7, 100])
def test_pieces_are_halved(most: int, error: Exception) -> None:
    rows = torch.arange(21.0)
    greedy = Greedy(most, error)
    found, fits = in_pieces(greedy, rows, 16)
    assert found.equal(rows**2)
    assert fits <= max(most, 1) or most >= 16
    assert sum(n for n in greedy.pieces if n <= most) == 21  # nothing is done twice


def test_what_does_fit_is_remembered() -> None:
    greedy = Greedy(5, ERRORS[0])
    _, fits = in_pieces(greedy, torch.arange(10.0), 16)
    assert greedy.pieces == [10, 5, 5] and fits == 5


def test_one_row_too_many() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        in_pieces(Greedy(0, ERRORS[0]), torch.arange(4.0), 4)
    last = Greedy(0, ERRORS[1])
    with pytest.raises(RuntimeError, match="not enough memory"):
        in_pieces(last, torch.arange(1.0), 64)
    assert last.pieces == [1]  # a single row is not tried again


def test_other_errors_are_not_memory() -> None:
    greedy = Greedy(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        in_pieces(greedy, torch.arange(4.0), 4)
    assert greedy.pieces == [4]


def test_the_allocators_own_error() -> None:
    """What torch itself says when it is asked for far too much."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)


def test_what_an_error_holds_is_let_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The activations of the pass that failed are gone when the cache is emptied."""
    alive: list[bool] = []

    class Held:
        pass

    holders: list[weakref.ref[Held]] = []

    def run(rows: Tensor) -> Tensor:
        held = Held()
        holders.append(weakref.ref(held))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows

    monkeypatch.setattr(memory, "release", lambda: alive.append(holders[-1]() is not None))
    in_pieces(run, torch.arange(2.0), 2)
    assert alive == [False]


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_sizes_follow_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = Conv(), torch.rand(1, 1, 32, 32)
    output = 8 * 32 * 32 * 4  # bytes of the convolution's output, the largest
    for free, expected in ((8 * output * 10, 10), (8 * output * 1000, 64), (1, 1)):
        monkeypatch.setattr(memory, "free_bytes", lambda _device, free=free: free)
        assert fitting(model, image, 64, graph=False) == expected
    assert not model.conv._forward_hooks
    kept = graph_bytes(model, image)  # the image, and the output once before and once after ReLU
    assert output <= kept <= 3 * output + image.nbytes
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 10 * kept)
    assert fitting(model, image, 64, graph=True) == 5


def test_hooks_go_when_the_model_raises() -> None:
    model = Conv()
    with pytest.raises(RuntimeError):
        fitting(model, torch.rand(1, 2, 8, 8), 4, graph=False)
    assert not any(part._forward_hooks for part in model.modules())


def test_free_memory_is_known() -> None:
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50


def test_without_parameters_and_in_inference_mode() -> None:
    model, image = nn.Flatten(), torch.rand(1, 1, 4, 4)
    assert fitting(model, image, 7, graph=False) == 7
    convolution = Conv()
    with torch.inference_mode():
        image = torch.rand(1, 1, 8, 8)
        assert fitting(convolution, image, 7, graph=False) == 7
        assert graph_bytes(convolution, image) > 0


def test_measuring_a_graph_leaves_nothing_of_it_behind() -> None:
    """A ReLU saves its own output: kept with its node, graph and tensors would never be freed."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU())
    image = torch.rand(1, 1, 19, 23)
    gc.collect()
    before = sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
    for _ in range(5):
        graph_bytes(model, image)
    gc.collect()
    assert sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()) == before


class Overwriting(nn.Module):
    """Changes in place what the backward pass of its product needs."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        product = y * y
        y += 1
        return product


def test_gradients_while_counting_are_the_same() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3), nn.GELU())
    image = torch.rand(2, 1, 9, 11, requires_grad=True)
    (expected,) = torch.autograd.grad(model(image).sum(), image)
    with KeptBytes(model) as kept:
        (found,) = torch.autograd.grad(model(image).sum(), image)
    assert found.equal(expected) and kept.bytes > 0
    with KeptBytes(model), pytest.raises(RuntimeError, match="modified by an inplace"):
        torch.autograd.grad(Overwriting()(image).sum(), image)
