"""Checking the numbers that can be set."""

from __future__ import annotations

from math import inf

from octoscope.errors import OctoscopeError


def require_count(value: object, method: str, name: str) -> None:
    """Refuse what is no whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OctoscopeError(
            f"{method}: {name}={value!r} is no number of gradients; give a whole number from 1 on"
        )


def require_noise(value: object, method: str, name: str) -> None:
    """Refuse what is no share of an image's range."""
    if not isinstance(value, int | float) or not 0 <= value < inf:
        raise OctoscopeError(
            f"{method}: {name}={value!r} is no share of the image's range of values; "
            "give 0 or more, such as 0.15"
        )
