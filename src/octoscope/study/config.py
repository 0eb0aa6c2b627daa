"""What a study is: the data, the framing, the models, the methods. One YAML file, one dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from octoscope.errors import OctoscopeError
from octoscope.options.binding import check_fields
from octoscope.options.limits import OutFolder, Resamples, Seed, Share, Within
from octoscope.scans.framing import Framing
from octoscope.training.recipe import Recipe

if TYPE_CHECKING:
    from octoscope.scans.table import ScanTable

CAM_METHODS = (
    "gradcam",
    "gradcam++",
    "hirescam",
    "xgradcam",
    "layercam",
    "eigencam",
    "eigengradcam",
)

Severity = Annotated[float, Within(0, 1, open_below=True)]
Count = Annotated[int, Within(1, 1_000_000)]


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
        shortcut: An artefact to plant in the scans of one class, recorded in the manifest.
        shortcut_label: The class it is tied to.
        shortcut_strength: Share of that class's scans that carry it.
    """

    patients: Annotated[int, Within(12, 100_000)] = 60
    scans_per_patient: Annotated[int, Within(1, 10_000)] = 8
    height: Annotated[int, Within(64, 4096)] = 256
    width: Annotated[int, Within(64, 8192)] = 384
    seed: Seed = 0
    severity: tuple[Severity, Severity] = (0.3, 1.0)
    shortcut: Literal["marker", "border", "size", "device"] | None = None
    shortcut_label: Literal["CNV", "DME", "DRUSEN", "NORMAL"] = "DME"
    shortcut_strength: Share = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "phantom")
        if self.severity[0] > self.severity[1]:
            raise OctoscopeError(
                f"severity must be an interval, the lower end first, not {list(self.severity)}"
            )

    def write(self, out: Path, workers: int | None = None) -> ScanTable:
        """Write these phantoms to a folder, or find them written already.

        Raises:
            OctoscopeError: If `out` holds something else.
        """
        from octoscope.scans.phantom import Shortcut, write_study

        planted = None
        if self.shortcut is not None:
            planted = Shortcut(self.shortcut, self.shortcut_label, self.shortcut_strength)
        return write_study(
            out,
            patients=self.patients,
            scans_per_patient=self.scans_per_patient,
            height=self.height,
            width=self.width,
            seed=self.seed,
            severity=self.severity,
            shortcut=planted,
            workers=workers,
        )


@dataclass(frozen=True)
class ExplainSettings:
    """What is explained and how much of it is shown.

    Attributes:
        methods: Names of attribution methods or families, or ``all``; with ``-`` before it, what
            is left out. What is not defined for a model is left out for that model.
        panels: Scans per class that the report shows.
    """

    methods: tuple[str, ...] = CAM_METHODS
    panels: Annotated[int, Within(0, 1000)] = 3

    def __post_init__(self) -> None:
        check_fields(self, "explain")


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
    scans: Count = 64
    steps: Count = 10
    baseline: Literal["blur", "mean", "retina"] = "blur"
    sanity_scans: Count = 16
    stages: Annotated[int, Within(2, 1000)] = 4
    stability_scans: Count = 16
    draws: Count = 4
    most_passes: Annotated[int, Within(0)] = 64
    probes: bool = True
    twin: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "trust")


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
    out: OutFolder | None = None
    data: Path | None = None
    layout: str = "auto"
    columns: str | None = None
    on_overlap: Literal["error", "move", "allow"] = "error"
    split_seed: Seed = 0
    unknown_patients: Literal["grouped", "distinct"] = "grouped"
    phantom: PhantomSettings = field(default_factory=PhantomSettings)
    framing: Framing = field(default_factory=Framing)
    models: tuple[Recipe, ...] = ()
    seeds: tuple[Seed, ...] = (0,)
    resamples: Resamples = 2000
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
        check_fields(self, "study")
        if self.name.strip(".") == "" or set(self.name) & set("/\\:") or len(self.name) > 100:
            raise OctoscopeError(
                f'name "{self.name[:100]}" cannot name a folder; use 1 to 100 letters, digits, '
                "hyphens …, and `out` for a path"
            )
        if not self.models:
            object.__setattr__(self, "models", (Recipe(),))  # frozen; __init__ is the one writer
        if not self.seeds:
            raise OctoscopeError("seeds: is empty; name at least one")
        if len(self.seeds) > 1000:
            raise OctoscopeError(f"seeds: {len(self.seeds)} are too many; name at most 1000")
        for seed in self.seeds:
            if self.seeds.count(seed) > 1:
                raise OctoscopeError(f"seeds: {seed} stands twice; name each seed once")
        names = [recipe.model for recipe in self.models]
        for name in names:
            if names.count(name) > 1:
                raise OctoscopeError(f"models: {name} stands twice; give each model once")
