"""The scans of a cache and the maps of a store, as models and metrics take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.store import MapStore


def as_images(pixels: np.ndarray) -> Tensor:
    """Return uint8 ``(B, H, W)`` as what a `Classifier` takes, (B, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1).float() / 255


class StoredMaps(Mapping[str, "_OfMethod"]):
    """Maps of some rows at the size of the image, read a few at a time when asked for.

    Attributes:
        store: The map store.
        rows: Rows of the store.
        methods: Method names.
        size: ``(H, W)``.
    """

    def __init__(
        self, store: MapStore, rows: np.ndarray, methods: Sequence[str], size: tuple[int, ...]
    ) -> None:
        self.store, self.rows, self.methods, self.size = store, rows, tuple(methods), size

    def __getitem__(self, method: str) -> _OfMethod:
        return _OfMethod(self, method)

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)


@dataclass(frozen=True)
class _OfMethod:
    """The maps of one method: ``maps[places]`` reads those at some places among the rows."""

    maps: StoredMaps
    method: str

    def __len__(self) -> int:
        return len(self.maps.rows)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.maps.store.read_rows(self.maps.rows[places], self.method, self.maps.size)
