"""Where the retina lies in a B-scan: its inner surface (ILM) and its outer surface (RPE)."""

from octoscope.scans.geometry.layers import RetinaLayers
from octoscope.scans.geometry.segment import segment_retina

__all__ = ["RetinaLayers", "segment_retina"]
