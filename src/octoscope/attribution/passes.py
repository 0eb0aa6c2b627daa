"""Running a request: chunk by chunk one shared pass, then every method on what it gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Evidence
from octoscope.attribution.completeness import incomplete
from octoscope.attribution.display import on_image
from octoscope.attribution.forward import Forward
from octoscope.attribution.fusion import fused
from octoscope.attribution.maps import Maps, flags_of
from octoscope.attribution.memory import (
    SHARE,
    GraphLimit,
    fitting,
    free_bytes,
    most_at_once,
    out_of_memory,
    release,
)
from octoscope.attribution.method import Method
from octoscope.attribution.perturbation.baselines import settings_of_rows
from octoscope.attribution.plan import captures_of, giving_logits
from octoscope.attribution.registry import SOURCES
from octoscope.attribution.scene import Request, Scene, lent, look_at, read_layouts
from octoscope.attribution.source import Batch
from octoscope.attribution.targets import Wanted
from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionStack
from octoscope.models.layout import TargetLayer
from octoscope.models.probe import as_the_model_takes
from octoscope.progress import track


@dataclass(frozen=True)
class Part:
    """What a chunk of images gave: method → (b, M, …), or (b, parts, …)."""

    raw: dict[str, Tensor]
    before: dict[str, Tensor]
    details: dict[str, dict[str, Tensor]]
    classes: Tensor
    logits: Tensor


def explained(request: Request, images: Tensor, wanted: Wanted) -> Maps:
    """Explain all images, chunk by chunk, on a view of the model."""
    try:
        with lent(request) as of_view:
            return _explained(of_view, images, wanted)
    except OctoscopeError as error:
        if (rest := request.without_layers()) is None:
            raise
        left = {one.name: str(error) for one in request.methods if one not in rest.methods}
    maps = explained(rest, images, wanted)
    return replace(maps, refused=left | maps.refused)


def _explained(request: Request, images: Tensor, wanted: Wanted) -> Maps:
    scene = look_at(request, images)
    parts: list[Part] = []
    with scene.capture:
        chunks = list(_chunks(len(images), _images_per_pass(request, scene, images)))
        forward = Forward(scene.capture.module, autocast=request.autocast)
        work = partial(_chunk, request, scene, images, wanted, forward, GraphLimit())
        for chunk in track(chunks, "Explaining") if request.progress else chunks:
            parts += _within_memory(work, chunk)
    axes = images.ndim - 2
    shared = {method.name for method in request.methods if method.parts}

    def joined(name: str, pieces: Iterable[Tensor]) -> Tensor:
        whole = torch.cat([piece.to(images.device) for piece in pieces])
        return whole[:, 0] if wanted.one and name not in shared else whole

    names = [one.name for one in request.methods if one.name not in scene.refused]
    if not names:
        reason = next(iter(scene.refused.values()))
        raise OctoscopeError(f"none of the methods is defined here: {reason}")
    native = {name: joined(name, (part.raw[name] for part in parts)) for name in names}
    before = {name: joined(name, (part.before[name] for part in parts)) for name in names}
    details = {
        name: {
            key: joined(name, (part.details[name][key] for part in parts))
            for key in parts[0].details[name]
        }
        for name in names
        if parts[0].details[name]
    }
    table = joined("", (part.classes for part in parts))
    logits = torch.cat([part.logits.to(images.device) for part in parts])
    return Maps(
        native=native,
        targets="all" if wanted.every else table,
        flags={
            name: flags_of(native[name], before[name], axes)
            | incomplete(details.get(name, {}), logits, table)
            for name in names
        },
        logits=logits,
        size=tuple(images.shape[2:]),
        layer="+".join(name for name, _ in scene.layers),
        details=details,
        refused=scene.refused,
    )


def _images_per_pass(request: Request, scene: Scene, images: Tensor) -> int:
    """Return how many images share a pass: as asked, or what memory allows.

    Where no attention is kept, the pass holds no graph but that of the few layers above the target.
    Volumes are so large that it is measured all the same: a CPU does not say when memory runs out.
    """
    if request.batch_size is not None:
        return request.batch_size
    first = as_the_model_takes(scene.capture.module, images[:1])
    most = min(len(images), most_at_once(first.device))
    if scene.attention is None and (images.ndim == 4 or most == 1):
        return most
    if scene.attention is None:
        return fitting(scene.capture.module, first, most, graph=False)
    each = _attention_bytes(scene.attention, images.shape[2:])
    return max(1, min(most, int(SHARE * free_bytes(first.device)) // each))


def _attention_bytes(stack: AttentionStack, size: Sequence[int]) -> int:
    """Estimate what one image's attention takes: matrices, and the graph through the blocks.

    Of every block: A, what its softmax keeps, its gradient and a product of both, each (h, N, N);
    and about sixteen times its tokens (N, D).
    """
    network = cast(Any, stack.network)
    patch = network.patch_embed.patch_size
    tokens = stack.prefix_tokens + prod(-(-s // p) for s, p in zip(size, patch, strict=True))
    heads = sum(getattr(layer.attention, "num_heads", 1) for layer in stack.layers)
    return 4 * (4 * heads * tokens**2 + 16 * len(stack.layers) * tokens * network.num_features)


def _within_memory(work: Callable[[slice], Part], chunk: slice) -> Iterator[Part]:
    """Work on a chunk, on its halves if memory runs out, and so on.

    Raises:
        OctoscopeError: If a single image does not fit.
    """
    try:
        yield work(chunk)
        return
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if chunk.stop - chunk.start == 1:
            raise OctoscopeError(
                "one image alone does not fit into memory; use smaller images, fewer classes or "
                "methods, or another device"
            ) from error
    release()  # only now: while it is handled, the error holds what the pass had made
    middle = (chunk.start + chunk.stop) // 2
    yield from _within_memory(work, slice(chunk.start, middle))
    yield from _within_memory(work, slice(middle, chunk.stop))


def _chunk(
    request: Request,
    scene: Scene,
    images: Tensor,
    wanted: Wanted,
    forward: Forward,
    graph_limit: GraphLimit,
    chunk: slice,
) -> Part:
    """Run the shared pass for some images, if one is needed, and apply every method."""
    module, some = scene.capture.module, images[chunk]
    taken = as_the_model_takes(module, some)

    def choose(rows: slice, logits: Tensor) -> Tensor:
        return wanted.of(slice(chunk.start + rows.start, chunk.start + rows.stop), logits)

    evidence: Evidence | str
    giving = giving_logits(request.methods, SOURCES, exact=request.autocast is None)
    if giving is None:
        evidence = _shared_pass(request, scene, some)
        read_layouts(scene, request.model, evidence, some)
    else:
        evidence = giving.logits_from
    targets: list[TargetLayer | None] = [*scene.targets] or [None]
    batches = [
        Batch(
            module,
            taken,
            evidence,
            forward,
            SOURCES,
            choose,
            graph_limit=graph_limit,
            target=target,
            attention=scene.attention,
            settings=settings_of_rows(request.settings, chunk, images),
        )
        for target in targets
    ]
    # Passes of low precision ask for it themselves, whatever autocast the caller is in.
    full = torch.autocast(taken.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), full:
        raw, before, details = _maps(request, batches, scene.refused)
        return Part(raw, before, details, batches[0].table.cpu(), batches[0].evidence.logits)


def _shared_pass(request: Request, scene: Scene, images: Tensor) -> Evidence:
    """Run the pass whose activations methods share."""
    # The graph from the first attention on is all of the network, and gradients are float32.
    whole = "attention gradient" in captures_of(request.methods, SOURCES)
    low = request.autocast is not None and not whole
    with torch.autocast(_device_type(scene.capture.module), request.autocast, enabled=low):
        return scene.capture(images)


def _device_type(module: nn.Module) -> str:
    return next((parameter.device.type for parameter in module.parameters()), "cpu")


def _maps(
    request: Request, batches: Sequence[Batch], refused: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return each method's maps, the same before their final ReLU, and its by-products.

    Args:
        request: What is asked for.
        batches: One per target layer, all of the same images.
        refused: Methods left out, to which those are added that turn out not to be defined.
    """
    raw: dict[str, list[Tensor]] = {method.name: [] for method in request.methods}
    before: dict[str, list[Tensor]] = {method.name: [] for method in request.methods}
    details: dict[str, list[dict[str, Tensor]]] = {method.name: [] for method in request.methods}
    for column in range(batches[0].table.shape[1]):
        for batch in batches:
            batch.turn_to(column)
        for method in request.methods:
            name = method.name
            if name in refused:
                continue
            if raw[name] and not method.class_specific:  # the same map for every class
                for done in (raw, before):
                    done[name].append(done[name][0])
                details[name].append(details[name][0])
                continue
            try:
                found = [_apply(method, batch) for batch in _batches_of(method, batches)]
            except OctoscopeError as error:
                if name not in request.optional:
                    raise
                refused[name] = str(error)
                continue
            rectified = method.rectified and request.rectify
            layers = [map_ for map_, _ in found]
            raw[name].append(_one([m.relu() if rectified else m for m in layers], request, batches))
            before[name].append(_one(layers, request, batches))
            details[name].append(found[0][1])
    methods = [method for method in request.methods if method.name not in refused]
    return (
        {method.name: _stacked(raw[method.name], method) for method in methods},
        {method.name: _stacked(before[method.name], method) for method in methods},
        {
            method.name: {
                key: _stacked([one[key] for one in details[method.name]], method)
                for key in details[method.name][0]
            }
            for method in methods
        },
    )


def _batches_of(method: Method, batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return one batch per layer for a method of the target layer, one for the others."""
    of_layer = "target" in captures_of([method], SOURCES) and not method.own_layer
    return batches if of_layer else batches[:1]


def _apply(method: Method, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Call a method's function with what it needs."""
    given = {
        need: batch.settings[method.name] if need == "settings" else batch[need]
        for need in method.needs
    }
    found = method.function(**given)
    map_, details = found if isinstance(found, tuple) else (found, {})
    return _placed(map_.detach().float(), method, batch), details


def _placed(map_: Tensor, method: Method, batch: Batch) -> Tensor:
    """Bring a map to the image if its grid spans more or less than that, as in padded networks."""
    layer = batch["token_layout"] if "token_layout" in method.needs else batch.target
    if layer is None or layer.extent is None or tuple(map_.shape[-len(layer.grid) :]) != layer.grid:
        return map_
    return on_image(map_, layer, batch.images.shape[2:])


def _one(layers: Sequence[Tensor], request: Request, batches: Sequence[Batch]) -> Tensor:
    """Return the map of the only layer, or the fusion of several."""
    if len(layers) == 1:
        return layers[0]
    return fused(layers, batches[0].images.ndim - 2, request.fuse)


def _stacked(columns: Sequence[Tensor], method: Method) -> Tensor:
    """Put the columns of M classes side by side, unless the method's axis is its own."""
    return columns[0] if method.parts else torch.stack(list(columns), dim=1)


def _chunks(count: int, step: int) -> Iterator[slice]:
    if step < 1:
        raise OctoscopeError(f"batch_size={step} is no number of images; use 1 or more")
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
