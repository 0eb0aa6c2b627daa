"""Which scans a test split holds, by their contents, so that other studies know them again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DIGITS = 12
"""Hexadecimal digits kept of the SHA-256 of each file."""
MOST = 1000
"""Scans kept of a split: those with the least digests, a sample that two splits draw alike."""


@dataclass(frozen=True)
class TestScans:
    """The scans of a test split, wherever their files lie and whatever they are called.

    Attributes:
        n: How many there are.
        least: Their digests in order, the `MOST` least of them (Broder, "On the resemblance and
            containment of documents", SEQUENCES 1997).
    """

    __test__ = False  # for pytest, this is no class of tests

    n: int
    least: tuple[str, ...]

    @classmethod
    def of(cls, hashes: Iterable[str]) -> TestScans:
        """Take the scans with these SHA-256."""
        digests = sorted({content[:DIGITS] for content in hashes if content})
        return cls(len(digests), tuple(digests[:MOST]))

    @classmethod
    def from_dict(cls, said: Any) -> TestScans | None:
        """Read what `to_dict` wrote; None if it is something else."""
        try:
            return cls(int(said["n"]), tuple(sorted(str(digest) for digest in said["least"])))
        except (KeyError, TypeError, ValueError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"n": self.n, "least": list(self.least)}

    def share_in(self, other: TestScans) -> float:
        """Return the share of these scans that another split holds, in [0, 1].

        It is exact for splits of up to `MOST` scans; of larger ones it is that of the scans whose
        digests are below the last that both have kept.
        """
        bounds = [scans.least[-1] for scans in (self, other) if scans.n > len(scans.least) > 0]
        seen = [digest for digest in self.least if not bounds or digest <= min(bounds)]
        return sum(digest in set(other.least) for digest in seen) / len(seen) if seen else 0.0
