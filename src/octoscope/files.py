"""Writing files so that a reader never sees half of one, and naming contents by digest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octoscope.errors import OctoscopeError

MAX_JSON_BYTES = 256 * 2**20


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk below `path` into one sentence for the user.

    Raises:
        OctoscopeError: On ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, ENOTDIR and EEXIST; other errors
            pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OctoscopeError(
                f"{path}: the disk is full; free some space or choose another folder "
                "(what was finished before is intact)"
            ) from error
        if error.errno == errno.EFBIG:
            raise OctoscopeError(
                f"{path}: has a file larger than the disk or your quota allows; choose another "
                "folder (what was finished before is intact)"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST):
            raise OctoscopeError(
                f"{path}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it when the block ends well.

    The temporary file keeps the suffix of `path` (writers that choose a format by suffix work).
    On an exception it is removed and `path` is left as it was.

    Raises:
        OctoscopeError: If the disk is full or not writable.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` that is renamed to it when the block ends well.

    If `path` has come to exist meanwhile (another process was faster) the temporary folder is
    dropped and the existing one stands.

    Raises:
        OctoscopeError: If the disk is full or not writable.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """Return the process umask (there is no way to read it without setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically as indented JSON; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OctoscopeError: If it is missing, over 256 MiB, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise OctoscopeError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, so not read")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OctoscopeError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise OctoscopeError(
            f"{path}: not valid JSON ({error}); delete it to build it anew"
        ) from None


def _finite(value: Any) -> Any:
    """Replace what strict JSON cannot say, and numpy scalars, below `value`."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _finite(value.tolist())
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def digest_of(content: Any) -> str:
    """Return 16 hex digits of SHA-256 over anything `write_json` can say; key order is free."""
    text = json.dumps(_finite(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def inside(root: Path, relative: str | Path) -> Path:
    """Join `relative` to `root`, refusing what leaves it.

    The check is by name: a link that the owner of `root` put there may be followed, a path in a
    table or manifest may not climb out.

    Raises:
        OctoscopeError: If `relative` is absolute or climbs above `root` with ``..``.
    """
    normal = Path(os.path.normpath(relative))
    if normal.is_absolute() or normal.parts[:1] == (os.pardir,):
        raise OctoscopeError(f"{relative}: leads outside {root}; use a path below that folder")
    return root / normal
