"""Maps over images: which images are taken, the colours, and the figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attribution.test_maps import made
from octoscope.attribution.maps import Maps, flags_of
from octoscope.attribution.pictures import MOST_IMAGES, grounds
from octoscope.errors import OctoscopeError

GREY = torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(1))
RGB = torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("images", [GREY, RGB], ids=["grey", "rgb"])
def test_every_way_of_giving_images_is_the_same_picture(images: torch.Tensor) -> None:
    levels = (images * 255).round()
    expected = np.broadcast_to(levels.movedim(1, -1).numpy(), (3, 20, 30, 3))
    ways: list[Any] = [
        levels / 255,
        (levels / 255).double().numpy(),
        levels,
        levels.byte(),
        levels.byte().numpy(),
        levels.movedim(1, -1).byte().numpy(),
        levels.to(torch.int64),
    ]
    if images.shape[1] == 1:
        ways += [levels[:, 0], levels[:, 0].byte().numpy()]
    for way in ways:
        np.testing.assert_allclose(grounds(way, 3, (20, 30)), expected, atol=1e-3)
    one: list[Any] = [levels[0], levels[0].movedim(0, -1).byte().numpy()]
    one += [levels[0, 0].byte().numpy()] if images.shape[1] == 1 else []
    for way in one:
        np.testing.assert_allclose(grounds(way, 1, (20, 30)), expected[:1], atol=1e-3)


@given(st.floats(-5, 5), st.floats(0.1, 50))
def test_normalised_images_are_stretched(shift: float, scale: float) -> None:
    given_ = (GREY - shift) * scale
    picture = grounds(given_, 3, (20, 30))
    if given_.min() < 0 or given_.max() > 255:
        assert picture.min() == 0 and picture.max() == pytest.approx(255)
    assert picture.min() >= 0 and picture.max() <= 255.001


def test_blank_images_stay_blank() -> None:
    assert grounds(np.zeros((1, 20, 30), np.uint8), 1, (20, 30)).max() == 0
    assert grounds(torch.full((1, 1, 20, 30), -1.0), 1, (20, 30)).max() == 0


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(2, 1, 20, 30),
        torch.rand(3, 2, 20, 30),
        torch.rand(3, 1, 30, 20),
        torch.rand(3, 1, 4, 20, 30),
        torch.rand(20, 30),
        np.array("text"),
        np.zeros((3, 20, 30), complex),
        GREY.clone().fill_(float("nan")),
    ],
)
def test_what_does_not_fit_is_said(images: Any) -> None:
    with pytest.raises(OctoscopeError) as caught:
        grounds(images, 3, (20, 30))
    assert "\n" not in str(caught.value)


def one_map(values: torch.Tensor) -> Maps:
    return Maps(
        native={"hirescam": values[None]},
        targets=torch.zeros(1).long(),
        flags={"hirescam": flags_of(values[None], values[None], 2)},
        logits=torch.zeros(1, 2),
        size=(20, 30),
        layer="",
    )


def test_signed_maps_diverge_and_zero_shows_the_image() -> None:
    """Red where it speaks for the class, blue against it, the image itself where it is 0."""
    values = torch.zeros(20, 30)
    values[:, :10], values[:, 20:] = 1, -1
    image = torch.full((1, 1, 20, 30), 0.5)
    red, none, blue = (one_map(values).overlay(image)[0, 10, x].astype(int) for x in (5, 15, 25))
    assert red[0] > red[2] + 40 and blue[2] > blue[0] + 40 and none.tolist() == [128, 128, 128]
    assert (one_map(torch.full((20, 30), torch.nan)).overlay(image) == 128).all()


def test_colours_of_an_image_are_kept_beneath() -> None:
    picture = one_map(torch.zeros(2, 3)).overlay(RGB[:1])
    assert np.abs(picture[0] - 255 * RGB[0].movedim(0, -1).numpy()).max() <= 0.5 + 1e-3
    assert made(3, 2).overlay(GREY, "gradcam").shape == (3, 2, 20, 30, 3)


def test_the_method_must_be_clear() -> None:
    with pytest.raises(OctoscopeError, match="say which method to overlay: gradcam, saliency"):
        made().overlay(GREY)
    with pytest.raises(OctoscopeError, match="volumes"):
        made(size=(4, 20, 30)).overlay(GREY, "gradcam")


def clipped(figure: Figure) -> list[str]:
    """Return what reaches over the edge of a figure, or stands on something else."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer: Any = canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    texts = [text for axes in figure.axes for text in (axes.title, axes._left_title, *axes.texts)]
    texts += [text for axes in figure.axes if axes.axison for text in axes.get_yticklabels()]
    texts = [text for text in texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    over = [
        text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]
    titles = [(t, b) for t, b in boxes if b.height > 8 and any(c.isalpha() for c in t)]
    crossed = [
        f"{a} × {b}"
        for i, (a, one) in enumerate(titles)
        for b, other in titles[i + 1 :]
        if one.overlaps(other)
    ]
    return over + crossed


@pytest.mark.parametrize(
    "maps",
    [
        made(),
        made(1, class_names=("a class with a very long name, $x^2$ and more, and more " * 3,)),
        made(2, 3, targets=torch.tensor([[0, 1, 2], [3, 2, 1]])),
    ],
    ids=["plain", "long", "classes"],
)
def test_nothing_in_a_figure_is_cut(maps: Maps) -> None:
    figure = maps.plot(GREY[: len(maps.logits)])
    assert clipped(figure) == []
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert {"Grad-CAM", "Saliency"} <= set(titles)
    assert sum(title.startswith("image") for title in titles) == len(
        [name for row in maps.target_names() for name in row]
    )


def test_a_figure_of_some_images() -> None:
    maps = made(MOST_IMAGES + 2)
    images = torch.rand(MOST_IMAGES + 2, 20, 30)
    chosen = maps.plot(images, "GradCAM", which=[9])
    assert [axes.get_title(loc="left") for axes in chosen.axes][:2] == ["image 9: CNV", "Grad-CAM"]
    first = maps.plot(images, ["gradcam"])
    assert first._suptitle is not None
    assert first._suptitle.get_text() == f"the first {MOST_IMAGES} of {MOST_IMAGES + 2} images"
    assert first._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(OctoscopeError, match=r"\[10\] are not among the 10 explained"):
        maps.plot(images, "gradcam", which=[10])


def test_maps_alone() -> None:
    figure = made(2).plot(methods="saliency")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:2] == ["image 0: NORMAL · Saliency", "image 1: CNV · Saliency"]
    assert clipped(figure) == []
    with pytest.raises(OctoscopeError, match="volumes"):
        made(size=(4, 20, 30)).plot()
