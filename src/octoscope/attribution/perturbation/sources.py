"""What they are functions of: what the model says to changed images, for all classes at once."""

from __future__ import annotations

from octoscope.attribution.perturbation.ablation import ablations, segments_per_image
from octoscope.attribution.perturbation.occlusion import occlusions, windows_per_image
from octoscope.attribution.perturbation.rise import masked, masks_per_image
from octoscope.attribution.source import Source

SOURCES: tuple[Source, ...] = (
    Source("occlusions", occlusions, "a forward per window covered", cost=windows_per_image),
    Source("ablations", ablations, "a forward per superpixel replaced", cost=segments_per_image),
    Source("masked_images", masked, "a forward per random mask, at most", cost=masks_per_image),
)
