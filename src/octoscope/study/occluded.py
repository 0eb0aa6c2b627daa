"""The occlusion figure of a scan: the window that speaks most against the class, and its cover."""

from __future__ import annotations

import numpy as np

from octoscope.attribution.perturbation.baselines import baseline_of
from octoscope.attribution.perturbation.occlusion import Occlusion
from octoscope.errors import OctoscopeError
from octoscope.report.figures.cells import Map
from octoscope.report.figures.occlusion import Covered, occlusion_png
from octoscope.study.explained import Explained

OCCLUSION, CAM = "occlusion", "gradcam"


def occlusion_of(one: Explained) -> bytes:
    """Draw what covering each window of a scan does.

    Raises:
        OctoscopeError: If occlusion cannot be had.
    """
    maps = one.explain([OCCLUSION])
    drawn = one.map(OCCLUSION, maps=maps)
    assert isinstance(drawn, Map)  # asked for one line above
    details = {name: values[0].cpu().numpy() for name, values in maps.details[OCCLUSION].items()}
    top, left, height, width = (int(side) for side in details["best_window"])
    baseline = baseline_of(one.images, Occlusion().baseline)
    image = np.array(one.scan.image)
    window = (slice(top, top + height), slice(left, left + width))
    shade = baseline[0].mean(0).mul(255).round().clamp(0, 255).byte().cpu().numpy()
    image[window] = shade[window]
    classes = one.model.classifier.classes
    covered = Covered(
        image,
        (top, left, height, width),
        dict(zip(classes, details["logits_before"].tolist(), strict=True)),
        dict(zip(classes, details["logits_best"].tolist(), strict=True)),
    )
    return occlusion_png(
        one.scan,
        _cam(one),
        drawn,
        covered,
        explained=one.explained,
        title=f"{one.name} · {one.model.name}: {one.verdict}",
        note=f"The window shown is the one whose covering raises the logit of {one.explained} "
        "most (or lowers it least).",
    )


def _cam(one: Explained) -> Map | str:
    """Return the Grad-CAM, or why there is none."""
    try:
        return one.map(CAM, maps=one.explain([CAM]))
    except OctoscopeError as error:
        return str(error)
