"""What `explain` returns: raw maps by method, with what must be known to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError, did_you_mean

Flags = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Maps(Mapping[str, Tensor]):
    """Attribution maps of a batch: ``maps["gradcam"]`` is (B, *S), or (B, M, *S) for M classes.

    Maps are float32, raw, and signed where the method is; `shown` scales them for display. They
    are kept at the resolution that the method gives, such as that of a layer, and interpolated to
    the image when asked for. A method with parts (`Method.parts`, such as attention heads) has
    that axis in place of the classes.

    Attributes:
        native: Method to maps (B, *s) or (B, M, *s).
        targets: (B,) the class each map explains, (B, M) for given classes, or ``"all"``, where
            map [b, k] explains class k.
        flags: Method to ``all_zero`` (no position stands out: nothing to show), ``nonfinite`` (a
            nan or infinity in the map) and ``clipped_fraction`` (share of positions whose negative
            value the method's ReLU removed), each (B,) or (B, M).
        logits: (B, K).
        size: *S.
        layer: Name of the layer explained, several joined by ``+``; empty if none was needed.
        details: Method to its by-products by name, each with the leading axes of the map.
        refused: Methods left out, because they are not defined for the model, to the reason.
    """

    native: dict[str, Tensor]
    targets: Tensor | str
    flags: dict[str, Flags]
    logits: Tensor
    size: tuple[int, ...]
    layer: str
    details: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, method: str) -> Tensor:
        """Return the maps of a method at the size of the images.

        Raises:
            OctoscopeError: If the method was not asked for.
        """
        return upsample(self._native(method), self.size)

    def __contains__(self, method: object) -> bool:
        return method in self.native

    def __iter__(self) -> Iterator[str]:
        return iter(self.native)

    def __len__(self) -> int:
        return len(self.native)

    def shown(self, method: str) -> Tensor:
        """Return the maps of a method scaled for display: in [0, 1], or [-1, 1] if it is signed."""
        maps = self[method]
        signed = bool(METHODS[method].signed or (maps < 0).any())
        return normalise(maps, len(self.size), signed=signed)

    def _native(self, method: str) -> Tensor:
        try:
            return self.native[method]
        except KeyError:
            raise OctoscopeError(
                f'no maps of "{method}" here{did_you_mean(str(method), self.native)}; '
                f"there are {', '.join(self.native)}"
            ) from None


def flags_of(raw: Tensor, signed: Tensor, axes: int) -> Flags:
    """Say what is suspicious about maps.

    Args:
        raw: (..., *s) the maps as returned.
        signed: (..., *s) the same before the method's ReLU.
        axes: Number of spatial axes.

    Returns:
        The flags of `Maps`, each (...).
    """
    s = tuple(range(-axes, 0))
    return {
        "all_zero": (raw == 0).flatten(-axes).all(-1),
        "nonfinite": ~raw.isfinite().flatten(-axes).all(-1),
        "clipped_fraction": ((signed < 0) & (raw == 0)).float().mean(s),
    }
