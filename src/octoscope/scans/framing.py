"""From scans of any size to the one frame that a model sees, and back again.

A `Framing` is the recorded rule, a `Placement` is that rule worked out for one scan. A picture, its
lesion mask and anything else on the scan's grid go through the same placement, and a map in the
model's frame comes back through `Placement.invert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.scans.levels import Levels, levels_from

if TYPE_CHECKING:  # the rule alone, which help and recipes need, must not wait for scipy
    from octoscope.scans.geometry import RetinaLayers

Mode = Literal["pad", "band", "stretch"]
Wedges = Literal["fill", "keep"]
Box = tuple[int, int, int, int]
"""Half-open rows and columns: top, left, bottom, right."""

NO_RETINA = "retina not found, whole frame used"


@dataclass(frozen=True)
class Framing:
    """How a scan becomes a picture of `height` × `width`.

    Attributes:
        height: Rows of the model's frame.
        width: Columns of the model's frame.
        mode: ``pad`` scales the whole scan into the frame and fills what is left over; ``band``
            does the same with the rows from above the ILM to below the RPE, so that the height of
            the file no longer tells where it came from; both keep the aspect ratio. What lies in
            the vitreous, beyond the margin, is not in the band. ``stretch`` scales rows and
            columns apart and so DISTORTS the aspect ratio.
        fill: Grey value [0, 255] of everything outside of the scan.
        margin: Rows kept above the ILM and below the RPE in ``band``, as a part of the median
            distance between the two. The default is about what tight crops of public data leave,
            so that whole frames and crops come out alike.
        wedges: ``fill`` paints white registration borders with `fill`: like padding they are no
            part of the scan, they are spread unevenly over classes, and as the brightest thing in
            the frame they draw a network's eye. ``keep`` leaves the file's own pixels.
        levels: Which grey levels of files with more than 8 bits become black and white. By
            default it is found once over all scans of a table, and kept with the model.
    """

    height: int = 224
    width: int = 224
    mode: Mode = "pad"
    fill: int = 0
    margin: float = 0.15
    wedges: Wedges = "fill"
    levels: Levels | None = None

    def __post_init__(self) -> None:
        for name, known in (("mode", get_args(Mode)), ("wedges", get_args(Wedges))):
            value = getattr(self, name)
            if value not in known:
                raise OctoscopeError(
                    f'framing: {name} "{value}" is unknown{did_you_mean(str(value), known)}; '
                    f"choose one of {', '.join(known)}"
                )
        for name, low, high in (("height", 1, 2**14), ("width", 1, 2**14), ("fill", 0, 255)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise OctoscopeError(
                    f"framing: {name} must be a whole number from {low} to {high}, not {value!r}"
                )
        if not isinstance(self.margin, int | float) or not 0 <= self.margin <= 10:
            raise OctoscopeError(f"framing: margin must lie in 0 to 10, not {self.margin!r}")

    @property
    def keeps_aspect(self) -> bool:
        """Whether a circle in the scan stays a circle."""
        return self.mode != "stretch"

    def describe(self) -> str:
        """Return the rule as one line for logs and reports."""
        what = {
            "pad": "whole frame, aspect ratio kept, padded",
            "band": f"retina band with {self.margin:g}× margins, aspect ratio kept, padded",
            "stretch": "whole frame, stretched: the ASPECT RATIO IS DISTORTED",
        }[self.mode]
        wedges = "white borders filled" if self.wedges == "fill" else "white borders kept"
        return f"{self.height}×{self.width}, {what}, {wedges}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Framing:
        """Build the framing that `to_dict` described.

        Raises:
            OctoscopeError: If a key or a value is unknown.
        """
        known = _known(cls, values)
        return cls(**known | {"levels": levels_from(known.get("levels"))})


@dataclass(frozen=True, eq=False)
class Placement:
    """Where one scan of `shape` lies in the model's frame.

    Attributes:
        framing: The rule.
        shape: ``(H, W)`` of the scan.
        crop: The part of the scan that is shown.
        target: The part of the frame ``(height, width)`` that shows it; the rest is fill.
        flags: Sentences about what did not go by the rule; empty as a rule.
        outside: ``(H, W)`` bool, pixels of the scan's frame that are painted with fill, or None.
    """

    framing: Framing
    shape: tuple[int, int]
    crop: Box
    target: Box
    flags: tuple[str, ...] = ()
    outside: np.ndarray | None = field(default=None, repr=False)

    @property
    def padding_fraction(self) -> float:
        """Part of the model's frame that is fill around the scan, in [0, 1]."""
        top, left, bottom, right = self.target
        return 1 - (bottom - top) * (right - left) / (self.framing.height * self.framing.width)

    def apply(self, array: np.ndarray, nearest: bool = False) -> np.ndarray:
        """Bring something on the scan's grid into the model's frame.

        Args:
            array: ``(H, W)`` of the scan's shape. uint8 stays uint8; other types become float32.
            nearest: For labels and masks: each frame pixel takes one scan pixel's value, any type
                is kept, and what lies outside is 0. Otherwise pixels are averaged (anti-aliased),
                and what lies outside is `framing.fill` (for float arrays, 0).

        Returns:
            ``(height, width)``.

        Raises:
            OctoscopeError: If `array` is not of the scan's shape.
        """
        if array.shape != self.shape:
            raise OctoscopeError(
                f"an array of shape {array.shape} does not lie on the scan's grid {self.shape}; "
                "use the placement of its own scan"
            )
        top, left, bottom, right = self.target
        rows, columns = bottom - top, right - left
        if nearest:
            placed = np.zeros((self.framing.height, self.framing.width), array.dtype)
            placed[top:bottom, left:right] = _take_nearest(array, self.crop, rows, columns)
            return placed
        pixels, fill = array, self.framing.fill
        if array.dtype != np.uint8:
            pixels, fill = array.astype(np.float32, copy=False), 0
        if self.outside is not None:
            pixels = np.where(self.outside, np.asarray(fill, pixels.dtype), pixels)
        placed = np.full((self.framing.height, self.framing.width), fill, pixels.dtype)
        placed[top:bottom, left:right] = _resize(pixels, self.crop, rows, columns)
        return placed

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Bring a map in the model's frame back to the scan's grid.

        Args:
            values: ``(height, width)``, any real type; raw and signed as it is.

        Returns:
            ``(H, W)`` float32, bilinear; 0 where the model did not see the scan.

        Raises:
            OctoscopeError: If `values` is not of the model's frame.
        """
        frame = (self.framing.height, self.framing.width)
        if values.shape != frame:
            raise OctoscopeError(
                f"a map of shape {values.shape} does not lie in the model's frame {frame}; "
                "upsample it to the frame first"
            )
        top, left, bottom, right = self.crop
        scan = np.zeros(self.shape, np.float32)
        scan[top:bottom, left:right] = _resize(
            values.astype(np.float32, copy=False), self.target, bottom - top, right - left
        )
        return scan

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the `outside` mask as plain JSON values."""
        return {
            "framing": self.framing.to_dict(),
            "shape": list(self.shape),
            "crop": list(self.crop),
            "target": list(self.target),
            "flags": list(self.flags),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Placement:
        """Build the placement that `to_dict` described; it inverts maps and places masks.

        Raises:
            OctoscopeError: If a key is unknown or missing.
        """
        known = _known(cls, values)
        for name in ("framing", "shape", "crop", "target"):
            if name not in known:
                raise OctoscopeError(f'placement: "{name}" is missing; build the cache anew')
        boxes = {k: tuple(int(v) for v in known[k]) for k in ("shape", "crop", "target")}
        flags = tuple(known.get("flags", ()))
        return cls(Framing.from_dict(known["framing"]), flags=flags, **boxes)  # type: ignore[arg-type]


def place(image: np.ndarray, framing: Framing, layers: RetinaLayers | None = None) -> Placement:
    """Work out where a scan lies in the model's frame.

    Args:
        image: ``(H, W)`` grey, uint8 or float in [0, 1].
        framing: The rule.
        layers: The retina, if it is known already; else ``band`` segments it.

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    from octoscope.scans.borders import as_grey8, frame_border
    from octoscope.scans.geometry import segment_retina

    grey = as_grey8(image)
    height, width = grey.shape
    crop: Box = (0, 0, height, width)
    flags: tuple[str, ...] = ()
    if framing.mode == "band":
        layers = layers or segment_retina(grey)
        if layers.found:
            crop = layers.band((height, width), framing.margin)
        else:
            flags = (NO_RETINA,)
    outside = None
    if framing.wedges == "fill":
        white = frame_border(grey).white
        outside = white if white.any() else None
    target = _centred(crop, framing)
    return Placement(framing, (height, width), crop, target, flags, outside)


def frame_image(image: np.ndarray, framing: Framing) -> np.ndarray:
    """Bring a scan ``(H, W)`` uint8 into the model's frame ``(height, width)`` uint8.

    Raises:
        OctoscopeError: If `image` is not a grey picture.
    """
    from octoscope.scans.borders import as_grey8

    grey = as_grey8(image)
    return place(grey, framing).apply(grey)


def _centred(crop: Box, framing: Framing) -> Box:
    """Return the largest part of the frame, centred, with the shape of `crop`."""
    if not framing.keeps_aspect:
        return (0, 0, framing.height, framing.width)
    rows, columns = crop[2] - crop[0], crop[3] - crop[1]
    scale = min(framing.height / rows, framing.width / columns)
    height = min(framing.height, max(1, round(rows * scale)))
    width = min(framing.width, max(1, round(columns * scale)))
    top, left = (framing.height - height) // 2, (framing.width - width) // 2
    return (top, left, top + height, left + width)


def _resize(array: np.ndarray, box: Box, rows: int, columns: int) -> np.ndarray:
    """Scale `box` of `array` (uint8 or float32) to (rows, columns).

    The triangle widens with the reduction, so that speckle is averaged and not sampled.
    """
    top, left, bottom, right = box
    resized = Image.fromarray(array).resize(
        (columns, rows), Image.Resampling.BILINEAR, (left, top, right, bottom)
    )
    return np.asarray(resized)


def _take_nearest(array: np.ndarray, box: Box, rows: int, columns: int) -> np.ndarray:
    """Return for each of (rows, columns) pixels the value at its centre in `box` of `array`."""
    top, left, bottom, right = box
    at_row = top + (np.arange(rows) * 2 + 1) * (bottom - top) // (2 * rows)
    at_column = left + (np.arange(columns) * 2 + 1) * (right - left) // (2 * columns)
    return array[at_row[:, None], at_column]


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` as keyword arguments of `cls`.

    Raises:
        OctoscopeError: If a key is not a field.
    """
    names = [f.name for f in fields(cls)]
    for key in values:
        if key not in names:
            raise OctoscopeError(
                f'{cls.__name__.lower()}: "{key}" is unknown{did_you_mean(str(key), names)}; '
                f"known are {', '.join(names)}"
            )
    return dict(values)
