"""What they are functions of."""

from __future__ import annotations

from octoscope.attribution.source import Source

SOURCES: tuple[Source, ...] = ()
