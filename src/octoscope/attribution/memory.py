"""Keeping within memory: batches sized from what is free, halved when it runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from octoscope.attribution.head.known import Known

SHARE = 0.5
"""Of the free memory that a pass may plan to use."""
MOST = {"cpu": 8, "cuda": 64}
"""Images per pass where memory is plenty. On a CPU more of them leave its caches and take 1.4 times
as long each (ResNet-50 and ViT-B at 224, 64 at a time against 8)."""
SIGNS = (
    "not enough memory",  # the CPU's allocator on Windows
    "can't allocate memory",  # and elsewhere
    "out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN
)
"""What is said in errors about memory that have no class of their own."""


def in_pieces(run: Callable[[Tensor], Tensor], rows: Tensor, most: int) -> tuple[Tensor, int]:
    """Apply a function that treats rows independently, to at most `most` rows at once.

    When memory runs out, the piece is halved and tried again.

    Args:
        run: (m, …) to (m, …).
        rows: (n, …).
        most: Rows per piece.

    Returns:
        (n, …), and the number of rows per piece that did fit.

    Raises:
        The error of the memory, if one row does not fit.
    """
    done: list[Tensor] = []
    start = 0
    while start < len(rows):
        piece = rows[start : start + most]
        try:
            done.append(run(piece))
        except RuntimeError as error:
            if len(piece) == 1 or not out_of_memory(error):
                raise
        else:
            start += len(piece)
            continue
        release()  # not before the error is gone, whose frames hold what the pass had made
        most = len(piece) // 2
    return torch.cat(done), most


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error is about memory, on a GPU or a CPU."""
    message = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in message for sign in SIGNS)


def release() -> None:
    """Give memory that is cached, but not used, back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device; on a CPU, what the system calls available."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return int(kilobytes) * 1024
    except (OSError, StopIteration, ValueError):
        return 4 * 2**30  # not Linux: assume a small machine


def most_at_once(device: torch.device) -> int:
    """Return how many images a pass takes at most on a device."""
    return MOST.get(device.type, MOST["cuda"])


def fitting(module: nn.Module, image: Tensor, most: int, *, graph: bool) -> int:
    """Return how many images a pass may take so that it keeps within the free memory.

    Args:
        module: The lent model.
        image: (1, C, *S), run once to measure.
        most: Never more than these.
        graph: Whether the pass keeps the whole graph for a backward.
    """
    each = graph_bytes(module, image) if graph else _largest_bytes(module, image)
    return _that_fit(each, most, image.device)


def _that_fit(each: int, most: int, device: torch.device) -> int:
    """Return how many of so many bytes fit into the free memory, at least 1 and at most `most`."""
    return max(1, min(most, int(SHARE * free_bytes(device) / max(each, 1))))


def graph_bytes(module: nn.Module, image: Tensor) -> int:
    """Return the bytes that autograd keeps of one image's forward, beside the model's own."""
    with torch.inference_mode(False), torch.enable_grad(), KeptBytes(module) as kept:
        # The copy of the leaf is for networks that change their input in place.
        module(image.detach().clone().requires_grad_().clone())
    return kept.bytes


class KeptBytes:
    """A context that counts what autograd keeps of the forward passes inside.

    Gradients through them are as always, also the error where something kept is changed in place.

    Args:
        module: The model, whose own tensors do not count.
    """

    def __init__(self, module: nn.Module) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._held: dict[int, int] = {}
        self._hooks = saved_tensors_hooks(self._pack, _unchanged)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    @property
    def bytes(self) -> int:
        """Bytes kept so far."""
        return sum(self._held.values())

    def _pack(self, tensor: Tensor) -> tuple[Tensor, int]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._held[storage.data_ptr()] = storage.nbytes()
        # An output that its own node saves would hold the graph for ever; without its node, not.
        return tensor.detach(), tensor._version


def _unchanged(kept: tuple[Tensor, int]) -> Tensor:
    """Return what was kept for a backward pass.

    Raises:
        RuntimeError: If it was changed since, as autograd itself would say.
    """
    tensor, version = kept
    if tensor._version != version:
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            f"operation: {tuple(tensor.shape)} is at version {tensor._version}, not {version}"
        )
    return tensor


@dataclass
class GraphLimit:
    """How many images share a pass whose whole graph is kept.

    Attributes:
        most: None until it is known: measured by a forward pass of one image, once per model and
            size; halved when memory runs out. What is measured is not used, so that the first call
            runs the same batches as every other one, to the last bit.
    """

    most: int | None = None

    def apply(
        self, module: nn.Module, run: Callable[[Tensor], Tensor], rows: Tensor, images: Tensor
    ) -> Tensor:
        """Apply a function that treats rows independently, to as many at once as memory allows.

        Args:
            module: The model that it runs.
            run: Row numbers (m,) to (m, …), keeping the graph of m images.
            rows: (n,).
            images: (b, C, *S) such as it runs.

        Returns:
            (n, …).
        """
        if self.most is None and len(rows) > 1:
            known, topic = Known(module), ("graph", images.shape[1:], images.dtype, images.device)
            if known.get(topic) is None:
                known.put(topic, graph_bytes(module, images[:1]))
            self.most = _that_fit(known.get(topic), most_at_once(images.device), images.device)
        found, most = in_pieces(run, rows, self.most or 1)
        if self.most is not None:
            self.most = most
        return found


def _largest_bytes(module: nn.Module, image: Tensor) -> int:
    """Return twice the bytes of the largest layer's output, with its input: a pass's peak."""
    largest = 0

    def watch(_part: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nbytes)

    leaves = [part for part in module.modules() if not any(True for _ in part.children())]
    hooks = [part.register_forward_hook(watch) for part in leaves]
    try:
        with torch.inference_mode():
            module(image)
    finally:
        for hook in hooks:
            hook.remove()
    return 4 * largest
