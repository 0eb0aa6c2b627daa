"""One forward pass per batch that yields everything activation methods need.

The graph is cut below the target layer: the prefix runs without autograd, so it costs the memory
of inference, and a hook at the target replaces its output by a detached leaf from which recording
starts. Gradients of any logits with respect to the layer are then `torch.autograd.grad` through the
short suffix alone, once per class. No parameter's ``.grad`` is ever written, and all happens on a
view of the model (`octoscope.models.borrow`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import Switch, borrowed, turned
from octoscope.models.probe import (
    as_the_model_takes,
    at_least_float32,
    first_tensor,
    logits_of,
    refusal_of,
    with_first,
)
from octoscope.models.view import counterpart


@dataclass(frozen=True)
class Evidence:
    """What one forward pass left behind.

    Attributes:
        logits: (B, K).
        activations: Layer name to its output, in the layer's own layout, as precise as the logits.
        score: The logits, in the graph.
        recorded: Layer name to its output in the graph, for the layers that are differentiated
            or come after one that is.
    """

    logits: Tensor
    activations: dict[str, Tensor]
    score: Tensor = field(repr=False)
    recorded: dict[str, Tensor] = field(repr=False)

    def gradients(self, wanted: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Differentiate one score per image with respect to captured layers.

        May be called again for other classes: each call costs one backward through what lies
        above the earliest of the layers.

        Args:
            wanted: (B,) integers, the class c of each image, whose logit y_c is differentiated;
                or (B, K) floats w, for the score Σ_k w_k y_k.
            layers: Names of layers; by default all that are differentiated.

        Returns:
            Layer name to g = dy_c/dA, shaped like the activation, as precise as the logits.

        Raises:
            OctoscopeError: If the logits do not depend on a layer.
        """
        names = list(self.recorded) if layers is None else list(layers)
        weights = wanted.to(self.score.device)
        if weights.ndim == 1:
            weights = F.one_hot(weights, self.score.shape[1])
        grads: tuple[Tensor | None, ...] = (None,) * len(names)
        if self.score.requires_grad:
            with torch.inference_mode(False):
                grads = torch.autograd.grad(
                    self.score,
                    [self.recorded[name] for name in names],
                    grad_outputs=weights.to(self.score.dtype),
                    retain_graph=True,
                    allow_unused=True,
                )
        found = {}
        for name, grad in zip(names, grads, strict=True):
            if grad is None:
                raise OctoscopeError(
                    f"the logits do not depend on layer {name}; pass layer= one that they come from"
                )
            found[name] = grad.to(torch.promote_types(grad.dtype, self.logits.dtype))
        return found


class Capture:
    """A context in which a model is run and its layers are captured.

    ```python
    with Capture(model, {"layer4": model.layer4}) as capture:
        evidence = capture(images)
        gradients = evidence.gradients(evidence.logits.argmax(1))["layer4"]
    ```

    Inside, ``capture.module`` is a view of the model that evaluates with frozen parameters and is
    given copies of what it is called with; the model itself is not touched. Other hooks and
    switches last only as long as a call, so the view may also be run plainly meanwhile. It works
    under ``torch.no_grad``
    and ``torch.inference_mode``, and for layers that are followed by in-place operations. With
    several layers the graph is cut at the earliest on each path, and the later ones are recorded.
    Under an outer autocast the prefix keeps the lower precision and the suffix runs in float32, so
    that gradients do not underflow.

    Args:
        model: Any classifier; `octoscope.models.borrow.eager` says which wrappers are looked into.
        layers: Name to module, each running once per forward.
        switches: Attributes of modules to change meanwhile: ``(attn, "fused_attn", False)``.
        differentiate: Names of the layers from which a graph is kept; by default all. The others
            are only recorded.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        switches: Iterable[Switch] = (),
        differentiate: Collection[str] | None = None,
    ) -> None:
        self._model = model
        self._layers = dict(layers)
        self._switches = tuple(switches)
        self._differentiate = self._layers.keys() if differentiate is None else set(differentiate)
        self._lent = self._layers
        self._undo = ExitStack()
        self._recorded: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.module = undo.enter_context(borrowed(self._model))
            self._lent = {n: counterpart(self.module, part) for n, part in self._layers.items()}
            undo.callback(self.module.register_forward_pre_hook(given_a_copy).remove)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._recorded = {}
        self._undo.close()

    def __call__(self, images: Tensor) -> Evidence:
        """Run the model once.

        Args:
            images: (B, C, *S), on any device and of any floating type; they are moved to the
                model's.

        Returns:
            The logits and activations, and the graph from which gradients come.

        Raises:
            OctoscopeError: If the number of channels is wrong, a layer does not run exactly once,
                or the output is no (B, K) logits.
        """
        self._recorded = {}
        images = as_the_model_takes(self.module, images)
        # Nothing requires gradients before the hook, so no graph is kept although recording is on:
        # a model that runs its backbone under its own no_grad would end what the hook turns on.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            _autocast_restored(images.device.type),
            self._watched(),
        ):
            score = logits_or_refusal(self.module, images)
        for name in self._layers:
            if name not in self._recorded:
                raise OctoscopeError(f"layer {name} does not run in the model's forward pass")
        recorded, self._recorded = self._recorded, {}
        logits = at_least_float32(score.detach())
        return Evidence(
            logits=logits,
            activations={
                n: t.detach().to(torch.promote_types(t.dtype, logits.dtype))
                for n, t in recorded.items()
            },
            score=score,
            recorded={n: t for n, t in recorded.items() if t.requires_grad},
        )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Hooks on and switches turned, for one pass."""
        with ExitStack() as undo:
            for part, name, value in self._switches:
                undo.enter_context(turned((counterpart(self.module, part), name, value)))
            for name, layer in self._lent.items():
                undo.callback(layer.register_forward_hook(partial(self._record, name)).remove)
            yield

    def _record(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Record a layer's output, starting the graph here if it has not begun (forward hook)."""
        if name in self._recorded:
            raise OctoscopeError(
                f"layer {name} runs more than once in a forward pass, so its maps are ambiguous; "
                "pass layer= one that runs once"
            )
        tensor = first_tensor(output)
        if name not in self._differentiate:
            self._recorded[name] = tensor
            return with_first(output, tensor.clone())
        torch.set_grad_enabled(True)
        if torch.is_autocast_enabled(tensor.device.type):
            torch.set_autocast_enabled(tensor.device.type, False)
            tensor = tensor.float()
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
        self._recorded[name] = tensor
        # A copy goes on: an in-place ReLU would fail on a leaf and falsify the record otherwise.
        return with_first(output, tensor.clone())


def logits_or_refusal(module: nn.Module, images: Tensor) -> Tensor:
    """Run a model once: images (B, C, *S) to logits (B, K).

    Raises:
        OctoscopeError: If the model does not take such images, or gives no logits.
    """
    try:
        return logits_of(module(images))
    except (RuntimeError, AssertionError) as error:
        if (reason := refusal_of(module, images, error)) is None:
            raise
        raise OctoscopeError(reason) from error


def given_a_copy(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the images that a model is called with (forward pre-hook).

    A network that writes into its input must change neither the user's images nor what other
    methods are given, and it could not write into a leaf or into rows that share memory.
    """
    return tuple(one.clone() if isinstance(one, Tensor) else one for one in inputs)


@contextmanager
def _autocast_restored(device: str) -> Iterator[None]:
    enabled = torch.is_autocast_enabled(device)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, enabled)
