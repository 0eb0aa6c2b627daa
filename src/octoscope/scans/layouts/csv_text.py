"""CSV as people have it, to a DataFrame of text: any usual encoding, separator and quoting."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from octoscope.errors import OctoscopeError
from octoscope.scans.wording import many

SEPARATORS = ",;\t|"
HEADER_WITHIN = 20
"""Lines in which the header is looked for; a title or comments may stand above it."""

LONGEST_LINE = 2**17
MAX_COLUMNS = 5_000
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

KnowsHeader = Callable[[Sequence[str]], bool]


def read_csv(file: Path, is_header: KnowsHeader) -> tuple[pd.DataFrame, list[str]]:
    """Read the rows of a CSV file, every cell as text and missing ones as None.

    Args:
        file: The file.
        is_header: Says whether these cells (stripped) are the names of the columns.

    Returns:
        One column per name in the header, which may be there twice; notes.

    Raises:
        OctoscopeError: If it is no text, or a row has more cells than the header.
    """
    text, notes = decode(file.read_bytes())
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise OctoscopeError("it is empty")
    text, declared = _declared_separator(text)
    lines = text.split("\n", HEADER_WITHIN)[:HEADER_WITHIN]
    if max(map(len, lines)) > LONGEST_LINE:
        raise OctoscopeError(f"one of its first lines has more than {LONGEST_LINE:,} letters")
    at, separator, known = _header(lines, declared or SEPARATORS, is_header)
    above = [line for line in lines[:at] if line.strip(' \t",;|')]
    if above:
        count = "the line" if len(above) == 1 else f"{len(above)} lines"
        notes.append(f"{count} above the header of {file.name}: passed over.")
    if not known and "\x00" in text:
        raise OctoscopeError("it is not text")
    body = text if at == 0 else text.split("\n", at)[at]
    rows = csv.reader(io.StringIO(body), **_dialect(body, separator))
    try:
        header = [name.strip().strip("'\"").strip() for name in next(rows, [])]
        frame = _frame(header, rows)
    except csv.Error as error:
        raise OctoscopeError(str(error)) from None
    broken = [n for n, row in enumerate(frame.to_numpy(), 1) if any("\n" in (c or "") for c in row)]
    if broken:
        verb = "spans" if len(broken) == 1 else "span"
        notes.append(
            f"{many(len(broken), 'cell')} of {file.name} {verb} several lines (first: row "
            f"{broken[0]}); if rows are lost, a quote is not closed there."
        )
    return frame, notes


def decode(content: bytes) -> tuple[str, list[str]]:
    """Return the text of a file in UTF-8, UTF-16, UTF-32 or Windows-1252; say so if the last.

    Raises:
        OctoscopeError: If it is none of them.
    """
    for mark, encoding in BOMS:
        if content.startswith(mark):
            return _decoded(content, encoding), []
    head = content[:1000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 4 and not min(even, odd):  # UTF-16 of Latin text
        return _decoded(content, "utf-16-le" if odd else "utf-16-be"), []
    try:
        return content.decode("utf-8"), []
    except UnicodeDecodeError:
        text = _decoded(content, "cp1252")
    at = next(n for n, letter in enumerate(text) if not letter.isascii())
    example = re.split(r"[,;\t\n\r|]", text[max(0, at - 15) : at])[-1]
    example += re.split(r"[,;\t\n\r|]", text[at : at + 15])[0]
    return text, [f"the table is not UTF-8; read as Windows-1252 (with {example!r} in it)."]


def _decoded(content: bytes, encoding: str) -> str:
    """Decode, or say that it is no text."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise OctoscopeError("it is not text in UTF-8, UTF-16 or Windows-1252") from None


def _declared_separator(text: str) -> tuple[str, str | None]:
    """Take away the line ``sep=;`` with which Excel declares the separator."""
    match = re.match(r'\s*"?sep=(.)"?[,;\t| ]*\n', text, re.IGNORECASE)
    return (text[match.end() :], match[1]) if match else (text, None)


def _header(lines: Sequence[str], separators: str, is_header: KnowsHeader) -> tuple[int, str, bool]:
    """Find the line of the header and the separator; the first line with text if none is known."""
    for at, line in enumerate(lines):
        for separator in separators:
            if is_header(_cells(line, separator)):
                return at, separator, True
    first = next(
        (at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0
    )
    line = lines[first] if lines else ""
    return first, max(separators, key=lambda s: len(_cells(line, s))), False


def _cells(line: str, separator: str) -> list[str]:
    """Split one line of a header."""
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip().strip("'\"").strip() for cell in cells]


def _dialect(body: str, separator: str) -> dict[str, Any]:
    """Choose quotes and whether blanks after a separator belong to no cell.

    They are kept where the header has none and no quote follows them: a file name may begin with
    a blank.
    """
    header = body.partition("\n")[0]
    mark = re.escape(separator)
    blanks = re.search(f"{mark} +", header) or re.search(f'(^|{mark}) +"', body, re.MULTILINE)
    single = re.fullmatch(rf" *'[^']*' *({mark} *'[^']*' *)*", header) is not None
    return {
        "delimiter": separator,
        "skipinitialspace": blanks is not None,
        "quotechar": "'" if single else '"',
    }


def _frame(header: list[str], rows: Iterable[list[str]]) -> pd.DataFrame:
    """Collect the rows that hold anything; short ones are filled up with None.

    Raises:
        OctoscopeError: If a row has more cells than the header, or there are too many columns.
    """
    width = len(header)
    if width > MAX_COLUMNS:
        raise OctoscopeError(f"it has {width:,} columns, more than {MAX_COLUMNS:,}")
    while width and not header[width - 1]:  # a comma at the end of every line
        width -= 1
    taken = []
    for number, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row):
            continue
        if any(cell.strip() for cell in row[width:]):
            raise OctoscopeError(
                f"row {number} has {len(row)} cells, but the header names {width}; put quotes "
                "around cells with a separator in them"
            )
        taken.append([cell if cell.strip() else None for cell in row[:width]]
                     + [None] * (width - len(row)))  # fmt: skip
    return pd.DataFrame(taken, columns=header[:width], dtype=object)
