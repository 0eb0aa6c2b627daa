"""The metrics of localisation, as rows of the registry. Knows no torch."""

from __future__ import annotations

from octoscope.trust.metric import Metric

ARRAS = "Arras, Osman & Samek, CLEVR-XAI, Information Fusion 2022, section 3.3"
ZHANG = "Zhang et al., Excitation Backprop, IJCV 2018, section 4.2"
PASCAL = "Everingham et al., The PASCAL VOC Challenge, IJCV 2010, section 4.2, not interpolated"
OTSU = "Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE SMC 1979"
GOTKOWSKI = "Gotkowski et al., M3d-CAM, arXiv:2007.00453, 2020; definition of its library"
CHEFER = "Chefer, Gur & Wolf, Transformer Interpretability Beyond Attention, CVPR 2021, section 4.2"


def _row(
    name: str,
    title: str,
    sentence: str,
    source: str,
    *,
    high: str = "1",
    headline: bool = False,
) -> Metric:
    return Metric(
        name=name,
        title=title,
        family="localisation",
        higher_is_better=True,
        range=f"0…{high}",
        sentence=sentence,
        source=source,
        headline=headline,
    )


ROWS: tuple[Metric, ...] = (
    _row(
        "relevance_mass",
        "Relevance mass",
        "Share of the map's positive part that lies on the lesion; also known as the energy-based "
        "pointing game. Chance is the lesion's share of the frame.",
        f"{ARRAS}; Wang et al., Score-CAM, CVPRW 2020, section 4.3",
    ),
    _row(
        "lift",
        "Lift over chance",
        "Relevance mass divided by the lesion's share of the frame; 1 is chance.",
        ARRAS,
        high="∞",
    ),
    _row(
        "pointing_game",
        "Pointing game",
        "Whether the map's maximum lies on the lesion or within 15 pixels of it. Chance is that "
        "area's share of the frame.",
        ZHANG,
    ),
    _row(
        "rank_accuracy",
        "Relevance rank accuracy",
        "Share of the map's highest pixels, as many as the lesion has, that lie on the lesion. "
        "Chance is the lesion's share of the frame.",
        ARRAS,
    ),
    _row(
        "pixel_ap",
        "Pixel average precision",
        "Area under the precision–recall curve of telling the lesion's pixels by the map's values. "
        "Chance, and what a map silent on the lesion scores at least about, is the lesion's share "
        "of the frame.",
        PASCAL,
        headline=True,
    ),
    _row(
        "iou_own_area",
        "IoU at the lesion's own area",
        "Overlap of the lesion with the map's highest pixels, as many as the lesion has; r/(2 − r) "
        "of the rank accuracy r. Chance is a/(2 − a) of the lesion's share a of the frame.",
        f"{ARRAS}; Jaccard index of its two areas",
    ),
    _row(
        "iou_otsu",
        "IoU at Otsu's threshold",
        "Overlap of the lesion with what lies above the threshold that Otsu's method finds in the "
        "map. Its chance is not known: it hangs on how much the map marks.",
        OTSU,
    ),
    _row(
        "ioa",
        "Intersection over attention",
        "Share of what lies above Otsu's threshold that lies on the lesion. Chance is the lesion's "
        "share of the frame.",
        GOTKOWSKI,
    ),
    _row(
        "ioa_weighted",
        "Weighted intersection over attention",
        "Share of the map's values above Otsu's threshold that lies on the lesion: the relevance "
        "mass without what is faint. Chance is the lesion's share of the frame.",
        GOTKOWSKI,
    ),
    _row(
        "pixel_accuracy",
        "Pixel accuracy at the mean",
        "Share of pixels told right, lesion or not, by what lies above the map's mean. Marking "
        "nothing already scores 1 minus the lesion's share of the frame; read it against the "
        "null maps alone.",
        CHEFER,
    ),
    _row(
        "mean_iou",
        "Mean IoU at the mean",
        "Mean of the overlap with the lesion and with the background, marked by the map's mean, "
        "for every scan on its own. Its chance is not known.",
        CHEFER,
    ),
    _row(
        "soft_ap",
        "Average precision of both classes",
        "Average precision of one ranking in which every pixel stands as lesion with the map's "
        "value and as background with 1 minus it. Most right answers are background, so dark maps "
        "score high; its chance is not known.",
        f"{CHEFER}, as its published script computes it",
    ),
    _row(
        "relevance_mass_retina",
        "Relevance mass within the retina",
        "Share of the map's positive part within the retina that lies on the lesion. Chance is the "
        "lesion's share of the retina.",
        ARRAS,
        headline=True,
    ),
    _row(
        "lift_retina",
        "Lift over chance within the retina",
        "Relevance mass within the retina divided by the lesion's share of the retina; 1 is "
        "chance.",
        ARRAS,
        high="∞",
    ),
    _row(
        "rank_accuracy_retina",
        "Relevance rank accuracy within the retina",
        "Rank accuracy when the retina's pixels alone are ranked. Chance is the lesion's share of "
        "the retina.",
        ARRAS,
    ),
    _row(
        "pixel_ap_retina",
        "Pixel average precision within the retina",
        "Pixel average precision over the retina's pixels alone. Chance is the lesion's share of "
        "the retina.",
        PASCAL,
    ),
)

CHANCE: dict[str, str] = {
    "relevance_mass": "lesion_area",
    "rank_accuracy": "lesion_area",
    "pixel_ap": "lesion_area",
    "ioa": "lesion_area",
    "ioa_weighted": "lesion_area",
    "iou_own_area": "iou_chance",
    "pointing_game": "pointing_chance",
    "relevance_mass_retina": "lesion_area_retina",
    "rank_accuracy_retina": "lesion_area_retina",
    "pixel_ap_retina": "lesion_area_retina",
}
"""Metric → the metric that holds what chance scores there; those whose chance is not known lack."""
