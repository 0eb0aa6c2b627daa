"""Infidelity against captum and closed forms of a linear model."""

from __future__ import annotations

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.trust.faithfulness.infidelity import DRAWS, infidelity, squares
from trust.faithfulness.known import Linear, Small


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 2, 8, 9), (2, 1, 5, 6, 7)])
def test_what_each_pixel_contributes_to_a_linear_model_foretells_everything(
    shape: tuple[int, ...],
) -> None:
    images, weight = drawn(*shape), drawn(*shape[1:], seed=1)
    right = (weight * (images - 0.5)).sum(1)
    targets = torch.zeros(shape[0], dtype=torch.int64)
    maps = {"right": right, "scaled": 7 * right, "wrong": -right}
    model = Linear(weight)
    scaled = infidelity(model, images, maps, targets, baseline=0.5)
    assert scaled["right"].abs().max() < 1e-5 and scaled["scaled"].abs().max() < 1e-5
    assert torch.equal(scaled["wrong"], torch.ones(shape[0], dtype=torch.float64))
    plain = infidelity(model, images, maps, targets, baseline=0.5, normalise=False)
    assert plain["right"].max() < 1e-8
    # The error is that of 6 (or -2) times what happens.
    torch.testing.assert_close(plain["scaled"], 9 * plain["wrong"], rtol=1e-4, atol=0)


def test_a_gradient_foretells_noise_in_all_channels_alike() -> None:
    images, weight = drawn(2, 3, 7, 8), drawn(3, 7, 8, seed=1)
    found = infidelity(
        Linear(weight), images, {"gradient": weight.sum(0).expand(2, 7, 8)}, torch.tensor([0, 0]),
        perturbation="noise", normalise=False,
    )  # fmt: skip
    assert found["gradient"].max() < 1e-8


def test_it_is_what_captum_gives() -> None:
    images, maps, targets = drawn(3, 1, 12, 12), drawn(3, 12, 12, seed=1), torch.tensor([0, 1, 2])
    model = Small().eval()
    boxes = squares((12, 12), DRAWS, seed=2)[:, None].float()

    def removed(many: Tensor) -> tuple[Tensor, Tensor]:
        inside = boxes.repeat(3, 1, 1, 1)
        return inside, many * (1 - inside)

    def peer(*, normalize: bool) -> Tensor:
        return captum_infidelity(
            model, removed, images, maps[:, None], target=targets, n_perturb_samples=DRAWS,
            normalize=normalize,
        ).double()  # fmt: skip

    plain = infidelity(model, images, {"m": maps}, targets, baseline=0.0, normalise=False, seed=2)[
        "m"
    ]
    torch.testing.assert_close(plain, peer(normalize=False), rtol=1e-4, atol=0)
    # Captum's β may be negative, and its error is in units of the logit.
    zeros = infidelity(model, images, {"m": 1e-12 * maps}, targets, baseline=0.0, normalise=False,
                       seed=2)["m"]  # fmt: skip
    both = [
        infidelity(model, images, {"m": sign * maps}, targets, baseline=0.0, seed=2)["m"]
        for sign in (1, -1)
    ]
    torch.testing.assert_close(
        torch.minimum(*both) * zeros, peer(normalize=True), rtol=1e-4, atol=1e-6
    )
    assert torch.equal(torch.maximum(*both), torch.ones(3, dtype=torch.float64))


def test_passes_do_not_depend_on_the_number_of_methods() -> None:
    model, images = Linear(drawn(1, 6, 6)), drawn(2, 1, 6, 6)
    maps = {str(n): drawn(2, 6, 6, seed=n) for n in range(5)}
    infidelity(model, images, maps, torch.tensor([0, 0]), draws=10)
    assert sum(model.seen) == 1 + 2 + 2 * 10


def test_maps_and_models_that_say_nothing_are_undefined() -> None:
    images = drawn(3, 1, 6, 6)
    maps = drawn(3, 6, 6, seed=1)
    maps[0] = 4.0
    maps[1, 0, 0] = torch.inf
    targets = torch.zeros(3, dtype=torch.int64)
    found = infidelity(Linear(drawn(1, 6, 6)), images, {"m": maps}, targets)["m"]
    assert found.isnan().tolist() == [True, True, False]
    deaf = infidelity(Linear(torch.zeros(1, 6, 6)), images, {"m": maps}, targets)["m"]
    assert deaf.isnan().all()


def test_a_map_away_from_everything_drawn_foretells_nothing() -> None:
    boxes = squares((40, 40), 4, seed=1)
    maps = (~boxes.any(0))[None].float()
    found = infidelity(
        Linear(drawn(1, 40, 40)), drawn(1, 1, 40, 40), {"m": maps}, torch.tensor([0]), draws=4,
        seed=1,
    )  # fmt: skip
    assert found["m"].item() == 1


def test_no_scan_depends_on_its_batch() -> None:
    images, maps, targets = (
        drawn(4, 1, 12, 12),
        drawn(4, 12, 12, seed=1),
        torch.tensor([0, 1, 2, 0]),
    )
    model = Small()
    for kind in ("square", "noise"):
        together = infidelity(model, images, {"m": maps}, targets, perturbation=kind)["m"]
        for b in range(4):
            row = slice(b, b + 1)
            alone = infidelity(
                model, images[row], {"m": maps[row]}, targets[row], perturbation=kind
            )
            torch.testing.assert_close(alone["m"], together[row], atol=1e-4, rtol=0)


def test_squares_lie_inside_and_have_the_sizes_said() -> None:
    boxes = squares((60, 30), 200)
    heights, widths = boxes.any(2).sum(1), boxes.any(1).sum(1)
    assert torch.equal(boxes.sum((1, 2)), heights * widths)  # filled, and nothing is cut off
    assert int(heights.min()) >= 4 and 17 <= int(heights.max()) <= 20
    assert ((heights - 2 * widths).abs() <= 2).all()
    share = boxes.float().mean(0)
    assert share.argmax() not in (0, 29) and (share > 0).float().mean() > 0.95


def test_settings_that_make_no_sense_are_refused() -> None:
    images, maps = drawn(1, 1, 9, 9), {"m": drawn(1, 9, 9)}
    for settings in ({"perturbation": "circle"}, {"draws": 0}):
        with pytest.raises(OctoscopeError, match="1 draw or more"):
            infidelity(Small(), images, maps, torch.tensor([0]), **settings)
