"""Attribution methods against their peers: the same work, side by side in one process.

    python benchmarks/attribution.py [--only classes ablation eigen attention recipro all]
                                     [--batch 8] [--rounds 5] [--device cuda]

Everything is interleaved round by round on the same random images and weights; ratios are taken
within each round, and the smallest, median and largest are printed. F is one forward pass of the
batch under torch.inference_mode.

classes    Grad-CAM of all K classes, ResNet-50, against torch-cam called K times: each with its own
           forward pass, as its examples do, and on one graph that is kept
ablation   Ablation-CAM, ResNet-50, against pytorch-grad-cam (on one image: it runs the network once
           per channel)
eigen      Eigen-CAM, ResNet-50, against pytorch-grad-cam, and both without the forward pass
attention  six attention maps of a ViT-B against the formulas of Chefer's and LeGrad's papers as
           their authors' code runs them: one by one, each with passes of its own, whole matrices;
           and how much the maps differ
recipro    ViT-ReciproCAM of a ViT-B against masked sequences through the last block
all        every method that both sides have and that is no perturbation, on one image of ResNet-50,
           against pytorch-grad-cam and captum, one after the other

Goals: classes 3 at K = 4, ablation 100, eigen 5, attention 4, recipro 50, all 10.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import captum.attr as captum
import pytorch_grad_cam as pgc
import timm
import torch
import torchcam.methods as torchcam
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from octoscope.attribution.explain import explain
from octoscope.models.layers import resolve_target
from timing import Seconds, add_arguments, announce, interleaved, ratio

RESNET, VIT = "resnet50", "vit_base_patch16_224"


def network(name: str, options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    model = (
        timm.create_model(name, num_classes=options.classes, img_size=options.size)
        if (name == VIT)
        else timm.create_model(name, num_classes=options.classes)
    )
    return model.eval().to(options.device)


def pictures(options: argparse.Namespace, count: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count or options.batch, 3, options.size, options.size)
    return torch.randn(shape, generator=generator).to(options.device)


def forward_of(model: nn.Module, images: Tensor) -> Callable[[], object]:
    def forward() -> Tensor:
        with torch.inference_mode():
            return model(images)

    return forward


def theirs(model: nn.Module, method: type, images: Tensor, classes: list[int], **given: object):
    """One method of pytorch-grad-cam, set up as its users do."""
    target = resolve_target(model, images)
    layers = [] if method is pgc.FullGrad else [target.module]
    cam = method(model, layers, **given)
    inner = getattr(cam, "base_cam", cam)  # Finer-CAM wraps another method
    if method is not pgc.FullGrad and target.kind != "nchw":
        inner.reshape_transform = target.maps
        inner.activations_and_grads.reshape_transform = target.maps
    try:
        return cam(images, [ClassifierOutputTarget(c) for c in classes])
    finally:
        inner.activations_and_grads.release()
        model.zero_grad()


def say(what: str, seconds: Seconds, ours: str, peers: list[str]) -> None:
    print(f"\n{what}")
    for name, took in seconds.items():
        line = f"  {name:<28}{statistics.median(took):10.4f} s"
        if "forward" in seconds:
            line += f"   x F {ratio(took, seconds['forward'])}"
        print(line)
    for peer in peers:
        print(f"  {ours} is faster than {peer} by {ratio(seconds[peer], seconds[ours])}")


def classes(options: argparse.Namespace) -> None:
    model, images = network(RESNET, options), pictures(options)
    every = range(options.classes)

    def torch_cam() -> None:
        with torchcam.GradCAM(model, "layer4") as cam:
            for c in every:
                cam([c] * len(images), model(images))

    def torch_cam_kept() -> None:
        with torchcam.GradCAM(model, "layer4") as cam:
            scores = model(images)
            for c in every:
                cam([c] * len(images), scores, retain_graph=True)

    contenders = {
        "forward": forward_of(model, images),
        "ours": lambda: explain(model, images, "gradcam", "all"),
        "torch-cam, K passes": torch_cam,
        "torch-cam, graph kept": torch_cam_kept,
    }
    seconds = interleaved(contenders, options.rounds, options.device, before=contenders["forward"])
    say(f"Grad-CAM of {options.classes} classes, {RESNET}", seconds, "ours", [*contenders][2:])


def ablation(options: argparse.Namespace) -> None:
    model, images = network(RESNET, options), pictures(options, 1)
    contenders = {
        "forward": forward_of(model, images),
        "ours": lambda: explain(model, images, "ablationcam", 0),
        "pytorch-grad-cam": lambda: theirs(
            model, pgc.AblationCAM, images, [0], ablation_layer=AblationLayer()
        ),
    }
    rounds = min(options.rounds, 2)
    seconds = interleaved(contenders, rounds, options.device, warm_up=False)
    say(f"Ablation-CAM of one image, {RESNET}", seconds, "ours", ["pytorch-grad-cam"])


def eigen(options: argparse.Namespace) -> None:
    model, images = network(RESNET, options), pictures(options)
    zeros = [0] * len(images)
    contenders = {
        "forward": forward_of(model, images),
        "ours": lambda: explain(model, images, "eigencam", 0),
        "pytorch-grad-cam": lambda: theirs(model, pgc.EigenCAM, images, zeros),
    }
    seconds = interleaved(contenders, options.rounds, options.device, before=contenders["forward"])
    say(f"Eigen-CAM, {RESNET}", seconds, "ours", ["pytorch-grad-cam"])


SIX = [
    "raw_attention",
    "rollout",
    "gradient_rollout",
    "attention_gradcam",
    "chefer",
    "legrad",
]


class Reference:
    """The six formulas as the authors' repositories run them, batched over images.

    Each method makes its own passes through a model with attention made visible, keeps the whole
    graph with the parameters in it, and multiplies whole N x N matrices.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @contextmanager
    def watched(self):
        seen: list[Tensor] = []
        tokens: list[Tensor] = []
        before = [block.attn.fused_attn for block in self.model.blocks]
        for block in self.model.blocks:
            block.attn.fused_attn = False
        hooks = [
            hook
            for block in self.model.blocks
            for hook in (
                block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: seen.append(out)),
                block.register_forward_hook(lambda _m, _i, out: tokens.append(out)),
            )
        ]
        try:
            yield seen, tokens
        finally:
            for hook in hooks:
                hook.remove()
            for block, fused in zip(self.model.blocks, before, strict=True):
                block.attn.fused_attn = fused

    def attention(self, images: Tensor) -> list[Tensor]:
        with torch.no_grad(), self.watched() as (seen, _):
            self.model(images)
        return seen

    def with_gradients(self, images: Tensor, c: int) -> tuple[list[Tensor], list[Tensor]]:
        with self.watched() as (seen, _):
            score = self.model(images)[:, c].sum()
            for one in seen:
                one.retain_grad()
            self.model.zero_grad()
            score.backward()
        return seen, [one.grad for one in seen]

    @staticmethod
    def chained(matrices: list[Tensor]) -> Tensor:
        joint = matrices[0]
        for matrix in matrices[1:]:
            joint = matrix @ joint
        return joint[:, 0, 1:]

    def raw_attention(self, images: Tensor, c: int) -> Tensor:
        return self.attention(images)[-1].mean(1)[:, 0, 1:]

    def rollout(self, images: Tensor, c: int) -> Tensor:
        seen = self.attention(images)
        eye = torch.eye(seen[0].shape[-1], device=images.device)
        mixed = [one.mean(1) + eye for one in seen]
        return self.chained([one / one.sum(-1, keepdim=True) for one in mixed])

    def gradient_rollout(self, images: Tensor, c: int) -> Tensor:
        seen, grads = self.with_gradients(images, c)
        eye = torch.eye(seen[0].shape[-1], device=images.device)
        mixed = [(a * g).mean(1).clamp(min=0) + eye for a, g in zip(seen, grads, strict=True)]
        return self.chained([one / one.sum(-1, keepdim=True) for one in mixed])

    def attention_gradcam(self, images: Tensor, c: int) -> Tensor:
        seen, grads = self.with_gradients(images, c)
        row, slope = seen[-1][:, :, 0, 1:], grads[-1][:, :, 0, 1:]
        return (slope.mean(-1, keepdim=True) * row).mean(1).clamp(min=0)

    def chefer(self, images: Tensor, c: int) -> Tensor:
        seen, grads = self.with_gradients(images, c)
        relevance = torch.eye(seen[0].shape[-1], device=images.device).expand(len(images), -1, -1)
        for a, g in zip(seen, grads, strict=True):
            relevance = relevance + (a * g).clamp(min=0).mean(1) @ relevance
        return relevance[:, 0, 1:]

    def legrad(self, images: Tensor, c: int) -> Tensor:
        with self.watched() as (seen, tokens):
            self.model(images)
        total = 0
        for a, z in zip(seen, tokens, strict=True):
            score = self.model.forward_head(self.model.norm(z))[:, c].sum()
            (grad,) = torch.autograd.grad(score, a, retain_graph=True, create_graph=True)
            total = total + grad.clamp(min=0).mean((1, 2))[:, 1:].detach()
        return total


def attention(options: argparse.Namespace) -> None:
    model, images = network(VIT, options), pictures(options)
    reference = Reference(model)
    whole = {"gradient_rollout": {"discard": 0.0}}  # what the reference computes, nothing dropped
    contenders = {
        "forward": forward_of(model, images),
        "ours, six at once": lambda: explain(model, images, SIX, 0, options=whole),
        "formulas, one by one": lambda: [getattr(reference, one)(images, 0) for one in SIX],
    }
    seconds = interleaved(contenders, options.rounds, options.device, before=contenders["forward"])
    say(f"six attention maps, {VIT}", seconds, "ours, six at once", ["formulas, one by one"])
    found = explain(model, images, SIX, 0, options=whole).native
    for name in SIX:
        expected = getattr(reference, name)(images, 0).detach()
        difference = (largest_is_one(found[name]) - largest_is_one(expected)).abs().max()
        print(f"  {name}: largest difference {float(difference):.1e} of the largest value")
    model.zero_grad()


def largest_is_one(maps: Tensor) -> Tensor:
    """Divide each map by its largest value: LeGrad's sum over layers becomes its mean."""
    flat = maps.flatten(1)
    return flat / flat.amax(1, keepdim=True)


def recipro(options: argparse.Namespace) -> None:
    model, images = network(VIT, options), pictures(options)

    @torch.inference_mode()
    def dense() -> Tensor:
        """Every patch's masked sequence through the whole last block, 49 sequences at once."""
        seen: list[Tensor] = []
        hook = model.blocks[-1].register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
        model(images)
        hook.remove()
        block, maps = model.blocks[-1], []
        for x in seen[0]:
            normed = block.norm1(x)
            rows = []
            for start in range(1, len(x), 49):
                keep = torch.arange(start, min(start + 49, len(x)), device=x.device)
                mask = torch.zeros(len(keep), len(x), 1, device=x.device)
                mask[:, 0] = 1
                mask[torch.arange(len(keep)), keep] = 1
                y = mask * x
                y = y + block.ls1(block.attn(mask * normed))
                y = y + block.ls2(block.mlp(block.norm2(y)))
                rows.append(model.forward_head(model.norm(y)))
            maps.append(torch.cat(rows))
        return torch.stack(maps)

    options_ = {"vit_reciprocam": {"gaussian": False}}
    contenders = {
        "forward": forward_of(model, images),
        "ours": lambda: explain(model, images, "vit_reciprocam", 0, options=options_),
        "dense": dense,
    }
    found = explain(model, images, "vit_reciprocam", 0, options=options_).native["vit_reciprocam"]
    expected = dense()[:, :, 0].view_as(found)
    difference = float((found - expected).abs().max() / (expected - expected.mean()).abs().max())
    rounds = min(options.rounds, 3)
    seconds = interleaved(contenders, rounds, options.device, before=contenders["forward"])
    say(f"ViT-ReciproCAM, {VIT}", seconds, "ours", ["dense"])
    above = {
        name: [t - f for t, f in zip(took, seconds["forward"], strict=True)]
        for name, took in seconds.items()
    }
    print(f"  beside the forward pass it is faster by {ratio(above['dense'], above['ours'])}")
    print(f"  largest difference {difference:.1e} of the map's range")


def everything(options: argparse.Namespace) -> None:
    """The list that both sides have, on a ResNet: no method that only one of them knows."""
    model, images = network(RESNET, options), pictures(options, 1)
    for part in model.modules():  # captum's guided methods cannot see through in-place ReLUs
        if isinstance(part, nn.ReLU):
            part.inplace = False
    zero = torch.zeros_like(images)

    def attribute(method: Callable[..., object], **given: object) -> object:
        found = method(model).attribute(images.requires_grad_(), target=0, **given)
        images.requires_grad_(False)
        return found

    def guided_gradcam() -> object:
        method = captum.GuidedGradCam(model, model.layer4)
        return method.attribute(images, target=0, interpolate_mode="bilinear")

    cams = {
        "gradcam": pgc.GradCAM,
        "gradcam++": pgc.GradCAMPlusPlus,
        "hirescam": pgc.HiResCAM,
        "xgradcam": pgc.XGradCAM,
        "layercam": pgc.LayerCAM,
        "eigencam": pgc.EigenCAM,
        "eigengradcam": pgc.EigenGradCAM,
        "finercam": pgc.FinerCAM,
        "fullgrad": pgc.FullGrad,
        "ablationcam": pgc.AblationCAM,
        "scorecam": pgc.ScoreCAM,
    }
    peers: dict[str, Callable[[], object]] = {
        name: partial(theirs, model, method, images, [0]) for name, method in cams.items()
    }
    peers |= {
        "saliency": partial(attribute, captum.Saliency),
        "input_x_gradient": partial(attribute, captum.InputXGradient),
        "integrated_gradients": partial(
            attribute, captum.IntegratedGradients, n_steps=50, internal_batch_size=25
        ),
        "gradient_shap": partial(
            attribute, captum.GradientShap, baselines=zero, n_samples=25, stdevs=0.1
        ),
        "smoothgrad": lambda: captum.NoiseTunnel(captum.Saliency(model)).attribute(
            images, nt_type="smoothgrad", nt_samples=50, nt_samples_batch_size=25, target=0
        ),
        "guided_backprop": partial(attribute, captum.GuidedBackprop),
        "deconvolution": partial(attribute, captum.Deconvolution),
        "guided_gradcam": guided_gradcam,
    }
    settings = {
        "integrated_gradients": {"steps": 50},
        "gradient_shap": {"samples": 25},
        "smoothgrad": {"samples": 50},
    }
    groups = {
        "activation and gradient CAMs": list(cams)[:8],
        "with Ablation-CAM and FullGrad": list(cams)[:10],
        "and the input gradients of one pass": [
            *list(cams)[:10],
            "saliency",
            "input_x_gradient",
            "guided_backprop",
            "deconvolution",
            "guided_gradcam",
        ],
        "and those of many passes": [name for name in peers if name != "scorecam"],
        "and Score-CAM, which is C forward passes": list(peers),
    }

    def ours(names: list[str]) -> Callable[[], object]:
        chosen = {name: values for name, values in settings.items() if name in names}
        return lambda: explain(model, images, names, 0, options=chosen)

    mine = {group: ours(names) for group, names in groups.items()}
    mine[next(iter(mine))]()  # the first call of all imports and probes
    forward = forward_of(model, images)
    took = interleaved({**peers, **mine}, 1, options.device, before=forward, warm_up=False)
    print(f"\nevery method that both sides have, {RESNET}, one image")
    for name in peers:
        print(f"  theirs, {name:<24}{took[name][0]:10.4f} s")
    for group, names in groups.items():
        own, peer = took[group][0], sum(took[name][0] for name in names)
        print(
            f"  {group:<44}{len(names):3} methods: ours {own:9.4f} s, theirs {peer:9.4f} s, "
            f"ratio {peer / own:8.2f}"
        )


BENCHMARKS = {
    "classes": classes,
    "ablation": ablation,
    "eigen": eigen,
    "attention": attention,
    "recipro": recipro,
    "all": everything,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=tuple(BENCHMARKS), default=list(BENCHMARKS))
    add_arguments(parser)
    options = parser.parse_args()
    announce(options)
    for name in options.only:
        BENCHMARKS[name](options)


if __name__ == "__main__":
    main()
