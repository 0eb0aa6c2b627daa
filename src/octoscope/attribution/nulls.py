"""Maps that know nothing of the model: a floor for every score."""

from __future__ import annotations

from octoscope.attribution.method import Method

ROWS: tuple[Method, ...] = ()
