"""What a metric of an explanation is: one row of the registry. Knows no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Family = Literal["faithfulness", "localisation", "sanity", "stability", "zones"]


@dataclass(frozen=True)
class Metric:
    """One number per scan and method.

    Attributes:
        name: Its key in score tables.
        title: Its name in running text.
        family: What kind of question it answers.
        higher_is_better: Its direction; None where neither is better.
        range: Lowest and highest value, such as ``"0…1"``.
        sentence: What it says, for docs and reports.
        source: Paper, section and equation.
        headline: Whether the scoreboard ranks methods by it. One or two of a family.
        nulls: Whether a null map's value is a floor that a method must beat. Not so where a map
            that ignores the model is perfect, as under noise.
    """

    name: str
    title: str
    family: Family
    higher_is_better: bool | None
    range: str
    sentence: str
    source: str
    headline: bool = False
    nulls: bool = True

    def about(self) -> dict[str, Any]:
        """Return what reports and docs say of it, as plain JSON values."""
        return asdict(self)
