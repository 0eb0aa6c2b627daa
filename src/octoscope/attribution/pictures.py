"""Pictures of maps over the images they explain: arrays of colours, and a figure."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from octoscope.attribution.colours import OPACITY, colour_limit, laid, palette
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.models.layout import say
from octoscope.visible import visible

if TYPE_CHECKING:
    from octoscope.attribution.maps import Maps

MOST_IMAGES = 8
"""Images that a figure shows unless it is told which."""
WIDE = 2.3
"""Inches of one picture."""
LETTERS = 13
"""Of a title, per inch."""
LINES = 3
"""Of a title."""

Images = Tensor | np.ndarray


class MapFigure(Figure):
    """A figure that notebooks show, made without pyplot: nothing is kept, nothing shown twice."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=110)
        return out.getvalue()


def overlays(maps: Maps, images: Images, method: str) -> np.ndarray:
    """Lay the maps of a method over their images.

    Args:
        maps: What `explain` returned.
        images: As for `grounds`.
        method: Name of a method.

    Returns:
        (B, H, W, 3) uint8, or (B, M, H, W, 3) where there are M maps per image.
    """
    values = _values(maps, method)
    ground = grounds(images, len(values), maps.size)
    signed = maps.signed(method)
    if values.ndim == 3:
        return np.stack([_over(*one, signed)[0] for one in zip(ground, values, strict=True)])
    return np.stack(
        [
            np.stack([_over(below, one, signed)[0] for one in several])
            for below, several in zip(ground, values, strict=True)
        ]
    )


def figure_of(
    maps: Maps, images: Images | None, methods: Sequence[str], which: Sequence[int] | None
) -> Figure:
    """Draw images and maps side by side, each map with a colour bar of its own numbers.

    Args:
        maps: What `explain` returned.
        images: As for `grounds`; without them the maps alone are drawn, on black.
        methods: Names of methods, one column each.
        which: Numbers of images; by default the first `MOST_IMAGES`.

    Returns:
        The figure: one row per image and target.
    """
    count = len(maps.logits)
    chosen = list(range(min(count, MOST_IMAGES))) if which is None else list(which)
    if not chosen or not all(0 <= one < count for one in chosen):
        raise OctoscopeError(
            f"images {chosen} are not among the {count} explained, 0 to {count - 1}"
        )
    columns = _columns(maps, methods)
    black = np.zeros((count, *maps.size), np.uint8)
    ground = grounds(black if images is None else images, count, maps.size)
    targets = maps.target_names()
    rows = [(one, place) for one in chosen for place in range(len(targets[one]))]
    tall = WIDE * min(2.0, max(0.4, maps.size[0] / maps.size[1]))
    first = int(images is not None)
    wide = WIDE * (0.85 * first + 1.25 * len(columns))
    extent = (wide + 0.2, (tall + 0.45) * len(rows) + 0.6)
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 8.0}):
        figure = MapFigure(figsize=extent, layout="constrained")
        grid = figure.subplots(len(rows), first + len(columns), squeeze=False)
        for line, (one, place) in zip(grid, rows, strict=True):
            explained = f"image {one}: {targets[one][place]}"
            if first:
                line[0].imshow(ground[one].astype(np.uint8))
                line[0].set_title(_title(explained), loc="left")
            for axes, column in zip(line[first:], columns, strict=True):
                values = column.values[one] if column.fixed else column.values[one, place]
                picture, limit = _over(ground[one], values, column.signed)
                axes.imshow(picture)
                _bar(figure, axes, limit, column.signed)
                title = column.title if first else f"{explained} · {column.title}"
                axes.set_title(_title(title), loc="left")
        for axes in grid.flat:
            axes.set_axis_off()
        if len(chosen) < count and which is None:
            figure.suptitle(f"the first {len(chosen)} of {count} images", x=0.01, ha="left")
    return figure


@dataclass(frozen=True)
class _Column:
    """One column of the figure.

    Attributes:
        title: What stands above it.
        values: (B, M, H, W), or (B, H, W) if they do not depend on the target.
        signed: Whether the colours are centred on zero.
        fixed: Whether the values do not depend on the target.
    """

    title: str
    values: np.ndarray
    signed: bool
    fixed: bool


def _columns(maps: Maps, methods: Sequence[str]) -> list[_Column]:
    """Return the columns of methods; of a method with parts (heads), one for each part."""
    columns = []
    for name in methods:
        values, title, signed = _values(maps, name), maps.title(name), maps.signed(name)
        parts = METHODS[name].parts if name in METHODS else ""
        if parts:
            columns += [
                _Column(f"{title} {number}", values[:, number], signed, fixed=True)
                for number in range(values.shape[1])
            ]
        else:
            several = values if values.ndim == 4 else values[:, None]
            columns.append(_Column(title, several, signed, fixed=False))
    return columns


def _values(maps: Maps, method: str) -> np.ndarray:
    """Return the maps of a method at the size of the images, what is not finite as 0."""
    if len(maps.size) != 2:
        raise OctoscopeError(
            f"maps of {say(maps.size)} are volumes and have no picture; take slices of "
            "maps[method] and of the images"
        )
    values = maps[method].detach().float().cpu().numpy()
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _over(ground: np.ndarray, values: np.ndarray, signed: bool) -> tuple[np.ndarray, float]:
    """Return a map (H, W) over colours (H, W, 3), and the magnitude at which its colours end."""
    limit, _ = colour_limit(values)
    unit = np.clip(values / limit, -1, 1)
    return laid(ground, unit, signed=signed, opacity=OPACITY), limit


def _bar(figure: Figure, axes: Any, limit: float, signed: bool) -> None:
    """Draw a colour bar from the lowest value to the highest."""
    colours = ListedColormap(palette(signed)[:, :3] / 255)
    shades = ScalarMappable(Normalize(-limit if signed else 0.0, limit), colours)
    bar = figure.colorbar(shades, ax=axes, shrink=0.85, aspect=14, pad=0.02)
    ticks = [-limit, 0.0, limit] if signed else [0.0, limit]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}".replace("-", "−") for tick in ticks])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)


def _title(text: str) -> str:
    """Break a title into lines as wide as a picture, the rest cut."""
    lines = textwrap.wrap(visible(text), int(WIDE * LETTERS), break_long_words=True) or [""]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1][:-1]}…"]
    return "\n".join(lines)


def grounds(images: Images, count: int, size: tuple[int, ...]) -> np.ndarray:
    """Read images as colours from 0 to 255.

    Args:
        images: (B, C, H, W), (B, H, W) or (B, H, W, C) with C 1 or 3; for one image also without B.
            Whole numbers are from 0 to 255. Others are from 0 to 1 or from 0 to 255 if none of
            them lies outside; any others, such as normalised images, are stretched, each from its
            lowest to its highest value.
        count: B.
        size: (H, W).

    Returns:
        (B, H, W, 3) float32.

    Raises:
        OctoscopeError: If they do not fit the maps.
    """
    tensor = isinstance(images, Tensor)
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    whole = array.dtype.kind in "iu"
    rows = _channels_last(array, count, size)
    if rows is None or not (whole or array.dtype.kind == "f"):
        kind = f"{'a tensor' if tensor else 'an array'} of {array.dtype}, {array.shape},"
        raise OctoscopeError(
            f"{kind} are no images for {count} maps of {say(size)}; "
            f"give numbers ({count}, C, {size[0]}, {size[1]}) with C 1 or 3"
        )
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise OctoscopeError("the images hold values that are nan or infinite")
    if rows.min() < 0 or rows.max() > 255:
        low = rows.min((1, 2, 3), keepdims=True)
        span = rows.max((1, 2, 3), keepdims=True) - low
        rows = 255 * (rows - low) / np.where(span > 0, span, 1)
    elif not whole and rows.max() <= 1:
        rows = 255 * rows
    return np.broadcast_to(rows, (*rows.shape[:3], 3))


def _channels_last(array: np.ndarray, count: int, size: tuple[int, ...]) -> np.ndarray | None:
    """Return images as (B, H, W, C), None if they are none for B maps of (H, W)."""
    if array.shape[-2:] == size:
        match array.shape[:-2]:
            case () if count == 1:
                return array[None, ..., None]
            case (images,) if images == count:
                return array[..., None]
            case (1 | 3,) if count == 1:
                return np.moveaxis(array, 0, -1)[None]
            case (images, 1 | 3) if images == count:
                return np.moveaxis(array, 1, -1)
    elif array.ndim > 2 and array.shape[-3:-1] == size and array.shape[-1] in (1, 3):
        match array.shape[:-3]:
            case () if count == 1:
                return array[None]
            case (images,) if images == count:
                return array
    return None
