"""Planted artefacts: where, how often, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.scans.phantom.bscan import draw_acquisition, render
from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.patient import draw_eye
from octoscope.scans.phantom.shortcut import PLANTED_DEVICE, Shortcut

EYE = draw_eye("1", "NORMAL", 0, 1, device="spectralis")


@given(
    strength=st.floats(0, 1),
    elsewhere=st.floats(0, 1),
    counts=st.tuples(*[st.integers(0, 60)] * 4),
    seed=st.integers(0, 2**31),
)
def test_every_class_gets_its_share(
    strength: float, elsewhere: float, counts: tuple[int, ...], seed: int
) -> None:
    labels = np.repeat(CLASSES, counts)
    flags = Shortcut("marker", "DME", strength, elsewhere).chosen(
        labels, np.random.default_rng(seed)
    )
    for label, count in zip(CLASSES, counts, strict=True):
        share = strength if label == "DME" else elsewhere
        assert abs(flags[labels == label].sum() - share * count) <= 0.5


def test_a_marker_touches_a_corner_only() -> None:
    image = render(EYE, draw_acquisition(EYE, 256, 384, 0)).image
    marked = Shortcut("marker").after(image, np.random.default_rng(0))
    rows, columns = np.nonzero(marked != image)
    assert 10 < len(rows) < 200
    assert rows.max() < 40 and columns.max() < 40
    assert np.all(marked[rows, columns] == 230)


def test_a_border_is_white_at_the_edge_only() -> None:
    image = render(EYE, draw_acquisition(EYE, 256, 384, 0)).image
    framed = Shortcut("border").after(image, np.random.default_rng(0))
    changed = framed != image
    assert np.all(framed[changed] == 255) and 0.02 < changed.mean() < 0.2
    assert not changed[:200, 20:-20].any()


def test_a_size_shortcut_is_a_frame_of_fewer_rows_at_the_same_scale() -> None:
    how = draw_acquisition(EYE, 256, 384, 0)
    small = render(EYE, Shortcut("size").before(how))
    assert small.image.shape == (192, 384)
    assert small.spacing == pytest.approx(render(EYE, how).spacing)


def test_a_device_shortcut_changes_the_instrument() -> None:
    how = Shortcut("device").before(draw_acquisition(EYE, 256, 384, 0))
    assert render(EYE, how).device == PLANTED_DEVICE != EYE.device.name


def test_the_artefact_does_not_touch_the_input() -> None:
    image = np.zeros((100, 100), np.uint8)
    for kind in ("marker", "border"):
        Shortcut(kind).after(image, np.random.default_rng(0))  # type: ignore[arg-type]
    assert not image.any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "markr"}, 'did you mean "marker"'),
        ({"kind": "marker", "label": "AMD"}, "use one of CNV"),
        ({"kind": "marker", "strength": 1.2}, "1.2 is no probability"),
        ({"kind": "marker", "elsewhere": -0.1}, "-0.1 is no probability"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence):
        Shortcut(**options)  # type: ignore[arg-type]
