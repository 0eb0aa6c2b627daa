"""Occlusion by octoscope, in float32 and bfloat16, against captum at its best.

    python benchmarks/occlusion.py [--models resnet50 ...] [--batch 1] [--rounds 3] [--device cuda]
    python benchmarks/occlusion.py --runs STUDY/runs/MODEL-seedN ...

Everything runs in one process, interleaved round by round, on the same random images and weights;
a ratio is taken within each round, and its smallest, median and largest value are printed.

forward     the model under torch.inference_mode on as many images as there are windows, 64 at a
            time: what W forward passes cost
ours        octoscope.explain in float32
ours, bf16  the same under bfloat16 autocast
captum      captum.attr.Occlusion under torch.no_grad, at whichever of --evals perturbations per
            pass took least in a trial round
parity      largest difference of the maps relative to the largest magnitude, and the rank
            correlation of the bfloat16 map with captum's

With --models, weights and images are random; batch norms get the statistics of the images first,
for otherwise the logits do not depend on the image at all. With --runs, models are those of trained
runs and images their first validation scans.

Goals: 1.5 times as fast as captum with the same maps in float32, 2.5 times in bfloat16 with a rank
correlation of 0.999.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from math import prod
from pathlib import Path

import timm
import torch
from captum.attr import Occlusion
from scipy.stats import spearmanr
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.models.classifier import Classifier
from octoscope.study.evaluate import rows_of
from octoscope.study.folder import RunFolder
from octoscope.study.stored import as_images
from timing import add_arguments, announce, interleaved, ratio, wall


def calibrated(name: str, images: Tensor, classes: int) -> nn.Module:
    """Build a model whose logits do depend on the images."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes).to(images.device)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            if not part.weight.any():
                nn.init.ones_(part.weight)
    with torch.no_grad():
        model.train()(images[:4])
    return model.eval()


def pictures(options: argparse.Namespace) -> Tensor:
    """Blobs and noise: (b, 3, H, W)."""
    torch.manual_seed(1)
    shape = (max(options.batch, 4), 3, options.size // 16, options.size // 16)
    coarse = nn.functional.interpolate(torch.randn(shape), (options.size,) * 2, mode="bilinear")
    return (coarse + 0.3 * torch.randn(coarse.shape)).to(options.device)


def untrained(name: str, options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    images = pictures(options)
    return calibrated(name, images, options.classes), images[: options.batch]


def trained(run: Path, options: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    """The model of a run and its first validation scans."""
    folder = RunFolder.open(run)
    cache = folder.open_cache()
    images = as_images(cache.images[rows_of(cache, "val")[: options.batch]])
    model = Classifier.load(folder.model)
    return model.to(options.device), images.to(options.device)


def measure(name: str, model: nn.Module, images: Tensor, options: argparse.Namespace) -> None:
    with torch.no_grad():
        known = model(images[:1]).shape[1]
    targets = torch.arange(len(images), device=images.device) % known
    setting = {"occlusion": {"window": options.window, "stride": options.stride}}
    windows = prod(-(-(side - options.window) // options.stride) + 1 for side in images.shape[2:])
    channels = images.shape[1]

    def captum(evals: int) -> Tensor:
        with torch.no_grad():
            return Occlusion(model).attribute(
                images,
                sliding_window_shapes=(channels, options.window, options.window),
                strides=(channels, options.stride, options.stride),
                target=targets,
                perturbations_per_eval=evals,
            )[:, 0]

    def ours(precision: str) -> Tensor:
        return explain(model, images, "occlusion", targets, options=setting, precision=precision)[
            "occlusion"
        ]

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, windows * len(images), 64):
                count = min(64, windows * len(images) - start)
                model(images[:1].expand(count, -1, -1, -1))

    trials = {evals: wall(lambda e=evals: captum(e), options.device) for evals in options.evals}
    best = min(trials, key=lambda evals: trials[evals])
    contenders: dict[str, Callable[[], object]] = {
        "forward": forward,
        "ours": lambda: ours("float32"),
        "ours, bf16": lambda: ours("bfloat16"),
        "captum": lambda: captum(best),
    }
    seconds = interleaved(contenders, options.rounds, options.device)
    print(f"\n{name}: {' x '.join(map(str, images.shape))}, {windows} windows")
    tried = ", ".join(f"{evals}: {took:.2f} s" for evals, took in trials.items())
    print(f"  captum by perturbations_per_eval: {tried}")
    for contender, took in seconds.items():
        passes = ratio(took, seconds["forward"])
        print(f"  {contender:<11} {statistics.median(took):9.3f} s   x forward  {passes}")
    for contender in ("ours", "ours, bf16"):
        print(f"  {contender} faster than captum by {ratio(seconds['captum'], seconds[contender])}")
    theirs, exact, coarse = captum(best), ours("float32"), ours("bfloat16")
    difference = float((exact - theirs).abs().max() / theirs.abs().max())
    ranks = [
        spearmanr(one.flatten().cpu(), other.flatten().cpu()).statistic
        for one, other in zip(coarse, theirs, strict=True)
    ]
    print(f"  parity {difference:.1e}, rank correlation of bf16 at least {min(ranks):.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_base_patch16_224"])
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="trained runs instead")
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--evals", type=int, nargs="+", default=[1, 8, 32, 64])
    add_arguments(parser)
    parser.set_defaults(batch=1, rounds=3)
    options = parser.parse_args()
    announce(options)
    for run in options.runs:
        measure(run.name, *trained(run, options), options)
    for name in () if options.runs else options.models:
        measure(name, *untrained(name, options), options)


if __name__ == "__main__":
    main()
