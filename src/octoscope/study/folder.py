"""Where a study keeps what: one class that knows every path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError
from octoscope.files import read_json, require_text_path
from octoscope.study.stage import read_object
from octoscope.training.saved import model_is_there, require_own_model


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The study's settings, provenance and where its scans are."""
        return self.path / "study.json"

    @property
    def phantoms(self) -> Path:
        """Where a study without scans of its own writes phantoms."""
        return self.path / "phantoms"

    @property
    def table(self) -> Path:
        """The scan table with the split that was used."""
        return self.path / "table.parquet"

    @property
    def audit(self) -> Path:
        """The audit."""
        return self.path / "audit.json"

    @property
    def cache(self) -> Path:
        """The folder of the uint8 cache."""
        return self.path / "cache"

    @property
    def methods(self) -> Path:
        """Titles, papers and meanings of the attribution methods."""
        return self.path / "methods.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def trust(self) -> Path:
        """How far the maps of the models agree."""
        return self.path / "trust.json"

    def run(self, model: str, seed: int) -> Path:
        """Return the folder of one trained model."""
        return self.path / "runs" / f"{model}-seed{seed}"

    @property
    def runs(self) -> list[Path]:
        """Folders of all finished runs, by name."""
        return sorted(
            path.parent
            for path in self.path.glob("runs/*/run.json")
            if read_object(path).get("finished") is True
        )


@dataclass(frozen=True)
class RunFolder:
    """The folder of one trained model inside a study.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Take a folder that holds a finished run.

        Raises:
            OctoscopeError: If it is no run, one that is not finished, or its model is gone, damaged
                or exchanged.
        """
        require_text_path(path)
        if not (path / "run.json").is_file():
            raise OctoscopeError(
                f"{path}: holds no trained model (run.json is missing); "
                "give a folder such as STUDY/runs/MODEL-seed0"
            )
        record = read_json(path / "run.json")
        if not isinstance(record, dict) or record.get("finished") is not True:
            raise OctoscopeError(f"{path}: its training is not finished; run the study again")
        if not model_is_there(path):
            raise OctoscopeError(
                f"{path / 'model'}: a file is missing or empty; run the same study or training "
                "again, which writes it anew from the best checkpoint"
            )
        require_own_model(path, record)
        return cls(path)

    @property
    def split(self) -> str:
        """The split that the run is explained and examined on."""
        return "val"

    @property
    def scans(self) -> str:
        """What the scans of that split are called in sentences."""
        return "validation scans"

    @property
    def results(self) -> Path:
        """Where maps, scores and trust card lie."""
        return self.path

    @property
    def external(self) -> dict[str, str]:
        """Name and place of the external test set it is examined on, empty if there is none."""
        return {}

    @property
    def stages(self) -> Path:
        """The folder whose stages remember what was measured."""
        return self.study.path

    @property
    def study(self) -> StudyFolder:
        """The study the run belongs to."""
        return StudyFolder(self.path.parent.parent)

    @property
    def name(self) -> str:
        """Model and seed, as the folder is called."""
        return self.path.name

    @property
    def info(self) -> dict[str, Any]:
        """What training recorded (run.json)."""
        info: dict[str, Any] = read_json(self.path / "run.json")
        return info

    def open_cache(self) -> ScanCache:
        """Open the cache the run was trained on.

        Raises:
            OctoscopeError: If it is gone or has changed, or the run does not say which it is.
        """
        if not self.study.cache.is_dir():
            raise OctoscopeError(
                f"{self.path}: the scans that it was trained on are not beside it "
                f"({self.study.cache} is missing); put the run back into STUDY/runs or run the "
                "study again, or evaluate it on scans from elsewhere with --data"
            )
        digest = self.info.get("cache_digest")
        if not isinstance(digest, str):
            raise OctoscopeError(
                f"{self.path / 'run.json'}: does not say which scans it was trained on; run the "
                "study again"
            )
        return ScanCache.open(self.study.cache, digest)

    @property
    def digest(self) -> str:
        """16 hex digits that change with the trained weights."""
        weights = hashlib.sha256((self.model / "model.safetensors").read_bytes())
        return weights.hexdigest()[:16]

    @property
    def model(self) -> Path:
        """The saved `Classifier`."""
        return self.path / "model"

    def predictions(self, split: str) -> Path:
        """Return the predictions of one split."""
        return self.path / f"predictions-{split}.parquet"

    def metrics(self, split: str) -> Path:
        """Return the metrics of one split."""
        return self.path / f"metrics-{split}.json"

    @property
    def maps(self) -> Path:
        """The store of attribution maps."""
        return self.results / "maps.zarr"

    @property
    def scores(self) -> Path:
        """The scores of the maps, one row per scan, method and metric."""
        return self.results / "scores.parquet"

    @property
    def localisation(self) -> Path:
        """The scores' summary, with intervals and sentences."""
        return self.results / "localisation.json"

    @property
    def panels(self) -> Path:
        """Which scans the report shows."""
        return self.path / "panels.json"

    @property
    def trust(self) -> Path:
        """The trust card: scoreboard, probes and verdict."""
        return self.results / "trust.json"

    @property
    def trust_scores(self) -> Path:
        """All scores that the card rests on, one row per scan, method and metric."""
        return self.results / "trust.parquet"

    def trust_part(self, name: str) -> Path:
        """Return where one part of the measurements is kept, such as ``probes.json``."""
        return self.results / "trust" / name
