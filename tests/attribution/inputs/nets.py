"""Small networks whose ReLUs are written in every way there is."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timm_families import Family


class Rectifying(nn.Module):
    """Two convolutions, a shortcut, a head; its ReLUs as `how` says.

    ``"modules"``: one module each. ``"in place"``: the same in place. ``"reused"``: one module,
    in place, for all. ``"mixed"``: modules, functions and tensor methods.
    """

    def __init__(self, how: str, channels: int = 3, axes: int = 2) -> None:
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[axes - 2]
        self.how = how
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.one = convolution(channels, 6, 3, stride=2, padding=1)
            self.two = convolution(6, 6, 3, padding=1)
            self.three = convolution(6, 6, 3, stride=2, padding=1)
            self.head = nn.Linear(6, 4)
        inplace = how in ("in place", "reused")
        self.relu1 = nn.ReLU(inplace)
        if how != "reused":
            self.relu2, self.relu3 = nn.ReLU(inplace), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut leaves before the second ReLU: in place, it carries what the ReLU left."""
        x = self.one(x) + 0.1
        if self.how == "modules":
            x = self.relu1(x)
            x = self.relu3(self.three(self.two(x) + x))
        elif self.how == "in place":
            self.relu1(x)
            x = self.relu3(self.three(self.two(x) + x))
        elif self.how == "reused":
            y = self.relu1(x)
            x = self.relu1(self.three(self.two(y) + x))
        else:
            y = F.relu(x, inplace=True)
            x = torch.relu_(self.three(self.two(y) + x))
            x = self.relu3(x.relu())
        return self.head(x.flatten(2).mean(2))


def separate(model: nn.Module) -> nn.Module:
    """Put every ReLU module out of place, without which captum's hooks fail."""
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return model


def doubled(family: Family, count: int) -> tuple[nn.Module, Tensor]:
    """A copy of a network and its images, in double precision.

    A ReLU whose input is zero but for rounding is on in one pass and off in another, and the
    gradient jumps: in single precision, plain backward passes of PyTorch in batches of one and of
    eight differ by up to 6 % of the largest gradient for these networks; in double, by nothing.
    """
    return deepcopy(family.build()).double(), family.images(count).double()


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Compare each map of a batch relative to its largest magnitude."""
    assert found.shape == expected.shape
    scale = expected.abs().flatten(1).amax(1)
    difference = (found - expected).abs().flatten(1).amax(1)
    assert (difference <= tolerance * scale).all()


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Compare maps of which at least one is not blank."""
    assert expected.any()
    agree(found, expected, tolerance)
