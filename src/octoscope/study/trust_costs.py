"""Which methods are too slow to be made again and again, for other weights and changed scans."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from octoscope.attribution.consensus import combined
from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS


def too_slow(
    model: nn.Module, image: Tensor, methods: Sequence[str], most: float
) -> dict[str, str]:
    """Return the methods whose map takes more passes than `most`, with the reason.

    A consensus is left out with any method that it combines: without that it is another map.

    Args:
        model: The model.
        image: One scan, (1, C, H, W).
        methods: Methods that are defined for the model.
        most: Forward passes per map.
    """
    single = [name for name in methods if "maps" not in METHODS[name].needs]
    plan = explain(model, image, single, dry_run=True)
    passes = {
        name: sum(step.forwards for step in plan.steps if name in step.methods) for name in single
    }
    slow = {
        name: f"a map takes {cost:.0f} passes, more than {most:g}"
        for name, cost in passes.items()
        if cost > most
    }
    parts = [name for name in combined(METHODS[name] for name in methods) if name in slow]
    if parts:
        named = ", ".join(METHODS[name].title for name in parts)
        for name in methods:
            if "maps" in METHODS[name].needs:
                slow[name] = f"it combines {named}, of which a map takes more than {most:g} passes"
    return slow
