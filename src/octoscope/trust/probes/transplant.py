"""Everything but the retina comes from a scan of another class: does the model follow it?"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from octoscope.trust.probes.donors import Edit, found_with_donors
from octoscope.trust.probes.probe import Finding, Scans, Subject
from octoscope.trust.probes.regions import inpaint, shown
from octoscope.trust.probes.retina_box import retina_bands

PROBE = "transplant"
TITLE = "artefact transplanted from another class"
LIMIT = 0.02
"""Eight clean phantom models were pulled by less than 0.02; their intervals begin below 0."""
SEAM = 1.0
"""Standard deviation in pixels over which the two scans are blended at the seam."""


def transplant(subject: Subject) -> Finding:
    """Give each retina the surroundings of other patients' scans, and see which class is said.

    The effect is the rise of the probability of the donor's class with donors of another class,
    over that with donors of the recipient's own class: the editing alone does not count.

    Raises:
        OctoscopeError: If fewer than two classes have scans of two patients.
    """
    scans, fill = subject.scans, subject.fill
    edit = scans.once((PROBE, fill), lambda: transplanting(scans, fill))
    return found_with_donors(
        subject, PROBE, TITLE, edit, what="the surroundings (all but the retina)", limit=LIMIT
    )


def transplanting(scans: Scans, fill: int = 0) -> Edit:
    """Return the edit: the recipient's retina in the donor's vitreous, choroid, border and padding.

    What lies outside of the retina stays where it is in the frame. Where the donor's own retina
    was, its background is continued. The part kept is of one height in all scans and follows the
    tilt of the retina only, so that it brings no outline of a disease with it.

    Args:
        scans: Recipients and donors.
        fill: Grey value of the padding.
    """
    tissue = shown(scans, fill)
    retina = retina_bands(scans) & tissue
    grounds = inpaint(scans.images, retina, tissue)
    kept = ndimage.gaussian_filter(retina.astype(np.float32), (0, SEAM, SEAM), mode="nearest")

    def edit(recipients: np.ndarray, donors: np.ndarray) -> np.ndarray:
        share = kept[recipients]
        mixed = share * scans.images[recipients] + (1 - share) * grounds[donors]
        return np.rint(mixed).astype(np.uint8)

    return edit
