"""Seven CAM methods from one capture, against one forward pass and against pytorch-grad-cam.

    python benchmarks/cams.py [--models resnet50 ...] [--batch 8] [--rounds 5] [--device cuda]

Everything runs in one process, interleaved round by round, on the same random images and weights;
a ratio is taken within each round, and its smallest, median and largest value are printed.

forward        the model under torch.inference_mode: F
ours, 1 / 7    octoscope.explain with Grad-CAM alone, and with all seven methods
theirs, 1 / 7  pytorch-grad-cam's Grad-CAM, and its seven classes one after the other
autograd       bytes that the graph holds beside parameters and buffers, ours for seven methods
parity         largest difference of any map from theirs, normalised as they do, for the four
               methods whose definition they share with the papers

Goals: seven methods within 1.3 F, at least 12 times faster than their seven, at most 1/100 of the
memory.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import pytorch_grad_cam as pgc
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from octoscope.attribution.display import normalise, upsample
from octoscope.attribution.explain import explain
from octoscope.models.layers import resolve_target
from octoscope.models.layout import TargetLayer
from timing import add_arguments, announce, interleaved, ratio

SHARED = {
    "gradcam": pgc.GradCAM,
    "hirescam": pgc.HiResCAM,
    "xgradcam": pgc.XGradCAM,
    "layercam": pgc.LayerCAM,
}
OURS = ["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "eigencam", "eigengradcam"]
SEVEN = [*SHARED.values(), pgc.GradCAMPlusPlus, pgc.EigenCAM, pgc.EigenGradCAM]


class Peer:
    """pytorch-grad-cam set up for a layer, with the reshaping that its users write by hand."""

    def __init__(self, model: nn.Module, target: TargetLayer, classes: list[int]) -> None:
        self.model, self.target = model, target
        self.classes = [ClassifierOutputTarget(c) for c in classes]

    def __call__(self, method: type, images: Tensor) -> Tensor:
        """Run one of its methods: hooks on, forward, backward, hooks off."""
        cam = method(self.model, [self.target.module], reshape_transform=self.target.maps)
        try:
            return torch.from_numpy(cam(images, self.classes))
        finally:
            cam.activations_and_grads.release()
            self.model.zero_grad()  # it leaves gradients on every parameter


def autograd_bytes(model: nn.Module, work: Callable[[], object]) -> int:
    """Bytes of distinct tensors that autograd keeps for backward, but for the model's own."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(held.values())


def parity(model: nn.Module, images: Tensor, peer: Peer, classes: list[int]) -> dict[str, float]:
    """Largest difference of each shared method after the peer's normalisation."""
    maps = explain(model, images, list(SHARED), targets=classes)
    found = {}
    for name, method in SHARED.items():
        ours = normalise(upsample(normalise(maps.native[name].relu()), maps.size)).cpu()
        found[name] = float((ours - peer(method, images)).abs().max())
    return found


def measure(name: str, options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=options.classes).eval().to(options.device)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    classes = [b % options.classes for b in range(options.batch)]
    target = resolve_target(model, images)
    peer = Peer(model, target, classes)

    def forward() -> Tensor:
        with torch.inference_mode():
            return model(images)

    contenders: dict[str, Callable[[], object]] = {
        "forward": forward,
        "ours, 1": lambda: explain(model, images, "gradcam", targets=classes),
        "ours, 7": lambda: explain(model, images, OURS, targets=classes),
        "theirs, 1": lambda: peer(pgc.GradCAM, images),
        "theirs, 7": lambda: [peer(method, images) for method in SEVEN],
    }
    seconds = interleaved(contenders, options.rounds, options.device, before=forward)
    print(
        f"\n{name}: layer {target.name}, grid {target.grid}, {options.batch} x 3 x {options.size}²"
    )
    for contender, took in seconds.items():
        forwards = ratio(took, seconds["forward"])
        middle = statistics.median(took)
        print(f"  {contender:<10} {middle:9.4f} s   x F (min, median, max)  {forwards}")
    for count in ("1", "7"):
        faster = ratio(seconds[f"theirs, {count}"], seconds["ours, 7"])
        print(f"  ours, 7 is faster than theirs, {count} by (min, median, max)  {faster}")
    ours = autograd_bytes(model, contenders["ours, 7"])
    theirs = autograd_bytes(model, contenders["theirs, 1"])
    print(
        f"  autograd per image: ours {ours / options.batch / 1e6:.3f} MB, "
        f"theirs {theirs / options.batch / 1e6:.1f} MB ({ours / theirs:.5f} of it)"
    )
    differences = parity(model, images, peer, classes)
    print(
        "  parity: " + ", ".join(f"{method} {value:.1e}" for method, value in differences.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--models", nargs="+", default=["resnet50", "vit_base_patch16_224", "convnext_base"]
    )
    add_arguments(parser)
    options = parser.parse_args()
    announce(options)
    for name in options.models:
        measure(name, options)


if __name__ == "__main__":
    main()
