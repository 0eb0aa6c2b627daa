"""What they are functions of."""

from __future__ import annotations

from octoscope.attribution.inputs import expected, gradient, guided, path, smooth
from octoscope.attribution.source import Source

SOURCES: tuple[Source, ...] = (
    *gradient.SOURCES,
    *path.SOURCES,
    *expected.SOURCES,
    *smooth.SOURCES,
    *guided.SOURCES,
)
