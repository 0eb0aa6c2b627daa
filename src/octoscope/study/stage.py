"""A stage does its work once: it is skipped while its inputs and its outputs are what they were."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from octoscope.errors import OctoscopeError
from octoscope.files import digest_of, explained_disk_errors, read_json, write_json
from octoscope.progress import console


@dataclass(frozen=True)
class Stage:
    """One step of a study, remembered in ``stages/NAME.json``.

    The record holds the digest of every output. A file that was damaged, or made by hand with
    other options, is another one: it never passes for what the stage made, and is made again.

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

    def recorded(self) -> dict[str, Any]:
        """Return the record, empty if the stage was never finished or the record is damaged."""
        return read_object(self.record)

    def is_done(self, inputs: Mapping[str, Any], outputs: Iterable[Path]) -> bool:
        """Say whether the stage was finished with these inputs and its outputs are untouched."""
        recorded = self.recorded()
        return recorded.get("key") == digest_of(inputs) and self.is_untouched(outputs)

    def is_untouched(self, outputs: Iterable[Path]) -> bool:
        """Say whether outputs are what the stage left, whatever its inputs were."""
        known = self._known()
        return all(known.get(self._label(path), "") == content_digest(path) for path in outputs)

    def changed(self, below: Path) -> list[Path]:
        """Return what the stage left in a folder, and is there no longer as it left it."""
        known = {self.folder / label: digest for label, digest in self._known().items()}
        return [
            path
            for path, digest in known.items()
            if path.is_relative_to(below) and content_digest(path) != digest
        ]

    def _known(self) -> dict[str, Any]:
        """Return label → digest of the outputs that the stage left."""
        known = self.recorded().get("outputs")
        return known if isinstance(known, dict) else {}

    def run(
        self,
        inputs: Mapping[str, Any],
        outputs: Iterable[Path],
        work: Callable[[], str],
        started: float | None = None,
    ) -> bool:
        """Do `work` unless it is done; return whether it was.

        Args:
            inputs: Everything the result depends on, in words JSON can say.
            outputs: The files and folders the stage leaves; if one is gone or is no longer what
                the stage left, the work is done again. One that the work does not leave counts as
                it is: not there.
            work: The work; returns a few words on its result for the terminal.
            started: When the work was announced and begun (`begin`), if that was before the call.
        """
        outputs = list(outputs)
        if self.is_done(inputs, outputs):
            self._say(str(self.recorded().get("said", "")), "done before")
            return False
        with explained_disk_errors(self.folder):
            self.record.unlink(missing_ok=True)
        start = self.begin() if started is None else started
        said = work()
        seconds = time.perf_counter() - start
        write_json(
            self.record,
            {
                "key": digest_of(inputs),
                "inputs": dict(inputs),
                "outputs": {self._label(path): content_digest(path) for path in outputs},
                "said": said,
                "seconds": seconds,
            },
        )
        self._say(said, f"{seconds:.0f} s")
        return True

    def begin(self) -> float:
        """Announce the stage, and return when its work began."""
        console.print(f"▸ {self.name}", style="bold")
        return time.perf_counter()

    def _label(self, path: Path) -> str:
        """Return the name of an output in the record, the same wherever the study lies."""
        return path.relative_to(self.folder).as_posix()

    def _say(self, said: str, how: str) -> None:
        """Print the line of a finished stage."""
        line = Text.assemble(("✓", "green"), f" {self.name}: {said} ", (f"({how})", "dim"))
        console.print(line, highlight=False)


def content_digest(path: Path) -> str | None:
    """Return what tells one content from another, None if nothing is there.

    Of a file, 16 hex digits of SHA-256; of a folder, which may hold many thousand chunks, 16 hex
    digits over the names and sizes of its files.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_of([[f.relative_to(path).as_posix(), f.stat().st_size] for f in files])
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object, an empty one if the file is missing, damaged or something else."""
    content = read_or_none(path)
    return content if isinstance(content, dict) else {}


def read_or_none(path: Path) -> Any:
    """Return what a JSON file holds, None if it is missing or damaged."""
    try:
        return read_json(path)
    except (OctoscopeError, OSError):
        return None


def write_if_new(path: Path, content: Any) -> None:
    """Write a JSON file, unless it says the same already."""
    if not path.is_file() or digest_of(read_or_none(path)) != digest_of(content):
        write_json(path, content)
