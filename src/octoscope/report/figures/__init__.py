"""Figures of the report, each a function that returns the bytes of an SVG or PNG."""
