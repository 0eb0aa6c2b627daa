"""What a shortcut probe is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.special import softmax

from octoscope.scans.geometry import RetinaLayers, segment_retina

T = TypeVar("T")

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (n, H, W) uint8 in the model's frame to logits (n, K) float32."""


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans as a model sees them.

    Attributes:
        images: ``(N, H, W)`` uint8 in the model's frame.
        targets: ``(N,)`` int, true class.
        patients: ``(N,)`` str; the scans of one are resampled together.
        frame: Their N rows of the scan table (``device`` and the like, where known).
        drawn_from: Of how many scans they are a sample; 0 where they are all.
        find: Gives the `layers`, where somebody may know them already.
    """

    images: np.ndarray
    targets: np.ndarray
    patients: np.ndarray
    frame: pd.DataFrame
    drawn_from: int = 0
    find: Callable[[], list[RetinaLayers]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def layers(self) -> list[RetinaLayers]:
        """ILM and RPE of every scan, in the model's frame."""
        if self.find is not None:
            return self.find()
        return [segment_retina(image) for image in self.images]

    @cached_property
    def retina_found(self) -> np.ndarray:
        """``(N,)`` bool, scans in which it is known where the retina lies."""
        return np.array([one.found and bool(one.valid.any()) for one in self.layers], bool)

    @cached_property
    def with_retina(self) -> Scans:
        """Those of them in which it is known where the retina lies; themselves if all are."""
        return self if self.retina_found.all() else self.part(self.retina_found)

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, made for the first that asks and kept for all other models.

        Args:
            what: Its name, and whatever it depends on beside the scans.
            make: Makes it; nobody may write into it.
        """
        kept = self.__dict__.setdefault("_made", {})
        if what not in kept:
            kept[what] = make()
        made: T = kept[what]
        return made

    def part(self, chosen: np.ndarray) -> Scans:
        """Return the scans in `chosen` ``(N,)`` bool; their retinas are not looked for again."""
        part = Scans(
            self.images[chosen],
            self.targets[chosen],
            self.patients[chosen],
            self.frame[chosen].reset_index(drop=True),
        )
        layers = [one for one, kept in zip(self.layers, chosen, strict=True) if kept]
        part.__dict__["layers"] = layers  # where the cached property keeps it
        return part


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under examination.

    Attributes:
        predict: The model.
        classes: K names in the order of the logits.
        scans: The validation scans.
        training: The training scans; only used to learn what the frame alone gives away.
        fill: Grey value of what lies outside of a scan in the model's frame.
        seed: Of whatever a probe draws.
    """

    predict: Predict
    classes: Sequence[str]
    scans: Scans
    training: Scans | None = None
    fill: int = 0
    seed: int = 0

    @cached_property
    def probabilities(self) -> np.ndarray:
        """What the model says to the validation scans as they are, ``(N, K)`` float64."""
        return self.asked(self.scans.images)

    def with_retina(self) -> Subject:
        """Return the same model with the scans whose retina was found; itself if all were."""
        if self.scans.with_retina is self.scans:
            return self
        part = replace(self, scans=self.scans.with_retina)
        part.__dict__["probabilities"] = self.probabilities[self.scans.retina_found]
        return part

    def asked(self, images: np.ndarray) -> np.ndarray:
        """Return the model's probabilities ``(n, K)`` float64 for images ``(n, H, W)`` uint8."""
        return softmax(self.predict(images).astype(np.float64), axis=1)


@dataclass(frozen=True)
class Finding:
    """What one probe found about one model.

    Attributes:
        probe: Key of the probe.
        title: Its name in running text.
        effect: Size of the effect.
        low: Lower end of its 95 % interval over resampled patients; NaN where there is none.
        high: Upper end.
        unit: What the effect is measured in, such as ``"balanced accuracy"``.
        harmless: The value of an effect that means nothing (0, or chance).
        limit: What the interval must lie beyond for the probe to fire.
        fires: Whether it does; None where the probe could not be run.
        sentence: What that means, with the numbers.
        label: The class that it is about, '' if none in particular.
        scans: Scans it rests on.
        patients: Patients these are of.
        details: Further numbers, as plain JSON values.
    """

    probe: str
    title: str
    effect: float
    low: float
    high: float
    unit: str
    harmless: float
    limit: float
    fires: bool | None
    sentence: str
    label: str = ""
    scans: int = 0
    patients: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)
