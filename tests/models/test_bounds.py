"""An architecture gets plain options and a bounded size; nothing it names is opened or imported."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.bounds import RESERVED, TooLargeError, counted, require_options
from octoscope.models.network import build_network
from watch import offences, watched


@pytest.mark.parametrize(
    "value",
    [
        3, 0.5, True, None, "avg", "gelu_tanh", "blur-3", "", [64, 128], [[1, 2], [3]], ["a", None],
    ],
)  # fmt: skip
def test_plain_options_pass(value: Any) -> None:
    require_options("resnet18", {"layers": value})


@pytest.mark.parametrize(
    "value",
    [
        print, nn.ReLU, {"class_path": "os.system"}, [print], "os.system", "a.b", "/etc/passwd",
        "file://x", "hf-hub:a/b", "local-dir:x", "a b", "x" * 65, 2**31, -(2**31), 10**30,
        float("nan"), float("inf"), [1, 2**31, 1, 1], [60_000] * 4, [0] * 2000, b"x", {1},
    ],
)  # fmt: skip
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(OctoscopeError, match=r"option layers of resnet18 is .* plain words"):
        require_options("resnet18", {"layers": value})


@pytest.mark.parametrize("key", [*sorted(RESERVED), "_private"])
def test_what_the_factories_take_is_no_option(key: str) -> None:
    with pytest.raises(OctoscopeError, match=f'"{key}" is no option of resnet18'):
        require_options("resnet18", {key: 1})


def test_building_ends_as_soon_as_there_is_too_much() -> None:
    with counted(tensors=4, parameters=100):
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(TooLargeError, match="tensors"), counted(tensors=4):
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(10**9)))
    with (
        torch.device("meta"),
        pytest.raises(TooLargeError, match="parameters"),
        counted(parameters=99),
    ):
        nn.Linear(10, 10)
    with pytest.raises(TooLargeError, match="modules"), counted(tensors=4):
        nn.ModuleList(nn.Identity() for _ in range(10_000))
    nn.Sequential(*(nn.Linear(2, 2) for _ in range(100)))  # outside, nothing is counted


@pytest.mark.parametrize(
    "options",
    [
        {"act_layer": "octocanary"}, {"norm_layer": "octocanary"}, {"block": "octocanary"},
        {"aa_layer": "octocanary"}, {"global_pool": "octocanary"}, {"stem_type": "octocanary"},
    ],
)  # fmt: skip
def test_words_are_looked_up_in_timm_alone(options: dict[str, str], tmp_path, monkeypatch) -> None:
    (tmp_path / "octocanary.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with watched() as seen:
        try:
            build_network("resnet10t", 3, image_size=(32, 32), **options)  # type: ignore[arg-type]
        except OctoscopeError as error:
            assert "\n" not in str(error)
    assert offences(seen, "octocanary") == []
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"layers": [1, 12_000, 1, 1]}),
        ("vit_tiny_patch16_224", {"embed_dim": 16_000, "num_heads": 1}),
    ],
)
def test_a_recipe_that_asks_for_too_much_ends(name: str, options: dict[str, Any]) -> None:
    start = time.process_time()
    with pytest.raises(OctoscopeError, match="is too large: it asks for more"):
        build_network(name, 3, image_size=(32, 32), **options)
    assert time.process_time() - start < 20
