"""The verbs of the command line, as functions: their parameters are the options.

`octoscope.options.verb` says how: a parameter without default is a place, a list takes several, a
dataclass brings its fields. Limits stand in the types, the help is the docstring. A verb imports
what it needs when it runs, so that the help of another never waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

HOMES = {
    "phantom": "data",
    "check": "data",
    "train": "studies",
    "study": "studies",
    "report": "studies",
    "evaluate": "answers",
    "predict": "answers",
    "explain": "maps",
    "trust": "maps",
}
"""Verb → the module of its function."""

HIDDEN = {"train": ("seed",), "trust": ("run",)}
"""Verb → fields of its dataclasses that are no options: `seeds` and the verb itself say them."""


def function_of(verb: str) -> Callable[..., None]:
    """Return the function of a verb."""
    function: Callable[..., None] = getattr(import_module(f"{__name__}.{HOMES[verb]}"), verb)
    return function
