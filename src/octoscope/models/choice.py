"""Which layer is explained if none is asked for: what rules name and a run confirms, or the last.

What a family's rule names (`octoscope.models.rules`) is believed only if the run shows it: it runs
once, at more than one position, everything goes through it, and no convolution comes after it.
Where no rule knows the network, it is the last such layer. Of transformers that pool a class token,
the tokens of the last block are mixed into that token once more; there it is the last layer through
which everything goes that comes *from the patches*, which is the norm before the last attention.
"""

from __future__ import annotations

import torch
from torch import nn

from octoscope.errors import OctoscopeError
from octoscope.models.borrow import eager
from octoscope.models.layout import TargetLayer, read_layout
from octoscope.models.patches import patches_of
from octoscope.models.rules import Candidate, candidates
from octoscope.models.trace import Call, Point, Trace, weighs

ROUNDING = {torch.float16: 3e-2, torch.bfloat16: 3e-2}
"""Deviation of gradients, relative to the largest, that is rounding; `EXACT` in other types."""
EXACT = 1e-3
LONGEST_BRANCH = 5
"""Layers in a row of a branch, above the last layer that everything goes through, at which that
layer still stands for what the head reads: those of the longest branch of an Inception block."""


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """Return the innermost part around a layer that says how its features lie, or the model."""
    path = name.split(".")[:-1]
    for depth in range(len(path), -1, -1):
        part = eager(model.get_submodule(".".join(path[:depth])))
        if any(hasattr(part, a) for a in ("patch_embed", "num_prefix_tokens", "output_fmt")):
            return part
        if hasattr(part, "num_features") and hasattr(part, "forward_features"):
            return part
    return model


class Choice:
    """The choice of a layer of a network that was watched."""

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self._model = model
        self._trace = trace
        self.patches = patches_of(trace)
        self._calls = {call.name: call for call in trace.calls if trace.runs[call.name] == 1}

    def made(self) -> Call:
        """Choose.

        Raises:
            OctoscopeError: If there is no layer that everything goes through, with the reason.
        """
        refused: list[tuple[int, str]] = []
        for candidate in candidates(self._model):
            times = [c.point.time for c in self._trace.calls if c.name == candidate.name]
            if not times:
                continue  # it does not run, or nothing depends on it
            reason = self._wrong(candidate)
            if reason is None:
                return self._not_below(refused, self._calls[candidate.name])
            refused.append((max(times), reason))
        return self._not_below(refused, self._last())

    def _not_below(self, refused: list[tuple[int, str]], call: Call | None) -> Call:
        """Refuse a layer that lies below one that was refused."""
        for time, reason in refused:
            if call is None or call.point.time < time:
                raise OctoscopeError(reason)
        if call is None:
            raise OctoscopeError(
                f"{type(self._model).__name__} has no layer with spatial features before its "
                "logits through which everything goes; pass layer= a layer whose output is "
                "(B, C, *S), (B, *S, C) or (B, tokens, C)"
            )
        return call

    def _wrong(self, candidate: Candidate) -> str | None:
        """Say why what a rule names is not the layer, None if it is."""
        name = candidate.name
        if (runs := self._trace.runs[name]) != 1:
            return (
                f"layer {name} runs {runs} times in a forward pass, so its maps are ambiguous; "
                "pass layer= one that runs once"
            )
        call = self._calls[name]
        try:
            layout = self._layout(call)
        except OctoscopeError as error:
            return str(error)
        if self._used(call.point, layout) < 2:
            return (
                f"the logits depend on less than two positions of layer {name}; pass layer= another"
            )
        parent = name.rpartition(".")[0]
        if candidate.standing == "norm":
            block = self._calls.get(parent)
            whole = block is not None and block.point.is_cut
            if block is not None and (call.entry is None or call.entry != block.entry):
                return f"layer {name} is not what its block begins with; pass layer= another"
        else:
            whole = call.point.is_cut
        if not whole:
            return (
                f"not all that the logits come from goes through layer {name}; pass layer= one "
                "that everything goes through, or explain the networks one by one"
            )
        within = {"last": name, "stated": candidate.network, "norm": parent, "block": parent}
        later = self._later(call, within[candidate.standing])
        return None if later is None else f"layer {later} comes after layer {name}; pass layer= it"

    def _later(self, call: Call, within: str) -> str | None:
        """Name a layer with weights and positions after a call, outside of a part of the model."""
        if not within:
            return None
        for other in self._trace.calls:
            around = f"{call.name}.".startswith(f"{other.name}.")
            inside = f"{other.name}.".startswith(f"{within}.")
            if other.point.time <= call.point.time or not other.point.is_cut or around or inside:
                continue
            if self._changes(other, call) and self._has_positions(other):
                return other.name
        return None

    def _changes(self, other: Call, call: Call) -> bool:
        """Say whether a later call makes features anew, rather than norms or keys."""
        if weighs(other.module):
            return len(other.point.shape) > 3 or other.point.shape[-1] == call.point.shape[-1]
        return any(weighs(part) for part in other.module.modules())

    def _last(self) -> Call | None:
        """Return the last layer through which everything goes, None if there is none.

        Raises:
            OctoscopeError: If the last features are no layer's output.
        """
        at_cuts = [call for call in self._trace.calls if call.point.is_cut and self._once(call)]
        last = next((call for call in reversed(at_cuts) if self._has_positions(call)), None)
        beyond = self._last_tensor()
        if beyond is None or (last is not None and beyond.time < last.point.time):
            beyond = None if last is None else last.point
        if beyond is None:
            return None
        for call in reversed(self._trace.calls):
            if call.point.time <= beyond.time:
                break
            if self._once(call) and self._takes_all_patches(call, beyond):
                return call
        if last is not None and self._joins(last.point, beyond) > 1:
            raise OctoscopeError(
                f"the last features of {type(self._model).__name__} are made by operations of its "
                "forward (such as + or torch.cat), not by a layer; put an nn.Identity() after "
                "them and pass layer= its name"
            )
        features = [c for c in self._trace.calls if weighs(c.module) and self._has_positions(c)]
        beside = self._trace.most_in_a_row(beyond, features)
        if last is not None and beside > LONGEST_BRANCH:
            raise OctoscopeError(
                f"layer {last.name} is the last that everything goes through, and {beside} more "
                "layers follow it side by side with others; pass layer= the one to look at"
            )
        return last

    def _last_tensor(self) -> Point | None:
        """Return the last tensor with positions through which everything goes, layer or not."""
        for point in reversed(self._trace.cuts):
            try:
                layout = self._read(point, "", self._model, self._model)
            except OctoscopeError:
                continue
            if self._used(point, layout) > 1:
                return point
        return None

    def _takes_all_patches(self, call: Call, before: Point) -> bool:
        """Say whether all that goes from the patches of an earlier tensor on goes through a layer.

        That is so if the derivative along the paths through the layer is the whole derivative.
        """
        point = call.point
        if len(point.shape) != 3 or point.shape != before.shape or not self._has_positions(call):
            return False
        trace = self._trace
        whole, own = trace.gradient(None, before, None), trace.gradient(None, point, None)
        through = trace.gradient(point.edge, before, own)
        if whole is None or through is None:
            return False
        places = self._read(before, "", self._model, self._model)
        whole, through = places.maps(whole), places.maps(through)
        rounding = ROUNDING.get(point.dtype, EXACT)
        return bool((whole - through).abs().max() <= rounding * whole.abs().max())

    def _joins(self, first: Point, last: Point) -> int:
        """Count the places after a tensor, up to another, where what layers gave comes together."""
        times = [
            call.point.time
            for call in self._trace.calls
            if weighs(call.module) and _spreads(call.point)
        ]
        count, since = 0, first.time
        for point in self._trace.cuts:
            if first.time < point.time <= last.time and _spreads(point):
                count += any(since < time < point.time for time in times)
                since = point.time
        return count

    def _once(self, call: Call) -> bool:
        return self._trace.runs[call.name] == 1

    def _has_positions(self, call: Call) -> bool:
        try:
            return self._used(call.point, self._layout(call)) > 1
        except OctoscopeError:
            return False

    def _layout(self, call: Call) -> TargetLayer:
        network = owner_of(self._model, call.name)
        return self._read(call.point, call.name, call.module, network)

    def _read(self, point: Point, name: str, module: nn.Module, network: nn.Module) -> TargetLayer:
        require_rows(name, point.shape, 1)
        if len(point.shape) == 3 and point.shape[-1] == 1:
            raise OctoscopeError(f"layer {name} gives one number per token, which is no feature")
        return read_layout(network, name, module, point.shape, self._trace.size, self.patches)

    def _used(self, point: Point, layout: TargetLayer) -> int:
        """Count the positions on which the logits depend."""
        used = point.by_first if layout.kind == "nchw" else point.by_last
        if self._trace.blind:
            used = torch.ones_like(used)
        if layout.kind == "tokens":
            used = layout.maps(used[None, :, None])
        return int(used.sum())


def require_rows(name: str, shape: tuple[int, ...], images: int) -> None:
    """Refuse a layer that does not keep a row per image."""
    if len(shape) < 1 or shape[0] != images:
        raise OctoscopeError(
            f"layer {name} gives {shape[0] if shape else 0} rows for {images} images; pass layer= "
            "one that keeps a row per image"
        )


def _spreads(point: Point) -> bool:
    """Say whether a tensor has more than one position, whichever axis holds the channels."""
    return len(point.shape) > 2 and min(point.by_first.numel(), point.by_last.numel()) > 1
