"""`Recipe`: everything that decides how a classifier is trained, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from octoscope.errors import OctoscopeError
from octoscope.options.binding import check_fields, make
from octoscope.options.limits import BatchSize, Seed, Share, Within

Optimizer = Literal["adamw", "adam", "sgd", "rmsprop"]
Schedule = Literal["cosine", "step", "constant"]
Balance = Literal["none", "sampler", "loss"]
Precision = Literal["auto", "fp32", "bf16"]
Monitor = Literal["val_balanced_accuracy", "val_accuracy", "val_loss"]
Tracker = Literal["csv", "tensorboard", "mlflow", "wandb"]
Epochs = Annotated[int, Within(1)]
AtLeast0 = Annotated[float, Within(0)]
Below1 = Annotated[float, Within(0, 1, open_above=True)]


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
    in_channels: Literal[1, 3] = 1
    pretrained: bool = False
    weights: str | None = None
    epochs: Epochs = 30
    batch_size: BatchSize = 32
    optimizer: Optimizer = "adamw"
    lr: Annotated[float, Within(0, open_below=True)] = 1e-3
    backbone_lr_scale: AtLeast0 = 1.0
    weight_decay: AtLeast0 = 0.05
    momentum: Below1 = 0.9
    schedule: Schedule = "cosine"
    warmup_epochs: AtLeast0 = 2.0
    final_lr_factor: Share = 0.01
    step_epochs: Epochs = 10
    step_factor: Annotated[float, Within(0, 1, open_below=True)] = 0.1
    balance: Balance = "sampler"
    label_smoothing: Below1 = 0.0
    patience: Epochs | None = None
    freeze_epochs: Annotated[int, Within(0)] = 0
    average: Below1 = 0.0
    clip_gradient: AtLeast0 = 0.0
    augment: bool | Mapping[str, Any] = True
    precision: Precision = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    seed: Seed = 0
    monitor: Monitor = "val_balanced_accuracy"
    tracker: Tracker = "csv"

    def __post_init__(self) -> None:
        check_fields(self, "recipe")
        if self.freeze_epochs > self.epochs:
            raise OctoscopeError(
                f"freeze_epochs must be a whole number from 0 to {self.epochs}, the epochs, not "
                f"{self.freeze_epochs}"
            )

    def require_known(self) -> None:
        """Check what only the libraries know: the model's name, and the augmentation's options.

        Raises:
            OctoscopeError: If they do not exist.
        """
        from octoscope.data.augment import Augment
        from octoscope.models.network import require_known, require_options

        require_known(self.model)
        require_options(self.model, self.model_options)
        if not isinstance(self.augment, bool):
            Augment.from_dict(self.augment)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values (tuples become lists)."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make one from what a YAML or JSON file says; what it leaves out keeps its default.

        Raises:
            OctoscopeError: On an unknown field or a value out of range.
        """
        return make(cls, values, "recipe: ")
