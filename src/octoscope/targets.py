"""What a map may explain beside the logit of one class: any score of what the model gives.

```python
from octoscope import explain, targets

explain(model, images, "gradcam", targets.difference("DME", "CNV"))  # rather DME than CNV
explain(model, images, "gradcam", targets.probability("DME"))
explain(model, images, "gradcam", targets.not_class())  # against the only logit
explain(encoder, images, "gradcam", targets.similar_to(embedding))
explain(model, images, "gradcam", lambda logits: logits[:, 2] - logits.mean(1))
```

Any function from what the model gives, most often logits (b, K), to one number per image (b,) is a
target. The images of a call go through in batches, so it must treat every row by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from octoscope.errors import OctoscopeError, did_you_mean

Score = Callable[[Tensor], Tensor]
"""What the model gives, (b, K) logits or another output (b, …), to a number per image, (b,)."""
Class = int | str
"""A class by its index or its name."""


@dataclass(frozen=True)
class Target:
    """A score with a name, and classes that may be called by theirs.

    Attributes:
        sentence: What it is called, with ``{0}``, ``{1}`` for the classes.
        of: What the model gives (b, …) and the indices of the classes to (b,).
        classes: The classes that it is about.
        linear: Whether it is a sum of logits with weights.
    """

    sentence: str
    of: Callable[..., Tensor]
    classes: tuple[Class, ...] = ()
    linear: bool = False

    def __call__(self, output: Tensor) -> Tensor:
        """Return the score (b,) of what the model gives (b, …)."""
        return self.of(output, *self.classes)

    def named(self, names: Sequence[str]) -> Target:
        """Return the target with indices in place of the names of classes, and names in its own.

        Raises:
            OctoscopeError: If a name is not one of the model's classes.
        """
        indices = tuple(class_index(one, names) for one in self.classes)
        called = [names[i] if i < len(names) else f"class {i}" for i in indices]
        return replace(self, sentence=self.sentence.format(*called), classes=indices)


def difference(a: Class, b: Class) -> Target:
    """Explain what speaks for class a rather than for class b: y_a - y_b, of the logits y."""

    def score(logits: Tensor, a: int, b: int) -> Tensor:
        return column(logits, a) - column(logits, b)

    return Target("{0} − {1}", score, (a, b), linear=True)


def logit(of: Class) -> Target:
    """Explain a class as a target among others: y_k."""
    return Target("{0}", column, (of,), linear=True)


def probability(of: Class, *, independent: bool = False) -> Target:
    """Explain the probability of a class rather than its logit.

    Args:
        of: The class k.
        independent: Whether every logit is a yes or no of its own (sigmoid), as for several labels
            per image; otherwise the classes exclude each other (softmax). A single logit always
            means a sigmoid.
    """

    def score(logits: Tensor, k: int) -> Tensor:
        own = column(logits, k)
        if independent or logits.shape[1] == 1:
            return own.sigmoid()
        return (own - logits.logsumexp(1)).exp()

    return Target("probability of {0}", score, (of,))


def not_class(of: Class = 0) -> Target:
    """Explain what speaks against a class: its log-odds with the opposite sign.

    Of a single logit y it is -y, the logit of the other class; of several it is
    log Σ_{j≠k} exp(y_j) - y_k.
    """

    def score(logits: Tensor, k: int) -> Tensor:
        own = column(logits, k)
        if logits.shape[1] == 1:
            return -own
        others = torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1)
        return others.logsumexp(1) - own

    return Target("not {0}", score, (of,))


def similar_to(embedding: Tensor) -> Target:
    """Explain the cosine similarity between what the model gives and an embedding.

    Args:
        embedding: (D,), such as the mean features of a class; of several (n, D), the mean of the
            similarities counts. The model gives (b, D), or more axes that are flattened to it.
    """
    if not isinstance(embedding, Tensor) or embedding.ndim not in (1, 2) or not embedding.numel():
        raise OctoscopeError("similar_to takes an embedding (D,), or several (n, D), as a tensor")
    kept = embedding.detach().clone()

    def score(output: Tensor) -> Tensor:
        found, wanted = output.flatten(1), kept.reshape(-1, kept.shape[-1]).to(output)
        if found.shape[1] != wanted.shape[1]:
            raise OctoscopeError(
                f"similar_to: the embedding has {wanted.shape[1]} numbers and the model gives "
                f"{found.shape[1]} per image; explain the encoder, or name its output with output="
            )
        return (F.normalize(found, dim=1) @ F.normalize(wanted, dim=1).T).mean(1)

    return Target("similarity", score)


def column(logits: Tensor, k: int) -> Tensor:
    """Return the logit (b,) of class k.

    Raises:
        OctoscopeError: If there is none, or these are no logits.
    """
    if logits.ndim != 2:
        raise OctoscopeError(
            f"the model gives {tuple(logits.shape)}, which are no logits (B, K) of classes; "
            "give a function of it as the target"
        )
    require_class(k, logits.shape[1])
    return logits[:, k]


def require_class(k: int, known: int) -> None:
    """Refuse the index of a class that does not exist.

    Raises:
        OctoscopeError: With what there is.
    """
    if 0 <= k < known:
        return
    if known == 1:
        raise OctoscopeError(
            f"class {k} does not exist: the model gives a single logit, which is class 0; for its "
            "other class use octoscope.targets.not_class()"
        )
    raise OctoscopeError(
        f"class {k} does not exist: the model has {known} classes, 0 to {known - 1}"
    )


def class_index(one: Class, names: Sequence[str]) -> int:
    """Return the index of a class.

    Args:
        one: Its index or name.
        names: Names of the model's classes, empty if they are not known.

    Raises:
        OctoscopeError: If the name is not known.
    """
    if not isinstance(one, str):
        return int(one)
    if one in names:
        return list(names).index(one)
    if not names:
        raise OctoscopeError(
            f'the model does not say what its classes are called, so "{one}" cannot be looked up; '
            "give class_names=[…], or the index of the class"
        )
    raise OctoscopeError(
        f'"{one}" is no class of the model{did_you_mean(one, names)}; it has {", ".join(names)}'
    )
