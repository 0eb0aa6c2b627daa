"""The attention methods as functions, on matrices small enough for pencil and paper."""

from __future__ import annotations

import pytest
import torch

from octoscope.attribution.attention.chains import (
    GradientRolloutSettings,
    chefer,
    gradient_rollout,
    rollout,
    without_smallest,
)
from octoscope.attribution.attention.last_layer import (
    attention_gradcam,
    dino_heads,
    raw_attention,
)
from octoscope.attribution.attention.legrad import legrad
from octoscope.attribution.attention.readout import LayerScores
from octoscope.errors import OctoscopeError
from octoscope.models.layout import TargetLayer

GRID = TargetLayer("blocks.0", torch.nn.Identity(), "tokens", (1, 2), 1)  # one prefix, two patches
FIRST = torch.tensor([[[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]])  # (1, 1, 3, 3)
LAST = torch.tensor([[[[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]])
CLASS_TOKEN = torch.tensor([[[1.0, 0.0, 0.0]]])


def test_rollout() -> None:
    # r1 = ([1 0 0] + [0 .5 .5]) / 2 = [.5 .25 .25]
    # r0 = (r1 + [.25 .125+.25 .125+.25]) / 2 = [.375 .3125 .3125]
    found = rollout((FIRST, LAST), CLASS_TOKEN, GRID)
    assert found.tolist() == [[[0.3125, 0.3125]]]


def test_chefer() -> None:
    gradients = (torch.full_like(FIRST, 2.0), torch.tensor([[[[1.0, 4.0, -4.0]] * 3]]))
    # last: Ā row 0 = [0 2 0]; added = [0 2 0]; first: Ā = 2 FIRST, row [1 2 0] Ā = [1 .5+4 .5]
    found = chefer((FIRST, LAST), gradients, CLASS_TOKEN, None, GRID)
    assert found.tolist() == [[[2 + 4.5, 0.5]]]


def test_gradient_rollout() -> None:
    gradients = (torch.full_like(FIRST, 2.0), torch.tensor([[[[1.0, 4.0, -4.0]] * 3]]))
    settings = GradientRolloutSettings(discard=0)
    # last: M row 0 = [0 2 0], row / 3 = [1/3 2/3 0]
    # first: M = [[1 .5 .5] [0 2 0] [0 0 2]], sums 2 2 2; row / 3 = [1/9 2/9 0]
    # + [1/9 1/18+4/9 1/18] = [2/9 13/18 1/18]
    found = gradient_rollout((FIRST, LAST), gradients, CLASS_TOKEN, None, GRID, settings)
    torch.testing.assert_close(found, torch.tensor([[[13 / 18, 1 / 18]]]))


def test_what_is_dropped() -> None:
    matrix = torch.tensor([[[4.0, 1.0], [3.0, 2.0]], [[0.4, 0.1], [0.3, 0.2]]])
    kept = without_smallest(matrix, 0.5)
    assert kept.tolist() == [
        [[4.0, 0.0], [3.0, 0.0]],
        [[pytest.approx(0.4), 0.0], [pytest.approx(0.3), 0.0]],
    ]
    assert without_smallest(matrix, 0.0).equal(matrix)
    assert without_smallest(matrix, 0.24).equal(matrix)  # less than one entry
    for share in (-0.1, 1.0, 2):
        with pytest.raises(OctoscopeError, match=r"no share in \[0, 1\)"):
            GradientRolloutSettings(discard=share)


def test_last_layer() -> None:
    rows = torch.tensor([[[0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]])
    gradients = torch.tensor([[[100.0, 1.0, 3.0], [100.0, -1.0, 0.0]]])
    assert raw_attention(rows, GRID).allclose(torch.tensor([[[0.3, 0.35]]]))
    assert dino_heads(rows, GRID).allclose(torch.tensor([[[[0.4, 0.1]], [[0.2, 0.6]]]]))
    # weights 2 and -0.5
    expected = torch.tensor([[[(0.8 - 0.1) / 2, (0.2 - 0.3) / 2]]])
    assert attention_gradcam(rows, gradients, GRID).allclose(expected)


def test_legrad() -> None:
    layers = torch.tensor([[[9.0, 1.0, 2.0], [9.0, 3.0, 0.0]]])
    scores = LayerScores(torch.empty(2, 3, 1), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 2)
    found, details = legrad(scores, layers, torch.tensor([1]), GRID)
    assert found.tolist() == [[[2.0, 1.0]]] and details["scores"].tolist() == [[2.0, 4.0]]
