"""Methods that ask only what lies above the target layer."""

from __future__ import annotations

from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = ()
