"""One call that explains any classifier: plan the passes, capture once per batch, map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from torch import Tensor, nn

from octoscope.attribution.capture import Evidence
from octoscope.attribution.fusion import Fusion
from octoscope.attribution.maps import Maps, flags_of
from octoscope.attribution.method import Method
from octoscope.attribution.names import Methods
from octoscope.attribution.passes import explained
from octoscope.attribution.perturbation.baselines import require_no_tensors
from octoscope.attribution.plan import Plan, planned
from octoscope.attribution.registry import SOURCES, methods_for, named_in, settings_of
from octoscope.attribution.scene import (
    Layer,
    Precision,
    Request,
    autocast_dtype,
    lent,
    look_at,
    read_layouts,
    several,
)
from octoscope.attribution.sizing import Sizing
from octoscope.attribution.targets import (
    One,
    Targets,
    Wanted,
    names_of_classes,
    read_by,
    wanted_classes,
)
from octoscope.attribution.views import VIEWS, averaged
from octoscope.errors import OctoscopeError
from octoscope.models.borrow import require_module
from octoscope.models.layout import TargetLayer
from octoscope.models.output import Output


@overload
def explain(
    model: nn.Module,
    images: Tensor,
    methods: Methods | Iterable[Methods] = ...,
    targets: Targets = ...,
    *,
    classes: Sequence[One] | None = ...,
    class_names: Sequence[str] | None = ...,
    output: Output | None = ...,
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
    methods: Methods | Iterable[Methods] = ...,
    targets: Targets = ...,
    *,
    classes: Sequence[One] | None = ...,
    class_names: Sequence[str] | None = ...,
    output: Output | None = ...,
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
    methods: Methods | Iterable[Methods] = ("gradcam",),
    targets: Targets = None,
    *,
    classes: Sequence[One] | None = None,
    class_names: Sequence[str] | None = None,
    output: Output | None = None,
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
    those too; ``dry_run=True`` says which, and what they cost. The model is not touched: what is
    explained is a view of it, evaluating and frozen, so other threads may explain, run or train it
    meanwhile.

    ```python
    maps = explain(model, images, methods=["gradcam", "layercam"])
    maps["gradcam"]                     # (B, H, W), for the class predicted
    explain(model, images, targets=2)["gradcam"]          # class 2 in every image
    explain(model, images, targets=labels)["gradcam"]     # labels[b] in image b
    explain(model, images, targets="all")["gradcam"]      # (B, K, H, W)
    explain(model, images, classes=[0, 2])["gradcam"]     # (B, 2, H, W)
    explain(model, images, targets=octoscope.targets.difference(2, 0))  # rather 2 than 0
    print(explain(model, images, "all", dry_run=True))    # the passes
    ```

    Args:
        model: Any module from (B, C, *S) to logits (B, K), in any mode, frozen or not, compiled or
            ``DataParallel`` (its eager module is explained). What else it may give, `output` reads.
        images: (B, C, *S) as the model takes them; *S has 2 axes, or 3 for volumes.
        methods: Names of methods (`octoscope.methods` lists them; ``"GradCAM"`` means
            ``"gradcam"``), of families such as ``"cam"``, or ``"all"``; with ``-``
            before it, what is left out (``["all", "-scorecam"]``). Those behind a family or
            ``"all"`` that are not defined for the model are left out and listed, with the reason,
            in ``maps.refused``.
        targets: The class to explain. None: the predicted one. An int or a name: that class in
            every image. A sequence or tensor (B,): one per image. A tensor or nested list (B, M):
            several per image. ``"all"``: every class. Instead of classes, scores: those of
            `octoscope.targets`, or functions from what the model gives (b, K) to (b,).
        classes: Instead of `targets`, a list of M classes or scores to explain in every image.
        class_names: What the K classes are called; by default ``model.classes``, if it has them.
        output: Where the logits are if the model gives more than a tensor: a key or attribute
            (``"logits"``), a place in a tuple, or a function that takes them out. What has
            ``.logits`` needs none.
        layer: The layer to explain, as a name or module, or a `TargetLayer` that also states its
            layout; by default the last spatial features of the architecture. Several layers are
            explained in the same pass and fused.
        fuse: How the maps of several layers become one: ``"mean"``, ``"max"`` or ``"product"``,
            after each is divided by its largest magnitude.
        options: Settings by method: ``{"occlusion": {"window": 32, "stride": 16}}``.
        precision: Of the passes without gradients and the layers below the target layer;
            gradients are always taken in float32.
        tta: Average the maps of six versions of every image (mirrored, darker, brighter).
        batch_size: Images per pass (by default as many as are quick on the device and fit its
            memory, at most 8 on a CPU and 64 on a GPU). The result
            does not depend on it. When memory runs out, it is halved.
        signed: Leave out the final ReLU of the methods that have one.
        dry_run: Return the `Plan`, and run no more than one image, to see the model's shapes, and
            once per model one image of noise, for the methods of the head a few.
        progress: Show a bar.

    Returns:
        `Maps`, on the device of `images`; a `Plan` for a dry run.

    Raises:
        OctoscopeError: If a method, setting, class, layer, number of channels or pixel is wrong;
            the message says which.
    """
    require_module(model)
    _require_images(images)
    methods = methods if isinstance(methods, str) else tuple(methods)
    wanted = wanted_classes(targets, classes, len(images), names_of_classes(model, class_names))
    model = read_by(model, output, wanted.scores)
    defined, refused = methods_for(model, methods, images.ndim - 2, wanted.explained)
    named = named_in(methods)
    combining = tuple(method for method in defined if "maps" in method.needs)
    request = Request(
        model=model,
        methods=tuple(method for method in defined if method not in combining),
        settings=settings_of(defined, options, scored=bool(wanted.scores)),
        layers=several(layer),
        fuse=fuse,
        autocast=autocast_dtype(precision),
        batch_size=batch_size,
        rectify=not signed,
        progress=progress,
        optional=frozenset(method.name for method in defined) - named,
    )
    if dry_run:
        return plan_of(request, images, wanted, refused, views=VIEWS if tta else 1)
    if tta:
        require_no_tensors(request.settings)
    maps = explained(request, images, wanted)
    if tta:

        def once(version: Tensor, same: Tensor | str) -> Maps:
            fixed = wanted if wanted.scores else wanted_classes(same, None, len(images))
            return explained(request, version, fixed)

        maps = averaged(once, images, maps)
    refused = refused | maps.refused
    maps = replace(_combined(maps, combining, request.settings), refused=refused)
    if len(wanted.names) == maps.logits.shape[1] and not wanted.scores:
        maps = replace(maps, class_names=wanted.names)
    elif class_names is not None and not wanted.scores:
        raise OctoscopeError(
            f"class_names= has {len(wanted.names)} names and the model gives "
            f"{maps.logits.shape[1]} logits; give one for each"
        )
    if wanted.scores:
        assert isinstance(maps.targets, Tensor)
        names = tuple(score.sentence for score in wanted.scores)
        maps = replace(maps, targets="scores", scores=names, score_of=maps.targets)
    return maps


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


def plan_of(
    request: Request, images: Tensor, wanted: Wanted, refused: Mapping[str, str], *, views: int
) -> Plan:
    """Plan a request, running one image to see the shapes of the model."""
    try:
        with lent(request) as of_view:
            return _plan_of(of_view, images, wanted, refused, views=views)
    except OctoscopeError as error:
        if (rest := request.without_layers()) is None:
            raise
        left = {one.name: str(error) for one in request.methods if one not in rest.methods}
    return plan_of(rest, images, wanted, {**refused, **left}, views=views)


def _plan_of(
    request: Request, images: Tensor, wanted: Wanted, refused: Mapping[str, str], *, views: int
) -> Plan:
    scene = look_at(request, images)
    with scene.capture:
        evidence = scene.capture(images[:1])
        read_layouts(scene, request.model, evidence, images[:1])
        table = wanted.of(slice(0, 1), evidence.logits)
        targets: list[TargetLayer | None] = [*scene.targets] or [None]
        sizings = [
            Sizing(
                module=scene.capture.module,
                size=tuple(images.shape[2:]),
                image_channels=images.shape[1],
                classes=evidence.logits.shape[1],
                channels=_channels(target, evidence),
                target=target,
                attention=scene.attention,
                settings=request.settings,
                exact=request.autocast is None,
            )
            for target in targets
        ]
        return planned(
            request.methods,
            SOURCES,
            sizings,
            images=len(images),
            classes=table.shape[1],
            refused=refused,
            views=views,
        )


def _channels(target: TargetLayer | None, evidence: Evidence) -> int:
    return 0 if target is None else target.maps(evidence.activations[target.name]).shape[1]


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
