"""Maps from gradients with respect to the pixels."""

from __future__ import annotations

from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = ()
