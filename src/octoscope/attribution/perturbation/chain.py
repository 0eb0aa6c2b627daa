"""The first layers of a network as a chain, of which each link sees only so far around a position.

A link is run on crops of its input, so it must be local and the same everywhere. What it computes
must be so by its kind, and a crop has to give what the whole gives when it is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from octoscope.attribution.perturbation.local import Watched

SAME = 1e-4
"""Difference that counts as rounding, relative to the largest magnitude."""
LOW = 5e-2
"""The same in half precision."""

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Link:
    """One module of the chain, with those after it that look at single positions only.

    Attributes:
        modules: Together they map (m, C, *in) to (m, C', *out).
        size: *in for whole images.
        out: *out for whole images.
        stride: Positions of the input per position of the output, along each axis.
        reach: How far around ``stride · j`` output j may look, in positions of the input.
        shapes: (C', *out) of each module's output.
    """

    modules: tuple[nn.Module, ...]
    size: Sides
    out: Sides
    stride: Sides
    reach: Sides
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, features: Tensor) -> Tensor:
        """Run it, on a whole image or a crop; the input may be written into."""
        for module in self.modules:
            features = module(features)
        return features


@dataclass(frozen=True)
class _Call:
    given: Tensor
    gave: Tensor


def chain_of(module: nn.Module, images: Tensor) -> Iterator[Link]:
    """Yield the links at the start of a network, each consuming only what the one before gives.

    Args:
        module: The lent model.
        images: (1, C, *S), run once.

    Yields:
        The links in order, up to the first that is not local; none for networks that do not start
        so, or whose input is not of the images' size.
    """
    calls = _recorded(module, images)
    for part in (module, *module.children()):
        if part not in calls or calls[part].given.shape[2:] != images.shape[2:]:
            continue
        waiting: Link | None = None
        for one in _walk(part, calls, calls[part].given)[0]:
            link = _link(one, calls[one])
            if link is None or not _is_local(link, calls[one].given):
                break
            if waiting is not None and link.size == link.out and not any(link.reach):
                waiting = replace(
                    waiting,
                    modules=waiting.modules + link.modules,
                    shapes=waiting.shapes + link.shapes,
                )
                continue
            if waiting is not None:
                yield waiting
            waiting = link
        if waiting is not None:
            yield waiting
            return


@contextmanager
def replaced(module: nn.Module, forward: Any) -> Iterator[None]:
    """Give one module another forward for the length of the context."""
    own = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


def _recorded(module: nn.Module, images: Tensor) -> dict[nn.Module, _Call]:
    """Run the model; return the modules that ran once, from one tensor of images to one tensor."""
    calls: dict[nn.Module, _Call | None] = {}

    def watch(part: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        simple = len(args) == 1 and not kwargs and part not in calls
        tensors = simple and isinstance(args[0], Tensor) and isinstance(output, Tensor)
        fits = tensors and args[0].ndim == images.ndim
        calls[part] = _Call(args[0], output) if fits else None

    hooks = [p.register_forward_hook(watch, with_kwargs=True) for p in module.modules()]
    try:
        module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {part: call for part, call in calls.items() if call is not None}


def _walk(
    part: nn.Module, calls: dict[nn.Module, _Call], tensor: Tensor
) -> tuple[list[nn.Module], Tensor]:
    """Follow a tensor through the children of a module; return the links and where it ended."""
    links: list[nn.Module] = []
    for child in part.children():
        call = calls.get(child)
        if call is None or call.given is not tensor or call.gave.ndim != tensor.ndim:
            continue
        inner, end = _walk(child, calls, call.given)
        if end is call.gave and inner and _is_chain(child, inner, call.given):
            links += inner
        else:
            links.append(child)
        tensor = call.gave
    return links, tensor


def _is_chain(part: nn.Module, inner: list[nn.Module], like: Tensor) -> bool:
    """Say whether a module does nothing but run others in turn; a residual block does more."""
    if isinstance(part, nn.Sequential):
        return True
    noise = _noise(like)
    expected, found = part(noise.clone()), noise.clone()
    for one in inner:
        found = one(found)
    return alike(found, expected)


def _link(module: nn.Module, call: _Call) -> Link | None:
    """Return a module as a link, None if its output is no coarser copy of its input's grid."""
    size, out = tuple(call.given.shape[2:]), tuple(call.gave.shape[2:])
    stride = tuple(max(1, round(a / b)) for a, b in zip(size, out, strict=True))
    if any(
        b not in (a // s, -(-a // s)) and s > 1 for a, b, s in zip(size, out, stride, strict=True)
    ):
        return None
    reach = [0] * len(size)
    jump = [1] * len(size)
    for leaf in module.modules():
        if not hasattr(leaf, "kernel_size"):
            continue
        kernel, step, pad, dilation = (
            _sides(getattr(leaf, name, 1), len(size))
            for name in ("kernel_size", "stride", "padding", "dilation")
        )
        for axis in range(len(size)):
            span = dilation[axis] * (kernel[axis] - 1)
            ahead = span // 2 if pad[axis] < 0 else min(pad[axis], span)
            reach[axis] += jump[axis] * max(ahead, span - ahead)
            jump[axis] *= step[axis]
    return Link((module,), size, out, stride, tuple(reach), (tuple(call.gave.shape[1:]),))


def _sides(value: Any, axes: int) -> Sides:
    """Return a convolution's setting along each axis; -1 for a padding called "same"."""
    if isinstance(value, str):
        return (-1 if value == "same" else 0,) * axes
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _is_local(link: Link, like: Tensor) -> bool:
    """Say whether a crop gives what the whole gives, as far from its edges as it should.

    It must be so by what the link computes (`local.Watched`), and when tried: on noise, with crops
    of half the length at every corner and in the middle, because what wraps around the borders,
    say, is seen only there. Where they are too small to tell, the link is not taken.
    """
    noise = _noise(like)
    with Watched() as watched:
        whole = link(noise.clone())
    if not watched.local:
        return False
    axes = list(zip(link.size, link.stride, strict=True))
    lengths = [max(side // 2 // step, 1) * step for side, step in axes]
    middle = [side // 4 // step * step for side, step in axes]
    ends = [
        -(-(side - length) // step) * step
        for (side, step), length in zip(axes, lengths, strict=True)
    ]
    places = [middle, *product(*((0, end) for end in ends))]
    return all(_fits(link, noise, whole, place, lengths) for place in places)


def _fits(
    link: Link, features: Tensor, whole: Tensor, place: Sequence[int], lengths: Sequence[int]
) -> bool:
    """Say whether the crop that starts at a place gives what `whole` has there."""
    both = (slice(None), slice(None))  # images and channels
    crop: list[slice] = []
    outside: list[slice] = []
    inside: list[slice] = []
    axes = zip(place, lengths, link.size, link.out, link.stride, link.reach, strict=True)
    for start, length, side, out, step, reach in axes:
        stop = side if side - start - length < step else start + length
        first = 0 if start == 0 else -(-(start + reach) // step)
        last = out - 1 if stop == side else min((stop - 1 - reach) // step, out - 1)
        if last < first:
            return False
        crop.append(slice(start, stop))
        outside.append(slice(first, last + 1))
        inside.append(slice(first - start // step, last + 1 - start // step))
    part = link(features[(*both, *crop)].clone())
    expected = whole[(*both, *outside)]
    found = part[(*both, *inside)]
    return found.shape == expected.shape and alike(found, expected)


def _noise(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)


def alike(found: Tensor, expected: Tensor) -> bool:
    """Say whether two tensors differ by rounding only, in the precision that they have."""
    if found.shape != expected.shape or not expected.isfinite().all():
        return False
    low = expected.dtype in (torch.float16, torch.bfloat16)
    bound = (LOW if low else SAME) * expected.abs().max()
    return bool((found - expected).abs().max() <= bound)
