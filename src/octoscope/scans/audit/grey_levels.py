"""Whether the grey levels of all scans mean the same: one rule for all, and who falls out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from octoscope.scans.audit.finding import Finding, listing, plural
from octoscope.scans.levels import TOLERANCE, GreyRange, Kind, Levels, Range

STORED: dict[Kind, str] = {
    "8 bits": "with 8 bits",
    "whole": "as whole numbers of more than 8 bits",
    "fractions": "as fractions",
}
DARK = 8
"""A scan whose brightest value is so many times less than white was stored with fewer bits."""


def level_findings(
    paths: Sequence[str], scans: Sequence[GreyRange | None], levels: Levels | None
) -> list[Finding]:
    """Say by which rule scans become 8 bits, and which of them it does not fit.

    Args:
        paths: The scans.
        scans: What each says about its range; None for one that cannot be read.
        levels: The rule of the table, None where all scans have 8 bits.
    """
    readable = [(path, scan) for path, scan in zip(paths, scans, strict=True) if scan is not None]
    findings = []
    if levels is not None and (rule := levels.describe()):
        findings.append(Finding("info", rule))
    findings += _mixed(readable)
    for kind, limits in (
        ("whole", levels and levels.whole),
        ("fractions", levels and levels.fractions),
    ):
        if limits:
            own = [(path, scan) for path, scan in readable if scan.kind == kind]
            findings += _strangers(own, limits)
    return findings


def _mixed(readable: Sequence[tuple[str, GreyRange]]) -> list[Finding]:
    """Say that scans are stored in several ways, or with several declared depths."""
    kinds = Counter(scan.kind for _, scan in readable)
    findings = []
    if len(kinds) > 1:
        ways = listing([f"{plural(n, 'scan')} {STORED[kind]}" for kind, n in kinds.most_common()])
        rarest = kinds.most_common()[-1][0]
        first = next(path for path, scan in readable if scan.kind == rarest)
        findings.append(
            Finding(
                "warning",
                f"Grey levels are stored in several ways: {ways} (for example {first}). Each way "
                "has its own black and white, so that brightness may tell where a scan comes "
                "from; export all scans alike.",
            )
        )
    depths = Counter(scan.depth for _, scan in readable if scan.depth is not None)
    if len(depths) > 1:
        ways = listing(
            [f"{plural(n, 'scan')} with {bits} bits" for bits, n in depths.most_common()]
        )
        findings.append(
            Finding(
                "warning",
                f"Files declare several bit depths: {ways}. One range serves all of them; export "
                "all scans alike.",
            )
        )
    return findings


def _strangers(own: Sequence[tuple[str, GreyRange]], limits: Range) -> list[Finding]:
    """Say which scans reach beyond the range of all, and which use only a sliver of it."""
    black, white = limits
    span = white - black
    beyond = [
        (path, scan)
        for path, scan in own
        if scan.high > white + TOLERANCE * span or scan.low < black - TOLERANCE * span
    ]
    dark = [
        (path, scan)
        for path, scan in own
        if scan.low < scan.high < black + span / DARK  # a blank scan is told as such
    ]
    findings = []
    if beyond:
        path, scan = beyond[0]
        findings.append(
            Finding(
                "warning",
                f"{plural(len(beyond), 'scan reaches', 'scans reach')} beyond the grey levels "
                f"{black:g}…{white:g} of the others (for example {path}: {scan.low:g}…"
                f"{scan.high:g}). What lies beyond is shown black or white; export "
                f"{'it' if len(beyond) == 1 else 'them'} like the others.",
            )
        )
    if dark and len(dark) < len(own):
        path, scan = dark[0]
        findings.append(
            Finding(
                "warning",
                f"{plural(len(dark), 'scan uses', 'scans use')} less than an eighth of the grey "
                f"levels {black:g}…{white:g} of the others (for example {path}: {scan.low:g}…"
                f"{scan.high:g}) and {'is' if len(dark) == 1 else 'are'} shown as dark as that. "
                "If that is another bit depth, export all scans alike.",
            )
        )
    return findings
