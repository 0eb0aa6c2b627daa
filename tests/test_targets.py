"""Scores that can be explained instead of a class, against their closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn import functional as F

from octoscope import targets
from octoscope.errors import OctoscopeError

LOGITS = arrays("float64", (3, 4), elements=st.floats(-30, 30)).map(torch.from_numpy)


@settings(deadline=None)
@given(LOGITS)
def test_scores_are_their_closed_forms(logits: Tensor) -> None:
    probabilities = logits.softmax(1)
    assert targets.difference(2, 0)(logits).equal(logits[:, 2] - logits[:, 0])
    assert targets.logit(3)(logits).equal(logits[:, 3])
    torch.testing.assert_close(targets.probability(1)(logits), probabilities[:, 1])
    against = torch.log1p(-probabilities[:, 1]) - probabilities[:, 1].log()
    finite = against.isfinite() & (probabilities[:, 1] < 1 - 1e-6)  # else 1 - p is rounding
    torch.testing.assert_close(
        targets.not_class(1)(logits)[finite], against[finite], atol=1e-6, rtol=1e-4
    )
    independent = targets.probability(1, independent=True)(logits)
    torch.testing.assert_close(independent, logits[:, 1].sigmoid())


def test_a_single_logit_has_another_class() -> None:
    logits = torch.tensor([[1.5], [-0.5]])
    assert targets.not_class()(logits).tolist() == [-1.5, 0.5]
    torch.testing.assert_close(targets.probability(0)(logits), logits[:, 0].sigmoid())
    with pytest.raises(OctoscopeError, match=r"single logit.*octoscope.targets.not_class\(\)"):
        targets.logit(1)(logits)


def test_similarity_is_the_cosine_and_the_mean_over_several() -> None:
    features, two = torch.randn(5, 6), torch.randn(2, 6)
    one = targets.similar_to(two[0])(features)
    torch.testing.assert_close(one, F.cosine_similarity(features, two[:1]))
    both = torch.stack([F.cosine_similarity(features, row[None]) for row in two]).mean(0)
    torch.testing.assert_close(targets.similar_to(two)(features), both)
    with pytest.raises(OctoscopeError, match="the embedding has 6 numbers and the model gives 5"):
        targets.similar_to(two)(torch.randn(2, 5))
    with pytest.raises(OctoscopeError, match="takes an embedding"):
        targets.similar_to(torch.zeros(1, 2, 3))


def test_names_of_classes_are_looked_up() -> None:
    named = targets.difference("DME", 0).named(["CNV", "DME"])
    assert (named.classes, named.sentence) == ((1, 0), "DME − CNV")
    assert targets.probability(1).named([]).sentence == "probability of class 1"
    with pytest.raises(OctoscopeError, match=r'"DMA" is no class.*did you mean "DME"'):
        targets.logit("DMA").named(["CNV", "DME"])
    with pytest.raises(OctoscopeError, match="give class_names="):
        targets.logit("DME").named([])


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OctoscopeError, match="the model has 3 classes, 0 to 2"):
        targets.difference(0, 3)(torch.zeros(1, 3))
    with pytest.raises(OctoscopeError, match="no logits"):
        targets.logit(0)(torch.zeros(1, 3, 8, 8))
