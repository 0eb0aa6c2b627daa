"""ROAD: both orders, every scan on its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.imputation import imputed, noise_like
from octoscope.trust.faithfulness.road import mean_height, road
from trust.faithfulness.known import Linear, Small


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 3, 9, 10), (2, 1, 4, 6, 5)])
def test_both_orders_are_what_imputing_one_image_after_the_other_gives(
    shape: tuple[int, ...],
) -> None:
    images, model = drawn(*shape), Linear(drawn(*shape[1:], seed=1))
    maps = drawn(2, *shape[2:], seed=2)
    found = road(model, images, {"m": maps}, torch.tensor([0, 1]), fractions=(0.3, 0.6), seed=4)
    pixels = maps[0].numel()
    for point, share in enumerate((0.3, 0.6), start=1):
        count = round(pixels * share)
        for b, kind in ((b, kind) for b in range(2) for kind in ("morf", "lerf")):
            order = maps[b].flatten().argsort(descending=kind == "morf")
            gone = torch.zeros(pixels, dtype=torch.bool)
            gone[order[:count]] = True
            gone = gone.view(1, *shape[2:])
            changed = imputed(images[b : b + 1], gone) + noise_like(images, 4) * gone[:, None]
            with torch.no_grad():
                expected = model(changed).double().softmax(1)[0, b]
            got = found.values[kind]["m"][b, point]
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert found.fractions[0] == 0 and len(found.fractions) == 3
    assert torch.equal(found.values["morf"]["m"][:, 0], found.values["lerf"]["m"][:, 0])


def test_the_right_map_loses_the_class_first_and_its_inverse_last() -> None:
    weight = torch.zeros(1, 12, 12)
    weight[0, 4:7, 4:7] = 1.0
    images = 0.1 * drawn(1, 1, 12, 12) + weight  # a bright square that the model sums up
    maps = {"right": weight, "wrong": -weight}
    found = road(Linear(weight), images, maps, torch.tensor([0]))
    gap = {
        name: float(mean_height(found.values["lerf"][name] - found.values["morf"][name]))
        for name in maps
    }
    assert gap["right"] > 0.4
    assert gap["wrong"] < -0.4


def test_every_scan_counts_and_none_depends_on_its_batch() -> None:
    """Quantus' ROAD averages over its first batch alone."""
    images, maps = drawn(5, 1, 12, 14), {"m": drawn(5, 12, 14, seed=1)}
    targets, model = torch.tensor([0, 1, 2, 1, 0]), Small()
    together = road(model, images, maps, targets).values["morf"]["m"]
    alone = [
        road(model, images[b : b + 1], {"m": maps["m"][b : b + 1]}, targets[b : b + 1])
        for b in range(5)
    ]
    each = torch.cat([one.values["morf"]["m"] for one in alone])
    torch.testing.assert_close(each, together, atol=1e-4, rtol=0)
    assert mean_height(together).std() > 0.01  # or the scans could not be told apart
    turned = road(model, images.flip(0), {"m": maps["m"].flip(0)}, targets.flip(0))
    torch.testing.assert_close(turned.values["morf"]["m"].flip(0), together, atol=1e-4, rtol=0)


def test_constant_maps_are_undefined_and_one_order_may_be_asked_for() -> None:
    images = drawn(2, 1, 6, 6)
    maps = torch.zeros(2, 6, 6)
    maps[1, 2, 2] = 1
    found = road(
        Linear(drawn(1, 6, 6)), images, {"m": maps}, torch.tensor([0, 0]), orders=("lerf",)
    )
    assert list(found.values) == ["lerf"]
    assert found.values["lerf"]["m"].isnan().all(1).tolist() == [True, False]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0), (0.9, 0.2)])
def test_fractions_rise_between_none_and_all(fractions: tuple[float, ...]) -> None:
    with pytest.raises(OctoscopeError, match="rise between 0 and 1"):
        road(Small(), drawn(1, 1, 9, 9), {"m": drawn(1, 9, 9)}, torch.tensor([0]),
             fractions=fractions)  # fmt: skip
