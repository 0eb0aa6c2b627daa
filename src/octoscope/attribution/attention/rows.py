"""Maps from the attention of transformers."""

from __future__ import annotations

from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = ()
