"""Gradients at the pixels against captum: the same points, side by side in one process.

    python benchmarks/gradients.py [--networks resnet18 vit] [--samples 25] [--batch 8] [--rounds 3]

Guided backpropagation, SmoothGrad and integrated gradients of one class, with as many points per
pass on both sides. A ResNet-18 runs at 96 x 144, a ViT-Ti with patches of 8 at 64 x 64. Contenders
take turns, round by round; ratios are taken within each round, of CPU seconds, which other work on
the machine disturbs less than those of a clock. Passes are counted, there and back, per image.
Goals: no slower than captum, and at most 1.2 times the passes that the definition needs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import captum.attr as captum
import timm
import torch
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from timing import add_arguments, announce, interleaved, ratio

SAMPLED = ("smoothgrad", "integrated gradients")
SIZES = {"resnet18": (96, 144), "vit": (64, 64)}


def network(name: str, classes: int) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit":
        model = timm.create_model(
            "vit_tiny_patch16_224", num_classes=classes, img_size=64, patch_size=8
        )
    else:
        model = timm.create_model(name, num_classes=classes)
    for part in model.modules():  # captum's guided methods cannot see through in-place ReLUs
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return model.eval()


class Counted(nn.Module):
    """Counts the images that pass a network, there and back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        self.passes += len(x)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient: Tensor) -> None:
        self.passes += int(gradient.any(1).sum())


def contenders(model: nn.Module, images: Tensor, samples: int) -> dict[str, Callable[[], object]]:
    """Return method and side to the work."""
    batch = len(images)

    def leaf() -> Tensor:
        return images.clone().requires_grad_()

    def smoothgrad() -> object:
        tunnel = captum.NoiseTunnel(captum.Saliency(model))
        return tunnel.attribute(
            leaf(), nt_samples=samples, nt_samples_batch_size=1, stdevs=0.15, target=0, abs=False
        )

    def integrated() -> object:
        method = captum.IntegratedGradients(model)
        return method.attribute(leaf(), target=0, n_steps=samples, internal_batch_size=batch)

    def ours(name: str, **settings: int) -> Callable[[], object]:
        options = {name: settings} if settings else None
        return lambda: explain(model, images, name, 0, options=options)

    found = {
        "saliency, ours": ours("saliency"),
        "saliency, captum": lambda: captum.Saliency(model).attribute(leaf(), target=0),
        "smoothgrad, ours": ours("smoothgrad", samples=samples),
        "smoothgrad, captum": smoothgrad,
        "integrated gradients, ours": ours("integrated_gradients", steps=samples),
        "integrated gradients, captum": integrated,
    }
    if any(isinstance(part, nn.ReLU) for part in model.modules()):
        guided = captum.GuidedBackprop(model)
        found["guided backprop, ours"] = ours("guided_backprop")
        found["guided backprop, captum"] = lambda: guided.attribute(leaf(), target=0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--samples", type=int, default=25)
    add_arguments(parser)
    options = parser.parse_args()
    announce(options)
    for name in options.networks:
        height, width = SIZES[name]
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(options.batch, 3, height, width, generator=generator)
        images = images.to(options.device)
        model = network(name, options.classes).to(options.device)
        clock = time.process_time if options.device == "cpu" else time.perf_counter
        counted = Counted(model)
        work = contenders(counted, images, options.samples)
        seconds = interleaved(work, options.rounds, options.device, warm_up=False, clock=clock)
        print(f"\n{name}, {options.batch} x 3 x {height} x {width}, {options.samples} samples")
        print(f"{'':<24}{'ours':>9}{'captum':>9}   ours x captum {'':<14}   passes, definition")
        for method in [who.removesuffix(", ours") for who in work if who.endswith(", ours")]:
            own, peer = seconds[f"{method}, ours"], seconds[f"{method}, captum"]
            counted.passes = 0
            work[f"{method}, ours"]()
            needed = 2 * (options.samples if method in SAMPLED else 1)
            print(
                f"  {method:<22}{statistics.median(own):7.3f} s{statistics.median(peer):7.3f} s"
                f"   {ratio(own, peer)}   {counted.passes / options.batch:6.2f} {needed:6}"
            )


if __name__ == "__main__":
    main()
