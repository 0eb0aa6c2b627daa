"""Plans of studies: whose scans they are and in which split."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscope.scans.phantom.diseases import CLASSES
from octoscope.scans.phantom.plan import plan_study


@settings(deadline=None, max_examples=60)
@given(
    patients=st.integers(12, 90),
    scans=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    val=st.floats(0.02, 0.47),
    test=st.floats(0.02, 0.47),
    both=st.floats(0, 1),
)
def test_no_patient_stands_in_two_splits(
    patients: int, scans: int, seed: int, val: float, test: float, both: float
) -> None:
    plan = plan_study(patients, scans, seed, (0.3, 1.0), (1 - val - test, val, test), both, None)
    frame = pd.DataFrame([vars(scan) for scan in plan])
    assert len(frame) == patients * scans and frame["patient"].nunique() == patients
    assert (frame.groupby("patient")["split"].nunique() == 1).all()
    assert (frame.groupby("patient")["device"].nunique() == 1).all()
    # A patient has one disease, with one severity; beside it only the healthy other eye.
    sick = frame[frame["label"] != "NORMAL"]
    assert (sick.groupby("patient")[["label", "severity", "laterality"]].nunique() == 1).all(None)
    assert (frame.groupby(["patient", "label"])["eye_seed"].nunique() == 1).all()
    for label in CLASSES:
        own = frame[frame["label"] == label]
        assert set(own["split"]) == {"train", "val", "test"}


def test_splits_follow_the_fractions_in_every_class() -> None:
    plan = plan_study(200, 1, 0, (0.3, 1.0), (0.6, 0.2, 0.2), 0.0, None)
    counts = pd.DataFrame([vars(scan) for scan in plan]).groupby(["label", "split"]).size()
    for label in CLASSES:
        assert [counts[label, s] for s in ("train", "val", "test")] == [30, 10, 10]


def test_some_patients_have_both_classes() -> None:
    plan = plan_study(400, 4, 0, (0.3, 1.0), (0.6, 0.2, 0.2), 0.1, None)
    labels = pd.DataFrame([vars(scan) for scan in plan]).groupby("patient")["label"].nunique()
    assert set(labels) == {1, 2}
    assert 0.05 < (labels == 2).mean() < 0.11


def test_no_instrument_is_tied_to_a_class() -> None:
    plan = plan_study(80, 1, 3, (0.3, 1.0), (0.6, 0.2, 0.2), 0.0, None)
    frame = pd.DataFrame([vars(scan) for scan in plan])
    counts = frame.groupby(["label", "device"]).size().unstack()
    assert (counts == counts.iloc[0]).all(None)
    assert counts.iloc[0].to_dict() == {"cirrus": 4, "spectralis": 12, "topcon": 4}
