from __future__ import annotations

import pandas as pd

from octoscope.study.panels import choose


def frame(ease: dict[str, float], patients: dict[str, str]) -> pd.DataFrame:
    """Predictions of scans that are all CNV, with their probability of CNV."""
    return pd.DataFrame(
        {
            "label": "CNV",
            "patient": [patients[scan] for scan in ease],
            "probability_CNV": list(ease.values()),
            "probability_DME": [1 - value for value in ease.values()],
        },
        index=list(ease),
    )


def test_easiest_median_and_hardest_by_the_mean_over_models() -> None:
    patients = {name: name for name in "abcde"}
    one = frame({"a": 0.9, "b": 0.2, "c": 0.6, "d": 0.5, "e": 0.1}, patients)
    two = frame({"a": 0.9, "b": 0.2, "c": 0.0, "d": 0.5, "e": 0.9}, patients)
    # Means: a .9, b .2, c .3, d .5, e .5; equal ones keep the order of the table.
    assert choose([one, two], ["CNV", "DME"], 3) == [
        ("a", "easiest of its class"),
        ("e", "median of its class"),
        ("b", "hardest of its class"),
    ]


def test_one_scan_per_patient_while_there_are_patients() -> None:
    ease = {"a1": 0.9, "a2": 0.8, "b1": 0.4, "b2": 0.1}
    chosen = choose([frame(ease, {scan: scan[0] for scan in ease})], ["CNV"], 2)
    assert [scan for scan, _ in chosen] == ["a1", "b1"]
    chosen = choose([frame(ease, {scan: scan[0] for scan in ease})], ["CNV"], 3)
    assert [scan for scan, _ in chosen] == ["a1", "b1", "b2"]


def test_fewer_scans_than_asked_for() -> None:
    chosen = choose([frame({"a": 0.9}, {"a": "a"})], ["CNV", "DME"], 3)
    assert chosen == [("a", "easiest of its class")]
