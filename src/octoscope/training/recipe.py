"""`Recipe`: everything that decides how a classifier is trained, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from octoscope.errors import OctoscopeError, did_you_mean

Optimizer = Literal["adamw", "adam", "sgd", "rmsprop"]
Schedule = Literal["cosine", "step", "constant"]
Balance = Literal["none", "sampler", "loss"]
Precision = Literal["auto", "fp32", "bf16"]
Monitor = Literal["val_balanced_accuracy", "val_accuracy", "val_loss"]
Tracker = Literal["csv", "tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True)
class Recipe:
    """One training run of one network from one seed.

    Attributes:
        model: Name of a timm network.
        model_options: The architecture's own options, such as ``patch_size`` or ``depth``.
        in_channels: Channels that the network takes; grey is repeated for 3.
        pretrained: Start from timm's weights.
        weights: Or from this ``.safetensors`` file.
        epochs: Passes over the training split, ≥ 1.
        batch_size: Scans per step, ≥ 1.
        optimizer: ``adamw``, ``adam``, ``sgd`` (Nesterov where there is momentum), ``rmsprop``.
        lr: Learning rate at its highest, > 0.
        backbone_lr_scale: Factor on `lr` for everything but the head.
        weight_decay: On matrices and kernels only, ≥ 0.
        momentum: Of ``sgd`` and ``rmsprop``, in [0, 1).
        schedule: After the warm-up ``cosine`` falls to `final_lr_factor` · `lr`, ``step``
            multiplies by `step_factor` every `step_epochs` epochs, ``constant`` stays.
        warmup_epochs: Epochs (also parts of one) over which the rate rises from 0; at most half
            of all epochs.
        final_lr_factor: End of the cosine, in [0, 1].
        step_epochs: Epochs between steps, ≥ 1.
        step_factor: Factor per step, in (0, 1].
        balance: ``sampler`` draws classes equally often, ``loss`` weights them by inverse
            frequency, ``none`` takes them as they come.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        patience: Stop after this many epochs without improvement, ≥ 1; None trains to the end.
        freeze_epochs: First epochs in which only the head learns; the rest, batch
            normalisation with its running statistics included, stays as it is.
        average: Decay of the exponential moving average of the weights, in [0, 1); that
            average is then what is validated and kept. 0 switches it off.
        clip_gradient: Largest norm of the gradient, ≥ 0; 0 does not clip.
        augment: Options of `octoscope.data.augment.Augment`, True for its defaults, False for
            none.
        precision: ``bf16`` (autocast), ``fp32``, or ``auto``: bf16 where the machine has it.
        channels_last: Memory layout of images and kernels, or ``auto``.
        seed: Of initial weights, order, augmentation and dropout, ≥ 0.
        monitor: What chooses the best epoch; on a tie the lower val_loss does, then the earlier.
        tracker: Where numbers go besides log.csv.
    """

    model: str = "resnet18"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    in_channels: int = 1
    pretrained: bool = False
    weights: str | None = None
    epochs: int = 30
    batch_size: int = 32
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    backbone_lr_scale: float = 1.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    warmup_epochs: float = 2.0
    final_lr_factor: float = 0.01
    step_epochs: int = 10
    step_factor: float = 0.1
    balance: Balance = "sampler"
    label_smoothing: float = 0.0
    patience: int | None = None
    freeze_epochs: int = 0
    average: float = 0.0
    clip_gradient: float = 0.0
    augment: bool | Mapping[str, Any] = True
    precision: Precision = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    seed: int = 0
    monitor: Monitor = "val_balanced_accuracy"
    tracker: Tracker = "csv"

    def __post_init__(self) -> None:
        self._require_choice("optimizer", get_args(Optimizer))
        self._require_choice("schedule", get_args(Schedule))
        self._require_choice("balance", get_args(Balance))
        self._require_choice("precision", get_args(Precision))
        self._require_choice("channels_last", (True, False, "auto"))
        self._require_choice("monitor", get_args(Monitor))
        self._require_choice("tracker", get_args(Tracker))
        for name, least in (("epochs", 1), ("batch_size", 1), ("step_epochs", 1), ("seed", 0)):
            self._require_number(name, least, whole=True)
        if self.patience is not None:
            self._require_number("patience", 1, whole=True)
        self._require_number("freeze_epochs", 0, self.epochs, whole=True)
        self._require_number("warmup_epochs", 0)
        self._require_number("lr", 0, open_below=True)
        for name in ("weight_decay", "clip_gradient", "backbone_lr_scale"):
            self._require_number(name, 0)
        for name in ("momentum", "label_smoothing", "average"):
            self._require_number(name, 0, 1, open_above=True)
        self._require_number("final_lr_factor", 0, 1)
        self._require_number("step_factor", 0, 1, open_below=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values (tuples become lists)."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make one from what a YAML or JSON file says; what it leaves out keeps its default.

        Raises:
            OctoscopeError: On an unknown field or a value out of range.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise OctoscopeError(
                    f'a recipe has no field "{name}"{did_you_mean(str(name), known)}; '
                    f"use {', '.join(known)}"
                )
        return cls(**values)

    def _require_choice(self, name: str, choices: Collection[object]) -> None:
        value = getattr(self, name)
        if value not in choices:
            texts = [str(c).lower() for c in choices]
            raise OctoscopeError(
                f'recipe: {name} "{value}" is unknown{did_you_mean(str(value), texts)}; '
                f"choose one of {', '.join(texts)}"
            )

    def _require_number(
        self,
        name: str,
        least: float,
        most: float = float("inf"),
        *,
        whole: bool = False,
        open_below: bool = False,
        open_above: bool = False,
    ) -> None:
        value = getattr(self, name)
        good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        good = good and (least < value if open_below else least <= value)
        good = good and (value < most if open_above or most == float("inf") else value <= most)
        if not good:
            below = "above" if open_below else "from"
            bound = f"{below} {least:g}"
            if most != float("inf"):
                bound += f" to {'below ' if open_above else ''}{most:g}"
            raise OctoscopeError(
                f"recipe: {name} must be a {'whole ' if whole else ''}number {bound}, not {value!r}"
            )
