"""`Classifier`: a network with its class names and preprocessing, kept in a folder without pickle.

The folder holds ``model.safetensors``, the network's tensors, and ``classifier.json``, everything
else. Nothing in them is executed and no path in them is followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octoscope.errors import OctoscopeError
from octoscope.files import atomic_path, read_json, write_json
from octoscope.models.network import build_saved
from octoscope.models.preprocess import Preprocess
from octoscope.options.binding import LONGEST
from octoscope.options.hints import said
from octoscope.scans.framed import read_framed
from octoscope.scans.framing import Framing, frame_image
from octoscope.scans.readers import to_grey, to_uint8
from octoscope.scans.scan import Scan

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "classifier.json"
FORMAT = "octoscope classifier 1"
MAX_DESCRIPTION = 4 * 2**20
"""Bytes of the description, and of the names and shapes in the weights file."""


class Classifier(nn.Module):
    """Grey images in [0, 1] to logits.

    Attributes:
        network: ``(B, C, H, W)`` normalised to ``(B, K)``; any module.
        classes: Names of the K logits.
        preprocess: From a scan to what the network takes.
        architecture: What `build_network` needs to build it again: name, in_channels, image_size,
            options. Empty for a network of your own, which then cannot be saved.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        preprocess: Preprocess,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.preprocess = preprocess
        self.architecture = dict(architecture or {})
        for name in ("mean", "std"):  # (C, 1, 1); kept in the description, not in the weights
            values = torch.tensor(getattr(preprocess, name), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, K)`` of images ``(B, 1 or C, H, W)`` in [0, 1]."""
        return self.network(self.normalise(x))

    def normalise(self, x: Tensor) -> Tensor:
        """Return images ``(B, 1 or C, H, W)`` in [0, 1] as the network takes them, (B, C, H, W).

        Raises:
            OctoscopeError: If they have another number of channels.
        """
        channels = self.preprocess.channels
        if x.ndim != 4 or x.shape[1] not in (1, channels):
            raise OctoscopeError(
                f"images of shape {tuple(x.shape)} do not fit this classifier; give "
                f"(B, {channels}, H, W) or grey (B, 1, H, W)"
            )
        return (x - self.mean) / self.std  # one grey channel broadcasts to C

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled embedding ``(B, D)``: what the last linear layer sees.

        Args:
            x: ``(B, 1 or C, H, W)`` in [0, 1].
        """
        x = self.normalise(x)
        network = cast(Any, self.network)
        if hasattr(network, "forward_features") and hasattr(network, "forward_head"):
            pooled = network.forward_head(network.forward_features(x), pre_logits=True)
        else:
            pooled = _input_of_head(network, x)
        return pooled.flatten(1)

    def prepare(self, images: Iterable[np.ndarray | Scan | Path | str]) -> Tensor:
        """Read and frame scans, deterministically.

        Args:
            images: Arrays ``(H, W)`` of any grey type and size, scans, or files.

        Returns:
            ``(B, 1, height, width)`` float32 in [0, 1], on the CPU.

        Raises:
            ScanError: If a file cannot be read.
            OctoscopeError: If an array is not ``(H, W)``, or there is none.
        """
        framing = self.preprocess.framing
        framed = [_framed(image, framing) for image in images]
        if not framed:
            raise OctoscopeError("no images to prepare; give at least one")
        return torch.from_numpy(np.stack(framed)).unsqueeze(1).float().div_(255)

    def save(self, folder: Path) -> None:
        """Write the classifier to a folder.

        Raises:
            OctoscopeError: If the network was not built by name, or the disk is full.
        """
        if "name" not in self.architecture:
            raise OctoscopeError(
                "a network of your own cannot be saved as a Classifier, since it cannot be built "
                "again by name; save its state_dict with safetensors"
            )
        # contiguous() undoes channels-last, clone() unties tensors: a file has one copy of each
        state = {
            k: v.detach().cpu().contiguous().clone() for k, v in self.network.state_dict().items()
        }
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary)
        write_json(
            folder / DESCRIPTION_FILE,
            {
                "format": FORMAT,
                "classes": self.classes,
                "architecture": self.architecture,
                "preprocess": self.preprocess.to_dict(),
                "weights_sha256": _sha256(folder / WEIGHTS_FILE),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read a classifier from the folder that `save` wrote; it is on the CPU, in eval mode.

        Raises:
            OctoscopeError: If a file is missing, damaged, or does not belong to the other.
        """
        source, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
        for path in (source, weights):
            if not path.is_file():
                raise OctoscopeError(f"{path}: no such file; train again or copy the whole folder")
        if source.stat().st_size > MAX_DESCRIPTION:
            raise OctoscopeError(f"{source}: larger than {MAX_DESCRIPTION >> 20} MiB, so not read")
        description = read_json(source)
        classes, architecture = _checked(description, source)
        damaged = OctoscopeError(
            f"{weights}: damaged, or not the weights that {DESCRIPTION_FILE} beside it "
            "describes; copy the whole folder again or train again"
        )
        shapes = _shapes(weights)
        if shapes is None:
            raise damaged
        try:
            preprocess = Preprocess.from_dict(description["preprocess"])
            if preprocess.channels != architecture["in_channels"]:
                raise OctoscopeError("preprocess and architecture differ in the channels")
            network = build_saved(
                architecture["name"],
                len(classes),
                in_channels=architecture["in_channels"],
                image_size=cast(tuple[int, int], tuple(architecture["image_size"])),
                options=architecture["options"],
                shapes=shapes,
            )
        except OctoscopeError as error:
            raise OctoscopeError(f"{source}: {error}; copy the whole folder again") from None
        if _sha256(weights) != description.get("weights_sha256"):
            raise damaged
        try:
            state = load_file(weights)
            network.load_state_dict(state)
        except (SafetensorError, RuntimeError) as error:
            raise OctoscopeError(
                f"{weights}: does not hold the weights of {architecture['name']} "
                f"({str(error).splitlines()[-1].strip()[:160]}); train again"
            ) from None
        for key, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise OctoscopeError(
                    f"{weights}: {key} holds values that are no numbers (NaN or infinity), so the "
                    "model says nothing; train again, with a lower learning rate"
                )
        return cls(network, classes, preprocess, architecture).eval()


def _shapes(weights: Path) -> dict[str, tuple[int, ...]] | None:
    """Return name → shape of the tensors in a file, None if it is no file of tensors."""
    with weights.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > MAX_DESCRIPTION:
            return None
    try:
        with safe_open(weights, framework="pt") as tensors:
            names = list(tensors.keys())
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError):
        return None


def _checked(description: Any, source: Path) -> tuple[list[str], dict[str, Any]]:
    """Return class names and architecture of a description, each of the type it must have."""
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise OctoscopeError(f'{source}: not a classifier of this version ("{FORMAT}")')
    classes, architecture = description.get("classes"), description.get("architecture")
    if (
        not isinstance(classes, list)
        or not all(isinstance(c, str) and 0 < len(c) <= LONGEST for c in classes)
        or not 2 <= len(set(classes)) == len(classes)
    ):
        raise OctoscopeError(f"{source}: classes must be at least 2 different names")
    kinds = {"name": str, "in_channels": int, "image_size": list, "options": dict}
    if not isinstance(architecture, dict) or not all(
        type(architecture.get(key)) is kind for key, kind in kinds.items()
    ):
        raise OctoscopeError(f"{source}: architecture must have {', '.join(kinds)}")
    size = architecture["image_size"]
    if len(size) != 2 or not all(type(side) is int for side in size):
        raise OctoscopeError(f"{source}: image_size must be rows and columns, not {said(size)}")
    if not isinstance(description.get("preprocess"), dict):
        raise OctoscopeError(f"{source}: has no preprocess")
    return classes, architecture


def _input_of_head(network: nn.Module, x: Tensor) -> Tensor:
    """Return what the last linear layer of any network takes for `x`."""
    heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise OctoscopeError(
            f"{type(network).__name__} has no linear layer, so its features are not known; give "
            "it forward_features and forward_head methods"
        )
    seen: list[Tensor] = []
    hook = heads[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network(x)
    finally:
        hook.remove()
    return seen[-1]


def _framed(image: np.ndarray | Scan | Path | str, framing: Framing) -> np.ndarray:
    """Return a scan in the model's frame, uint8; a file gives the very pixels the cache holds."""
    if isinstance(image, str | Path):
        return read_framed(Path(image), framing)[0]
    grey, depth = (to_grey(image), image.depth) if isinstance(image, Scan) else (image, None)
    grey = to_uint8(grey, framing.levels, depth=depth)
    if grey.ndim != 2:
        raise OctoscopeError(
            f"an image of shape {grey.shape} is not a B-scan; give grey arrays (H, W)"
        )
    return frame_image(grey, framing)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
