"""Maps from what the model says to changed images."""

from __future__ import annotations

from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = ()
