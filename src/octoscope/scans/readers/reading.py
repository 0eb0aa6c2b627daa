"""`read_scan` and `read_mask`: any file in, one `Scan` or one sentence out."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from octoscope.errors import ScanError
from octoscope.scans.readers.registry import (
    HEAD_BYTES,
    READERS,
    Reader,
    Reduce,
    Source,
    reader_for,
)
from octoscope.scans.scan import Scan

T = TypeVar("T")

UNFIT_FOR_MASKS = {
    "jpeg": "changes class indices",
    "webp": "may change class indices",
    "avif": "changes class indices",
    "gif": "numbers its colours as it likes",
}
MAX_PIXELS = 64_000_000
MAX_BYTES = 2 * 2**30


def read_scan(
    path: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    grey: bool = False,
    reduce: Reduce | None = None,
    content: bytes | None = None,
) -> Scan:
    """Read an image file by its content, whatever its name says.

    Colour whose channels are alike is returned as grey; other colour as ``(3, *S)``. Alpha is
    dropped. EXIF rotation is not applied, so that masks drawn on the stored pixels fit.

    Args:
        path: The file.
        max_pixels: Most pixels ``H × W`` of one B-scan.
        max_bytes: Most bytes of the file, and of the decoded array.
        grey: Return the luminance of colour files (faster for JPEG than decoding the colour).
        reduce: Called with height and width of the file; returns the factor (1, 2, 4 or 8,
            dividing both) by which a smaller copy is welcome. JPEG gives it, in less time than
            the whole; `Scan.reduced` says so.
        content: The bytes of the file, if `read_content` has read them already.

    Returns:
        A scan with the file's own dtype; float64 and float16 become float32.

    Raises:
        ScanError: If the file is missing, no image, damaged, cut short, too small or too large.
    """
    return _read(path, max_pixels, max_bytes, grey=grey, reduce=reduce, content=content)


def read_mask(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """Read class indices ``(H, W)`` uint8 from a grey, palette, one-bit or NumPy file.

    Raises:
        ScanError: As `read_scan`; also if the file holds colours, several pages, fractions,
            values outside 0…255, or is of a format that changes or renumbers indices.
    """
    scan = _read(path, max_pixels, max_bytes, indices=True)
    if scan.format in UNFIT_FOR_MASKS:
        raise ScanError(
            path,
            f"is a {scan.format.upper()}, which {UNFIT_FOR_MASKS[scan.format]}; save the mask as "
            "PNG",
        )
    if scan.channels:
        raise ScanError(path, "holds colours; a mask holds one class index per pixel")
    mask = scan.array
    if mask.ndim != 2:
        raise ScanError(path, f"holds {len(mask)} pages; a mask of a B-scan is one image")
    if mask.dtype.kind not in "ui" or mask.min() < 0 or mask.max() > 255:
        raise ScanError(path, "holds values other than the class indices 0 to 255; export it anew")
    return mask.astype(np.uint8, copy=False)


def read_content(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the bytes of a file, to be handed to `read_scan`.

    Raises:
        ScanError: If it is missing, no file, empty or too large.
    """
    path = Path(path)
    with _explained(path):
        _size(path, max_bytes)
        return path.read_bytes()


def has_eight_bits(path: Path) -> bool:
    """Say whether the values of a file have 8 bits, so that black and white are known.

    Nothing is decoded. A format that does not say without it counts as having more.

    Raises:
        ScanError: If it is no image, or its head is damaged.
    """
    return _with_reader(
        Path(path), lambda known, source: known.eight_bits(source), MAX_PIXELS, MAX_BYTES
    )


def _read(
    path: Path,
    max_pixels: int,
    max_bytes: int,
    *,
    grey: bool = False,
    indices: bool = False,
    reduce: Reduce | None = None,
    content: bytes | None = None,
) -> Scan:
    """Read with the reader that fits the content."""
    return _with_reader(
        Path(path),
        lambda known, source: known.read(source),
        max_pixels,
        max_bytes,
        content=content,
        grey=grey,
        indices=indices,
        reduce=reduce,
    )


def _with_reader(
    path: Path,
    act: Callable[[Reader, Source], T],
    max_pixels: int,
    max_bytes: int,
    *,
    content: bytes | None = None,
    grey: bool = False,
    indices: bool = False,
    reduce: Reduce | None = None,
) -> T:
    """Open `path`, choose the reader by content, and let it act."""
    with _explained(path):
        size = _size(path, max_bytes) if content is None else len(content)
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            head = file.read(HEAD_BYTES)
            known = reader_for(path.name, head)
            if known is None:
                raise ScanError(path, _strange(head))
            file.seek(0)
            source = Source(path, file, size, max_pixels, max_bytes, grey, indices, reduce)
            try:
                return act(known, source)
            except (ScanError, MemoryError):  # too little memory is no fault of the file
                raise
            # Decoders of damaged files raise anything (SyntaxError, struct.error, KeyError…), and
            # a study of 100,000 files must not end because of one of them.
            except Exception as error:
                detail = next(iter(str(error).splitlines()), "") or type(error).__name__
                raise ScanError(
                    path,
                    f"is damaged or cut short ({known.name.upper()}: {detail.rstrip('.')}); "
                    "copy or export it again",
                ) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the file system says about `path` into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise ScanError(path, "no such file; check the name") from None
    except OSError as error:
        raise ScanError(
            path, f"cannot be opened ({error.strerror or error}); check the name and permissions"
        ) from None
    except ValueError as error:  # a name that no file system takes
        raise ScanError(path, f"cannot be opened ({error}); check the name") from None


def _size(path: Path, max_bytes: int) -> int:
    """Return the length of a file.

    Raises:
        ScanError: If it is no file, empty or too large.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ScanError(path, "is a folder, not an image file; name a file in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ScanError(path, "is a device or pipe, not an image file; name a file")
    if status.st_size == 0:
        raise ScanError(path, "is empty (0 bytes); copy or export it again")
    if status.st_size > max_bytes:
        raise ScanError(
            path,
            f"has {status.st_size / 2**20:,.0f} MiB, above the limit of "
            f"{max_bytes / 2**20:,.0f} MiB; split it or raise max_bytes",
        )
    return status.st_size


def _strange(head: bytes) -> str:
    """Say what a file is whose first bytes no reader knows."""
    begin = head[:24].decode("utf-8", errors="replace")
    if all(c.isprintable() or c.isspace() for c in begin) and "\ufffd" not in begin[:-1]:
        what = f'is not an image but text (it begins with "{" ".join(begin.split())}")'
    else:
        what = "is not an image of a known format"
    return f"{what}; give {', '.join(sorted(k.upper() for k in READERS))} or remove it"
