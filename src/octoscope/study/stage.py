"""A stage does its work once: it is skipped while its inputs and outputs are what they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from octoscope.files import digest_of, read_json, write_json
from octoscope.progress import console


@dataclass(frozen=True)
class Stage:
    """One step of a study, remembered in ``stages/NAME.json``.

    Attributes:
        folder: The study folder.
        name: Name of the stage, unique in the study; may contain ``/``.
    """

    folder: Path
    name: str

    @property
    def record(self) -> Path:
        """The file that says with which inputs the stage was last finished."""
        return self.folder / "stages" / f"{self.name.replace('/', '.')}.json"

    def is_done(self, inputs: Mapping[str, Any], outputs: Iterable[Path]) -> bool:
        """Say whether the stage was finished with these inputs and its outputs still exist."""
        if not self.record.exists() or not all(path.exists() for path in outputs):
            return False
        return bool(read_json(self.record).get("key") == digest_of(inputs))

    def run(
        self, inputs: Mapping[str, Any], outputs: Iterable[Path], work: Callable[[], str]
    ) -> bool:
        """Do `work` unless it is done; return whether it was.

        Args:
            inputs: Everything the result depends on, in words JSON can say.
            outputs: The files the stage leaves; if one is gone the work is done again.
            work: The work; returns a few words on its result for the terminal.
        """
        outputs = list(outputs)
        if self.is_done(inputs, outputs):
            self._say(read_json(self.record).get("said", ""), "done before")
            return False
        self.record.unlink(missing_ok=True)
        console.print(f"▸ {self.name}", style="bold")
        start = time.perf_counter()
        said = work()
        seconds = time.perf_counter() - start
        write_json(
            self.record,
            {"key": digest_of(inputs), "inputs": dict(inputs), "said": said, "seconds": seconds},
        )
        self._say(said, f"{seconds:.0f} s")
        return True

    def _say(self, said: str, how: str) -> None:
        """Print the line of a finished stage."""
        line = Text.assemble(("✓", "green"), f" {self.name}: {said} ", (f"({how})", "dim"))
        console.print(line, highlight=False)
