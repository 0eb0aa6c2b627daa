"""Phantoms for probes: a clean study, artefacts planted in it, and toy models that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from octoscope.scans.phantom import CLASSES, Shortcut, write_study
from octoscope.trust.probes.probe import Predict, Scans, Subject

HEIGHT, WIDTH = 96, 144
DME = CLASSES.index("DME")


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    """Phantoms without any artefact: 24 patients, 6 of each class, 2 scans of each."""
    table = write_study(
        tmp_path_factory.mktemp("probes") / "study",
        patients=24,
        scans_per_patient=2,
        height=HEIGHT,
        width=WIDTH,
        seed=5,
        severity=(0.6, 1.0),
        both_classes=0.0,
        workers=1,
    )
    frame = table.frame.reset_index(drop=True)
    return Scans(
        np.stack([np.asarray(Image.open(path)) for path in table.paths]),
        np.array([CLASSES.index(label) for label in frame["label"]]),
        frame["patient"].astype(str).to_numpy(),
        frame[["patient", "visit"]],
    )


@dataclass(frozen=True, eq=False)
class Planter:
    """Plants an artefact in scans of one class."""

    clean: Scans

    @cached_property
    def marker(self) -> Scans:
        """A bright letter in the upper left corner of all DME scans."""
        return self._edited(Shortcut("marker").after)

    @cached_property
    def border(self) -> Scans:
        """White registration borders in all DME scans."""
        return self._edited(Shortcut("border").after)

    @cached_property
    def size(self) -> Scans:
        """DME scans of fewer rows, which the model sees with padding above and below."""

        def shortened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            out = np.zeros_like(image)
            out[12:-12] = image[12:-12]
            return out

        return self._edited(shortened)

    @cached_property
    def disease(self) -> Scans:
        """A bright patch inside the retina of all DME scans: no artefact at all."""
        images = self.clean.images.copy()
        for place in np.flatnonzero(self.clean.targets == DME):
            layers = self.clean.layers[place]
            column = WIDTH // 2
            middle = int((layers.ilm[column] + layers.rpe[column]) / 2)
            images[place, middle - 1 : middle + 2, column - 3 : column + 4] = 255
        return self._with(images)

    def _edited(self, draw: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Scans:
        images = self.clean.images.copy()
        for place in np.flatnonzero(self.clean.targets == DME):
            images[place] = draw(images[place], np.random.default_rng(place))
        return self._with(images)

    def _with(self, images: np.ndarray) -> Scans:
        scans = self.clean
        return Scans(images, scans.targets, scans.patients, scans.frame)


@pytest.fixture(scope="session")
def planter(clean: Scans) -> Planter:
    """Plants artefacts in the clean phantoms."""
    return Planter(clean)


def reading(sign: Callable[[np.ndarray], np.ndarray]) -> Predict:
    """Return a toy model that says DME where `sign` of the images is high, else the first class."""

    def predict(images: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(images), len(CLASSES)), np.float32)
        logits[:, DME] = 10 * (sign(images) - 0.5)
        logits[:, 0] = 0.1
        return logits

    return predict


def corner_sign(images: np.ndarray) -> np.ndarray:
    """1 where anything in the upper left corner is bright, else 0, ``(N,)``."""
    return (images[:, :12, :14].max(axis=(1, 2)) > 190).astype(float)


def padding_sign(images: np.ndarray) -> np.ndarray:
    """1 where the first rows are padding, else 0."""
    return (images[:, :8].max(axis=(1, 2)) == 0).astype(float)


def border_sign(images: np.ndarray) -> np.ndarray:
    """1 where the lower edge is white, else 0."""
    return (np.median(images[:, -1], axis=1) > 240).astype(float)


def disease_sign(images: np.ndarray) -> np.ndarray:
    """1 where the middle columns hold a patch of 3×5 saturated pixels, else 0."""
    bright = images[:, :, WIDTH // 2 - 3 : WIDTH // 2 + 4] > 250
    thick = bright[:, :-2].sum(axis=2) + bright[:, 1:-1].sum(axis=2) + bright[:, 2:].sum(axis=2)
    return (thick.max(axis=1) >= 15).astype(float)


def subject(scans: Scans, predict: Predict) -> Subject:
    """Return a toy model with these scans."""
    return Subject(predict, CLASSES, scans)


def few(scans: Scans, patients: int) -> Scans:
    """Return the scans of the first patients of every class in turn."""
    first = pd.Series(scans.patients).groupby(scans.targets).unique()
    chosen = [names[turn] for turn in range(6) for names in first][:patients]
    kept = np.isin(scans.patients, chosen)
    return Scans(scans.images[kept], scans.targets[kept], scans.patients[kept], scans.frame[kept])
