"""The public names: there, lazy, and true to their types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import octoscope


@pytest.mark.parametrize("name", octoscope.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(octoscope, name) is not None
    assert name in dir(octoscope)


def test_importing_is_instant() -> None:
    """Nothing that takes time is imported before it is used."""
    code = (
        "import sys, octoscope; dir(octoscope)\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib', 'timm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_lazy_names_are_those_for_type_checkers() -> None:
    """Every name has one home: the one that is imported and the one that editors read."""
    source = Path(octoscope.__file__).read_text(encoding="utf-8")
    for name, home in octoscope._HOMES.items():
        assert f"from {home} import" in source, name
    assert set(octoscope._HOMES) | set(octoscope._ROOMS) | {"__version__"} == set(octoscope.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        octoscope.explian  # noqa: B018
