"""Learning-rate schedules as pure functions of the step.

A schedule without state has nothing to save and nothing to go wrong when a run resumes.
"""

from __future__ import annotations

import math

from octoscope.training.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return what the learning rate is multiplied by at optimiser step `step`, in [0, 1].

    During the warm-up of w steps it is ``(step + 1) / w``. After it, with t the share of the
    remaining steps that is done:

    - ``cosine``: ``f + (1 - f) · (1 + cos πt) / 2``, f = `final_lr_factor` (Loshchilov and
      Hutter, "SGDR", 2017, equation 5, without restarts);
    - ``step``: ``step_factor ** ⌊epoch / step_epochs⌋``;
    - ``constant``: 1.

    Args:
        recipe: Names the schedule and its numbers.
        step: Optimiser step, counted from 0.
        steps_per_epoch: Optimiser steps per epoch.
    """
    warmup = round(min(recipe.warmup_epochs, recipe.epochs / 2) * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    match recipe.schedule:
        case "constant":
            return 1.0
        case "step":
            return recipe.step_factor ** (step // steps_per_epoch // recipe.step_epochs)
        case "cosine":
            total = recipe.epochs * steps_per_epoch
            done = min((step - warmup) / max(total - warmup, 1), 1.0)
            low = recipe.final_lr_factor
            return low + (1 - low) * (1 + math.cos(math.pi * done)) / 2
