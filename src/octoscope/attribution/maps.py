"""What `explain` returns: raw maps by method, with what must be known to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.names import Methods
from octoscope.attribution.registry import METHODS, SPELLINGS
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.layout import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Flags = dict[str, Tensor]


class NoSuchMapError(OctoscopeError, KeyError):
    """A method that was not asked for: a `KeyError`, as of any mapping, that says its sentence."""

    __str__ = Exception.__str__


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
            map [b, k] explains class k, or ``"scores"`` where none explains a class.
        flags: Method to ``all_zero`` (no position stands out: nothing to show), ``nonfinite`` (a
            nan or infinity in the map) and ``clipped_fraction`` (share of positions whose negative
            value the method's ReLU removed), each (B,) or (B, M).
        logits: (B, K); (B, S) the scores, where scores are explained.
        size: *S.
        layer: Name of the layer explained, several joined by ``+``; empty if none was needed.
        details: Method to its by-products by name, each with the leading axes of the map.
        refused: Methods left out, because they are not defined for the model, to the reason.
        class_names: What the K classes are called; empty if it is not known.
        scores: What the S scores are called that are explained instead of classes; or empty.
        score_of: (B,) or (B, M) the place among `scores` of what each map explains; or None.
    """

    native: dict[str, Tensor]
    targets: Tensor | str
    flags: dict[str, Flags]
    logits: Tensor
    size: tuple[int, ...]
    layer: str
    details: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    score_of: Tensor | None = None

    def __getitem__(self, method: Methods) -> Tensor:
        """Return the maps of a method at the size of the images.

        Raises:
            NoSuchMapError: If the method was not asked for.
        """
        return upsample(self.native[self.key(method)], self.size)

    def __contains__(self, method: object) -> bool:
        return method in self.native or SPELLINGS.key_of(str(method)) in self.native

    def __iter__(self) -> Iterator[str]:
        return iter(self.native)

    def __len__(self) -> int:
        return len(self.native)

    def __repr__(self) -> str:
        """Say in a few lines what there is; numbers of maps are not printed."""
        images = f"{len(self.logits)} image{'s' if len(self.logits) != 1 else ''}"
        layer = f", layer {self.layer}" if self.layer else ""
        lines = [f"Maps of {images} of {say(self.size)}{layer}, {self._explained()}"]
        for name, values in self.native.items():
            found = [
                f"{int(count)} {words}"
                for flag, words in (("all_zero", "all zero"), ("nonfinite", "not finite"))
                if (count := self.flags[name][flag].sum())
            ]
            lines.append(f"  {name:<20} {tuple(values.shape)!s:<18} {', '.join(found)}".rstrip())
        if self.refused:
            lines.append(f"  left out: {', '.join(self.refused)}; maps.refused says why")
        return "\n".join(lines)

    def key(self, method: Methods) -> str:
        """Return the key of a method in any spelling.

        Raises:
            NoSuchMapError: If it was not asked for.
        """
        key = method if method in self.native else SPELLINGS.key_of(str(method))
        if key is None or key not in self.native:
            raise NoSuchMapError(
                f'no maps of "{method}" here{did_you_mean(str(method), self.native)}; '
                f"there are {', '.join(self.native) or 'none'}"
            )
        return key

    def shown(self, method: Methods) -> Tensor:
        """Return the maps of a method scaled for display: in [0, 1], or [-1, 1] if it is signed."""
        return normalise(self[method], len(self.size), signed=self.signed(method))

    def signed(self, method: Methods) -> bool:
        """Say whether the maps of a method want a diverging colour scale."""
        key = self.key(method)
        defined = METHODS[key].signed if key in METHODS else False
        return defined or bool((self.native[key] < 0).any())

    def title(self, method: Methods) -> str:
        """Return what a method is called in running text."""
        key = self.key(method)
        return METHODS[key].title if key in METHODS else key

    def target_names(self) -> list[list[str]]:
        """Return what the maps of every image explain: B lists of M names, one if there is no M."""
        known = self.scores or self.class_names
        places = self.targets if self.score_of is None else self.score_of
        if isinstance(places, Tensor):
            table = places.reshape(len(self.logits), -1).tolist()
        else:
            table = [list(range(self.logits.shape[1]))] * len(self.logits)
        return [[known[k] if k < len(known) else f"class {k}" for k in row] for row in table]

    def plot(
        self,
        images: Tensor | np.ndarray | None = None,
        methods: Methods | Sequence[Methods] | None = None,
        which: Sequence[int] | None = None,
    ) -> Figure:
        """Draw images and maps side by side.

        ```python
        maps.plot(images)                               # notebooks show it
        maps.plot(images, ["gradcam"], which=[3]).savefig("scan.png")
        ```

        Args:
            images: The images explained, (B, C, H, W) with C 1 or 3, or as `overlay` says; without
                them the maps alone are drawn, on black.
            methods: Methods to draw, a column each; by default all.
            which: Numbers of the images to draw; by default the first eight.

        Returns:
            A matplotlib figure, a row per image and class, with a colour bar of its own numbers
            beside every map.
        """
        from octoscope.attribution.pictures import figure_of  # matplotlib takes its time

        return figure_of(self, images, self._keys(methods), which)

    def overlay(self, images: Tensor | np.ndarray, method: Methods | None = None) -> np.ndarray:
        """Lay the maps of a method over the images.

        Args:
            images: (B, C, H, W), (B, H, W) or (B, H, W, C) with C 1 (grey) or 3 (RGB); for one
                image also without B. From 0 to 1 or from 0 to 255; what lies outside, such as
                normalised images, is stretched, each image from its lowest to its highest value.
            method: By default the only one there is.

        Returns:
            RGB (B, H, W, 3) uint8, (B, M, H, W, 3) for M classes. Maps with negative values have
            diverging colours, centred on zero.
        """
        from octoscope.attribution.pictures import overlays

        keys = self._keys(method)
        if len(keys) != 1:
            raise OctoscopeError(
                f"say which method to overlay: {', '.join(keys) or 'there is none'}"
            )
        return overlays(self, images, keys[0])

    def save(self, path: str | Path, images: Tensor | np.ndarray | None = None) -> None:
        """Write the maps to a file or folder, each file whole or not at all.

        Args:
            path: ``NAME.npz``: all there is, for `load`. ``NAME.png``, ``.jpg``, ``.svg`` or
                ``.pdf``: the figure of `plot`. Without an ending, a folder: ``maps.npz``, and with
                images one ``IMAGE-METHOD.png`` for every map, laid over its image.
            images: The images explained; figures need them.
        """
        from octoscope.attribution.saved import save

        save(self, Path(path), images)

    @classmethod
    def load(cls, path: str | Path) -> Maps:
        """Read the maps that `save` wrote, onto the CPU.

        Args:
            path: The file ``NAME.npz``, or the folder.

        Raises:
            OctoscopeError: If there is none, or it is damaged.
        """
        from octoscope.attribution.saved import read_maps

        path = Path(path)
        return cls(**read_maps(path / "maps.npz" if path.is_dir() else path))

    def to(self, device: torch.device | str) -> Maps:
        """Return the same on another device."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: moved(one) for key, one in value.items()}
            return value.to(device) if isinstance(value, Tensor) else value

        tensors = ("native", "targets", "flags", "logits", "details", "score_of")
        return replace(self, **{name: moved(getattr(self, name)) for name in tensors})

    def cpu(self) -> Maps:
        """Return the same on the CPU."""
        return self.to("cpu")

    def numpy(self) -> dict[str, np.ndarray]:
        """Return method → maps at the size of the images, as arrays."""
        return {name: self[name].detach().cpu().numpy() for name in self}

    def _keys(self, methods: Methods | Sequence[Methods] | None) -> list[str]:
        if methods is None:
            return list(self.native)
        return [self.key(one) for one in ([methods] if isinstance(methods, str) else methods)]

    def _explained(self) -> str:
        """Say what is explained, in a few words."""
        if self.scores:
            return f"targets {', '.join(self.scores)}"
        if not isinstance(self.targets, Tensor):
            return f"all {self.logits.shape[1]} classes"
        names = list(dict.fromkeys(name for row in self.target_names() for name in row))
        most = 6
        return f"targets {', '.join(names[:most])}{', …' if len(names) > most else ''}"


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
