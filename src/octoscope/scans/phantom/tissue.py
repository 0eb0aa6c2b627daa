"""Backscattered power of the eye along a B-scan: layers, lesions, vessels, attenuation.

Powers are relative to a perfect reflector and chosen so that the fourth root, times 255, is the
grey value a Spectralis shows (the grey levels below were read off real scans).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from octoscope.scans.phantom.anatomy import LAYERS
from octoscope.scans.phantom.fields import Array

GREY: Mapping[str, Sequence[float]] = {
    # Evenly spaced grey levels from the inner to the outer boundary of the layer.
    "RNFL": (168, 172, 160, 130),
    "GCL": (100, 96, 97, 102),
    "IPL": (104, 108, 106, 90),
    "INL": (77, 72, 72, 76),
    "OPL": (84, 97, 97, 80),
    "ONL": (60, 55, 54, 53),
    "MYOID": (74, 66, 62, 64, 80),
    "EZ": (130, 195, 225, 195, 130),
    "OS": (112, 100, 108, 140),
    "FLUID": (12, 12),
    "MATERIAL": (150, 160, 150, 135),
    "RPE": (160, 188, 196, 186, 155, 116),
    "DRUSEN": (128, 120, 116, 112),
    "PED": (70, 60, 58, 62),
}

MOTTLE: Mapping[str, float] = {
    # Standard deviation of the natural logarithm of the power within the layer.
    "RNFL": 0.30,
    "GCL": 0.25,
    "IPL": 0.30,
    "INL": 0.22,
    "OPL": 0.40,
    "ONL": 0.18,
    "MYOID": 0.22,
    "EZ": 0.22,
    "OS": 0.35,
    "FLUID": 0.0,
    "MATERIAL": 0.55,
    "RPE": 0.38,
    "DRUSEN": 0.45,
    "PED": 0.45,
}


def grey(level: float) -> np.float32:
    """Return the power that a Spectralis shows as a grey level of 0 to 255."""
    return np.float32((level / 255) ** 4)


SAMPLES = 24
"""Steps into which the profile of a layer is cut."""


@cache
def power_table() -> Array:
    """Return the power of the vitreous (first) and of each step of each layer ``(1 + N,)``."""
    rows = [np.zeros(1)]
    for name in LAYERS:
        levels = np.asarray(GREY[name], float)
        at = (np.arange(SAMPLES) + 0.5) / SAMPLES * (len(levels) - 1)
        rows.append((np.interp(at, np.arange(len(levels)), levels) / 255) ** 4)
    return np.concatenate(rows).astype(np.float32)


@cache
def mottle_table() -> Array:
    """Return the strength of the texture in the same steps ``(1 + N,)``."""
    return np.concatenate([[0], np.repeat([MOTTLE[n] for n in LAYERS], SAMPLES)]).astype(np.float32)


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
    return np.clip((high - low) / step, 0, 1).astype(np.float32)
