"""The metrics of stability, as rows of the registry. Knows no torch.

Null maps are no floor here: a map that ignores the model, such as the middle of the picture, is
as stable as can be. So stability can speak against a method, never for one.
"""

from __future__ import annotations

from octoscope.trust.metric import Metric

YEH = "Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, equation 3"
CRABBE = (
    "Crabbé & van der Schaar, Evaluating the Robustness of Interpretability Methods through "
    "Explanation Invariance and Equivariance, NeurIPS 2023, section 2, with rank correlation"
)
SEEDS = "Mean over pairs of models that differ in their seed alone"


def _row(
    name: str,
    title: str,
    sentence: str,
    source: str,
    *,
    values: str = "−1…1",
    higher: bool = True,
    headline: bool = False,
) -> Metric:
    return Metric(
        name=name,
        title=title,
        family="stability",
        higher_is_better=higher,
        range=values,
        sentence=sentence,
        source=source,
        headline=headline,
        nulls=False,
    )


ROWS: tuple[Metric, ...] = (
    _row(
        "max_sensitivity",
        "Max-sensitivity",
        "How far the map moves, relative to its length, under the worst of a few draws of noise "
        "too weak to see; 0 is not at all.",
        f"{YEH}, divided by the length of the map",
        values="0…",
        higher=False,
        headline=True,
    ),
    _row(
        "shift_equivariance",
        "Shift equivariance",
        "Rank correlation of the map of a scan shifted by a few pixels with the map shifted "
        "alike; 1 is a map that moves with the scan.",
        CRABBE,
    ),
    _row(
        "flip_equivariance",
        "Flip equivariance",
        "Rank correlation of the map of a scan mirrored left to right with the map mirrored "
        "alike; 1 is a map that does not care which eye it is.",
        CRABBE,
    ),
    _row(
        "seed_agreement",
        "Agreement over seeds",
        "Rank correlation of the maps of one scan by the same method on models trained alike "
        "with different seeds.",
        SEEDS,
    ),
    _row(
        "seed_overlap",
        "Overlap over seeds",
        "Intersection over union of the highest tenth of the pixels in the maps of one scan by "
        "the same method on models trained alike with different seeds; chance is 0.05.",
        SEEDS,
        values="0…1",
    ),
)
