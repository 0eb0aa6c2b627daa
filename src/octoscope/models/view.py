"""A view of a model: the same network in modules of its own, to be changed without being seen.

Threads share a model, and hooks, training flags and switches live on its modules. So whatever
looks into a model does it on a view: every module is copied as a shell, and what one refers to
(children, siblings, a parent, tied weights, methods, closures) is the same thing within the view.
Parameters are not copied: the view has aliases of the same memory, detached and frozen. Buffers
are, so that a pass can change none of the model's.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from octoscope.models.output import is_read

ORIGIN = "_octoscope_origin"
"""Where a module of a view keeps the module that it stands for."""
OWN = "_octoscope_own_weights"
"""Where the top of a view says whether its weights are copies."""

PLAIN = frozenset(
    (bool, int, float, complex, str, bytes, type, type(None), torch.dtype, torch.device, torch.Size)
)
"""Types of values that lead nowhere."""
REPLICATING = (nn.DataParallel, nn.parallel.DistributedDataParallel)
"""Wrappers on whose replicas hooks do not fire."""
MOST = 10_000
"""Entries of a container in which modules are looked for: more are data."""
EMPTY = frozenset((dict, OrderedDict, list, set))
COMPILED = "_torchdynamo_orig_callable"
"""Where a compiled function keeps the function that it was made of."""


def view_of(module: nn.Module, *, own_weights: bool = False) -> nn.Module:
    """Return a view of a module: evaluating, frozen, and eager whatever in it is compiled.

    The flags are set directly, not by ``eval()``, because models override that method to do more
    than set flags. Objects that are no modules are shared with the model, unless they hold one of
    its modules or tensors themselves. TorchScript cannot be taken apart, so it is copied whole.

    Args:
        module: Any module.
        own_weights: Copy the parameters too.
    """
    copier = _Copier(own_weights)
    view: nn.Module = copier.of(module)
    vars(view)[OWN] = own_weights
    for part in view.modules():
        if vars(part).get("training"):
            vars(part)["training"] = False
        if vars(part).get("grad_checkpointing") is True:
            vars(part)["grad_checkpointing"] = False
    for parameter in view.parameters():
        parameter.requires_grad_(False)
    return view


class TorchScript(nn.Module):
    """A module around a copy of a script, which has weights but no layers that can be watched."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        with torch.no_grad():  # or the copies would come with a graph
            own = copy.deepcopy(script)
        for part in own.modules():
            if getattr(part, "training", False):  # a frozen one has no flag
                part.training = False
        vars(self).update(script=own, training=False)  # no child, which would take no hooks
        vars(self)[ORIGIN] = script
        for name, parameter in own.named_parameters():
            self._parameters[name.replace(".", "_")] = parameter.requires_grad_(False)  # type: ignore[assignment]

    def forward(self, *images: Any) -> Any:
        """Run the script."""
        return vars(self)["script"](*images)


def is_view(module: nn.Module) -> bool:
    """Say whether a module is the top of a view."""
    return OWN in vars(module)


def origin(part: nn.Module) -> nn.Module:
    """Return the module that a part of a view stands for; any other module itself."""
    return vars(part).get(ORIGIN, part)


def remembered_by(view: nn.Module) -> nn.Module:
    """Return the module of which what is found in a view holds: its model, if it runs the same.

    It is the view itself where that has copies of the weights, or gives something else.
    """
    own = vars(view).get(OWN) or isinstance(view, TorchScript) or is_read(view)
    return view if own else origin(view)


def counterpart(view: nn.Module, part: nn.Module) -> nn.Module:
    """Return what stands in a view for a part of its model; any other module itself."""
    return next((one for one in view.modules() if origin(one) is part), part)


class _Copier:
    """Copies what leads to a module or tensor, once, and leaves everything else as it is."""

    def __init__(self, own_weights: bool) -> None:
        self._own_weights = own_weights
        self._done: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """Return what stands for a value in the view: the value itself where nothing in it does."""
        if type(value) in PLAIN:
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(
            value, Tensor
        ):  # one that is no weight is somebody's record, such as a hook's
            weight = isinstance(value, nn.Parameter)
            return self._keep(value, self._tensor(value)) if weight else value
        if isinstance(value, MethodType):
            return self._method(value)
        if isinstance(value, partial):
            return self._partial(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, ReferenceType):
            target = value()
            return ref(self.of(target)) if isinstance(target, nn.Module) else value
        if isinstance(value, dict | list | tuple | set):
            return value if len(value) > MOST else self._container(value)
        return self._holder(value)

    def _keep(self, value: Any, found: Any) -> Any:
        self._done[id(value)] = found
        return found

    def _module(self, part: nn.Module) -> nn.Module:
        if isinstance(part, torch.jit.ScriptModule):
            return self._keep(part, TorchScript(part))
        shell = self._keep(part, object.__new__(type(part)))
        state = vars(shell)
        for name, value in list(vars(part).items()):
            if type(value) in PLAIN:
                state[name] = value
            elif type(value) in EMPTY and not value:
                state[name] = type(value)()  # most of what a module has
            elif name == "_buffers":
                # A copy, for a pass may write into it and a training thread does.
                state[name] = {key: self._buffer(one) for key, one in list(value.items())}
            elif isinstance(value, Tensor):
                state[name] = self._done.get(id(value), self._tensor(value))
            elif isinstance(value, dict | list | set):
                state[name] = self._container(value, always=True)
            else:
                state[name] = self.of(value)
        state[ORIGIN] = part
        self._uncompile(shell)
        return shell

    @staticmethod
    def _uncompile(shell: nn.Module) -> None:
        """Let a shell run what it wraps or was compiled from."""
        state = vars(shell)
        if state.get("_compiled_call_impl") is not None:
            state["_compiled_call_impl"] = None
        inside = shell._modules.get("_orig_mod")  # of torch.compile
        if isinstance(shell, REPLICATING):
            inside = shell._modules.get("module")
        if inside is not None:
            state["forward"] = inside.__call__
        plain = getattr(type(shell).forward, COMPILED, None)
        if plain is not None and "forward" not in state:
            state["forward"] = MethodType(plain, shell)

    def _tensor(self, tensor: Tensor) -> Tensor:
        with torch.inference_mode(False):
            data = tensor.detach()
            if self._own_weights:
                data = data.clone()
            if not isinstance(tensor, nn.Parameter):
                return data
            alias = torch.Tensor._make_subclass(type(tensor), data, False)
            vars(alias).update(vars(tensor))
            return alias

    def _buffer(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None or id(tensor) in self._done:
            return None if tensor is None else self._done[id(tensor)]
        with torch.inference_mode(False):
            return self._keep(tensor, tensor.detach().clone())

    def _method(self, method: MethodType) -> Any:
        owner = self.of(method.__self__)
        return method if owner is method.__self__ else MethodType(method.__func__, owner)

    def _partial(self, given: partial[Any]) -> Any:
        inside = (given.func, given.args, given.keywords)
        found = tuple(self.of(one) for one in inside)
        if all(a is b for a, b in zip(found, inside, strict=True)):
            return given
        return partial(found[0], *found[1], **found[2])

    def _function(self, function: FunctionType) -> Any:
        """Return a function whose closure lies in the view, and none that is compiled."""
        plain = vars(function).get(COMPILED)
        if plain is not None:
            return self.of(plain)
        self._done[id(function)] = function  # meanwhile, for one that refers to itself
        before = [_content(cell) for cell in function.__closure__ or ()]
        after = [self.of(one) for one in before]
        defaults = self.of(function.__defaults__)
        same = all(a is b for a, b in zip(before, after, strict=True))
        if same and defaults is function.__defaults__:
            return function
        cells = tuple(CellType(one) for one in after)
        found = FunctionType(
            function.__code__, function.__globals__, function.__name__, defaults, cells
        )
        found.__kwdefaults__ = function.__kwdefaults__
        vars(found).update(vars(function))
        return self._keep(function, found)

    def _container(self, value: Any, *, always: bool = False) -> Any:
        """Return a container of the same type, if anything in it has changed or `always`."""
        if isinstance(value, dict):
            pairs = list(value.items())
            items = {key: self.of(one) for key, one in pairs}
            if not always and all(items[key] is one for key, one in pairs):
                return value
            found = copy.copy(value)
            found.update(items)
            return self._keep(value, found)
        before = list(value)
        after = [self.of(one) for one in before]
        if not always and all(a is b for a, b in zip(before, after, strict=True)):
            return value
        if hasattr(value, "_fields"):
            return self._keep(value, type(value)(*after))
        return self._keep(value, type(value)(after))

    def _holder(self, value: Any) -> Any:
        """Return an object that holds modules or tensors of the model itself, with the view's.

        Only what it holds directly is looked at: through a trainer, say, one could come anywhere.
        """
        state = getattr(value, "__dict__", None)
        if not isinstance(state, dict) or not any(_direct(one) for one in list(state.values())):
            return value
        try:
            found = copy.copy(value)
        except Exception:  # locks, files and the like say so in ways of their own
            return value
        self._keep(value, found)
        for name, one in list(state.items()):
            if _direct(one):
                vars(found)[name] = self.of(one)
        return found


def _direct(value: Any) -> bool:
    """Say whether a value is a module, a weight, a method of a module, or a list of such."""
    if isinstance(value, dict):
        return len(value) <= MOST and any(_direct(one) for one in list(value.values()))
    if isinstance(value, list | tuple | set):
        return len(value) <= MOST and any(_direct(one) for one in list(value))
    return isinstance(getattr(value, "__self__", value), nn.Module | nn.Parameter)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
