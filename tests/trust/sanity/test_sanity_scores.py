"""All sanity checks in one call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.trust.sanity.gate import gate_values
from octoscope.trust.sanity.random_logit import other_classes, random_logit
from octoscope.trust.sanity.scores import ROWS, sanity

IMAGES = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).eval()


def test_every_metric_has_a_value_per_scan_and_the_mean_leaves_out_the_original() -> None:
    methods = ["hirescam", "eigencam", "null_edges", "null_random"]
    found = sanity(network(), IMAGES, methods, 1, twin=network(1))
    assert set(found.values) == {row.name for row in ROWS}
    for name, by_method in found.values.items():
        assert set(by_method) == ({"hirescam"} if name == "random_logit" else set(methods))
        assert all(v.shape == (6,) and v.dtype == torch.float64 for v in by_method.values())
    curves = found.randomisation.spearman["eigencam"]
    assert curves.shape == (len(found.stages), 6)
    torch.testing.assert_close(found.values["randomisation_mean"]["eigencam"], curves.nanmean(0))
    assert torch.equal(found.values["randomisation_spearman"]["eigencam"], curves[-1])
    assert found.spearman["eigencam"][-1] == pytest.approx(curves[-1].mean().item())
    gates = gate_values(found.values, [f"p{number}" for number in range(6)])
    for null in ("null_edges", "null_random"):  # both are functions of the image alone
        assert gates[null].reason is not None
    assert all(not row.nulls for row in ROWS)
    assert [row.name for row in ROWS if row.headline] == ["randomisation_spearman"]


def test_independent_mode_claims_no_full_randomisation() -> None:
    found = sanity(network(), IMAGES[:2], "eigencam", 1, mode="independent", stages=2)
    assert set(found.values) == {"randomisation_mean", "random_logit"}
    assert len(found.stages) == 2


def test_the_other_class_is_another() -> None:
    targets = torch.tensor([0, 1, 2, 3] * 50)
    other = other_classes(targets, 4, seed=1)
    assert (other != targets).all() and other.min() == 0 and other.max() == 3
    assert len(torch.unique((other - targets) % 4)) == 3
    assert torch.equal(other, other_classes(targets, 4, seed=1))
    with pytest.raises(OctoscopeError, match="single class"):
        other_classes(targets, 1)


def test_two_classes_with_opposite_weights_have_opposite_maps() -> None:
    model = network(classes=2)
    with torch.no_grad():
        model[-1].weight[1] = -model[-1].weight[0]
    found = random_logit(model, IMAGES, ["input_x_gradient"], 0)
    assert torch.allclose(found["input_x_gradient"], -torch.ones(6).double())
    assert random_logit(model, IMAGES, ["eigencam"], 0) == {}
