"""Backscattered power of the eye along a B-scan: layers, lesions, vessels, attenuation.

Powers are relative to a perfect reflector and chosen so that the fourth root, times 255, is the
grey value a Spectralis shows (the grey levels below were read off real scans).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from octoscope.scans.phantom.anatomy import LAYERS
from octoscope.scans.phantom.fields import Array

GREY: Mapping[str, Sequence[float]] = {
    # Evenly spaced grey levels from the inner to the outer boundary of the layer.
    "VITREOUS": (0, 0),
    "RNFL": (168, 172, 160, 130),
    "GCL": (98, 94, 97, 104),
    "IPL": (106, 109, 106, 88),
    "INL": (77, 73, 73, 76),
    "OPL": (85, 96, 96, 80),
    "ONL": (60, 55, 54, 53),
    "MYOID": (72, 66, 62, 64, 80),
    "EZ": (140, 205, 205, 150),
    "OS": (124, 112, 116, 150),
    "FLUID": (12, 12),
    "MATERIAL": (150, 160, 150, 135),
    "RPE": (165, 192, 196, 188, 160),
    "DRUSEN": (130, 120, 116, 112),
    "PED": (70, 60, 58, 62),
    "CHOROID": (112, 96),
}

SAMPLES = 24


def power_table() -> Array:
    """Return the power against stacked depth: `SAMPLES` per layer, vitreous first ``(N,)``."""
    rows = []
    for name in ("VITREOUS", *LAYERS, "CHOROID"):
        grey = np.asarray(GREY[name], float)
        at = (np.arange(SAMPLES) + 0.5) / SAMPLES * (len(grey) - 1)
        rows.append((np.interp(at, np.arange(len(grey)), grey) / 255) ** 4)
    return np.concatenate(rows).astype(np.float32)


def layer_coordinate(z: Array, depth: Mapping[str, Array]) -> Array:
    """Return at which layer, and how far through it, every pixel lies.

    Args:
        z: Depth of the pixel rows in mm ``(H, 1)``.
        depth: Inner boundary of every layer, and "BM", in mm ``(W,)``.

    Returns:
        ``(H, W)``: 0 in the vitreous, i + fraction inside layer i of `LAYERS`, len(LAYERS) below.
    """
    u = np.zeros(np.broadcast_shapes(z.shape, depth["BM"].shape), np.float32)
    bounds = [*(depth[name] for name in LAYERS), depth["BM"]]
    for top, bottom in itertools.pairwise(bounds):
        top = top.astype(np.float32)
        thick = np.maximum(bottom - top, 1e-6).astype(np.float32)
        u += np.clip((z - top) / thick, 0, 1)
    return u


def between(z: Array, top: Array, bottom: Array, step: float) -> Array:
    """Return the share of each pixel ``(H, W)`` that lies between two depths (mm)."""
    low, high = np.maximum(z - step / 2, top), np.minimum(z + step / 2, bottom)
    return np.clip((high - low) / step, 0, 1)
