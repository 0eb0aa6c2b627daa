"""The lesion mask that belongs to a scan file, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts.lesions import NAME, read_lesions
from octoscope.scans.layouts.tree import IMAGES, MASKS, stem
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.study.folder import RunFolder


@dataclass(frozen=True)
class LesionMasks:
    """Where masks are looked for: in a folder given, in the study's table, beside the scan.

    Attributes:
        folder: A folder of masks called as the scans; None to look in the other places.
        tabled: Absolute path of a scan → that of its mask, as the study's table says.
        names: Mask value → lesion, as the study's table says.
    """

    folder: Path | None = None
    tabled: Mapping[str, Path] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunFolder, folder: Path | None = None) -> LesionMasks:
        """Look in `folder`, or else in what the study of a run knows and beside the scans.

        Raises:
            OctoscopeError: If `folder` is none.
        """
        if folder is not None:
            if not folder.is_dir():
                raise OctoscopeError(f"{folder}: no such folder of masks; check the name")
            return cls(Path(os.path.abspath(folder)))  # noqa: PTH100 -- links stay as they are
        try:
            table = run.open_cache().table
        except (OctoscopeError, KeyError):  # a run that was copied alone has no cache: no matter
            return cls()
        pairs = zip(table.paths, table.mask_paths, strict=True)
        tabled = {os.path.abspath(scan): mask for scan, mask in pairs if mask is not None}  # noqa: PTH100 -- links stay as they are, 100,000 times
        return cls(None, tabled, table.lesions)

    def find(self, scan: Path) -> tuple[Path | None, Mapping[int, str]]:
        """Return the mask of a scan, None if there is none, and what its values are called.

        The scan itself is never its mask, wherever it lies.
        """
        # With ".." gone, and links as they are: the places below are those of its written name.
        scan = Path(os.path.abspath(scan))  # noqa: PTH100
        mask = self.tabled.get(str(scan))
        if self.folder is None and mask is not None and mask.is_file():
            return mask, self.names
        places = _beside(scan) if self.folder is None else _in_folder(self.folder, scan)
        mask = next((place for place in places if not _same(place, scan)), None)
        return mask, _names_near(mask)


def _same(place: Path, scan: Path) -> bool:
    """Say whether a file that is there is the scan, which may be missing."""
    return scan.exists() and place.samefile(scan)


def _in_folder(folder: Path, scan: Path) -> Iterator[Path]:
    """Yield masks below a folder, those at the same place in the tree as the scan first."""
    parts = scan.parts[1:]
    for first in range(len(parts)):
        yield from _named(folder.joinpath(*parts[first:]))


def _beside(scan: Path) -> Iterator[Path]:
    """Yield masks in ``masks`` folders beside or above the scan, the deepest first.

    ``masks/CNV/a.png`` belongs to ``images/CNV/a.jpeg`` and to ``CNV/a.jpeg``, as in
    `octoscope.scans.layouts.companions`.
    """
    for above in scan.parents:
        below = scan.relative_to(above).parts
        if not (above / MASKS).is_dir():
            continue
        if below[0].lower() == IMAGES and len(below) > 1:
            below = below[1:]
        yield from _named((above / MASKS).joinpath(*below))


def _named(place: Path) -> Iterator[Path]:
    """Yield image files called like `place`, whatever their suffix."""
    name = stem(place.name)
    for suffix in IMAGE_SUFFIXES:
        if (candidate := place.with_name(name + suffix)).is_file():
            yield candidate


def _names_near(mask: Path | None) -> dict[int, str]:
    """Return the lesion names of the nearest ``lesions.json`` above a mask."""
    if mask is None:
        return {}
    found = next((above / NAME for above in mask.parents if (above / NAME).is_file()), None)
    return {} if found is None else read_lesions([found])
