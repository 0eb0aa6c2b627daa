"""`Scan`: one image as it was read, with what its file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Laterality = Literal["OD", "OS"]


@dataclass(frozen=True, eq=False)
class Scan:
    """One OCT image.

    Attributes:
        array: Grey ``(*S)`` or several channels ``(C, *S)``; *S is ``(H, W)`` for a B-scan and
            ``(Z, H, W)`` for a volume. The file's own dtype (uint8, uint16, float32).
        spacing: Millimetres per axis of *S, or None where the file does not say.
        laterality: OD (right eye), OS (left eye) or None.
        patient: Patient id from the file, or None.
        visit_day: Day of the visit, counted from any fixed origin, or None.
        source: The file.
        format: Name of the reader that read it.
        channels: Number of leading channels in `array`, 0 for plain grey.
        reduced: How many rows and columns of the file one of `array` stands for; 1 unless a
            smaller copy was asked for.
        depth: Bits that the file says its whole numbers use, where their type holds more (12 in
            16); None where it does not say.
    """

    array: np.ndarray
    source: Path
    format: str
    spacing: tuple[float, ...] | None = None
    laterality: Laterality | None = None
    patient: str | None = None
    visit_day: int | None = None
    channels: int = 0
    reduced: int = 1
    depth: int | None = None

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The shape *S, without channels."""
        return self.array.shape[1:] if self.channels else self.array.shape
