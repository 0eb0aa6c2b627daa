"""Where everything is in the frame: the surfaces and lesions of an eye over given (x, y)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from octoscope.scans.phantom.anatomy import (
    LAYERS,
    SURFACES,
    Anatomy,
    bruch_depth,
    healthy_thickness,
    stack,
)
from octoscope.scans.phantom.fields import Array
from octoscope.scans.phantom.lesions import (
    LESION_VALUES,
    SPACE_LESIONS,
    Disease,
    Pocket,
    diseased_thickness,
)


@dataclass(frozen=True, eq=False)
class Cut:
    """The geometry of an eye over an array of places ``(..., W)``; all lengths in mm.

    Attributes:
        x: From the fovea towards the nose.
        y: From the fovea upwards.
        thickness: Of every layer of `LAYERS`.
        depth: Of the inner boundary of every layer, and of "BM", from the top of the frame.
        uneven: Factors on the height of the inner and the outer half of pockets.
    """

    x: Array
    y: Array
    thickness: Mapping[str, Array]
    depth: Mapping[str, Array]
    uneven: tuple[Array, Array]

    @property
    def surfaces(self) -> dict[str, Array]:
        """Depth of the named surfaces in mm ``(..., W)``, from the vitreous down."""
        return {name: self.depth[layer] for name, layer in SURFACES.items()} | {
            "BM": self.depth["BM"]
        }

    def shifted(self, by: Array | float) -> Cut:
        """Return the cut with all depths moved by `by` mm, a number or ``(..., W)``."""
        return replace(self, depth={name: d + by for name, d in self.depth.items()})


def cut_eye(anatomy: Anatomy, disease: Disease, x: Array, y: Array) -> Cut:
    """Return the geometry of an eye over x, y (mm, broadcast to ``(..., W)``).

    Depth 0 is Bruch's membrane under the fovea of an untilted eye.
    """
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    thickness = diseased_thickness(healthy_thickness(anatomy, x, y), disease, x, y)
    # The two walls of a pocket are uneven each in its own way.
    inner, outer = disease.rough(x, y), disease.rough(y, x)
    uneven = (np.clip(1 + inner, 0.4, 1.1), np.clip(1 + outer, 0.4, 1.1))
    return Cut(x, y, thickness, stack(thickness, bruch_depth(anatomy, x, y)), uneven)


def pocket_bounds(pocket: Pocket, cut: Cut) -> tuple[Array, Array]:
    """Return the depth of the top and bottom of a pocket, mm ``(..., W)``; equal outside it."""
    room = cut.thickness[pocket.layer]
    middle = cut.depth[pocket.layer] + pocket.level * room
    half = pocket.half(cut.x, cut.y, room)
    inner, outer = cut.uneven
    return middle - half * inner, middle + half * outer


def pockets_within(cut: Cut, disease: Disease) -> list[Pocket]:
    """Return the pockets that reach into the y of the cut (a B-scan passes most of them by)."""
    low, high = float(cut.y.min()), float(cut.y.max())
    return [pocket for pocket in disease.pockets if pocket.place.touches(low, high)]


def lesion_bounds(cut: Cut, disease: Disease) -> Iterator[tuple[str, Array, Array]]:
    """Yield name, top and bottom (mm, ``(..., W)``) of every lesion; later ones lie on earlier."""
    for space, name in SPACE_LESIONS.items():
        below = (*LAYERS, "BM")[LAYERS.index(space) + 1]
        yield name, cut.depth[space], cut.depth[below]
    for pocket in pockets_within(cut, disease):
        yield pocket.name, *pocket_bounds(pocket, cut)


def lesion_mask(cut: Cut, disease: Disease, height: int, step: float) -> Array:
    """Return the mask ``(..., H, W)`` uint8: a pixel belongs to the lesion its middle lies in.

    Args:
        cut: Where things are; depth 0 is the upper edge of the frame.
        disease: The lesions.
        height: Rows H.
        step: Millimetres per row.
    """
    z = ((np.arange(height) + 0.5) * step)[:, None]
    mask = np.zeros((*cut.x.shape[:-1], height, cut.x.shape[-1]), np.uint8)
    for name, top, bottom in lesion_bounds(cut, disease):
        columns = np.flatnonzero((bottom > top).reshape(-1, bottom.shape[-1]).any(axis=0))
        if not len(columns):
            continue
        c = slice(columns[0], columns[-1] + 1)
        inside = (z > top[..., None, c]) & (z < bottom[..., None, c])
        mask[..., c][inside] = LESION_VALUES[name]
    return mask


def lesion_area(cut: Cut, disease: Disease, names: Collection[str]) -> float:
    """Return the area (mm²) of the named lesions in a B-scan ``(W,)``."""
    height = sum(
        float(np.sum(bottom - top))
        for name, top, bottom in lesion_bounds(cut, disease)
        if name in names
    )
    return height * float(np.abs(cut.x[1] - cut.x[0]))
