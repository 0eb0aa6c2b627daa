"""`Finding`: one sentence for a person, and how much it matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know about the scans.

    Attributes:
        level: ``error`` (results would be wrong), ``warning`` (results may mislead) or ``info``.
        sentence: What it is and what to do, in plain words.
    """

    level: Level
    sentence: str

    def to_dict(self) -> dict[str, str]:
        """Return level and sentence."""
        return {"level": self.level, "sentence": self.sentence}


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, errors first, otherwise in the order given."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 scan``, ``12,000 scans``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listing(names: Sequence[str], most: int = 3) -> str:
    """Return ``a``, ``a and b`` or ``a, b, c and 9 more``."""
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
