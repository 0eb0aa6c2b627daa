"""Progress bars on everything long."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from octoscope.visible import visible

T = TypeVar("T")


class SafeConsole(Console):
    """A console that writes text from outside, such as labels, with nothing unseen in it."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the segments of what is printed; only rich's own may command the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


console = SafeConsole(stderr=True, markup=False, emoji=False)
"""Where everything meant for a person to watch is printed; results for programs go to stdout.

Labels and paths are printed as they are: square brackets and colons in them mean nothing. What
wants a colour takes ``style=`` or a `rich.text.Text`.
"""


def tell(sentence: str, style: str | None = None) -> None:
    """Print a sentence for a person to read; names in it are neither wrapped nor taken for markup.

    Args:
        sentence: The sentence.
        style: Its colour, such as ``"yellow"``.
    """
    console.print(sentence, style=style, highlight=False, markup=False, soft_wrap=True)


def print_path(path: Path) -> None:
    """Print a path for programs to read: byte by byte what it is, whatever its encoding.

    On a terminal it is shown with nothing unseen in it, and so where standard output takes text
    alone (a notebook).
    """
    raw = None if sys.stdout.isatty() else getattr(sys.stdout, "buffer", None)
    if raw is None:
        print(visible(str(path)))
        return
    sys.stdout.flush()
    raw.write(os.fsencode(path) + b"\n")
    raw.flush()


def quiet() -> bool:
    """Say whether bars are off (environment variable ``OCTOSCOPE_QUIET`` set)."""
    return bool(os.environ.get("OCTOSCOPE_QUIET"))


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` under a bar labelled `what`; on a plain log, the bar's last state."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with _bar() as bar:
        yield from bar.track(items, total=total, description=what)


@contextmanager
def steps(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar for work that is no loop; call what is given after each of `total` steps."""
    with _bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=quiet())
