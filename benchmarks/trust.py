"""Judging maps against Quantus: the same numbers of the same maps, side by side in one process.

    python benchmarks/trust.py [--model resnet18 | --small] [--scans 64] [--steps 16]
                               [--batch 64] [--rounds 3] [--device cuda]

Eight methods (`--methods`) explain grey scans of a network with random weights; both sides then
judge the same maps of the same scans with the same model, interleaved round by round. Ratios are
taken within each round, and the smallest, median and largest are printed.

perturbation   deletion and insertion of `steps` steps from and into a blank image: Quantus'
               PixelFlipping, once as it is and once with a perturb_func that puts the scan's own
               pixels back
randomisation  the cascading parameter randomisation test by Spearman's correlation, layer by layer
               over every module that can be reset: Quantus' MPRT once per method. What explains
               for it is octoscope.explain with that one method, which is quicker than what it
               would take of its own
localisation   relevance mass, relevance rank accuracy and pointing game on one lesion per scan

Where two numbers are the same by definition they are compared first, and a difference ends the
run: curves, masses, hits, and the correlations of the randomised layers, for which both sides draw
the same weights. Ties, of which each side makes something else, are broken in the maps beforehand.
Neither side computes what the other does not: octoscope's SSIM is left out.

`--batch` is Quantus' batch_size; octoscope chooses its own. `--forward` also times the forward
passes alone that either side needs for its perturbation, which is the floor of both.

Goal: 10 in total.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
import quantus
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.explain import explain
from octoscope.trust.faithfulness.curves import curves
from octoscope.trust.localisation import pointing_game, relevance_mass
from octoscope.trust.ranked import relevance_rank_accuracy
from octoscope.trust.sanity.cascade import randomisation
from timing import Seconds, add_arguments, announce, interleaved, ratio

METHODS = [
    "gradcam",
    "gradcam++",
    "hirescam",
    "xgradcam",
    "layercam",
    "eigencam",
    "eigengradcam",
    "ablationcam",
]
SMALL = {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "output_stride": 16}
QUIET = {
    "abs": False,
    "normalise": False,
    "disable_warnings": True,
    "display_progressbar": False,
    "return_aggregate": False,
}
SEED = 42
"""Of the weights that Quantus draws; it adds one, and takes the same for every layer."""
PARTS = ("perturbation", "randomisation", "localisation")
Numbers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """What both sides are given.

    Attributes:
        model: From (B, 1, H, W) to logits.
        images: (B, 1, H, W).
        targets: (B,) the classes explained.
        maps: Method to (B, H, W), positive and without ties, on the device.
        raw: Method to (B, H, W) as they were explained.
        masks: (B, H, W) bool, a lesion in each scan.
        layers: Names of the modules that Quantus resets, from the output down.
        options: Of the command line.
    """

    model: nn.Module
    images: Tensor
    targets: Tensor
    maps: dict[str, Tensor]
    raw: dict[str, Tensor]
    masks: Tensor
    layers: list[str]
    options: argparse.Namespace


def given(options: argparse.Namespace) -> Work:
    torch.manual_seed(0)
    extra = SMALL if options.small else {}
    name = "resnet18" if options.small else options.model
    model = timm.create_model(name, in_chans=1, num_classes=options.classes, **extra)
    model = model.eval().to(options.device)
    height, width = (96, 144) if options.small else (options.size, options.size)
    if height * width % options.steps:
        raise SystemExit(f"Quantus takes steps that divide the {height * width} pixels; use 16")
    coarse = torch.randn(options.scans, 1, 12, 12)
    images = F.interpolate(coarse, (height, width), mode="bicubic")
    images = (images + 0.2 * torch.randn(images.shape)).to(options.device)
    found = explain(model, images, options.methods)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    middle = torch.rand(options.scans, 2, 1, 1) * 0.6 + 0.2
    reach = ((rows / height - middle[:, 0]) ** 2 + (columns / width - middle[:, 1]) ** 2).sqrt()
    raw = {name: found[name] for name in options.methods}
    layers = [name for name, part in model.named_modules() if hasattr(part, "reset_parameters")]
    return Work(
        model=model,
        images=images,
        targets=found.targets,
        maps={name: untied(one) for name, one in raw.items()},
        raw=raw,
        masks=(reach < 0.12).to(options.device),
        layers=layers[::-1],
        options=options,
    )


def untied(maps: Tensor) -> Tensor:
    """Return maps (B, H, W) with the places in their order for values: 1/P, 2/P, ... 1."""
    order = maps.flatten(1).argsort(dim=1, stable=True)
    places = torch.arange(1, order.shape[1] + 1, device=maps.device).float() / order.shape[1]
    return torch.empty(order.shape, device=maps.device).scatter_(
        1, order, places.expand(order.shape)
    ).view(maps.shape)  # fmt: skip


def our_perturbation(work: Work) -> Numbers:
    found = curves(
        work.model, work.images, work.maps, work.targets, steps=work.options.steps, baseline=0.0
    )
    return {
        f"{kind}, {name}": one[:, 1:].numpy(force=True)
        for kind, by_method in found.values.items()
        for name, one in by_method.items()
    }


def our_randomisation(work: Work) -> Numbers:
    found = randomisation(
        work.model,
        work.images,
        work.options.methods,
        work.targets,
        stages=work.layers,
        ssim=False,
    )
    return {f"randomisation, {name}": one.numpy() for name, one in found.spearman.items()}


def our_localisation(work: Work) -> Numbers:
    metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mass": relevance_mass,
        "rank accuracy": relevance_rank_accuracy,
        "pointing game": partial(pointing_game, tolerance=0),
    }
    stacked = torch.stack([*work.maps.values()])
    return {
        f"{metric}, {name}": row
        for metric, function in metrics.items()
        for name, row in zip(
            work.maps, function(stacked, work.masks).numpy(force=True), strict=True
        )
    }


def array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy(force=True)


class Quantus:
    """The same with Quantus, arrays at hand as it takes them."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.x, self.y = array(work.images), array(work.targets)
        self.s = array(work.masks)[:, None]
        self.a = {name: array(one)[:, None] for name, one in work.maps.items()}
        self.raw = {name: array(one)[:, None] for name, one in work.raw.items()}

    def judged(self, metric: object, maps: np.ndarray, x: np.ndarray, **more: object) -> object:
        options = self.work.options
        sizes = {"device": options.device, "batch_size": options.batch, "channel_first": True}
        return metric(
            model=self.work.model, x_batch=x, y_batch=self.y, a_batch=maps, **sizes, **more
        )

    def perturbation(self) -> Numbers:
        step = self.x[0].size // self.work.options.steps
        flipped = quantus.PixelFlipping(features_in_step=step, perturb_baseline=0.0, **QUIET)
        found = {
            f"deletion, {name}": np.array(self.judged(flipped, maps, self.x))
            for name, maps in self.a.items()
        }
        for name, maps in self.a.items():
            metric = quantus.PixelFlipping(
                features_in_step=step, perturb_func=self.putting_back(), **QUIET
            )
            blank = np.zeros_like(self.x)
            found[f"insertion, {name}"] = np.array(self.judged(metric, maps, blank))
        return found

    def putting_back(self) -> Callable[..., np.ndarray]:
        """Return a perturb_func that knows from how often it is called whose pixels are meant."""
        called = 0
        whole = self.x.reshape(len(self.x), -1)

        def put_back(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
            nonlocal called
            start = called // self.work.options.steps * self.work.options.batch
            called += 1
            rows = np.arange(len(arr))[:, None]
            arr = arr.copy()
            arr[rows, indices] = whole[start : start + len(arr)][rows, indices]
            return arr

        return put_back

    def randomisation(self) -> Numbers:
        found = {}
        for name, maps in self.raw.items():
            metric = quantus.MPRT(layer_order="top_down", seed=SEED, **QUIET)
            by_layer = self.judged(metric, maps, self.x, explain_func=explaining(name))
            found[f"randomisation, {name}"] = np.array([by_layer[one] for one in self.work.layers])
        return found

    def localisation(self) -> Numbers:
        metrics = {
            "mass": quantus.RelevanceMassAccuracy,
            "rank accuracy": quantus.RelevanceRankAccuracy,
            "pointing game": quantus.PointingGame,
        }
        return {
            f"{kind}, {name}": np.array(self.judged(one(**QUIET), maps, self.x, s_batch=self.s))
            for kind, one in metrics.items()
            for name, maps in self.a.items()
        }


def explaining(method: str) -> Callable[..., np.ndarray]:
    def explained(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object):
        device = next(model.parameters()).device
        images = torch.as_tensor(inputs, device=device)
        classes = torch.as_tensor(targets, device=device)
        maps = array(explain(model, images, method, classes)[method])[:, None]
        if not maps.any() or (maps == maps.flat[0]).all():  # Quantus would end the whole test
            maps[:, :, 0, 0] = np.nan  # and this too is correlated with nothing
        return maps

    return explained


def check(work: Work, peer: Quantus) -> None:
    """Compare what must be the same; end the run if it is not.

    Quantus draws the weights of every layer with one seed, octoscope with one of each layer's own:
    here both draw Quantus'. A GPU draws as it likes, so that there only the curves are compared.
    """
    limits = {"perturbation": 1e-4, "randomisation": 1e-3, "localisation": 1e-5}
    ours = our_numbers(work)
    theirs = {part: getattr(peer, part) for part in PARTS}
    print("\nlargest differences between the numbers of both sides")
    for part in work.options.parts:
        with patch("octoscope.trust.sanity.randomise.seed_of", lambda _seed, _name: SEED + 1):
            mine = ours[part]()
        other = theirs[part]()
        worst = {
            name: float(np.nanmax(np.abs(mine[name] - other[name].astype(float)), initial=0))
            for name in mine
        }
        for kind in dict.fromkeys(name.partition(",")[0] for name in worst):
            of_kind = [value for name, value in worst.items() if name.startswith(f"{kind},")]
            print(f"  {kind:<16}{max(of_kind):.1e}")
        for name in mine:
            gaps = np.isnan(mine[name]) != np.isnan(other[name].astype(float))
            if not worst[name] <= limits[part] or gaps.any() or set(mine) != set(other):
                raise SystemExit(
                    f"{name}: differs by {worst[name]:.1e} (at most {limits[part]:.0e}), "
                    f"{int(gaps.sum())} values on one side only"
                )


def our_numbers(work: Work) -> dict[str, Callable[[], Numbers]]:
    return {
        "perturbation": partial(our_perturbation, work),
        "randomisation": partial(our_randomisation, work),
        "localisation": partial(our_localisation, work),
    }


def floor(work: Work) -> Callable[[], None]:
    """The passes of Quantus' perturbation and nothing else, in its batches."""
    options = work.options
    turns = 2 * len(options.methods) * options.steps

    def forwards() -> None:
        with torch.inference_mode():
            for _ in range(turns):
                for some in work.images.split(options.batch):
                    work.model(some)

    return forwards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_arguments(parser)
    parser.set_defaults(batch=64, rounds=3)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--small", action="store_true", help="a narrow ResNet-18 at 96 x 144")
    parser.add_argument("--scans", type=int, default=64)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--forward", action="store_true", help="time the forward passes alone too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    announce(options)
    work = given(options)
    peer = Quantus(work)
    size = " x ".join(map(str, work.images.shape[2:]))
    print(
        f"{'small resnet18' if options.small else options.model} at {size}, {options.scans} scans, "
        f"{len(options.methods)} methods, {options.steps} steps, {len(work.layers)} layers, "
        f"batches of {options.batch} for Quantus"
    )
    check(work, peer)
    contenders: dict[str, Callable[[], object]] = {}
    for part, mine in our_numbers(work).items():
        if part in options.parts:
            contenders |= {f"ours, {part}": mine, f"Quantus, {part}": getattr(peer, part)}
    if options.forward:
        contenders["forwards of the perturbation"] = floor(work)
    # Both sides have run once to be compared.
    say(interleaved(contenders, options.rounds, options.device, warm_up=False), options.parts)


def say(seconds: Seconds, parts: list[str]) -> None:
    print("\nseconds (median), and how many times as quick as Quantus (min, median, max)")
    for part in parts:
        row(part, seconds[f"ours, {part}"], seconds[f"Quantus, {part}"])
    whole = [
        [
            math.fsum(turn)
            for turn in zip(*(seconds[f"{who}, {part}"] for part in parts), strict=True)
        ]
        for who in ("ours", "Quantus")
    ]
    row("whole", *whole)
    if (floor := seconds.get("forwards of the perturbation")) is not None:
        print(f"  forward passes of the perturbation alone  {statistics.median(floor):10.2f} s")


def row(what: str, ours: list[float], theirs: list[float]) -> None:
    print(
        f"  {what:<16} ours {statistics.median(ours):9.2f} s  "
        f"Quantus {statistics.median(theirs):9.2f} s  {ratio(theirs, ours)}"
    )


if __name__ == "__main__":
    main()
