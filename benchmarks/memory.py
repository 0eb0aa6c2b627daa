"""Memory of Grad-CAM: what autograd holds per image, ours and peers'.

    python benchmarks/memory.py [--models resnet50] [--sizes 224 512] [--batch 1] [--device cuda]

autograd  bytes of distinct tensors that the graph keeps for its backward pass, beside parameters
          and buffers; 0 where nothing but the layer's activations, a pooling and a linear head
          with frozen weights lie on the way, of which a backward pass needs only the shapes
peak      with --device cuda, the most that torch allocated during the call, above what was there
          before it

Peers are run as their examples do, on a model as it comes, in evaluation mode; and once more with
every parameter frozen by hand, which their examples do not do and not all of them survive. Each
explains the same layer for the same classes.

Goal: ResNet-50 at 512, ours at most 1/100 of what pytorch-grad-cam and captum hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_grad_cam as pgc
import timm
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torchcam.methods import GradCAM

from cams import Peer, autograd_bytes
from octoscope.attribution.explain import explain
from octoscope.models.layers import resolve_target
from timing import announce

GOAL = 100


def contenders(
    model: nn.Module, images: Tensor, classes: list[int]
) -> dict[str, Callable[[], object]]:
    """Return Grad-CAM of all, by name, ours first."""
    target = resolve_target(model, images)
    layer = target.module

    def torchcam() -> list[Tensor]:
        with GradCAM(model, layer) as cam:
            return cam(classes, model(images))

    return {
        "ours": lambda: explain(model, images, "gradcam", targets=classes),
        "pytorch-grad-cam": lambda: Peer(model, target, classes)(pgc.GradCAM, images),
        "captum": lambda: LayerGradCam(model, layer).attribute(images, classes),
        "torch-cam": torchcam,
    }


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that torch allocated on the GPU while working, above what was there before."""
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def share(ours: float, held: float) -> str:
    """Write ours as a fraction of theirs."""
    return f"1/{held / ours:.0f}" if ours else "0"


@contextmanager
def frozen(model: nn.Module, whether: bool) -> Iterator[None]:
    """Freeze every parameter meanwhile."""
    model.requires_grad_(not whether)
    try:
        yield
    finally:
        model.requires_grad_(True)


def measure(name: str, size: int, options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=options.classes).eval().to(options.device)
    images = torch.randn(options.batch, 3, size, size, device=options.device)
    classes = [b % options.classes for b in range(options.batch)]
    cuda = options.device == "cuda"
    print(f"\n{name}, {options.batch} x 3 x {size}², MB per image")
    heads = ("autograd", "peak") if cuda else ("autograd",)
    print(f"  {'':<34} " + "  ".join(f"{head:>9} {'ours is':>9}" for head in heads))
    found: dict[str, list[float]] = {}
    for whether in (False, True):
        for contender, work in contenders(model, images, classes).items():
            row = f"{contender}, parameters frozen" if whether else contender
            with frozen(model, whether):
                try:
                    work()  # loads what is loaded once
                    found[row] = [autograd_bytes(model, work)]
                    if cuda:
                        found[row].append(peak_bytes(work))
                except (RuntimeError, TypeError) as error:
                    print(f"  {row:<34} fails: {str(error).splitlines()[0][:60]}")
                    continue
            cells = [
                f"{held / options.batch / 1e6:9.3f} {share(ours, held):>9}"
                for held, ours in zip(found[row], found["ours"], strict=True)
            ]
            print(f"  {row:<34} {'  '.join(cells)}")
    if name != "resnet50":
        return
    ours, held = found["ours"][0], min(found["pytorch-grad-cam"][0], found["captum"][0])
    print(f"  goal 1/{GOAL}: {'met' if ours * GOAL <= held else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["resnet50"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 512])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    announce(options)
    for name in options.models:
        for size in options.sizes:
            measure(name, size, options)


if __name__ == "__main__":
    main()
