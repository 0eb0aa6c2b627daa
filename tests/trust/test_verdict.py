"""The verdict: its levels by rule, and that its sentences hold its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from octoscope.trust.metric import Metric
from octoscope.trust.scoreboard import BEATS, FEW
from octoscope.trust.verdict import CAUTION, DISTRUST, NO_OBJECTION, Evidence, verdict_of

FAITHFUL = Metric("ins", "Insertion", "faithfulness", True, "0…1", "", "", headline=True)


def board(**verdicts: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"metric": "ins", "lesion": "any", "method": method, "verdict": verdict}
            for method, verdict in verdicts.items()
        ]
    )


def order(*methods: str, gated: tuple[str, ...] = ()) -> pd.DataFrame:
    rows = [
        {"method": m, "beats": 1, "of": 1, "gated": m in gated, "null": m.startswith("null")}
        for m in methods
    ]
    return pd.DataFrame(rows)


def probe(name: str, fires: bool | None) -> dict[str, Any]:
    return {"probe": name, "title": name.title(), "fires": fires, "sentence": f"{name} found 0.31."}


SOUND = Evidence(
    model="net",
    board=board(cam=BEATS, other="not told from null_edges", null_edges=""),
    order=order("cam", "other", "null_edges"),
    metrics={"ins": FAITHFUL},
    titles={"cam": "CAM", "other": "Other", "null_edges": "Edges (null)"},
    probes=[probe("corner", False), probe("border", False)],
    outside={"cam": {"value": 0.41, "low": 0.36, "high": 0.46, "chance": 0.62}},
    lesions={"cam": "CAM puts 31 % on lesions."},
    accuracy={"value": 0.81, "low": 0.74, "high": 0.88},
    classes=4,
)


def test_a_sound_model_has_no_objection_and_its_numbers_are_said() -> None:
    found = verdict_of(SOUND)
    assert found["level"] == NO_OBJECTION
    assert found["believe"] == "cam"
    assert found["flagged"] == []
    said = " ".join(found["sentences"])
    for part in ("0.810 [0.740, 0.880]", "chance is 0.25", "41 % [36, 46]", "62 %", "31 %",
                 "1 of 2 methods", "None of 2"):  # fmt: skip
        assert part in said
    assert "net: no objection found" in found["headline"]


@pytest.mark.parametrize(
    ("change", "level", "why"),
    [
        ({"probes": [probe("corner", True), probe("border", False)]}, CAUTION, "corner"),
        ({"probes": [probe("corner", True), probe("border", True)]}, DISTRUST, "2 shortcut"),
        ({"board": board(cam="worse than null_edges", other="")}, CAUTION, "no method"),
        (
            {"outside": {"cam": {"value": 0.55, "low": 0.48, "high": 0.63, "chance": 0.62}}},
            CAUTION,
            "outside",
        ),
        ({"accuracy": {"value": 0.3, "low": 0.21, "high": 0.4}}, DISTRUST, "chance"),
        ({"board": board(cam=FEW, other=FEW)}, CAUTION, "too few"),
        ({"probes": []}, CAUTION, "no shortcut probe"),
        ({"probes": [probe("corner", None)]}, CAUTION, "no shortcut probe"),
    ],
)
def test_each_fault_alone_changes_the_level(change: dict[str, Any], level: str, why: str) -> None:
    found = verdict_of(replace(SOUND, **change))
    assert found["level"] == level
    assert why in found["headline"]


def test_a_probe_and_a_stray_map_together_are_enough_for_distrust() -> None:
    stray = {"cam": {"value": 0.7, "low": 0.63, "high": 0.8, "chance": 0.62}}
    found = verdict_of(replace(SOUND, probes=[probe("corner", True)], outside=stray))
    assert found["level"] == DISTRUST
    assert found["sentences"][1] == "corner found 0.31."


def test_a_rare_lesion_does_not_make_the_study_too_small() -> None:
    rare = board(cam=FEW).assign(lesion="fluid")
    found = verdict_of(replace(SOUND, board=pd.concat([SOUND.board, rare])))
    assert found["level"] == NO_OBJECTION


def test_a_gated_method_is_never_believed() -> None:
    gated = replace(
        SOUND, order=order("other", "cam", "null_edges", gated=("cam",)), gated={"cam": "blind"}
    )
    found = verdict_of(gated)
    assert found["believe"] is None
    assert any("Set aside by the sanity checks: CAM." in line for line in found["sentences"])


def test_a_probe_that_could_not_run_is_named_and_no_alarm() -> None:
    found = verdict_of(replace(SOUND, probes=[probe("corner", False), probe("border", None)]))
    assert found["level"] == NO_OBJECTION
    assert any("Not judged: Border" in line for line in found["sentences"])


def test_of_too_few_patients_it_is_not_said_that_no_map_is_faithful() -> None:
    found = verdict_of(replace(SOUND, board=board(cam=FEW, other=FEW)))
    text = " ".join([found["headline"], *found["sentences"]])
    assert "cannot be told" in text
    assert "Believe no map" not in text and "known to be more faithful" not in text


def test_one_method_that_says_nothing_does_not_make_the_study_too_small() -> None:
    found = verdict_of(replace(SOUND, board=board(cam=BEATS, other=FEW)))
    assert found["level"] == NO_OBJECTION


def test_lesions_of_too_few_patients_leave_faithfulness_as_it_is() -> None:
    lesions = Metric("ap", "AP", "localisation", True, "0…1", "", "", headline=True)
    rare = board(cam=FEW, other=FEW).assign(metric="ap")
    metrics = {"ins": FAITHFUL, "ap": lesions}
    found = verdict_of(replace(SOUND, board=pd.concat([SOUND.board, rare]), metrics=metrics))
    assert found["level"] == NO_OBJECTION


def test_a_share_of_one_patient_is_said_without_an_interval() -> None:
    nan = float("nan")
    alone = {"cam": {"value": 0.41, "low": nan, "high": nan, "chance": 0.62}}
    text = " ".join(verdict_of(replace(SOUND, outside=alone))["sentences"])
    assert "CAM puts 41 % of its mass outside" in text and "nan" not in text


def test_a_believed_method_that_was_not_checked_is_said_to_be() -> None:
    found = verdict_of(replace(SOUND, unchecked={"cam": "a map takes 170 passes", "other": "slow"}))
    assert [line for line in found["sentences"] if "sanity" in line] == [
        "The sanity checks have no verdict on CAM: a map takes 170 passes."
    ]
