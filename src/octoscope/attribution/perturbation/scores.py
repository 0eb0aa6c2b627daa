"""What a model's logits are turned into where changed images are compared: a probability or none.

A probability depends on what the head was trained for. Classes of which one is right share the
softmax; labels that may hold together have a sigmoid each, and their softmax would blame a finding
for what another one does. Neither weights nor logits tell which, so a probability is taken only
where the head is known, and the logit, which is a class's own in both cases, where it is not.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.classifier import Classifier
from octoscope.models.probe import logits_of

Score = Literal["softmax", "sigmoid", "logit"]
SCORES: tuple[Score, ...] = get_args(Score)


def require_score(method: str, score: object, known: tuple[str, ...] = SCORES) -> None:
    """Refuse an unknown score.

    Raises:
        OctoscopeError: With what it may be.
    """
    if score not in known:
        raise OctoscopeError(
            f'{method}: score="{score}" is not known{did_you_mean(str(score), known)}; '
            f"known are {', '.join(known)}"
        )


def scored(logits: Tensor, score: Score) -> Tensor:
    """Return what logits (…, K) are compared by: their softmax, sigmoid, or themselves.

    The softmax of a single logit is that against 0, which is its sigmoid.
    """
    if score == "softmax" and logits.shape[-1] > 1:
        return logits.softmax(-1)
    return logits if score == "logit" else logits.sigmoid()


def score_of_head(module: nn.Module, image: Tensor) -> Score:
    """Tell by which score a head's logits become the probability of a class.

    A single logit is a sigmoid's. A `Classifier` is trained for one class per scan, by softmax. A
    model of ``transformers`` says what its problem is. Outputs that a sigmoid or softmax gives are
    probabilities already, and taken as they are, as are the logits of a head of several classes
    that is none of these.

    Args:
        module: The lent model.
        image: (1, C, *S), run once.
    """
    if isinstance(module, Classifier):
        return "softmax"
    said = getattr(getattr(module, "config", None), "problem_type", None)
    if said in ("multi_label_classification", "single_label_classification"):
        return "sigmoid" if said == "multi_label_classification" else "softmax"
    with torch.inference_mode(False), torch.enable_grad():
        logits = logits_of(module(image.detach().clone().requires_grad_()))
    node = logits.grad_fn
    given = node is not None and node.name().startswith("Sigmoid")
    return "sigmoid" if logits.shape[1] == 1 and not given else "logit"
