"""Pictures that are no B-scans, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from octoscope.scans.audit.finding import Finding, plural
from octoscope.scans.audit.measure import Measurement


def kind_findings(paths: Sequence[str], measured: Sequence[Measurement]) -> list[Finding]:
    """Say how many of the files seem to be en-face pictures or label masks.

    Args:
        paths: Of all scans.
        measured: Their measurements, in the same order.
    """
    readable = [m for m in measured if m.fault is None and not m.blank]
    findings = []
    masks = [p for p, m in zip(paths, measured, strict=True) if _is(m, "mask")]
    if masks:
        many = plural(len(masks), "file holds", "files hold")
        findings.append(
            Finding(
                "warning",
                f"{many} few grey values in large flat areas, as label masks do, and would be "
                f"learned as scans (for example {masks[0]}). Move masks to a folder `masks` beside "
                "`images`, or name them in the column `mask` of a table; if they are thresholded "
                "scans, use the originals.",
            )
        )
    enface = [p for p, m in zip(paths, measured, strict=True) if _is(m, "en-face")]
    if enface and len(enface) == len(readable):
        findings.append(
            Finding(
                "info",
                "The pictures show no layers: they seem to be en-face pictures (projections, "
                "angiograms, fundus photographs). What is said and measured of layers, of the "
                "retina band and of the depth axis does not apply to them.",
            )
        )
    elif enface:
        many = plural(len(enface), "picture shows", "pictures show")
        findings.append(
            Finding(
                "warning",
                f"{many} no layers, as en-face pictures do (projections, angiograms, fundus "
                f"photographs), among {plural(len(readable), 'readable file')} (for example "
                f"{enface[0]}). Look at them, and keep B-scans and en-face pictures in tables of "
                "their own.",
            )
        )
    return findings


def _is(measurement: Measurement, kind: str) -> bool:
    """Whether a readable picture that shows something is of a kind."""
    return measurement.fault is None and not measurement.blank and measurement.kind == kind
