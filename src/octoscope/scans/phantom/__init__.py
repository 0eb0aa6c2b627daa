"""Phantoms: synthetic B-scans a specialist would recognise, with exact lesion masks.

`write_study` writes a whole study; `draw_eye`, `draw_acquisition` and `render` make single scans.
"""

from octoscope.scans.phantom.bscan import Acquisition, PhantomBScan, draw_acquisition, render
from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.lesions import LESION_VALUES
from octoscope.scans.phantom.patient import Eye, draw_eye
from octoscope.scans.phantom.shortcut import Shortcut
from octoscope.scans.phantom.study import read_study, write_study

__all__ = [
    "CLASSES",
    "LESION_VALUES",
    "Acquisition",
    "Eye",
    "PhantomBScan",
    "Shortcut",
    "draw_acquisition",
    "draw_eye",
    "read_study",
    "render",
    "write_study",
]
