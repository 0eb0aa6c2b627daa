"""Every metric of an explanation, by key."""

from __future__ import annotations

from octoscope.trust.faithfulness.rows import ROWS as FAITHFULNESS
from octoscope.trust.localisation_metrics import ROWS as LOCALISATION
from octoscope.trust.metric import Metric
from octoscope.trust.sanity.scores import ROWS as SANITY
from octoscope.trust.stability.rows import ROWS as STABILITY
from octoscope.trust.zones import ROWS as ZONES

METRICS: dict[str, Metric] = {
    row.name: row for row in (*FAITHFULNESS, *LOCALISATION, *ZONES, *SANITY, *STABILITY)
}
"""Key → metric, in the order of tables."""
