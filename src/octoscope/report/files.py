"""What a study folder holds, read for the report: what is missing is named.

A file that does not hold what it should is one sentence, with its name and place: a number that
was read out of a damaged file would be shown as if it had been measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from octoscope.attribution.store import MapStore
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.evaluation.ledger import openings, where
from octoscope.evaluation.predictions import read_predictions
from octoscope.files import read_parquet
from octoscope.report import expected
from octoscope.report.shape import Shape, damaged, read_shaped
from octoscope.report.tables import read_table, require_columns
from octoscope.trust.scores import read_scores

SPLITS = ("val", "test", "train")
"""Splits in the order in which the report shows them."""


@dataclass(frozen=True, eq=False)
class RunFiles:
    """One trained model.

    Attributes:
        path: Its folder.
        info: ``run.json``: model, seed, parameters, best epoch…
        recipe: ``recipe.json``, empty if missing.
        metrics: Split → content of ``metrics-SPLIT.json``.
    """

    path: Path
    info: dict[str, Any]
    recipe: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    _predictions: dict[str, pd.DataFrame | None] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> RunFiles:
        """Read a run's folder.

        Raises:
            OctoscopeError: If one of its files is damaged.
        """
        metrics = {
            split: _json(path / f"metrics-{split}.json", expected.METRICS) for split in SPLITS
        }
        for split, said in metrics.items():
            if said is not None and (fault := expected.odd_metrics(said)):
                raise damaged(path / f"metrics-{split}.json", fault)
        return cls(
            path,
            _json(path / "run.json", expected.RUN) or {},
            _json(path / "recipe.json", expected.RECIPE) or {},
            {split: content for split, content in metrics.items() if content is not None},
        )

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.info.get("model", self.path.name))

    @property
    def seed(self) -> int:
        """Seed it was trained with."""
        return int(self.info.get("seed", 0))

    @property
    def name(self) -> str:
        """Model and seed in words."""
        return f"{self.model}, seed {self.seed}"

    @cached_property
    def log(self) -> pd.DataFrame | None:
        """``log.csv``, None if missing."""
        path = self.path / "log.csv"
        if not path.exists():
            return None
        frame = read_table(path, pd.read_csv)
        return require_columns(path, frame, expected.LOG_COLUMNS, numbers=frame.columns)

    def predictions(self, split: str) -> pd.DataFrame | None:
        """Return ``predictions-SPLIT.parquet``, None if missing."""
        if split not in self._predictions:
            self._predictions[split] = self._read_predictions(split)
        return self._predictions[split]

    def _read_predictions(self, split: str) -> pd.DataFrame | None:
        path = self.path / f"predictions-{split}.parquet"
        return read_table(path, read_predictions) if path.exists() else None

    @cached_property
    def scores(self) -> pd.DataFrame | None:
        """``scores.parquet``, None if missing."""
        path = self.path / "scores.parquet"
        if not path.exists():
            return None
        frame = read_table(path, read_scores)
        return require_columns(path, frame, expected.SCORE_COLUMNS, numbers=["value"])

    @cached_property
    def localisation(self) -> dict[str, Any]:
        """``localisation.json``, empty if missing; only its counts are used."""
        return _json(self.path / "localisation.json", expected.LOCALISATION) or {}

    @cached_property
    def trust(self) -> dict[str, Any]:
        """``trust.json``, empty if missing."""
        return _json(self.path / "trust.json", expected.TRUST) or {}

    @cached_property
    def panels(self) -> list[dict[str, Any]]:
        """``panels.json``: the scans to show, empty if missing."""
        return _json(self.path / "panels.json", expected.PANELS) or []

    @cached_property
    def maps(self) -> MapStore | None:
        """``maps.zarr``, None if missing."""
        path = self.path / "maps.zarr"
        return MapStore.open(path, read_only=True) if path.exists() else None

    @cached_property
    def openings(self) -> list[dict[str, Any]]:
        """The recorded openings of the test split."""
        return [entry for entry in openings(self.path) if entry.get("split", "test") == "test"]


@dataclass(frozen=True, eq=False)
class StudyFiles:
    """A study folder.

    Attributes:
        path: The folder.
        about: ``study.json``: classes, notes, config, provenance…
        audit: ``audit.json``, None if missing.
        methods: ``methods.json``: method → title, paper, sentence; empty if missing.
        runs: Finished runs, by model in the order of the config, then seed.
        unfinished: Names of runs whose training is not over.
    """

    path: Path
    about: dict[str, Any]
    audit: dict[str, Any] | None
    methods: dict[str, dict[str, Any]]
    runs: list[RunFiles]
    unfinished: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> StudyFiles:
        """Read a study folder.

        Raises:
            OctoscopeError: If it holds no study, or one of its files is damaged.
        """
        if not (path / "study.json").exists():
            raise OctoscopeError(
                f"{path}: holds no study (study.json is missing); run octoscope study first"
            )
        about = _json(path / "study.json", expected.STUDY)
        runs = [RunFiles.read(folder.parent) for folder in sorted(path.glob("runs/*/run.json"))]
        order = [recipe.get("model") for recipe in about["config"].get("models", [])]
        runs.sort(key=lambda run: (_place(run.model, order), run.model, run.seed))
        study = cls(
            path,
            about,
            _json(path / "audit.json", expected.AUDIT),
            _json(path / "methods.json", expected.METHODS) or {},
            [run for run in runs if run.info.get("finished", True)],
            [run.name for run in runs if not run.info.get("finished", True)],
        )
        study.read_all()
        return study

    def read_all(self) -> None:
        """Read every file but pixels and maps, before anything is computed of any.

        Raises:
            OctoscopeError: If one of them is damaged.
        """
        _ = self.table, self.trust, self.ledger
        for run in self.runs:
            _ = run.log, run.scores, run.localisation, run.trust, run.panels, run.maps
            for split in SPLITS:
                run.predictions(split)

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """Label, patient and split of every scan (``table.parquet``), None if missing."""
        path = self.path / "table.parquet"
        columns = ["label", "patient", "split"]
        if not path.exists():
            return None
        return read_table(path, lambda file: read_parquet(file, columns))

    @cached_property
    def missing(self) -> list[str]:
        """What a finished study holds and this one does not, each with what is lost by it."""
        masks = self.cache is not None and self.cache.masks is not None
        return expected.missing_files(
            self.path, self.about, [run.path for run in self.runs], masks=masks
        )

    @cached_property
    def trust(self) -> dict[str, Any]:
        """``trust.json``: how far the models agree; empty if missing."""
        return _json(self.path / "trust.json", expected.TRUST) or {}

    @cached_property
    def ledger(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Name of a run → openings of the test split; by deleted models and other studies too."""
        known = [(run.name, run.openings) for run in self.runs]
        names = {run.path.name for run in self.runs}
        gone: dict[str, list[dict[str, Any]]] = {}
        for entry in openings(self.path):
            looked = entry.get("split", "test") == "test"
            if looked and "elsewhere" in entry:
                gone.setdefault(f"{entry.get('run')}, {where(entry)}", []).append(entry)
            elif looked and entry.get("run") not in (*names, None):
                gone.setdefault(f"{entry['run']}, deleted since", []).append(entry)
        return [*known, *gone.items()]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        return [str(name) for name in self.about.get("classes", [])]

    @property
    def models(self) -> dict[str, list[RunFiles]]:
        """Model → its runs, one per seed."""
        out: dict[str, list[RunFiles]] = {}
        for run in self.runs:
            out.setdefault(run.model, []).append(run)
        return out

    def title(self, method: str) -> str:
        """Return a method's name in running text."""
        return str(self.methods.get(method, {}).get("title", method))

    @cached_property
    def cache(self) -> ScanCache | None:
        """The cache that the runs were trained on, None if it is gone or has changed."""
        digests = {run.info.get("cache_digest") for run in self.runs} - {None}
        if not (self.path / "cache").is_dir() or len(digests) > 1:
            return None
        try:
            return ScanCache.open(self.path / "cache", next(iter(digests), None))
        except OctoscopeError:
            return None  # the report then shows no scans, and says so


def _json(path: Path, shape: Shape) -> Any:
    """Return a JSON file, None if there is none.

    Raises:
        OctoscopeError: If it does not hold what it should.
    """
    return read_shaped(path, shape) if path.exists() else None


def _place(name: str, order: list[str | None]) -> int:
    return order.index(name) if name in order else len(order)
