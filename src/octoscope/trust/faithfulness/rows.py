"""The metrics of faithfulness, as rows of the registry. Knows no torch."""

from __future__ import annotations

from octoscope.trust.metric import Metric

RISE = "Petsiuk, Das & Saenko, RISE, BMVC 2018, section 4.2"
CHEFER = "Chefer, Gur & Wolf, Transformer Interpretability Beyond Attention, CVPR 2021, section 4.1"
ROAD = (
    "Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD), "
    "ICML 2022, noisy linear imputation"
)


def _row(
    name: str,
    title: str,
    sentence: str,
    source: str,
    *,
    higher: bool,
    low: str = "0",
    headline: bool = False,
) -> Metric:
    return Metric(
        name=name,
        title=title,
        family="faithfulness",
        higher_is_better=higher,
        range=f"{low}…1",
        sentence=sentence,
        source=source,
        headline=headline,
    )


ROWS: tuple[Metric, ...] = (
    _row(
        "deletion",
        "Deletion",
        "Mean probability of the class while the pixels that the map ranks highest are taken away "
        "first.",
        RISE,
        higher=False,
    ),
    _row(
        "insertion",
        "Insertion",
        "Mean probability of the class while the pixels that the map ranks highest are put first "
        "into an image without content.",
        RISE,
        higher=True,
    ),
    _row(
        "insertion_minus_deletion",
        "Insertion − deletion",
        "How much more of the class is seen in the pixels that the map ranks high than in those "
        "it ranks low; 0 is what a map without any order scores.",
        f"{RISE}; the difference of its two areas",
        higher=True,
        low="−1",
        headline=True,
    ),
    _row(
        "positive_perturbation",
        "Positive perturbation",
        "Share of the steps, from 10 to 90 % of the pixels taken away highest first, at which the "
        "class is still the one predicted.",
        CHEFER,
        higher=False,
    ),
    _row(
        "negative_perturbation",
        "Negative perturbation",
        "Share of the steps, from 10 to 90 % of the pixels taken away lowest first, at which the "
        "class is still the one predicted.",
        CHEFER,
        higher=True,
    ),
    _row(
        "road_morf",
        "ROAD, most relevant first",
        "Mean probability of the class with the highest-ranked pixels imputed from their "
        "neighbours, so that the shape of what was removed tells nothing.",
        ROAD,
        higher=False,
    ),
    _row(
        "road_lerf",
        "ROAD, least relevant first",
        "Mean probability of the class with the lowest-ranked pixels imputed from their "
        "neighbours.",
        ROAD,
        higher=True,
    ),
    _row(
        "road",
        "ROAD",
        "How much more of the class is left when the lowest-ranked pixels are imputed than when "
        "the highest-ranked are; 0 is what a map without any order scores.",
        f"{ROAD}; least less most relevant first",
        higher=True,
        low="−1",
        headline=True,
    ),
    _row(
        "infidelity",
        "Infidelity",
        "Share of the change of the logit under removed squares that the map, at its best scale, "
        "does not foretell; 1 is what a map that foretells nothing scores.",
        "Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, "
        "equation 1, at the best scale",
        higher=False,
    ),
)
