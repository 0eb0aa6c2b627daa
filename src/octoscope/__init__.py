"""octoscope: train classifiers on retinal OCT, show what they look at, measure if it is true."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from octoscope.attribution.explain import explain
    from octoscope.attribution.maps import Maps
    from octoscope.attribution.store import MapStore
    from octoscope.models.classifier import Classifier
    from octoscope.scans.layouts import load_table
    from octoscope.scans.readers import read_scan
    from octoscope.scans.scan import Scan
    from octoscope.scans.table import ScanTable
    from octoscope.study.predict_files import predict

_HOMES = {
    "Classifier": "octoscope.models.classifier",
    "MapStore": "octoscope.attribution.store",
    "Maps": "octoscope.attribution.maps",
    "Scan": "octoscope.scans.scan",
    "ScanTable": "octoscope.scans.table",
    "explain": "octoscope.attribution.explain",
    "load_table": "octoscope.scans.layouts",
    "predict": "octoscope.study.predict_files",
    "read_scan": "octoscope.scans.readers",
}
__all__ = [
    "Classifier",
    "MapStore",
    "Maps",
    "Scan",
    "ScanTable",
    "__version__",
    "explain",
    "load_table",
    "predict",
    "read_scan",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import octoscope` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'octoscope' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
