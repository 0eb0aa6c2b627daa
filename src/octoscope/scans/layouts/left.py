"""What lies among the scans and is none: pictures of scans (masks), and files of other formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from octoscope.errors import OctoscopeError
from octoscope.scans.layouts.names import MASK_FOLDERS, alike, compact, is_technical
from octoscope.scans.layouts.tree import MASKS, Tree, stem
from octoscope.scans.readers import IMAGE_SUFFIXES
from octoscope.scans.wording import first_of, many

FORMATS = {
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".vol": "Heidelberg",
    ".e2e": "Heidelberg",
    ".sdb": "Heidelberg",
    ".fda": "Topcon",
    ".fds": "Topcon",
    ".oct": "Bioptigen or Optovue",
    ".octa": "Optovue",
    ".img": "Zeiss",
    ".mat": "MATLAB",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".npz": "NumPy",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".zarr": "Zarr",
    ".webp": "WebP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".heic": "HEIC",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".jxl": "JPEG XL",
    ".pgm": "portable greymap",
    ".ppm": "portable pixmap",
    ".exr": "OpenEXR",
    ".avi": "video",
    ".mp4": "video",
    ".mov": "video",
    ".zip": "archive",
    ".tar": "archive",
    ".tar.gz": "archive",
    ".rar": "archive",
    ".7z": "archive",
}
"""Endings of files that may hold scans, and what they are called; those with a reader are read."""

MASK_ENDINGS = ("_mask", "-mask", "_masks", "_seg", "_segmentation", "_gt", "_label", "_labels",
                "_annotation")  # fmt: skip
"""How the name of a mask may end beside a scan of the same name without it."""


Place = tuple[tuple[str, ...], tuple[str, ...]]
"""The parts of a folder, and the parts of a path below it without the ending."""


def may_be_scans(kind: str) -> bool:
    """Say whether files of an ending may hold scans (files without any may be DICOM)."""
    return kind in FORMATS and not f"x{kind}".endswith(IMAGE_SUFFIXES)


def named(kinds: Counter[str]) -> str:
    """Return "30 .dcm (DICOM), 2 .txt"."""
    parts = []
    for kind, count in kinds.most_common(6):
        format_ = FORMATS.get(kind)
        ending = kind or "without an ending"
        parts.append(f"{count:,} {ending}" + (f" ({format_})" if format_ else ""))
    return ", ".join(parts) + (", …" if len(kinds) > 6 else "")


def note_others(tree: Tree) -> list[str]:
    """Count and name the files that are not read."""
    kinds: Counter[str] = sum(tree.others.values(), Counter())
    if not kinds:
        return []
    number = sum(kinds.values())
    return [f"{many(number, 'file')} with other endings not read: {named(kinds)}."]


def require_no_lost_class(
    tree: Tree, class_of: Callable[[str], str | None], known: Iterable[str]
) -> None:
    """Check that no class consists of files that are not read.

    Args:
        tree: The files.
        class_of: The class of a file in a folder, by the layout.
        known: The classes that have scans.

    Raises:
        OctoscopeError: Naming the class and its files.
    """
    there = {alike(name) for name in known}
    lost: dict[str, Counter[str]] = {}
    for folder, kinds in tree.others.items():
        found = Counter({kind: n for kind, n in kinds.items() if may_be_scans(kind)})
        if found and (label := class_of(folder)) is not None and alike(label) not in there:
            lost[label] = lost.get(label, Counter()) + found
    if not lost:
        return
    label = min(lost)
    raise OctoscopeError(
        f"{tree.root}: class {label} has only files that are not read ({named(lost[label])}), so "
        f"it would be lost; convert them (readable are {', '.join(IMAGE_SUFFIXES)}) or move the "
        "folder out of the way"
    )


def without_masks(tree: Tree) -> Tree:
    """Take pictures that mirror scans, by folder or name, out of the scans.

    ``masks`` folders are always taken so. Others that may hold masks (``labels``, ``seg``,
    ``ground_truth`` …) only if at least half of their pictures have a scan of the same name at the
    same place beside them: a folder may be called ``label`` for other reasons.
    """
    places: dict[str, list[tuple[str, Place]]] = {}
    for path in tree.images:
        parts = stem(path).split("/")
        for at, part in enumerate(parts[:-1]):
            if compact(part) in MASK_FOLDERS:
                folder = "/".join(parts[: at + 1])
                places.setdefault(folder, []).append(
                    (path, (tuple(parts[:at]), tuple(parts[at + 1 :])))
                )
                break
    inside = {path for files in places.values() for path, _ in files}
    scans = _mirrors([path for path in tree.images if path not in inside]) if places else set()
    masks: list[str] = []
    notes: list[str] = []
    for folder, files in places.items():
        mirrored = sum(place in scans for _, place in files)
        if 2 * mirrored >= len(files):
            masks += [path for path, _ in files]
            notes.append(
                f"{many(len(files), 'picture')} in the folder {folder} mirror the scans beside it: "
                "taken for masks, not for scans."
            )
    beside = _masks_beside([path for path in tree.images if path not in inside])
    if beside:
        notes.append(
            f"{many(len(beside), 'picture')} named like a scan beside them and a mask "
            f"({first_of(sorted(beside))}): taken for masks, not for scans."
        )
    if not notes:
        return tree
    out = {*masks, *beside}
    return replace(
        tree,
        images=[path for path in tree.images if path not in out],
        masks=sorted({*tree.masks, *masks, *beside}),
        notes=[*tree.notes, *notes],
    )


def _mirrors(images: list[str]) -> set[Place]:
    """Return all places at which a mask of one of the images may lie."""
    return {place for path in images for place in scan_places(path)}


def scan_places(path: str) -> Iterator[Place]:
    """Yield (folder, path below it) of a scan for each folder above it, the deepest first.

    A folder like ``images`` beside ``masks`` belongs to neither.
    """
    parts = tuple(stem(path).split("/"))
    for at in range(len(parts) - 1, -1, -1):
        yield parts[:at], parts[at:]
        if at + 1 < len(parts) and is_technical(parts[at]):
            yield parts[:at], parts[at + 1 :]


def _masks_beside(images: list[str]) -> set[str]:
    """Return the images called like another in the same folder and ``_mask``."""
    if not any(stem(path).lower().endswith(MASK_ENDINGS) for path in images):
        return set()
    stems = {stem(path) for path in images}
    return {
        path
        for path in images
        for ending in MASK_ENDINGS
        if stem(path).lower().endswith(ending) and stem(path)[: -len(ending)] in stems
    }


def mask_place(mask: str) -> Place | None:
    """Return the folder above the masks' folder, and where in it a mask lies, without ending."""
    parts = tuple(stem(mask).split("/"))
    for at, part in enumerate(parts[:-1]):
        if part.lower() == MASKS or compact(part) in MASK_FOLDERS:
            return parts[:at], parts[at + 1 :]
    bare = next((parts[-1][: -len(e)] for e in MASK_ENDINGS if parts[-1].lower().endswith(e)), None)
    return None if bare is None else (parts[:-1], (bare,))
