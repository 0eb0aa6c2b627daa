"""A trained model whose maps are examined: its scans, their maps from the store, their anatomy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from octoscope.attribution.registry import METHODS
from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.predict import predict
from octoscope.models.classifier import Classifier
from octoscope.scans.geometry import RetinaLayers
from octoscope.scans.geometry.zones import frame_zones
from octoscope.scans.table import ScanTable
from octoscope.study.config import TrustSettings
from octoscope.study.evaluate import rows_of
from octoscope.study.folder import RunFolder
from octoscope.study.retinas import retinas_of
from octoscope.study.spread import spread
from octoscope.study.stored import StoredMaps, as_images
from octoscope.study.subject import split_of, subject_of
from octoscope.study.trust_costs import too_slow
from octoscope.trust.metric import Metric
from octoscope.trust.probes.probe import Subject


@dataclass(frozen=True, eq=False)
class Examined:
    """One run, with what every part of its examination needs. Rows are rows of the cache.

    Attributes:
        run: A finished and explained run.
        cache: The cache of its study, or of an external test set; its classes stand in the order
            of the model's logits.
        settings: How much is measured.
        methods: The methods in the store, nulls among them, one map per scan each.
        device: Where the model runs.
        resamples: Bootstrap resamples of the patients.
    """

    run: RunFolder
    cache: ScanCache
    settings: TrustSettings
    methods: tuple[str, ...]
    device: torch.device
    resamples: int = 2000

    @cached_property
    def classifier(self) -> Classifier:
        """The model."""
        return Classifier.load(self.run.model).to(self.device)

    @cached_property
    def table(self) -> ScanTable:
        """The table of the cache."""
        return self.cache.table

    @cached_property
    def rows(self) -> np.ndarray:
        """All scans of the split that the run is examined on."""
        return rows_of(self.cache, self.run.split)

    @cached_property
    def subject(self) -> Subject:
        """The run as the shortcut probes examine it."""
        return subject_of(
            self.cache,
            self.predict,
            self.classifier.classes,
            split=self.run.split,
            training=self.study_cache,
        )

    @cached_property
    def study_cache(self) -> ScanCache | None:
        """The cache that the model was trained on, None if it is not beside the run."""
        if not self.run.external:
            return self.cache
        try:
            return self.run.open_cache()
        except OctoscopeError:
            return None

    @cached_property
    def slow(self) -> dict[str, str]:
        """Methods that are made once only → the reason."""
        image, most = self.images(self.rows[:1]), self.settings.most_passes
        return too_slow(self.classifier, image, self.methods, most)

    @cached_property
    def quick(self) -> tuple[str, ...]:
        """Methods that can be made again and again."""
        return tuple(name for name in self.methods if name not in self.slow)

    def some(self, most: int) -> np.ndarray:
        """Return at most so many of its scans, spread over classes and patients."""
        labels = self.table.frame["label"].to_numpy()[self.rows]
        return self.rows[spread(labels, self.patients(self.rows), most)]

    def patients(self, rows: np.ndarray) -> np.ndarray:
        """Return the patient of each row."""
        return np.asarray(self.table.groups)[rows].astype(str)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Return the class of each row."""
        return self.table.frame["label"].to_numpy()[rows].astype(str)

    def images(self, rows: np.ndarray) -> Tensor:
        """Return the scans as the model takes them, (B, 1, H, W)."""
        return as_images(self.cache.images[rows]).to(self.device)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return the logits (n, K) of uint8 images (n, H, W)."""
        return predict(self.classifier, images, quiet=True)

    @cached_property
    def _logits(self) -> np.ndarray:
        logits = np.full((len(self.cache), len(self.table.classes)), np.nan, np.float32)
        logits[self.rows] = self.predict(self.cache.images[self.rows])
        return logits

    def targets(self, rows: np.ndarray) -> Tensor:
        """Return the class that the maps explain: the one predicted, (B,)."""
        return torch.from_numpy(self._logits[rows].argmax(1)).to(self.device)

    def stored(self, rows: np.ndarray, methods: Sequence[str] | None = None) -> StoredMaps:
        """Return maps at the size of the image, read when asked for."""
        size = self.cache.images.shape[1:]
        store = MapStore.open(self.run.maps, read_only=True)
        return StoredMaps(store, rows, self.methods if methods is None else methods, size)

    def maps(self, rows: np.ndarray, methods: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the maps of some rows at the size of the image, (B, H, W) each."""
        stored = self.stored(rows, methods)
        places = np.arange(len(rows))
        return {name: torch.from_numpy(stored[name][places]).to(self.device) for name in stored}

    def layers(self, rows: np.ndarray) -> list[RetinaLayers]:
        """Return ILM and RPE of some rows, in the model's frame."""
        return retinas_of(self.cache, rows)

    @property
    def zones(self) -> np.ndarray:
        """The anatomy zone of every pixel of all its scans, (B, H, W) uint8."""
        return _zones(self.cache, self.run.split)

    def identity(self, rows: np.ndarray) -> dict[str, Any]:
        """Return the columns of a score table that say what a row is of."""
        info = self.run.info
        return {
            "scan": self.table.frame["path"].to_numpy()[rows],
            "patient": self.patients(rows),
            "label": self.labels(rows),
            "model": info["model"],
            "seed": int(info["seed"]),
        }

    def tidy(
        self,
        values: Mapping[str, Mapping[str, Tensor]],
        rows: np.ndarray,
        metrics: Mapping[str, Metric],
    ) -> pd.DataFrame:
        """Return metric → method → (B,) as a score table."""
        identity = self.identity(rows)
        parts = [
            pd.DataFrame({**identity, "method": method, "metric": name,
                          "value": column.double().numpy(force=True)})
            for name, methods in values.items() for method, column in methods.items()
        ]  # fmt: skip
        table = pd.concat(parts, ignore_index=True)
        directions = {name: metrics[name].higher_is_better for name in values}
        return table.assign(higher_is_better=table["metric"].map(directions).astype("boolean"))


@lru_cache(maxsize=2)
def _zones(cache: ScanCache, split: str) -> np.ndarray:
    """Return the zones of the scans of a split, which are the same for all models."""
    scans = split_of(cache, split)
    pairs = zip(scans.layers, scans.images, strict=True)
    return np.stack([frame_zones(layers, image, cache.framing.fill) for layers, image in pairs])


def whole_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that give one map per scan."""
    return tuple(name for name in names if not METHODS[name].parts)
