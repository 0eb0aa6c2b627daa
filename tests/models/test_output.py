"""Reading a model that gives more than a tensor."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.models.output import described, select

LOGITS, AUX = torch.zeros(2, 3), torch.ones(2, 5)
Pair = namedtuple("Pair", ["aux", "logits"])


@dataclass
class Found:
    logits: Tensor


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ({"logits": LOGITS, "aux": AUX}, "logits"),
        ({"logits": LOGITS, "aux": AUX}, 0),
        ({"logits": LOGITS, "aux": AUX}, lambda out: out["logits"]),
        ((AUX, LOGITS), 1),
        ([AUX, LOGITS], -1),
        (Pair(AUX, LOGITS), "logits"),
        (Found(LOGITS), "logits"),
        ({"heads": {"main": LOGITS}}, lambda out: out["heads"]["main"]),
    ],
)
def test_a_part_is_taken_out(output: Any, wanted: Any) -> None:
    assert select(output, wanted) is LOGITS


@pytest.mark.parametrize(
    ("output", "wanted", "sentence"),
    [
        ({"logits": LOGITS}, "logit", r'did you mean "logits".*"logits": \(2, 3\)'),
        ((AUX, LOGITS), 2, r"a tuple with 0: \(2, 5\), 1: \(2, 3\)"),
        (LOGITS, "logits", r"a tensor \(2, 3\)"),
        (Found(LOGITS), "__class__", "is no part"),
        ({"logits": "text"}, "logits", "is a str, not a tensor"),
        (LOGITS, lambda out: None, "is a NoneType, not a tensor"),
    ],
)
def test_what_is_not_there_is_said(output: Any, wanted: Any, sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        select(output, wanted)


def test_long_outputs_are_cut() -> None:
    assert described({str(k): AUX for k in range(50)}).endswith("…")
    assert described(()) == "a tuple with nothing in it"
