"""What a transformer reads: the scan cut into its patches."""

from __future__ import annotations

import numpy as np

from octoscope.report.figures.cells import Picture
from octoscope.report.figures.sheet import Strip, sheet_png

GAP = 0.12
"""Between patches, as a part of a patch's shorter side."""
LONGEST = 7.0
"""Width of the picture in inches."""
WHITE = 255


def patch_grid(image: np.ndarray, patch: tuple[int, int], gap: int) -> np.ndarray:
    """Cut a picture into patches and lay them out with gaps.

    A picture that patches do not divide is filled with zeros below and to the right, as
    transformers that take any size do.

    Args:
        image: ``(H, W)``.
        patch: Rows and columns of a patch.
        gap: White pixels between patches.

    Returns:
        ``(h · patch + (h - 1) · gap, …)`` for h rows of patches, of the dtype of `image`.
    """
    tall, wide = patch
    rows, columns = (-(-full // p) for full, p in zip(image.shape, patch, strict=True))
    filled = np.zeros((rows * tall, columns * wide), dtype=image.dtype)
    filled[: image.shape[0], : image.shape[1]] = image
    laid = np.full((rows, tall + gap, columns, wide + gap), WHITE, dtype=image.dtype)
    laid[:, :tall, :, :wide] = filled.reshape(rows, tall, columns, wide)
    whole = laid.reshape(rows * (tall + gap), columns * (wide + gap))
    return whole[: whole.shape[0] - gap, : whole.shape[1] - gap]


def patches_png(image: np.ndarray, patch: tuple[int, int], *, title: str, extra: int = 0) -> bytes:
    """Draw the patches of a scan.

    Args:
        image: ``(H, W)`` uint8, in the model's frame.
        patch: Rows and columns of a patch.
        title: What the scan and the model are called.
        extra: Tokens besides the patches: class, distillation and registers.

    Returns:
        PNG.
    """
    gap = max(1, round(GAP * min(patch)))
    rows, columns = (-(-full // p) for full, p in zip(image.shape, patch, strict=True))
    tokens = f"{rows * columns} patch tokens" + (f" and {extra} other" if extra else "")
    height, width = image.shape
    picture = Picture(
        f"{rows} × {columns} patches of {patch[0]} × {patch[1]} pixels",
        patch_grid(image, patch, gap),
        f"{tokens}, from a frame of {height} × {width} pixels",
    )
    return sheet_png([Strip([picture])], title=title, widest=LONGEST)
