"""The page for those who come from other libraries: their calls and ours give the same numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

import octoscope
from octoscope.attribution.display import normalise, upsample

PAGE = Path(__file__).parents[1] / "docs" / "from-other-libraries.md"
FENCE = re.compile(r"^```python (theirs|ours)( scaled)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(PAGE.read_text(encoding="utf-8"))
PAIRS = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What the page takes as given; pairs may use what pairs before them imported."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = timm.create_model("test_resnet", in_chans=1, num_classes=4).eval()
    with torch.no_grad():  # logits that are not all alike
        model.get_submodule("fc").weight.mul_(20)
    return {
        "octoscope": octoscope,
        "model": model,
        "images": torch.rand(4, 1, 64, 96),
        "labels": [0, 1, 2, 3],
    }


def as_they_scale(native: Tensor, size: tuple[int, int]) -> Tensor:
    """Stretch as pytorch-grad-cam does: each map, resize it, and each again."""
    return normalise(upsample(normalise(native.relu()), size))


def test_there_are_pairs_of_every_library() -> None:
    assert len(PAIRS) >= 9
    assert all((a[0], b[0]) == ("theirs", "ours") and a[1] == b[1] for a, b in PAIRS)
    text = "".join(block for _, _, block in BLOCKS)
    assert all(f"from {name}" in text for name in ("captum", "pytorch_grad_cam", "torchcam"))


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_theirs_are_ours(number: int, given: dict[str, Any]) -> None:
    pair = PAIRS[number]
    for _, _, block in pair:
        exec(compile(block, f"{PAGE.name}, pair {number}", "exec"), given)
    theirs, ours = given["theirs"], given["ours"]
    theirs = theirs.detach() if isinstance(theirs, Tensor) else torch.from_numpy(theirs)
    scaled = bool(pair[0][1])
    if scaled:
        ours = as_they_scale(ours, given["images"].shape[2:])
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0
    scale = theirs.abs().amax((-2, -1), keepdim=True).clamp(min=1e-20)
    assert ((ours - theirs) / scale).abs().max() < (1e-3 if scaled else 1e-5)
