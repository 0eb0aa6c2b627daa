"""What files lie below a folder: one quick walk that every folder layout starts from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from octoscope.errors import OctoscopeError
from octoscope.scans.readers import IMAGE_SUFFIXES

TABLES = (".csv", ".tsv", ".parquet")
"""Endings of files that may say more about the scans beside them."""

LESIONS = "lesions.json"
MASKS, IMAGES = "masks", "images"
OWN_RESULTS = "study.json"
"""A folder with such a file is a study (whose cache holds images), not data."""

LONGEST_FIRST = sorted(IMAGE_SUFFIXES, key=len, reverse=True)


@dataclass(frozen=True)
class Tree:
    """The files below a folder, by kind, as sorted relative paths with forward slashes.

    Attributes:
        root: The folder.
        images: Files that end like an image, outside ``masks`` folders.
        masks: Those inside.
        tables: CSV and Parquet files, which may name scans.
        lesions: Files called ``lesions.json``.
        others: Folder → ending → count of everything else.
        notes: What was passed over.
    """

    root: Path
    images: list[str]
    masks: list[str]
    tables: list[str]
    lesions: list[str]
    others: dict[str, Counter[str]]
    notes: list[str]


def walk(root: Path) -> Tree:
    """List all files below `root`, following links to folders; each real folder is read once.

    Hidden files, ``__MACOSX`` and studies below `root` are passed over.

    Raises:
        OctoscopeError: If a folder may not be listed or a name is not UTF-8.
    """
    tree = Tree(root, [], [], [], [], {}, [])
    links: list[str] = []
    # A link to a folder above the root would lead through everything beside it and back here.
    above = [folder.stat() for folder in root.resolve().parents]
    seen = {(status.st_dev, status.st_ino): "a folder above" for status in above}
    _walk_into("", tree, seen, links)
    # Links come last and sorted, so that what is kept does not depend on the order on disk.
    while links:
        links.sort(reverse=True)
        _walk_into(links.pop(), tree, seen, links)
    for files in (tree.images, tree.masks, tree.tables, tree.lesions):
        files.sort()
    return tree


def _walk_into(start: str, tree: Tree, seen: dict[tuple[int, int], str], links: list[str]) -> None:
    """Add the files below ``tree.root / start``; collect links to folders for later."""
    folders = [start]
    while folders:
        folder = folders.pop()
        try:
            status = (tree.root / folder).stat()
            if (known := seen.get((status.st_dev, status.st_ino))) is not None:
                tree.notes.append(
                    f"{folder} is a link to {known or 'the folder itself'} and was passed over."
                )
                continue
            seen[status.st_dev, status.st_ino] = folder
            masked = MASKS in (tree.root.name.lower(), *folder.lower().split("/"))
            entries = list(_entries(tree.root / folder))
            if folder and any(name == OWN_RESULTS for name, _ in entries):
                tree.notes.append(f"{folder} holds results of octoscope and was passed over.")
                continue
            for name, entry in entries:
                path = f"{folder}/{name}" if folder else name
                if not entry.is_dir():
                    if not entry.is_symlink() or not _is_foreign(tree, path, name):
                        _sort_in(folder, path, name, masked, tree)
                elif entry.is_symlink():
                    links.append(path)
                else:
                    folders.append(path)
        except OSError as error:
            raise OctoscopeError(
                f"{tree.root / folder}: cannot be listed ({error.strerror}); check its permissions"
            ) from None


def _entries(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the visible entries of a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name == "__MACOSX":
                continue
            if not name.isascii():
                try:
                    name.encode()
                except UnicodeEncodeError:
                    raise OctoscopeError(
                        f"{folder}: the file name {name!r} is not UTF-8; rename it"
                    ) from None
            yield name, entry


def _is_foreign(tree: Tree, path: str, name: str) -> bool:
    """Say whether a link leads to a table or lesion names outside the root, and note it.

    A scan may be a link to anywhere. What is read as text may not: the words of a file that only
    a link has brought here would stand in notes and reports.
    """
    if not name.lower().endswith((*TABLES, LESIONS)):
        return False
    if lies_in(tree.root / path, tree.root):
        return False
    tree.notes.append(f"{path} is a link to a file outside the folder and was passed over.")
    return True


def lies_in(file: Path, folder: Path) -> bool:
    """Say whether a file lies below a folder, wherever links lead."""
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link in a circle
        return False


def _sort_in(folder: str, path: str, name: str, masked: bool, tree: Tree) -> None:
    """Put one file where it belongs."""
    lower = name.lower()
    if lower.endswith(IMAGE_SUFFIXES):
        (tree.masks if masked else tree.images).append(path)
    elif lower.endswith(TABLES):
        tree.tables.append(path)
    elif lower == LESIONS:
        tree.lesions.append(path)
    else:
        tree.others.setdefault(folder, Counter())[ending(lower)] += 1


def ending(lower: str) -> str:
    """Return the ending of a file name in lower case (``.nii.gz`` as one), or an empty text."""
    if lower.endswith(".gz"):
        return os.path.splitext(lower[:-3])[1] + ".gz"  # noqa: PTH122 (100,000 of them)
    return os.path.splitext(lower)[1]  # noqa: PTH122


def stem(name: str) -> str:
    """Return a file name or path without its image suffix (``a.nii.gz`` → ``a``)."""
    lower = name.lower()
    for suffix in LONGEST_FIRST:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name
