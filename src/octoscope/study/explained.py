"""What a model makes of one scan file, as the figures take it: numbers, names and claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS, methods_named, sorted_out
from octoscope.data.decode import decode_row
from octoscope.errors import OctoscopeError, ScanError, did_you_mean
from octoscope.models.classifier import Classifier
from octoscope.report.figures.cells import Map, Scan
from octoscope.study.explainable import AXES
from octoscope.study.folder import RunFolder
from octoscope.study.lesion_masks import LesionMasks


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model that is asked to explain scans.

    Attributes:
        name: What it is called in figures.
        classifier: The model.
        target: Index of the class to explain, None for the predicted one.
        methods: Keys of the methods asked for that are defined for it.
        refused: Key of each that is not → the reason.
    """

    name: str
    classifier: Classifier
    target: int | None = None
    methods: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str, run: RunFolder, target: str | None, methods: Sequence[str]) -> Model:
        """Load the model of a run.

        Args:
            name: What it is called.
            run: A finished run.
            target: Class to explain.
            methods: Keys of methods; those not defined for the model are set aside.

        Raises:
            OctoscopeError: If the run has no such class, or its files are damaged.
        """
        classifier = Classifier.load(run.model)
        classes = classifier.classes
        if target is not None and target not in classes:
            hint = did_you_mean(target, classes)
            raise OctoscopeError(f'"{target}" is not a class of {name}{hint}: {", ".join(classes)}')
        if torch.cuda.is_available():
            classifier = classifier.to("cuda")
        refused = _refused(classifier, methods)
        return cls(
            name,
            classifier,
            None if target is None else classes.index(target),
            tuple(key for key in methods if key not in refused),
            refused,
        )

    @property
    def token_patch(self) -> tuple[int, int]:
        """Rows and columns of the patches that it cuts a scan into.

        Raises:
            OctoscopeError: If it is no transformer.
        """
        embed = getattr(self.classifier.network, "patch_embed", None)
        grid = getattr(embed, "grid_size", None)
        if grid is None or len(grid) != AXES:
            raise OctoscopeError(
                f"{self.name} does not cut scans into patches; take a transformer such as a ViT"
            )
        framing = self.classifier.preprocess.framing
        return -(-framing.height // grid[0]), -(-framing.width // grid[1])

    @property
    def other_tokens(self) -> int:
        """Class, distillation and register tokens."""
        return int(getattr(self.classifier.network, "num_prefix_tokens", 0))

    def require(self, method: str) -> None:
        """Refuse a method that is not defined for it.

        Raises:
            OctoscopeError: With the reason.
        """
        if reason := _refused(self.classifier, [method]).get(method):
            raise OctoscopeError(f"{self.name}: {reason}")


def _refused(classifier: Classifier, methods: Sequence[str]) -> dict[str, str]:
    """Return which of some methods are not defined for a model, and why."""
    refused = sorted_out(classifier, [METHODS[key] for key in methods], AXES)[1]
    return {key: f"{METHODS[key].title} is not defined here: {why}" for key, why in refused.items()}


@dataclass(frozen=True, eq=False)
class Explained:
    """One scan, as one model sees it.

    Attributes:
        name: Name of the file.
        model: The model.
        scan: The scan in its frame, with its mask.
        note: What is wrong with the mask, '' if nothing.
    """

    name: str
    model: Model
    scan: Scan
    note: str = ""

    @classmethod
    def read(cls, path: Path, model: Model, masks: LesionMasks) -> Explained:
        """Read a scan and its mask into the model's frame.

        Raises:
            ScanError: If the scan cannot be read.
        """
        mask_path, lesions = masks.find(path)
        found = decode_row(path, mask_path, model.classifier.preprocess.framing)
        if found.image is None:
            raise ScanError(path, found.fault)
        note = f"{mask_path}: {found.mask_fault}" if found.mask_fault else ""
        return cls(path.name, model, Scan(found.image, found.mask, lesions), note)

    @property
    def images(self) -> Tensor:
        """The scan as the model takes it, (1, 1, H, W) in [0, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.scan.image))[None, None]
        return pixels.to(next(self.model.classifier.parameters()).device).float() / 255

    def explain(self, methods: Sequence[str]) -> Maps:
        """Explain the scan by some methods.

        Raises:
            OctoscopeError: If one cannot be had after all, such as for want of memory.
        """
        return explain(self.model.classifier, self.images, list(methods), self.model.target)

    @cached_property
    def maps(self) -> Maps | None:
        """The maps of the model's methods, None if it has none."""
        return self.explain(self.model.methods) if self.model.methods else None

    @cached_property
    def logits(self) -> dict[str, float]:
        """Class → logit."""
        if self.maps is not None:
            values = self.maps.logits[0]
        else:
            with torch.no_grad():
                values = self.model.classifier(self.images)[0]
        return dict(zip(self.model.classifier.classes, values.float().tolist(), strict=True))

    @property
    def probabilities(self) -> dict[str, float]:
        """Class → probability."""
        shares = torch.tensor(list(self.logits.values()), dtype=torch.float64).softmax(0)
        return dict(zip(self.logits, shares.tolist(), strict=True))

    @property
    def predicted(self) -> str:
        """The likeliest class."""
        return max(self.logits, key=lambda name: self.logits[name])

    @property
    def explained(self) -> str:
        """The class that the maps explain."""
        target = self.model.target
        return self.predicted if target is None else self.model.classifier.classes[target]

    @property
    def verdict(self) -> str:
        """What the model says, in words."""
        return f"{self.predicted}, {likely(self.probabilities[self.predicted])}"

    def claim(self, method: str) -> str:
        """Say which class a method's map explains, with the class's probability."""
        said = likely(self.probabilities[self.explained])
        if METHODS[method].class_specific:
            return f"for {self.explained}, {said}"
        return f"of no class ({self.explained}: {said})"

    def map(self, method: str, *, maps: Maps | None = None, title: str = "") -> Map | str:
        """Return a method's map, or why there is none.

        Args:
            method: Its key.
            maps: Where it stands; by default among the maps of the model's methods.
            title: In place of the method's own.
        """
        maps = maps or self.maps
        if maps is None or method not in maps:
            return self.model.refused.get(method, "not asked for")
        about = METHODS[method]
        values = maps.native[method][0]
        clipped = maps.flags[method]["clipped_fraction"][0].float().mean()
        shown = title or about.title
        if about.parts:
            shown, values = f"{shown}, mean of {len(values)} {about.parts}", values.mean(0)
        return Map(
            shown, values.float().cpu().numpy(), self.claim(method), about.signed, float(clipped)
        )


def likely(probability: float) -> str:
    """Write a probability, never as exactly 0 or 1."""
    if probability > 0.995:
        return "p > 0.99"
    return "p < 0.01" if probability < 0.005 else f"p = {probability:.2f}"


def named(methods: str | Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the keys of methods, and those among them that were asked for by their own name."""
    own = {methods} if isinstance(methods, str) else set(methods)
    keys = tuple(method.name for method in methods_named(methods))
    return keys, frozenset(own & set(keys))
