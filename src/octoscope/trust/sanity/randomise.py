"""Forgetting what some layers of a model have learned, for the length of a context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from zlib import crc32

import torch
from torch import Tensor, nn

Own = Mapping[str, Tensor | None]


@contextmanager
def randomised(modules: Iterable[tuple[str, nn.Module]], seed: int = 0) -> Iterator[None]:
    """Give modules new weights, and give the old ones back on leaving, also by an exception.

    A module that knows how to start over does so (``reset_parameters``; a batch norm then has mean
    0, variance 1, scale 1 and shift 0). Of any other, each floating parameter is drawn from a
    normal distribution with the parameter's own mean and standard deviation: it keeps its
    magnitude and loses its pattern. Only what the modules own themselves is changed, not their
    children; but a tensor that several modules share is one tensor, and changes in all of them.

    The draw of a module depends on the seed, its name and its device, not on what else is drawn.
    The generators of torch are left as they were.

    Args:
        modules: Names and modules, such as a stage's.
        seed: Of the draws.
    """
    given = list(modules)
    with ExitStack() as undo:
        for _, module in given:
            undo.callback(_restore, module, *_state(module))
        for name, module in given:
            _randomise(module, seed_of(seed, name))
        yield


def seed_of(seed: int, name: str) -> int:
    """Return the seed of one module: layers of the same shape must not get the same weights."""
    return crc32(f"{seed} {name}".encode())


def _state(module: nn.Module) -> tuple[Own, Own, list[tuple[Tensor, Tensor]]]:
    """Return a module's own tensors as objects, and copies of what they hold."""
    parameters, buffers = dict(module._parameters), dict(module._buffers)
    with torch.inference_mode(False), torch.no_grad():
        copies = [
            (tensor, tensor.detach().clone())
            for tensor in (*parameters.values(), *buffers.values())
            if tensor is not None
        ]
    return parameters, buffers, copies


def _restore(
    module: nn.Module, parameters: Own, buffers: Own, copies: list[tuple[Tensor, Tensor]]
) -> None:
    module._parameters.clear()
    module._parameters.update(parameters)  # type: ignore[arg-type]
    module._buffers.clear()
    module._buffers.update(buffers)
    with torch.inference_mode(False), torch.no_grad():
        for tensor, before in copies:
            tensor.copy_(before)


def _randomise(module: nn.Module, seed: int) -> None:
    own = list(module.parameters(recurse=False))
    cards = {p.device for p in own if p.device.type == "cuda"}
    with (
        torch.random.fork_rng([device.index for device in cards]),
        torch.inference_mode(False),
        torch.no_grad(),
    ):
        torch.manual_seed(seed)
        if _starts_over(module):
            module.reset_parameters()  # type: ignore[operator]
            return
        for parameter in own:
            if parameter.is_floating_point() and parameter.numel() > 1:
                values = parameter.double()
                drawn = torch.randn_like(parameter) * float(values.std()) + float(values.mean())
                parameter.copy_(drawn)


def _starts_over(module: nn.Module) -> bool:
    """Say whether a module can be reset without touching the weights of others within it."""
    inner = any(True for child in module.children() for _ in child.parameters())
    return callable(getattr(module, "reset_parameters", None)) and not inner
