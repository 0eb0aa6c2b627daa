"""Maps in files: one of arrays, without pickle, or pictures.

``NAME.npz`` is a plain, uncompressed NumPy archive. Its ``about`` is a text, JSON, of what is no
array: ``format``, ``size``, ``layer``, ``class_names``, ``scores``, ``refused``, and ``targets`` if
it is a text. The arrays are ``logits``, ``targets``, ``score_of``, and for every method
``native/METHOD``, ``flags/METHOD/FLAG`` and ``details/METHOD/NAME``, each as in `Maps`.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path
from octoscope.naming import file_name

if TYPE_CHECKING:
    from octoscope.attribution.maps import Maps

FORMAT = "octoscope maps 1"
MOST_ENTRIES = 10_000
"""Arrays in one file."""
FIGURES = (".png", ".jpg", ".svg", ".pdf")
"""Endings of the files that hold a figure."""
_DAMAGE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    OSError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    struct.error,
)
"""What reading a file may raise that is cut, changed or something else."""


def save(maps: Maps, path: Path, images: Tensor | np.ndarray | None) -> None:
    """Write maps as `Maps.save` says."""
    ending = path.suffix.lower()
    if path.is_dir() or not ending:
        if images is not None:
            _write_pictures(maps, path, images)
        write_maps(maps, path / "maps.npz")
    elif ending == ".npz":
        write_maps(maps, path)
    elif ending not in FIGURES:
        raise OctoscopeError(
            f"{path}: maps are saved as .npz, {', '.join(FIGURES)}, or without an ending as a "
            "folder"
        )
    elif images is None:
        raise OctoscopeError(f"{path}: a figure needs the images: maps.save(path, images)")
    else:
        figure = maps.plot(images)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)


def _write_pictures(maps: Maps, folder: Path, images: Tensor | np.ndarray) -> None:
    """Write one picture for every map, laid over its image."""
    names = maps.target_names()
    for method in maps:
        parts = METHODS[method].parts if method in METHODS else ""
        for number, pictures in enumerate(maps.overlay(images, method)):
            several = pictures.ndim == 4
            for place, picture in enumerate(pictures if several else [pictures]):
                called = f"-{place if parts else names[number][place]}" if several else ""
                name = file_name(f"{number:03d}-{method}{called}", ".png")
                with atomic_path(folder / name) as temporary:
                    Image.fromarray(picture).save(temporary)


def write_maps(maps: Maps, path: Path) -> None:
    """Write maps to a file, atomically; it has exactly the name given."""
    arrays: dict[str, np.ndarray] = {"logits": _array(maps.logits)}
    about = {
        "format": FORMAT,
        "size": list(maps.size),
        "layer": maps.layer,
        "class_names": list(maps.class_names),
        "scores": list(maps.scores),
        "refused": dict(maps.refused),
    }
    if isinstance(maps.targets, Tensor):
        arrays["targets"] = _array(maps.targets)
    else:
        about["targets"] = maps.targets
    if maps.score_of is not None:
        arrays["score_of"] = _array(maps.score_of)
    for method, values in maps.native.items():
        arrays[f"native/{method}"] = _array(values)
        for kind, parts in (("flags", maps.flags), ("details", maps.details)):
            for name, part in parts.get(method, {}).items():
                arrays[f"{kind}/{method}/{name}"] = _array(part)
    arrays["about"] = np.array(json.dumps(about, ensure_ascii=True))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_maps(path: Path) -> dict[str, Any]:
    """Read the fields of `Maps` from a file.

    Raises:
        OctoscopeError: If there is no such file, or it is damaged or something else.
    """
    if not path.is_file():
        raise OctoscopeError(f"{path}: no such file of maps")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or len(entries) > MOST_ENTRIES:  # a small file that becomes a large one
            raise ValueError("its arrays are packed, or too many")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")[()]))
        return _fields(about, arrays)
    except _DAMAGE as error:
        raise OctoscopeError(
            f"{path}: not a file of maps that Maps.save wrote, or damaged "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from None


def _fields(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the fields of `Maps`.

    Raises:
        ValueError: If they do not fit together.
    """
    if about["format"] != FORMAT:
        raise ValueError(f"format {str(about['format'])[:40]!r}")
    native: dict[str, Tensor] = {}
    nested: dict[str, dict[str, dict[str, Tensor]]] = {"flags": {}, "details": {}}
    for entry, array in arrays.items():
        kind, *rest = entry.split("/", 2)
        if kind == "native" and rest:
            native["/".join(rest)] = torch.from_numpy(array)
        elif kind in nested and len(rest) == 2:
            nested[kind].setdefault(rest[0], {})[rest[1]] = torch.from_numpy(array)
    logits = torch.from_numpy(arrays["logits"])
    size = tuple(int(side) for side in about["size"])
    targets = torch.from_numpy(arrays["targets"]) if "targets" in arrays else str(about["targets"])
    for name, values in native.items():
        if len(values) != len(logits) or values.ndim - 1 - len(size) not in (0, 1):
            raise ValueError(f"{name} is {tuple(values.shape)} for {len(logits)} images")
    if nested["flags"].keys() != native.keys():
        raise ValueError("flags and maps are not of the same methods")
    return {
        "native": native,
        "targets": targets,
        "flags": nested["flags"],
        "logits": logits,
        "size": size,
        "layer": str(about["layer"]),
        "details": nested["details"],
        "refused": {str(key): str(value) for key, value in about["refused"].items()},
        "class_names": tuple(map(str, about["class_names"])),
        "scores": tuple(map(str, about["scores"])),
        "score_of": torch.from_numpy(arrays["score_of"]) if "score_of" in arrays else None,
    }


def _array(values: Tensor) -> np.ndarray:
    plain = values.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
