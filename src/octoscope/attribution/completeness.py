"""Whether a map adds up to what its definition says it adds up to."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

TOLERATED = 0.01
"""Share of the logit that may be left over."""
LEFT_OVER = ("unexplained", "completeness")
"""By-products that say what is left over, in units of the logit."""


def incomplete(details: Mapping[str, Tensor], logits: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Return the flag ``incomplete`` of a method that says what its maps leave over.

    Args:
        details: Its by-products, each (B,) or (B, M).
        logits: (B, K).
        classes: (B,) or (B, M), the classes explained.

    Returns:
        The flag, shaped like the classes; nothing for methods of which completeness is not defined.
    """
    found = {}
    for name in LEFT_OVER:
        if name in details:
            table = classes.to(logits.device).view(len(logits), -1)
            scale = logits.gather(1, table).abs().view(classes.shape)
            found["incomplete"] = details[name].abs() > TOLERATED * scale
    return found
