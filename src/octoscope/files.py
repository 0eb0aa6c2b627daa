"""Writing files so that a reader never sees half of one, and naming contents by digest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from octoscope.errors import OctoscopeError
from octoscope.partial import partial_folder

if TYPE_CHECKING:
    import pandas as pd

MAX_JSON_BYTES = 256 * 2**20

MAX_JSON_DEPTH = 100
"""Lists and objects within one another; ours have ten."""

REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder "
    "(what was finished before is intact)",
    errno.EDQUOT: "the disk is full for you (quota); free some space or choose another folder "
    "(what was finished before is intact)",
    errno.EFBIG: "has a file larger than the disk or your quota allows; choose another "
    "folder (what was finished before is intact)",
    errno.ENAMETOOLONG: "is too long a name for this disk; choose a shorter one",
    errno.ELOOP: "is a link that leads back to itself; choose another place or mend the link",
    errno.EISDIR: "is a folder, not a file; choose another name",
}
"""What the disk says → what the user is told."""

NOT_WRITABLE = (
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EINVAL,
)  # fmt: skip


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn a disk that refuses what is written below `path` into one sentence for the user.

    Raises:
        OctoscopeError: On a full or read-only disk, missing rights, and names that are too long,
            are no names, or belong to something else; other errors pass unchanged.
    """
    if "\0" in str(path):
        raise OctoscopeError(f"{path}: has a NUL character in its name; choose another name")
    try:
        yield
    except OSError as error:
        if error.errno in REFUSALS:
            raise OctoscopeError(f"{path}: {REFUSALS[error.errno]}") from error
        if error.errno in NOT_WRITABLE:
            raise OctoscopeError(
                f"{path}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path near `path` that replaces it when the block ends well.

    The temporary file has the name of `path` (writers that choose a format by it work). On an
    exception it is removed and `path` is left as it was; what a killed process left is removed
    by the next (see `octoscope.partial`).

    Raises:
        OctoscopeError: If the disk is full or not writable, or `path` cannot be a file's.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with partial_folder(path, always=False) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder near `path` that is renamed to it when the block ends well.

    If `path` has come to exist meanwhile (another process was faster) the temporary folder is
    dropped and the existing one stands. On an exception and on SIGTERM it is removed; what a
    killed process left is removed by the next (see `octoscope.partial`).

    Raises:
        OctoscopeError: If the disk is full or not writable.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(path) as folder:
            temporary = folder / path.name
            temporary.mkdir()
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise


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
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        # Half a character, of a file name that is not UTF-8, becomes JSON's own escape of it.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def require_text_path(path: Path) -> None:
    """Require a path that libraries in C++ and Rust, of weights and checkpoints, can open.

    Raises:
        OctoscopeError: If its bytes are not UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise OctoscopeError(
            f"{path}: the name is not text in UTF-8, and models cannot be kept there; rename the "
            "folder, or choose another"
        ) from None


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, to any path that the disk takes (Arrow's own takes UTF-8 alone)."""
    with path.open("wb") as file:
        frame.to_parquet(file, index=False)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table from Parquet, on any path.

    Args:
        path: The file.
        columns: Those to read; None for all.

    Raises:
        OSError, ValueError: If it is missing or damaged.
    """
    import pandas as pd

    with path.open("rb") as file:
        return pd.read_parquet(file, columns=columns)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OctoscopeError: If it is missing, no file, over 256 MiB, or not strict JSON: NaN, a key
            that stands twice, and more than 100 lists within one another are not.
    """
    try:
        with explained_reading(path), path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise OctoscopeError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, so not read")
        found = json.loads(
            content.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number
        )
        _require_shallow(found)
    except (ValueError, RecursionError) as error:
        raise OctoscopeError(
            f"{path}: not valid JSON ({_short(str(error))}); delete it to build it anew"
        ) from None
    return found


@contextmanager
def explained_reading(path: Path) -> Iterator[None]:
    """Refuse what is no plain file, and turn what the disk says of it into one sentence.

    A pipe or a device has no end; it is not opened.

    Raises:
        OctoscopeError: If `path` is missing, no file, or cannot be read.
    """
    try:
        if "\0" in str(path):
            raise OctoscopeError(f"{path}: has a NUL character in its name, so it is no file")
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "a pipe or device"
            raise OctoscopeError(f"{path}: is {what}, not a file; name a file")
        yield
    except FileNotFoundError:
        raise OctoscopeError(f"{path}: no such file") from None
    except OSError as error:
        raise OctoscopeError(
            f"{path}: cannot be read ({error.strerror}); see to its rights, or name another"
        ) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, refusing a key that stands twice: programs differ on which holds."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f'the key "{name}" stands twice')
        found[name] = value
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _require_shallow(value: Any) -> None:
    """Refuse content so deep that a function which calls itself would not come back."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            part
            for outer in level
            if isinstance(outer, list | dict)
            for part in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(part, list | dict)
        ]
        if not level:
            return
    raise ValueError(f"more than {MAX_JSON_DEPTH} lists within one another")


def _short(reason: str) -> str:
    return reason if len(reason) <= 120 else f"{reason[:119]}…"


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
    """Join `relative` to `root`, refusing what leaves it, on this system or on Windows.

    The check is by name: a link that the owner of `root` put there may be followed, a path in a
    table or manifest may not climb out.

    Raises:
        OctoscopeError: If `relative` is absolute, names a drive or another machine, climbs above
            `root` with ``..``, or holds a NUL character.
    """
    text = str(relative)
    if "\0" in text:
        raise OctoscopeError(f"{text}: has a NUL character in it, so it is no path")
    windows = PureWindowsPath(text)
    normal = Path(os.path.normpath(relative))
    depth = 0
    for part in windows.parts:  # of both kinds of slash
        depth += -1 if part == os.pardir else 1
        if depth < 0:
            break
    if normal.is_absolute() or windows.drive or windows.root or depth < 0:
        raise OctoscopeError(f"{text}: leads outside {root}; use a path below that folder")
    return root / normal
