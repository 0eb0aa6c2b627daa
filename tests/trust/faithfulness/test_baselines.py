"""What stands in for removed pixels; above all a retina without its lesion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from octoscope.errors import OctoscopeError
from octoscope.scans.geometry.layers import RetinaLayers
from octoscope.trust.faithfulness.baselines import baseline_images
from octoscope.trust.faithfulness.inpainting import inpainted, surfaces_of

HEIGHT, WIDTH = 40, 30


def layered(slope: float = 0.4, thickness: int = 12) -> tuple[Tensor, Tensor]:
    """A tilted retina of bright layers under a dark vitreous, and where it is: (1, 2, H, W)."""
    row = torch.arange(HEIGHT)[:, None]
    ilm = (8 + slope * torch.arange(WIDTH)).long()
    depth = row - ilm
    inside = (depth >= 0) & (depth < thickness)
    vitreous = 0.02 * -depth
    choroid = 5 - 0.05 * depth
    grey = torch.where(depth < 0, vitreous, torch.where(inside, 2 + (depth // 4) * 1.5, choroid))
    return torch.stack([grey, 3 - 2 * grey])[None].double(), inside[None]


def test_a_lesion_is_filled_with_its_own_layers() -> None:
    clean, retina = layered()
    image = clean.clone()
    image[0, :, 10:20, 8:16] = 9.0  # from the vitreous into the retina
    filled = baseline_images(image, "retina", retina)
    inner = retina[:, None].expand_as(clean)
    torch.testing.assert_close(filled[~inner], clean[~inner])
    # Between layers the depths are interpolated; within one they are what they were.
    away = (clean - filled).abs()[inner] > 1e-9
    assert away.double().mean() < 0.5
    edges = torch.zeros_like(inner)
    edges[:, :, 1:] |= clean.diff(dim=2).abs() > 1
    edges[:, :, :-1] |= edges[:, :, 1:].clone()
    torch.testing.assert_close(filled[inner & ~edges], clean[inner & ~edges])
    assert (filled - 9).abs().min() > 0.5  # nothing of the lesion is left


def test_relative_depth_follows_a_retina_of_changing_thickness() -> None:
    column = torch.arange(WIDTH)
    ilm, rpe = 5 + 0 * column, 5 + 16 + (column // 3)
    row = torch.arange(HEIGHT)[:, None]
    relative = (row - ilm + 0.5) / (rpe - ilm)
    inside = (row >= ilm) & (row < rpe)
    image = torch.where(inside, relative, -1.0)[None, None].double()
    filled = baseline_images(image, "retina", (ilm[None].double(), rpe[None].double()))
    away = (filled - image).abs()[inside[None, None]]
    assert away.max() < 0.03  # a pixel is 1 / 16 … 1 / 25 of the depth


def test_columns_without_retina_get_their_mean_and_do_not_speak_for_the_others() -> None:
    image, retina = layered()
    image[..., :10] = (
        7.0 * torch.rand(1, 2, HEIGHT, 10, generator=torch.Generator().manual_seed(0)).double()
    )
    retina = retina.clone()
    retina[..., :10] = False
    filled = baseline_images(image, "retina", retina)
    mean = image[..., :10].mean(2, keepdim=True).expand(-1, -1, HEIGHT, -1)
    torch.testing.assert_close(filled[..., :10], mean)
    rest = baseline_images(image[..., 10:], "retina", retina[..., 10:])
    torch.testing.assert_close(filled[..., 10:], rest)
    none = baseline_images(image, "retina", torch.zeros_like(retina))
    torch.testing.assert_close(none, image.mean(2, keepdim=True).expand_as(image))


def test_surfaces_and_the_mask_they_bound_are_the_same() -> None:
    generator = np.random.default_rng(0)
    ilm = generator.uniform(-0.5, 15, WIDTH)
    layers = RetinaLayers(
        ilm, ilm + generator.uniform(4, 20, WIDTH), np.ones(WIDTH), np.ones(WIDTH, bool), found=True
    )
    images = torch.rand(1, 1, HEIGHT, WIDTH)
    mask = torch.as_tensor(layers.mask((HEIGHT, WIDTH)))[None]
    rows = (torch.as_tensor(layers.ilm)[None], torch.as_tensor(layers.rpe)[None])
    for one, other in zip(surfaces_of(mask, images), surfaces_of(rows, images), strict=True):
        assert torch.equal(one, other)
    unknown = rows[0].clone()
    unknown[0, 3] = torch.nan
    first, last = surfaces_of((unknown, rows[1]), images)
    assert bool(first[0, 3] > last[0, 3]) and bool((first <= last).sum() == WIDTH - 1)


def test_no_scan_depends_on_its_batch_and_nothing_given_is_changed() -> None:
    pairs = [layered(0.1, 9), layered(0.4, 12), layered(0.0, 20)]
    images = torch.cat([image for image, _ in pairs])
    images += torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).double()
    retina = torch.cat([mask for _, mask in pairs])
    before = images.clone()
    together = inpainted(images, *surfaces_of(retina, images))
    assert torch.equal(images, before)
    assert bool(together.isfinite().all())
    for b in range(3):
        alone = baseline_images(images[b : b + 1], "retina", retina[b : b + 1])
        assert torch.equal(alone[0], together[b])


def test_mean_number_blur_and_function() -> None:
    images = torch.rand(2, 2, 28, 28, generator=torch.Generator().manual_seed(0))
    mean = baseline_images(images, "mean")
    torch.testing.assert_close(mean[1, 0, 3, 4], images[1, 0].mean())
    assert torch.equal(baseline_images(images, 0.5), torch.full_like(images, 0.5))
    assert torch.equal(baseline_images(images, lambda x: -x), -images)
    blur = baseline_images(images, "blur")
    assert blur.std() < 0.5 * images.std()
    torch.testing.assert_close(blur.mean(), images.mean(), atol=0.02, rtol=0)


def test_what_a_user_can_get_wrong_is_said() -> None:
    images = torch.rand(2, 1, 6, 5)
    volumes = torch.rand(2, 1, 4, 6, 5)
    mask = torch.ones(2, 6, 5, dtype=torch.bool)
    for wrong, match in [
        (lambda: baseline_images(images, "blurr"), 'did you mean "blur"'),
        (lambda: baseline_images(images, "retina"), "needs to know where the retina is"),
        (lambda: baseline_images(images, "retina", mask[:1]), "give a mask"),
        (lambda: baseline_images(images, "retina", (mask, mask)), "for each column"),
        (lambda: baseline_images(volumes, "retina", mask), "for B-scans"),
        (lambda: baseline_images(images, lambda x: x[:1]), "the baseline function gives"),
    ]:
        with pytest.raises(OctoscopeError, match=match):
            wrong()
