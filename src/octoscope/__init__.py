"""octoscope: train classifiers on retinal OCT, show what they look at, measure if it is true."""

__version__ = "0.1.0"
