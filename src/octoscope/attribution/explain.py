"""One call that explains any classifier: plan the passes, capture once per batch, map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Capture, Evidence, as_the_model_takes
from octoscope.attribution.forward import Forward
from octoscope.attribution.fusion import Fusion, fused
from octoscope.attribution.maps import Maps, flags_of
from octoscope.attribution.memory import fitting, out_of_memory, release
from octoscope.attribution.method import Method
from octoscope.attribution.plan import Plan, captures_of, planned
from octoscope.attribution.registry import SOURCES, methods_for, settings_of
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.source import Batch
from octoscope.attribution.targets import Targets, Wanted, wanted_classes
from octoscope.attribution.views import VIEWS, averaged
from octoscope.errors import OctoscopeError
from octoscope.models.attention import AttentionStack, find_attention
from octoscope.models.layers import find_layer, layout_of
from octoscope.models.layout import TargetLayer
from octoscope.models.probe import probe_layer
from octoscope.progress import track

MOST_IMAGES = 32
"""Images per pass where no batch size is given and memory is plenty."""

Layer = str | nn.Module | TargetLayer
Precision = Literal["float32", "bfloat16"]


@overload
def explain(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str] = ...,
    targets: Targets = ...,
    *,
    classes: Sequence[int] | None = ...,
    layer: Layer | Sequence[Layer] | None = ...,
    fuse: Fusion = ...,
    options: Mapping[str, Mapping[str, Any]] | None = ...,
    precision: Precision = ...,
    tta: bool = ...,
    batch_size: int | None = ...,
    signed: bool = ...,
    dry_run: Literal[False] = ...,
    progress: bool = ...,
) -> Maps: ...


@overload
def explain(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str] = ...,
    targets: Targets = ...,
    *,
    classes: Sequence[int] | None = ...,
    layer: Layer | Sequence[Layer] | None = ...,
    fuse: Fusion = ...,
    options: Mapping[str, Mapping[str, Any]] | None = ...,
    precision: Precision = ...,
    tta: bool = ...,
    batch_size: int | None = ...,
    signed: bool = ...,
    dry_run: Literal[True],
    progress: bool = ...,
) -> Plan: ...


def explain(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str] = ("gradcam",),
    targets: Targets = None,
    *,
    classes: Sequence[int] | None = None,
    layer: Layer | Sequence[Layer] | None = None,
    fuse: Fusion = "mean",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    precision: Precision = "float32",
    tta: bool = False,
    batch_size: int | None = None,
    signed: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> Maps | Plan:
    """Show what a classifier's logits rest on.

    All methods share one forward pass per batch and one backward through the layers above the
    target layer per class; the layers below hold no graph. Methods that need more passes share
    those too; ``dry_run=True`` says which, and what they cost. The model is not changed: evaluation
    mode, frozen parameters and hooks last only as long as the call, also when it raises.

    ```python
    maps = explain(model, images, methods=["gradcam", "layercam"])
    maps["gradcam"]                     # (B, H, W), for the class predicted
    explain(model, images, targets=2)["gradcam"]          # class 2 in every image
    explain(model, images, targets=labels)["gradcam"]     # labels[b] in image b
    explain(model, images, targets="all")["gradcam"]      # (B, K, H, W)
    explain(model, images, classes=[0, 2])["gradcam"]     # (B, 2, H, W)
    print(explain(model, images, "all", dry_run=True))    # the passes, none of them run
    ```

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode, frozen or not, compiled or
            ``DataParallel`` (its eager module is explained).
        images: (B, C, *S) as the model takes them; *S has 2 axes, or 3 for volumes.
        methods: Keys of `METHODS`, names of families such as ``"cam"``, or ``"all"``. Those behind
            a family or ``"all"`` that are not defined for the model are left out and listed, with
            the reason, in ``maps.refused``.
        targets: The class to explain. None: the predicted one. An int: that class in every image.
            A sequence or tensor (B,): one per image. A tensor or nested list (B, M): several per
            image. ``"all"``: every class.
        classes: Instead of `targets`, a list of M classes to explain in every image.
        layer: The layer to explain, as a name or module, or a `TargetLayer` that also states its
            layout; by default the last spatial features of the architecture. Several layers are
            explained in the same pass and fused.
        fuse: How the maps of several layers become one: ``"mean"``, ``"max"`` or ``"product"``,
            after each is divided by its largest magnitude.
        options: Settings by method: ``{"occlusion": {"window": 32, "stride": 16}}``.
        precision: Of the passes without gradients and the layers below the target layer;
            gradients are always taken in float32.
        tta: Average the maps of six versions of every image (mirrored, darker, brighter).
        batch_size: Images per pass (default at most 32, fewer where memory is short). The result
            does not depend on it. When memory runs out, it is halved.
        signed: Leave out the final ReLU of the methods that have one.
        dry_run: Return the `Plan` and run nothing but one image, to see the model's shapes.
        progress: Show a bar.

    Returns:
        `Maps`, on the device of `images`; a `Plan` for a dry run.

    Raises:
        OctoscopeError: If a method, setting, class, layer, number of channels or pixel is wrong;
            the message says which.
    """
    _require_images(images)
    defined, refused = methods_for(model, methods, images.ndim - 2)
    combining = tuple(method for method in defined if "maps" in method.needs)
    request = _Request(
        model=model,
        methods=tuple(method for method in defined if method not in combining),
        settings=settings_of(defined, options),
        layers=_several(layer),
        fuse=fuse,
        autocast=_autocast(precision),
        batch_size=batch_size,
        rectify=not signed,
        progress=progress,
    )
    wanted = wanted_classes(targets, classes, len(images))
    if dry_run:
        return _plan(request, images, wanted, refused, views=VIEWS if tta else 1)
    maps = _explained(request, images, wanted)
    if tta:

        def once(version: Tensor, same: Tensor | str) -> Maps:
            return _explained(request, version, wanted_classes(same, None, len(images)))

        maps = averaged(once, images, maps)
    return replace(_combined(maps, combining, request.settings), refused=refused)


@dataclass(frozen=True)
class _Request:
    """Everything asked for but the images and classes."""

    model: nn.Module
    methods: tuple[Method, ...]
    settings: Mapping[str, Any]
    layers: tuple[Layer | None, ...]
    fuse: Fusion
    autocast: torch.dtype | None
    batch_size: int | None
    rectify: bool
    progress: bool


@dataclass
class _Scene:
    """What is looked at in the model; the layouts become known with the first pass."""

    capture: Capture
    layers: list[tuple[str, nn.Module]]
    targets: list[TargetLayer]
    attention: AttentionStack | None


@dataclass(frozen=True)
class _Part:
    """What a chunk of images gave: method → (b, M, …), or (b, parts, …)."""

    raw: dict[str, Tensor]
    before: dict[str, Tensor]
    details: dict[str, dict[str, Tensor]]
    classes: Tensor
    logits: Tensor


def _several(layer: Layer | Sequence[Layer] | None) -> tuple[Layer | None, ...]:
    if isinstance(layer, list | tuple):
        if not layer:
            raise OctoscopeError("layer=[] names no layer; leave it out for the default one")
        return tuple(layer)
    return (layer,)  # type: ignore[return-value]


def _autocast(precision: str) -> torch.dtype | None:
    known: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
    if precision not in known:
        raise OctoscopeError(f'precision="{precision}" is neither float32 nor bfloat16')
    return known[precision]


def _scene(request: _Request, images: Tensor) -> _Scene:
    """Find the layers that the methods need; an unknown network is probed by one pass."""
    model, kept = request.model, captures_of(request.methods, SOURCES)
    layers, targets = [], []
    if "target" in kept:
        for layer in request.layers:
            if isinstance(layer, TargetLayer):
                layers.append((layer.name, layer.module))
                targets.append(layer)
            else:
                layers.append(find_layer(model, layer) or probe_layer(model, images))
    attention = find_attention(model) if kept & {"attention", "blocks"} else None
    watched = dict(layers)
    differentiate = {name for name, _ in layers if "target gradient" in kept}
    if attention is not None:
        if "attention" in kept:
            watched |= {one.name: one.matrix for one in attention.layers}
        if "blocks" in kept:
            watched |= {one.block_name: one.block for one in attention.layers}
        if "attention gradient" in kept:
            differentiate |= {one.name for one in attention.layers}
    switches = attention.switches if attention is not None and "attention" in kept else ()
    capture = Capture(model, watched, switches, differentiate)
    return _Scene(capture, layers, targets if len(targets) == len(layers) else [], attention)


def _explained(request: _Request, images: Tensor, wanted: Wanted) -> Maps:
    """Explain all images, chunk by chunk."""
    scene = _scene(request, images)
    parts: list[_Part] = []
    with scene.capture:
        chunks = list(_chunks(len(images), _images_per_pass(request, scene, images)))
        for chunk in track(chunks, "Explaining") if request.progress else chunks:
            parts += _within_memory(partial(_chunk, request, scene, images, wanted), chunk)
    axes = images.ndim - 2
    shared = {method.name for method in request.methods if method.parts}

    def joined(name: str, pieces: Iterable[Tensor]) -> Tensor:
        whole = torch.cat([piece.to(images.device) for piece in pieces])
        return whole[:, 0] if wanted.one and name not in shared else whole

    names = [method.name for method in request.methods]
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
    return Maps(
        native=native,
        targets="all" if wanted.every else table,
        flags={name: flags_of(native[name], before[name], axes) for name in names},
        logits=torch.cat([part.logits.to(images.device) for part in parts]),
        size=tuple(images.shape[2:]),
        layer="+".join(name for name, _ in scene.layers),
        details=details,
    )


def _images_per_pass(request: _Request, scene: _Scene, images: Tensor) -> int:
    """Return how many images share a pass: as asked, or what memory allows."""
    if request.batch_size is not None:
        return request.batch_size
    if "attention gradient" not in captures_of(request.methods, SOURCES):
        return min(len(images), MOST_IMAGES)  # no graph but the few layers above the target
    image = as_the_model_takes(scene.capture.module, images[:1])
    return fitting(scene.capture.module, image, min(len(images), MOST_IMAGES), graph=True)


def _within_memory(work: Callable[[slice], _Part], chunk: slice) -> Iterator[_Part]:
    """Work on a chunk, on its halves if memory runs out, and so on.

    Raises:
        OctoscopeError: If a single image does not fit.
    """
    try:
        part = work(chunk)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if chunk.stop - chunk.start == 1:
            raise OctoscopeError(
                "one image alone does not fit into memory; use smaller images, fewer classes or "
                "methods, or another device"
            ) from error
        release()
    else:
        yield part
        return
    middle = (chunk.start + chunk.stop) // 2
    yield from _within_memory(work, slice(chunk.start, middle))
    yield from _within_memory(work, slice(middle, chunk.stop))


def _chunk(request: _Request, scene: _Scene, images: Tensor, wanted: Wanted, chunk: slice) -> _Part:
    """Run the shared pass for some images and apply every method to what it gave."""
    module, some = scene.capture.module, images[chunk]
    with torch.autocast(
        _device_type(module), request.autocast, enabled=request.autocast is not None
    ):
        evidence = scene.capture(some)
    if len(scene.targets) < len(scene.layers):  # the layout is read from the layers' actual output
        scene.targets = _targets(request.model, scene, evidence, some)
    table = wanted.of(chunk, evidence.logits)
    taken = as_the_model_takes(module, some)
    forward = Forward(module, autocast=request.autocast)
    targets: list[TargetLayer | None] = [*scene.targets] or [None]
    batches = [
        Batch(
            module,
            taken,
            evidence,
            forward,
            SOURCES,
            target=target,
            attention=scene.attention,
            settings=request.settings,
        )
        for target in targets
    ]
    with torch.inference_mode(False), torch.enable_grad():
        raw, before, details = _maps(request, batches, table.to(taken.device))
    return _Part(raw, before, details, table, evidence.logits)


def _targets(
    model: nn.Module, scene: _Scene, evidence: Evidence, images: Tensor
) -> list[TargetLayer]:
    return [
        layout_of(model, name, module, evidence.activations[name].shape, images.shape)
        for name, module in scene.layers
    ]


def _device_type(module: nn.Module) -> str:
    return next((parameter.device.type for parameter in module.parameters()), "cpu")


def _maps(
    request: _Request, batches: Sequence[Batch], table: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return each method's maps, the same before their final ReLU, and its by-products.

    Args:
        request: What is asked for.
        batches: One per target layer, all of the same images.
        table: (b, M) the classes.
    """
    raw: dict[str, list[Tensor]] = {method.name: [] for method in request.methods}
    before: dict[str, list[Tensor]] = {method.name: [] for method in request.methods}
    details: dict[str, list[dict[str, Tensor]]] = {method.name: [] for method in request.methods}
    for column in table.unbind(1):
        for batch in batches:
            batch.classes = column
        for method in request.methods:
            name = method.name
            if raw[name] and not method.class_specific:  # the same map for every class
                for done in (raw, before):
                    done[name].append(done[name][0])
                details[name].append(details[name][0])
                continue
            found = [_apply(method, batch) for batch in _batches_of(method, batches)]
            rectified = method.rectified and request.rectify
            layers = [map_ for map_, _ in found]
            raw[name].append(_one([m.relu() if rectified else m for m in layers], request, batches))
            before[name].append(_one(layers, request, batches))
            details[name].append(found[0][1])
    return (
        {method.name: _stacked(raw[method.name], method) for method in request.methods},
        {method.name: _stacked(before[method.name], method) for method in request.methods},
        {
            method.name: {
                key: _stacked([one[key] for one in details[method.name]], method)
                for key in details[method.name][0]
            }
            for method in request.methods
        },
    )


def _batches_of(method: Method, batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return one batch per layer for a method of the target layer, one for the others."""
    return batches if "target" in captures_of([method], SOURCES) else batches[:1]


def _apply(method: Method, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Call a method's function with what it needs."""
    given = {
        need: batch.settings[method.name] if need == "settings" else batch[need]
        for need in method.needs
    }
    found = method.function(**given)
    map_, details = found if isinstance(found, tuple) else (found, {})
    return map_.detach().float(), details


def _one(layers: Sequence[Tensor], request: _Request, batches: Sequence[Batch]) -> Tensor:
    """Return the map of the only layer, or the fusion of several."""
    if len(layers) == 1:
        return layers[0]
    return fused(layers, batches[0].images.ndim - 2, request.fuse)


def _stacked(columns: Sequence[Tensor], method: Method) -> Tensor:
    """Put the columns of M classes side by side, unless the method's axis is its own."""
    return columns[0] if method.parts else torch.stack(list(columns), dim=1)


def _combined(maps: Maps, methods: Sequence[Method], settings: Mapping[str, Any]) -> Maps:
    """Add the methods that are functions of the other methods' maps."""
    for method in methods:
        given = {"maps": maps, "settings": settings.get(method.name)}
        found = method.function(**{need: given[need] for need in method.needs})
        map_, details = found if isinstance(found, tuple) else (found, {})
        maps = replace(
            maps,
            native={**maps.native, method.name: map_},
            flags={**maps.flags, method.name: flags_of(map_, map_, len(maps.size))},
            details={**maps.details, method.name: details} if details else maps.details,
        )
    return maps


def _plan(
    request: _Request, images: Tensor, wanted: Wanted, refused: Mapping[str, str], *, views: int
) -> Plan:
    """Plan a request, running one image to see the shapes of the model."""
    scene = _scene(request, images)
    with scene.capture:
        evidence = scene.capture(images[:1])
        if len(scene.targets) < len(scene.layers):
            scene.targets = _targets(request.model, scene, evidence, images[:1])
        table = wanted.of(slice(0, 1), evidence.logits)
        target = scene.targets[0] if scene.targets else None
        sizing = Sizing(
            module=scene.capture.module,
            size=tuple(images.shape[2:]),
            classes=evidence.logits.shape[1],
            channels=target.maps(evidence.activations[target.name]).shape[1] if target else 0,
            target=target,
            attention=scene.attention,
            settings=request.settings,
        )
        return planned(
            request.methods,
            SOURCES,
            sizing,
            images=len(images),
            classes=table.shape[1],
            refused=refused,
            views=views,
        )


def _chunks(count: int, step: int) -> Iterator[slice]:
    if step < 1:
        raise OctoscopeError(f"batch_size={step} is no number of images; use 1 or more")
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _require_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise OctoscopeError(
            f"images are a floating-point tensor (B, C, *S) as the model takes them, not {kind}"
        )
    if images.ndim not in (4, 5) or not len(images):
        raise OctoscopeError(
            f"images of shape {tuple(images.shape)} are no batch (B, C, *S) with 2 or 3 spatial "
            "axes"
        )
    finite = images.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise OctoscopeError(
            f"image {int((~finite).nonzero()[0])} has pixels that are nan or infinite; "
            "replace them before explaining"
        )
