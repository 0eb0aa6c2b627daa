"""octoscope: train classifiers on retinal OCT, show what they look at, measure if it is true."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from octoscope import targets, trust
    from octoscope.attribution.explain import explain
    from octoscope.attribution.listing import methods
    from octoscope.attribution.maps import Maps
    from octoscope.attribution.store import MapStore
    from octoscope.models.classifier import Classifier
    from octoscope.models.layout import TargetLayer
    from octoscope.scans.layouts import load_table
    from octoscope.scans.readers import read_scan
    from octoscope.scans.scan import Scan
    from octoscope.scans.table import ScanTable
    from octoscope.study.predict_files import predict
    from octoscope.trust.faithfulness.scores import faithfulness
    from octoscope.trust.localisation import lift_over_chance, pointing_game, relevance_mass
    from octoscope.trust.probes.probe import Scans, Subject
    from octoscope.trust.probes.run import probe_model
    from octoscope.trust.sanity.gate import gate_values
    from octoscope.trust.sanity.scores import sanity
    from octoscope.trust.stability.scores import stability
    from octoscope.trust.zones import outside_retina

_HOMES = {
    "Classifier": "octoscope.models.classifier",
    "MapStore": "octoscope.attribution.store",
    "Maps": "octoscope.attribution.maps",
    "Scan": "octoscope.scans.scan",
    "ScanTable": "octoscope.scans.table",
    "Scans": "octoscope.trust.probes.probe",
    "Subject": "octoscope.trust.probes.probe",
    "TargetLayer": "octoscope.models.layout",
    "explain": "octoscope.attribution.explain",
    "faithfulness": "octoscope.trust.faithfulness.scores",
    "gate_values": "octoscope.trust.sanity.gate",
    "lift_over_chance": "octoscope.trust.localisation",
    "load_table": "octoscope.scans.layouts",
    "methods": "octoscope.attribution.listing",
    "outside_retina": "octoscope.trust.zones",
    "pointing_game": "octoscope.trust.localisation",
    "predict": "octoscope.study.predict_files",
    "probe_model": "octoscope.trust.probes.run",
    "read_scan": "octoscope.scans.readers",
    "relevance_mass": "octoscope.trust.localisation",
    "sanity": "octoscope.trust.sanity.scores",
    "stability": "octoscope.trust.stability.scores",
}
_ROOMS = ("targets", "trust")
__all__ = [
    "Classifier",
    "MapStore",
    "Maps",
    "Scan",
    "ScanTable",
    "Scans",
    "Subject",
    "TargetLayer",
    "__version__",
    "explain",
    "faithfulness",
    "gate_values",
    "lift_over_chance",
    "load_table",
    "methods",
    "outside_retina",
    "pointing_game",
    "predict",
    "probe_model",
    "read_scan",
    "relevance_mass",
    "sanity",
    "stability",
    "targets",
    "trust",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import octoscope` stays instant."""
    if name in _ROOMS:
        return import_module(f"octoscope.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'octoscope' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, for editors and notebooks to complete."""
    return sorted({*globals(), *__all__})
