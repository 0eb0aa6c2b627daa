"""One call that explains any classifier: plan the needs, capture once per batch, map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from octoscope.attribution.capture import Capture, Evidence
from octoscope.attribution.maps import Maps, flags_of
from octoscope.attribution.registry import Method, methods_named
from octoscope.attribution.targets import Targets, wanted_classes
from octoscope.errors import OctoscopeError
from octoscope.models.layers import find_layer, layout_of
from octoscope.models.layout import TargetLayer
from octoscope.models.probe import probe_layer
from octoscope.progress import track

MOST_IMAGES = 32
"""Images per pass where no batch size is given."""


def explain(
    model: nn.Module,
    images: Tensor,
    methods: str | Iterable[str] = ("gradcam",),
    targets: Targets = None,
    *,
    classes: Sequence[int] | None = None,
    layer: str | nn.Module | TargetLayer | None = None,
    batch_size: int | None = None,
    signed: bool = False,
    progress: bool = False,
) -> Maps:
    """Show what a classifier's logits rest on.

    All methods share one forward pass per batch and one backward through the layers above the
    target layer per class; the layers below hold no graph. The model is not changed: evaluation
    mode, frozen parameters and hooks last only as long as the call, also when it raises.

    ```python
    maps = explain(model, images, methods=["gradcam", "layercam"])
    maps["gradcam"]                     # (B, H, W), for the class predicted
    explain(model, images, targets=2)["gradcam"]          # class 2 in every image
    explain(model, images, targets=labels)["gradcam"]     # labels[b] in image b
    explain(model, images, targets="all")["gradcam"]      # (B, K, H, W)
    explain(model, images, classes=[0, 2])["gradcam"]     # (B, 2, H, W)
    ```

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode, frozen or not, compiled or
            ``DataParallel`` (its eager module is explained).
        images: (B, C, *S) as the model takes them; *S has 2 axes, or 3 for volumes.
        methods: Keys of `METHODS`, or ``"all"``.
        targets: The class to explain. None: the predicted one. An int: that class in every image.
            A sequence or tensor (B,): one per image. A tensor or nested list (B, M): several per
            image. ``"all"``: every class.
        classes: Instead of `targets`, a list of M classes to explain in every image.
        layer: The layer to explain, as a name or module, or a `TargetLayer` that also states its
            layout; by default the last spatial features of the architecture.
        batch_size: Images per pass (default at most 32). The result does not depend on it.
        signed: Leave out the final ReLU of the methods that have one.
        progress: Show a bar.

    Returns:
        `Maps`, on the device of `images`.

    Raises:
        OctoscopeError: If a method, class, layer, number of channels or pixel is wrong; the
            message says which.
    """
    rows = methods_named(methods)
    _require_images(images, rows)
    wanted = wanted_classes(targets, classes, len(images))
    chunks = list(_chunks(len(images), batch_size))
    name, module = _layer_of(model, images, layer)
    target = layer if isinstance(layer, TargetLayer) else None
    parts = []
    with Capture(model, {name: module}) as capture:
        for chunk in track(chunks, "Explaining") if progress else chunks:
            evidence = capture(images[chunk])
            if target is None:  # the layout is read from the layer's actual output
                shape = evidence.activations[name].shape
                target = layout_of(model, name, module, shape, images[chunk].shape)
            table = wanted.of(chunk, evidence.logits)
            found = _map(evidence, target, table, rows, rectify=not signed)
            parts.append((found, table, evidence.logits))
    native, table, logits = _joined(parts, images.device, one=wanted.one)
    axes = images.ndim - 2
    return Maps(
        native={name: raw for name, (raw, _) in native.items()},
        targets="all" if wanted.every else table,
        flags={name: flags_of(raw, before, axes) for name, (raw, before) in native.items()},
        logits=logits,
        size=tuple(images.shape[2:]),
        layer=name,
    )


def _require_images(images: Tensor, methods: Sequence[Method]) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise OctoscopeError(
            f"images are a floating-point tensor (B, C, *S) as the model takes them, not {kind}"
        )
    dims = {dim for method in methods for dim in method.dims}
    if images.ndim - 2 not in dims or not len(images):
        raise OctoscopeError(
            f"images of shape {tuple(images.shape)} are no batch (B, C, *S) with "
            f"{' or '.join(map(str, sorted(dims)))} spatial axes"
        )
    for method in methods:
        if images.ndim - 2 not in method.dims:
            raise OctoscopeError(
                f"{method.title} is not defined for {images.ndim - 2} spatial axes; leave it out"
            )
    finite = images.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise OctoscopeError(
            f"image {int((~finite).nonzero()[0])} has pixels that are nan or infinite; "
            "replace them before explaining"
        )


def _chunks(count: int, batch_size: int | None) -> Iterator[slice]:
    step = min(count, MOST_IMAGES) if batch_size is None else batch_size
    if step < 1:
        raise OctoscopeError(f"batch_size={batch_size} is no number of images; use 1 or more")
    for start in range(0, count, step):
        yield slice(start, start + step)


def _layer_of(
    model: nn.Module, images: Tensor, layer: str | nn.Module | TargetLayer | None
) -> tuple[str, nn.Module]:
    """Return the layer's name and module; an unknown network's is found by one probing pass."""
    if isinstance(layer, TargetLayer):
        return layer.name, layer.module
    return find_layer(model, layer) or probe_layer(model, images)


def _map(
    evidence: Evidence,
    target: TargetLayer,
    classes: Tensor,
    methods: Sequence[Method],
    *,
    rectify: bool,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each method's maps and the same before their final ReLU, both (b, M, *s) float32."""
    activations = target.maps(evidence.activations[target.name])  # (b, C, *s)
    per_class: dict[str, list[Tensor]] = {method.name: [] for method in methods}
    for column in classes.unbind(1):  # one backward through the suffix for each of M classes
        given = {"activations": activations}
        if any("gradients" in method.needs for method in methods):
            given["gradients"] = _gradients_at(target, evidence, column)
        for method in methods:
            done = per_class[method.name]
            if done and not method.class_specific:
                done.append(done[0])
            else:
                done.append(method.function(**{need: given[need] for need in method.needs}))
    maps = {}
    for method in methods:
        before = torch.stack(per_class[method.name], dim=1).float()
        maps[method.name] = (before.relu() if method.rectified and rectify else before, before)
    return maps


def _gradients_at(target: TargetLayer, evidence: Evidence, classes: Tensor) -> Tensor:
    """Return g = dy_c/dA as maps (b, C, *s).

    Raises:
        OctoscopeError: If only the prefix tokens of the layer matter to the logits.
    """
    raw = evidence.gradients(classes)[target.name]
    gradients = target.maps(raw)
    if target.prefix_tokens and not bool(gradients.any()) and bool(raw.any()):
        raise OctoscopeError(
            f"the logits depend on no patch token of layer {target.name}, only on its class token; "
            "pass layer= one before the last attention, such as the last block's norm1"
        )
    return gradients


def _joined(
    parts: Sequence[tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]],
    device: torch.device,
    *,
    one: bool,
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]:
    """Put chunks together on `device`, dropping the axis of classes where there is but one."""

    def joined(pieces: Sequence[Tensor]) -> Tensor:
        whole = torch.cat([piece.to(device) for piece in pieces])
        return whole[:, 0] if one else whole

    maps = {
        name: (
            joined([found[name][0] for found, _, _ in parts]),
            joined([found[name][1] for found, _, _ in parts]),
        )
        for name in parts[0][0]
    }
    logits = torch.cat([logits.to(device) for _, _, logits in parts])
    return maps, joined([table for _, table, _ in parts]), logits
