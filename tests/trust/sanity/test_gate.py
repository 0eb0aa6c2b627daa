"""Which methods are set aside, by their scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from octoscope.trust.sanity.gate import RANDOMISATION_LIMIT, gate, gate_values

PATIENTS = [f"p{number // 2}" for number in range(20)]
RNG = np.random.default_rng(0)


def around(mean: float) -> np.ndarray:
    return mean + 0.05 * RNG.standard_normal(20)


def test_a_method_fails_if_its_whole_interval_lies_beyond_the_limit() -> None:
    values = {
        "randomisation_spearman": {
            "null_edges": np.ones(20),
            "blind": around(0.8),
            "honest": around(0.1),
            "between": np.where(np.arange(20) % 4 < 2, 0.0, 2 * RANDOMISATION_LIMIT),
            "same_for_all": around(0.1),
        },
        "random_logit": {"blind": around(0.2), "honest": around(0.5), "same_for_all": around(1)},
    }
    gates = gate_values(values, PATIENTS)
    failed = [name for name, found in gates.items() if found.reason is not None]
    assert failed == ["null_edges", "blind", "same_for_all"]
    assert "all weights randomised" in str(gates["blind"].reason)
    assert "0.8" in str(gates["blind"].reason)
    assert "another class" in str(gates["same_for_all"].reason)
    assert all(found.note == "" for found in gates.values())


def test_few_patients_get_no_verdict() -> None:
    found = gate_values({"randomisation_spearman": {"m": np.ones(4)}}, ["a", "a", "b", "c"])["m"]
    assert found.reason is None and "3 patients are too few" in found.note


def test_maps_that_say_nothing_get_no_verdict() -> None:
    nothing = gate_values({"randomisation_spearman": {"m": np.full(20, np.nan)}}, PATIENTS)["m"]
    assert nothing.reason is None and "no scan" in nothing.note
    assert nothing.checks["randomisation_spearman"]["patients"] == 0
    unmeasured = gate_values({"random_logit": {"m": around(0)}}, PATIENTS)["m"]
    assert unmeasured.reason is None and "not randomised" in unmeasured.note


def test_scans_of_one_patient_count_together() -> None:
    # Eight scans of one patient are high, those of five others low: no interval above the limit.
    who = ["a"] * 40 + ["b", "c", "d", "e", "f"]
    value = np.r_[np.ones(40), np.zeros(5)]
    scores = pd.DataFrame(
        {"method": "m", "metric": "randomisation_spearman", "patient": who, "value": value}
    )
    assert scores["value"].mean() > 0.8
    assert gate(scores)["m"].reason is None
