"""Random changes of a batch of B-scans that keep what it shows, on the device it lies on.

Flips and small turns, shifts and zooms are one affine resampling of the whole batch; intensity
and noise are a few element-wise operations. No loop over images, no worker process.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from octoscope.errors import OctoscopeError, did_you_mean

Range = tuple[float, float]

# Columns of the table of uniform numbers: one table per batch, every option with columns of its
# own, so that switching one option off leaves the draws of the others as they were.
(
    _FLIP, _AFFINE, _ANGLE, _SCALE, _SHIFT_X, _SHIFT_Y, _INTENSITY, _BRIGHTNESS, _CONTRAST,
    _GAMMA, _NOISE, _NOISE_SD, _SPECKLE_SD, _ERASE, _AREA, _SHAPE, _TOP, _LEFT, _COLUMNS,
) = range(19)  # fmt: skip


@dataclass(frozen=True)
class Augment:
    """Batched augmentation of grey B-scans; the defaults are mild.

    Attributes:
        flip: Probability of mirroring left and right. A mirrored right eye looks like a left
            one, so switch it off where laterality is what is learnt.
        affine: Probability of turning, shifting and zooming an image.
        rotation: Largest turn either way, degrees, 0 … 180; true angles in pixels, whatever the
            shape of the frame.
        translation: Largest shift either way as a share of width and height, 0 … 1.
        scale: Range of the zoom, > 0, the same along both axes; above 1 enlarges.
        intensity: Probability of changing brightness, contrast and gamma of an image.
        brightness: Largest added grey value either way, 0 … 1.
        contrast: Range of the factor on the distance from the image's mean, > 0.
        gamma: Range of the exponent, > 0.
        noise: Probability of adding noise to an image.
        noise_sd: Range of the standard deviation of added noise, ≥ 0.
        speckle_sd: Range of the standard deviation of multiplied noise (speckle), ≥ 0.
        erasing: Probability of blacking out a rectangle of an image.
        erasing_area: Range of the rectangle's share of the frame, 0 … 1.
    """

    flip: float = 0.5
    affine: float = 0.8
    rotation: float = 8.0
    translation: float = 0.06
    scale: Range = (0.9, 1.1)
    intensity: float = 0.8
    brightness: float = 0.08
    contrast: Range = (0.8, 1.25)
    gamma: Range = (0.8, 1.25)
    noise: float = 0.3
    noise_sd: Range = (0.0, 0.03)
    speckle_sd: Range = (0.0, 0.15)
    erasing: float = 0.0
    erasing_area: Range = (0.02, 0.15)

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "intensity", "noise", "erasing"):
            self._require_within(name, 0.0, 1.0, "a probability")
        self._require_within("rotation", 0.0, 180.0, "degrees")
        self._require_within("translation", 0.0, 1.0, "a share of the frame")
        self._require_within("brightness", 0.0, 1.0, "a grey value")
        for name in ("scale", "contrast", "gamma"):
            self._require_range(name, 0.0, math.inf, least_included=False)
        for name in ("noise_sd", "speckle_sd"):
            self._require_range(name, 0.0, math.inf)
        self._require_range("erasing_area", 0.0, 1.0)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed copies.

        Args:
            images: ``(B, C, H, W)`` float in [0, 1].
            generator: Source of all randomness; fastest on the device of `images`.

        Returns:
            ``(B, C, H, W)`` in [0, 1], on the device of `images`; `images` are unchanged.
        """
        u = torch.rand(len(images), _COLUMNS, generator=generator, device=generator.device)
        u = u.to(images.device)
        images = self._warp(images, u) if self.flip or self.affine else images.clone()
        if self.intensity:
            images = self._change_intensity(images, u)
        if self.noise:
            images = self._add_noise(images, u, generator)
        if self.erasing:
            images = self._erase(images, u)
        return images

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Augment:
        """Make one from what a YAML or JSON file says; what it leaves out keeps its default.

        Raises:
            OctoscopeError: On an unknown name or a value out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in settings:
            if name not in known:
                raise OctoscopeError(
                    f'augment has no option "{name}"{did_you_mean(str(name), known)}; '
                    f"use {', '.join(sorted(known))}"
                )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all options as JSON can hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    def _warp(self, images: Tensor, u: Tensor) -> Tensor:
        """Flip and move all images in one bilinear resampling; black comes in from outside."""
        height, width = images.shape[-2:]
        chosen = (u[:, _AFFINE] < self.affine).to(u.dtype)
        mirror = torch.where(u[:, _FLIP] < self.flip, -1.0, 1.0)  # (B,)
        angle = chosen * math.radians(self.rotation) * (2 * u[:, _ANGLE] - 1)
        zoom = torch.where(chosen > 0, _log_between(self.scale, u[:, _SCALE]), 1.0)
        shift_x = chosen * self.translation * 2 * (2 * u[:, _SHIFT_X] - 1)
        shift_y = chosen * self.translation * 2 * (2 * u[:, _SHIFT_Y] - 1)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        # From output to input, in coordinates that run from -1 to 1 along each axis: the ratio
        # of the sides turns a rotation of pixels into one of these coordinates.
        along_x = torch.stack([cos * mirror, sin * mirror * width / height], dim=1)  # (B, 2)
        along_y = torch.stack([-sin * height / width, cos], dim=1)
        shift = torch.stack([shift_x, shift_y], dim=1)
        x = _pixel_centres(width, images)[:, None]  # (W, 1)
        y = _pixel_centres(height, images)[:, None, None]  # (H, 1, 1)
        # The same as F.affine_grid, by broadcasting: 8 times faster on a CPU.
        rows = along_y[:, None, None] * y + shift[:, None, None]  # (B, H, 1, 2)
        grid = (along_x[:, None, None] * x + rows).to(images.dtype)  # (B, H, W, 2)
        return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)

    def _change_intensity(self, images: Tensor, u: Tensor) -> Tensor:
        """Return ``clip(mean + contrast · (x - mean) + brightness)^gamma`` (may write `images`)."""
        chosen = u[:, _INTENSITY] < self.intensity
        contrast = torch.where(chosen, _log_between(self.contrast, u[:, _CONTRAST]), 1.0)
        gamma = torch.where(chosen, _log_between(self.gamma, u[:, _GAMMA]), 1.0)
        brightness = chosen * self.brightness * (2 * u[:, _BRIGHTNESS] - 1)
        mean = images.mean(dim=(1, 2, 3))  # (B,)
        offset = mean * (1 - contrast) + brightness
        return (
            images.mul_(_column(contrast)).add_(_column(offset)).clamp_(0, 1).pow_(_column(gamma))
        )

    def _add_noise(self, images: Tensor, u: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise and speckle to the images drawn for it (writes `images`).

        The sum of speckle ``x·s·n₁`` and noise ``a·n₂`` of two independent normal fields has the
        distribution of one field times ``√(x²s² + a²)``, so one field is drawn.
        """
        chosen = torch.nonzero(u[:, _NOISE] < self.noise).squeeze(1)
        some = images[chosen]
        noise = _column(_between(self.noise_sd, u[chosen, _NOISE_SD]))
        speckle = _column(_between(self.speckle_sd, u[chosen, _SPECKLE_SD]))
        normal = torch.randn(
            some.shape, generator=generator, device=generator.device, dtype=images.dtype
        ).to(images.device)
        spread = some.mul(speckle).square_().add_(noise.square()).sqrt_()
        images[chosen] = some.addcmul_(spread, normal).clamp_(0, 1)
        return images

    def _erase(self, images: Tensor, u: Tensor) -> Tensor:
        """Black out a rectangle, between half and twice as high as wide in shares of the frame."""
        height, width = images.shape[-2:]
        area = torch.where(
            u[:, _ERASE] < self.erasing, _between(self.erasing_area, u[:, _AREA]), 0.0
        )
        ratio = _log_between((0.5, 2.0), u[:, _SHAPE])
        tall, wide = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        rows, columns = _pixel_centres(height, images), _pixel_centres(width, images)
        inside_rows = _covers(rows, 2 * u[:, _TOP] * (1 - tall) - 1, 2 * tall)  # (B, H)
        inside_columns = _covers(columns, 2 * u[:, _LEFT] * (1 - wide) - 1, 2 * wide)  # (B, W)
        erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return images.masked_fill_(erased, 0.0)

    def _require_within(self, name: str, least: float, most: float, what: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not least <= value <= most:
            raise OctoscopeError(
                f"augment: {name} is {value!r}; use {what} from {least:g} to {most:g}"
            )

    def _require_range(
        self, name: str, least: float, most: float, *, least_included: bool = True
    ) -> None:
        value = getattr(self, name)
        good = isinstance(value, tuple) and len(value) == 2 and all(_is_number(v) for v in value)
        if good:
            low, high = value
            good = low <= high <= most and (low >= least if least_included else low > least)
        if not good or math.isinf(value[1]):
            bound = "≥" if least_included else ">"
            top = "" if math.isinf(most) else f" and ≤ {most:g}"
            raise OctoscopeError(
                f"augment: {name} is {value!r}; use two numbers, the smaller first, "
                f"{bound} {least:g}{top}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(limits: Range, u: Tensor) -> Tensor:
    """Map uniform numbers to uniform numbers between two limits."""
    return limits[0] + (limits[1] - limits[0]) * u


def _log_between(limits: Range, u: Tensor) -> Tensor:
    """Map uniform numbers to factors: as often doubled as halved between 1/2 and 2."""
    return torch.exp(_between((math.log(limits[0]), math.log(limits[1])), u))


def _column(values: Tensor) -> Tensor:
    """Give one value per image ``(B,)`` the shape ``(B, 1, 1, 1)``."""
    return values[:, None, None, None]


def _pixel_centres(count: int, like: Tensor) -> Tensor:
    """Return the centres of `count` pixels on an axis from -1 to 1: ``(count,)``."""
    return (2 * torch.arange(count, device=like.device) + 1) / count - 1


def _covers(centres: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Say which pixel centres ``(S,)`` lie in ``[start, start + length)``: ``(B, S)`` bool."""
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
