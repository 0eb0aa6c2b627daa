"""What a study is: the data, the framing, the models, the methods. One YAML file, one dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from octoscope.errors import OctoscopeError
from octoscope.scans.framing import Framing
from octoscope.training.recipe import Recipe

CAM_METHODS = (
    "gradcam",
    "gradcam++",
    "hirescam",
    "xgradcam",
    "layercam",
    "eigencam",
    "eigengradcam",
)


@dataclass(frozen=True)
class PhantomSettings:
    """The synthetic data of a study that is given no scans.

    Attributes:
        patients: Number of patients, spread evenly over the four classes.
        scans_per_patient: B-scans of each.
        height: Rows of a B-scan.
        width: A-scans of a B-scan.
        seed: Seed of everything drawn.
        severity: Interval from which the severity of each diseased patient is drawn, in [0, 1].
    """

    patients: int = 64
    scans_per_patient: int = 5
    height: int = 256
    width: int = 384
    seed: int = 0
    severity: tuple[float, float] = (0.3, 1.0)


@dataclass(frozen=True)
class ExplainSettings:
    """What is explained and how much of it is shown.

    Attributes:
        methods: Names of attribution methods or families, or ``all``; with ``-`` before it, what
            is left out. What is not defined for a model is left out for that model.
        panels: Scans per class that the report shows.
    """

    methods: tuple[str, ...] = CAM_METHODS
    panels: int = 3


@dataclass(frozen=True)
class TrustSettings:
    """How it is measured whether maps and models can be believed, on validation scans.

    Attributes:
        run: Whether it is; without it the report shows maps that nobody has checked.
        scans: Scans whose maps are scored by changing their pixels, spread over classes and
            patients.
        steps: Steps of a perturbation curve.
        baseline: What pixels are replaced with: ``blur``, ``mean`` or ``retina`` (tissue of the
            same depth).
        sanity_scans: Scans on which the weights are randomised.
        stages: Steps in which they are, from the output down.
        stability_scans: Scans that are explained again under noise, shifted and flipped.
        draws: Draws of the noise.
        most_passes: Methods whose map takes more forward passes are left out of the sanity checks
            and of the stability, which explain about 15 versions of every scan. CAMs, attention and
            plain gradients take 1 to 7; integrated gradients and SmoothGrad 100, occlusion 170,
            Score-CAM one per channel and RISE 4000.
        probes: Whether the shortcut probes are run.
        twin: Train the model again on shuffled labels and compare the maps.
    """

    run: bool = True
    scans: int = 64
    steps: int = 10
    baseline: Literal["blur", "mean", "retina"] = "blur"
    sanity_scans: int = 16
    stages: int = 4
    stability_scans: int = 16
    draws: int = 4
    most_passes: int = 64
    probes: bool = True
    twin: bool = False

    def __post_init__(self) -> None:
        least = {"stages": 2, "most_passes": 0}
        for name in ("scans", "steps", "sanity_scans", "stages", "stability_scans", "draws",
                     "most_passes"):  # fmt: skip
            value, fewest = getattr(self, name), least.get(name, 1)
            if value < fewest:
                raise OctoscopeError(f"trust: {name} {value} is too few; use {fewest} or more")


@dataclass(frozen=True)
class StudyConfig:
    """A study, as its YAML file says it.

    Attributes:
        name: What the study is called.
        out: Folder of the study, everything it makes lies below it; by default ``studies/NAME``,
            or ``studies/NAME-DATA`` for data of your own.
        data: Folder or table of scans; without it, phantoms are made.
        layout: Layout of `data`; ``auto`` recognises it and says so.
        columns: Which column of a table is which, as in ``path=file_name,label=Disease``.
        on_overlap: What to do with patients that stand in several splits: stop (``error``), drop
            them from training (``move``), or go on (``allow``, printed in red in the report).
        unknown_patients: Scans without a patient id are ``grouped`` as one patient per class, or
            taken as ``distinct`` patients, on your word.
        split_seed: Seed of the splits that are made where none are given.
        phantom: The phantoms to make when there is no `data`.
        framing: How a scan becomes the image that a network sees.
        models: One training recipe per model; by default a ResNet-18.
        seeds: Every model is trained once per seed.
        resamples: Patients are resampled this often for every interval.
        explain: What is explained.
        trust: How it is measured whether that can be believed.
    """

    name: str = "study"
    out: Path | None = None
    data: Path | None = None
    layout: str = "auto"
    columns: str | None = None
    on_overlap: Literal["error", "move", "allow"] = "error"
    split_seed: int = 0
    unknown_patients: Literal["grouped", "distinct"] = "grouped"
    phantom: PhantomSettings = field(default_factory=PhantomSettings)
    framing: Framing = field(default_factory=Framing)
    models: tuple[Recipe, ...] = ()
    seeds: tuple[int, ...] = (0,)
    resamples: int = 2000
    explain: ExplainSettings = field(default_factory=ExplainSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        if self.out is not None:
            return self.out
        data = "" if self.data is None else f"-{self.data.resolve().stem}"
        return Path("studies") / f"{self.name}{data}"

    def __post_init__(self) -> None:
        if not self.models:
            object.__setattr__(self, "models", (Recipe(),))  # frozen; __init__ is the one writer
        if not self.seeds:
            raise OctoscopeError("seeds: is empty; name at least one")
        names = [recipe.model for recipe in self.models]
        for name in names:
            if names.count(name) > 1:
                raise OctoscopeError(f"models: {name} stands twice; give each model once")
