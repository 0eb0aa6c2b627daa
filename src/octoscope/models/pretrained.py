"""Where pretrained weights come from, and one sentence when they do not.

Weights are files of tensors (safetensors); a pickle is never opened from a path of the user's.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from torch import nn

from octoscope.errors import OctoscopeError


def weights_from(path: Path) -> dict[str, Any]:
    """Return the entries that make timm load a network's weights from a local file.

    Raises:
        OctoscopeError: If `path` is not a readable safetensors file.
    """
    if path.suffix != ".safetensors":
        raise OctoscopeError(
            f"{path}: weights are read from .safetensors files only (other formats can carry "
            "code); convert them with safetensors.torch.save_file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            if not list(file.keys()):
                raise OctoscopeError(f"{path}: holds no tensors; give another weights file")
    except FileNotFoundError:
        raise OctoscopeError(f"{path}: no such file; give the path of the weights") from None
    except (SafetensorError, OSError) as error:
        raise OctoscopeError(
            f"{path}: not a readable safetensors file ({error}); fetch or convert it again"
        ) from None
    # num_classes 0 differs from any classifier's, so a head of other classes is dropped, not
    # taken for ours; custom_load would read the file as another framework's.
    return {"file": str(path), "num_classes": 0, "custom_load": False}


@contextmanager
def explained_loading(name: str, weights: Path | None = None) -> Iterator[None]:
    """Say in one sentence why the pretrained weights of `name` could not be loaded.

    Without a network the hub's client tries for a minute before it gives up; here it is told to
    look in its local cache only.

    Raises:
        OctoscopeError: If they could not.
    """
    logger = logging.getLogger("timm")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)  # its warnings about replaced heads are no news
    if weights is None and not _hub_resolves():
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError) as error:
        # hub, URL and socket errors are all OSErrors or RuntimeErrors
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if weights is not None:
            raise OctoscopeError(
                f"{weights}: these are not the weights of {name} with these options "
                f"({lines[-1].strip()[:200]}); give the file that belongs to it"
            ) from error
        raise OctoscopeError(
            f"the pretrained weights of {name} could not be loaded ({lines[0][:160]}); connect to "
            "the network once so that they can be cached, give a local file with "
            "weights=FILE.safetensors, or train from scratch with pretrained=False"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)


def require_loaded(network: nn.Module, again: nn.Module, weights: Path, name: str) -> None:
    """Check that every kernel and matrix but the head's came from the file.

    Names that differ are skipped silently when a head is replaced, so the file of another
    architecture would "load" and leave the network random. What is random differs with the seed.

    Args:
        network: The network built from `weights` with one seed.
        again: The same with another seed.
        weights: The file, for the message.
        name: The architecture, for the message.

    Raises:
        OctoscopeError: If a parameter depends on the seed.
    """
    heads: str | tuple[str, ...] = cast(dict, network.pretrained_cfg).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    others = dict(again.named_parameters())
    random = [
        key
        for key, value in network.named_parameters()
        if key.rpartition(".")[0] not in heads and not torch.equal(value, others[key])
    ]
    if random:
        raise OctoscopeError(
            f"{weights}: has no weights for {len(random)} parameters of {name} (such as "
            f"{random[0]}); give the file that belongs to this architecture and its options"
        )


def _hub_resolves() -> bool:
    """Say whether the hub's name can be looked up, the quickest sign of a network."""
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
