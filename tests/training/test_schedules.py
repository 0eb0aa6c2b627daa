"""Schedules against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from octoscope.training.recipe import Recipe
from octoscope.training.schedules import learning_rate_factor

STEPS = 7


def factors(recipe: Recipe) -> list[float]:
    return [learning_rate_factor(recipe, step, STEPS) for step in range(recipe.epochs * STEPS)]


def by_torch(make, steps: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


def test_cosine() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=0, final_lr_factor=0.05)
    expected = by_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 70, eta_min=0.05), 70)
    assert factors(recipe) == pytest.approx(expected)


def test_cosine_after_warmup() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=2, final_lr_factor=0)
    expected = by_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 56), 56)
    assert factors(recipe)[:14] == pytest.approx([(i + 1) / 14 for i in range(14)])
    assert factors(recipe)[14:] == pytest.approx(expected)


def test_part_of_an_epoch_of_warmup() -> None:
    recipe = Recipe(epochs=2, warmup_epochs=0.5, schedule="constant")
    assert factors(recipe)[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_step() -> None:
    recipe = Recipe(epochs=10, warmup_epochs=0, schedule="step", step_epochs=3, step_factor=0.2)
    expected = by_torch(lambda o: lr_scheduler.StepLR(o, 3 * STEPS, 0.2), 70)
    assert factors(recipe) == pytest.approx(expected)


def test_the_warmup_takes_at_most_half_of_a_short_run() -> None:
    rates = factors(Recipe(epochs=2, warmup_epochs=5, final_lr_factor=0))
    assert rates[:STEPS] == pytest.approx([(i + 1) / STEPS for i in range(STEPS)])
    assert rates[STEPS:] == sorted(rates[STEPS:], reverse=True)
