"""A run that is judged on other scans than the validation split: where what is found is kept.

What is found on the opened test split of the study lies in ``RUN/test``, and on an external test
set in ``RUN/external/NAME``. The files are called there as those of the run, which stay as they
are, and so does the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octoscope.files import read_json
from octoscope.study.folder import RunFolder

EXTERNAL = "external"


@dataclass(frozen=True)
class OpenedRun(RunFolder):
    """A run on the opened test split of its study."""

    @property
    def split(self) -> str:
        """The test split."""
        return "test"

    @property
    def scans(self) -> str:
        """What its scans are called in sentences."""
        return "test scans"

    @property
    def results(self) -> Path:
        """Where maps, scores and trust card lie."""
        return self.path / "test"

    @property
    def stages(self) -> Path:
        """Their stages lie beside them."""
        return self.results


@dataclass(frozen=True)
class ExternalRun(OpenedRun):
    """A run on an external test set, every scan of which is in the test split of its own table.

    Attributes:
        set_name: What the set is called.
        data: The folder or table that it was read from.
    """

    set_name: str = ""
    data: str = ""

    @property
    def scans(self) -> str:
        """What its scans are called in sentences."""
        return f"scans of {self.set_name}"

    @property
    def results(self) -> Path:
        """Where everything about the set lies."""
        return self.path / EXTERNAL / self.set_name

    @property
    def external(self) -> dict[str, str]:
        """Name and place of the set."""
        return {"external": self.set_name, "data": self.data}

    def predictions(self, split: str) -> Path:
        """Return the predictions of the set, or of a split of the study."""
        own = super().predictions(split)
        return self.results / "predictions.parquet" if split == self.split else own

    def metrics(self, split: str) -> Path:
        """Return the metrics of the set, or of a split of the study."""
        return self.results / "metrics.json" if split == self.split else super().metrics(split)

    @property
    def about(self) -> Path:
        """How the set was read, and what is known of it."""
        return self.results / "external.json"

    @property
    def known(self) -> dict[str, Any] | None:
        """What stands there; None if the set is new."""
        known: dict[str, Any] | None = read_json(self.about) if self.about.is_file() else None
        return known
