"""What the audit says of grey levels that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from octoscope.scans.audit import audit
from octoscope.scans.audit.grey_levels import level_findings
from octoscope.scans.levels import GreyRange, Levels
from octoscope.scans.table import ScanTable


def sentences(scans: list[GreyRange | None], levels: Levels | None) -> list[str]:
    paths = [f"{n}.png" for n in range(len(scans))]
    return [finding.sentence for finding in level_findings(paths, scans, levels)]


def test_scans_of_eight_bits_need_no_word() -> None:
    assert sentences([GreyRange("8 bits")] * 5 + [None], None) == []


def test_who_falls_out_of_the_rule_is_named() -> None:
    twelve = [GreyRange("whole", 0, 3900)] * 20
    levels = Levels((0, 4095), None, 22)
    assert len(sentences(twelve, levels)) == 1  # the rule itself
    beyond = sentences([*twelve, GreyRange("whole", 0, 60000)], levels)
    assert "1 scan reaches beyond the grey levels 0…4095" in beyond[1]
    assert "20.png: 0…60000" in beyond[1]
    dark = sentences([*twelve, *[GreyRange("whole", 0, 250)] * 2, GreyRange("whole", 0, 0)], levels)
    assert "2 scans use less than an eighth" in dark[1]
    assert len(dark) == 2  # the blank one is told elsewhere


def test_ways_of_storing_and_declared_depths_are_told() -> None:
    mixed = [GreyRange("8 bits")] * 4 + [GreyRange("whole", 0, 4000)] * 2
    told = sentences(mixed, Levels((0, 4095), None, 2))
    assert "4 scans with 8 bits and 2 scans as whole numbers" in told[1]
    assert "for example 4.png" in told[1]
    declared = [GreyRange("whole", 0, 900, depth=10), GreyRange("whole", 0, 4000, depth=12)]
    assert "several bit depths" in sentences(declared, Levels((0, 4095), None, 2))[1]


def test_brightness_is_measured_by_the_rule_of_the_table(tmp_path: Path) -> None:
    """A hot pixel in every scan of one class changes no brightness."""
    rows = []
    for n in range(8):
        rng = np.random.default_rng(n)
        picture = np.clip(rng.normal(1500, 300, (48, 64)), 0, 3800).astype(np.uint16)
        if n % 2:
            picture[3, 3] = 5000
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
        rows.append({"path": f"{n}.png", "label": "AB"[n % 2], "patient": f"p{n}"})
    table = ScanTable.from_frame(pd.DataFrame(rows), tmp_path)
    found = audit(table, permutations=9)
    assert found.measurements["brightness"].between(88, 98).all()  # 1500 of 4095
    told = [finding.sentence for finding in found.findings]
    assert any(sentence.startswith("Grey levels 0…4095 (12 bits)") for sentence in told)
