"""What happens to a scan between its file and the first layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.scans.framing import Framing

MEASURED_IMAGES = 2000
"""Images that the grey statistics are measured on: more change the third digit only."""


@dataclass(frozen=True)
class Preprocess:
    """The deterministic way from a scan to what a network takes.

    Attributes:
        framing: From a scan of any size to ``(height, width)`` grey in [0, 1].
        channels: Channels C of the network; grey is repeated.
        mean: Per channel, subtracted from values in [0, 1].
        std: Per channel, divided by, > 0.
        source: Where mean and std come from, in words.
    """

    framing: Framing
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = "given"

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        if not all(isinstance(v, int | float) and np.isfinite(v) for v in numbers):
            raise OctoscopeError(f"preprocess: mean and std must be numbers, not {numbers}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise OctoscopeError(
                f"preprocess: {len(self.mean)} means and {len(self.std)} deviations do not fit "
                f"{self.channels} channels; give one of each per channel"
            )
        if min(self.std) <= 0:
            raise OctoscopeError(f"preprocess: std must be above 0, not {self.std}")

    @classmethod
    def measured(
        cls, framing: Framing, channels: int, images: np.ndarray, rows: np.ndarray
    ) -> Preprocess:
        """Take mean and standard deviation from training images.

        Args:
            framing: How they were framed.
            channels: C of the network.
            images: ``(N, H, W)`` uint8; may be a memory map.
            rows: Which of them to measure, those of the training split.
        """
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), MEASURED_IMAGES)).astype(int)]
        counts = sum(np.bincount(images[row].ravel(), minlength=256) for row in chosen)
        share = counts / np.sum(counts)  # (256,), of each grey level
        grey = np.arange(256) / 255
        mean = float(share @ grey)
        std = max(float(share @ (grey - mean) ** 2) ** 0.5, 1 / 255)  # blank images have none
        source = f"measured on {len(chosen)} training images"
        return cls(framing, channels, (mean,) * channels, (std,) * channels, source)

    @classmethod
    def of_pretrained(cls, framing: Framing, channels: int, network: nn.Module) -> Preprocess:
        """Take the mean and standard deviation that a timm network was pretrained with.

        For one channel, those of the colours are averaged, as its first layer sums over them.
        """
        config: Any = network.pretrained_cfg
        mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
        if channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        return cls(framing, channels, mean, std, "pretraining")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "framing": self.framing.to_dict(),
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """Build the preprocessing that `to_dict` described.

        Raises:
            OctoscopeError: If an entry is missing or wrong.
        """
        try:
            return cls(
                Framing.from_dict(values["framing"]),
                values["channels"],
                tuple(values["mean"]),
                tuple(values["std"]),
                str(values["source"]),
            )
        except (KeyError, TypeError) as error:
            raise OctoscopeError(f"preprocess: {error!r} in its description") from None
