"""Classes of tables and models: by name, whatever the order, and never by guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscope.errors import OctoscopeError
from octoscope.evaluation.classes import folded, in_order_of, match_classes, match_names
from octoscope.evaluation.predictions import predictions_frame
from octoscope.scans.table import ScanTable

MODEL = ("CNV", "DME", "DRUSEN")


def table_of(labels: list[str | None], classes: tuple[str, ...] | None = None) -> ScanTable:
    frame = pd.DataFrame({"path": [f"{n}.png" for n in range(len(labels))], "label": labels})
    return ScanTable.from_frame(frame, Path("data"), classes=classes)


def labels_of(table: ScanTable) -> list[str | None]:
    return table.frame["label"].tolist()


def test_another_order_of_classes_gives_targets_of_the_model() -> None:
    table = table_of(["CNV", "DME", None, "DRUSEN"], classes=("DRUSEN", "CNV", "DME"))
    ordered = in_order_of(table, MODEL)
    assert ordered.classes == MODEL
    assert ordered.targets.tolist() == [0, 1, -1, 2]
    assert labels_of(ordered) == labels_of(table)


def test_a_class_without_scans_matters_to_nobody() -> None:
    table = table_of(["DME", "CNV"], classes=("AMD", "CNV", "DME"))  # no scan is AMD
    assert in_order_of(table, MODEL).targets.tolist() == [1, 0]
    assert match_classes(table, MODEL).targets.tolist() == [1, 0]


def test_a_label_that_the_model_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(OctoscopeError, match=r"NORMAL \(2 scans\) is no class of net, .*DRUSEN"):
        in_order_of(table_of(["CNV", "NORMAL", "NORMAL"]), MODEL, "net")


def test_three_of_four_classes_do_not_shift_into_the_place_of_the_third() -> None:
    """A folder CNV, DME, NORMAL once scored a model of CNV, DME, DRUSEN as if NORMAL were it."""
    table = table_of(["CNV", "DME", "NORMAL", "NORMAL"])
    logits = np.zeros((4, 3), np.float32)
    logits[:, 2] = 1  # says DRUSEN of all
    with pytest.raises(OctoscopeError, match="NORMAL"):
        predictions_frame(table, logits, classes=MODEL, model="net", seed=0)


def test_predictions_do_not_hang_on_the_order_of_the_table() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    labels = ["DME", None, "CNV", "DME"]
    frames = [
        predictions_frame(table_of(labels, classes), logits, classes=MODEL, model="net", seed=0)
        for classes in (MODEL, ("DRUSEN", "DME", "CNV"), ("CNV", "DME"), None)
    ]
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0])
        assert frame["target"].tolist() == [1, -1, 0, 1]
        assert frame["predicted"].tolist() == [MODEL[k] for k in logits.argmax(1)]


def test_case_spaces_and_hyphens_are_matched_and_said() -> None:
    table = table_of(["cnv", "Dme", "DME", "drusen"])
    matched = match_classes(table, MODEL)
    assert labels_of(matched) == ["CNV", "DME", "DME", "DRUSEN"]
    said = " ".join(matched.notes)
    assert "1 scan labelled cnv: taken as CNV" in said and "labelled DME:" not in said
    late = match_classes(table_of(["late-AMD", "Late AMD "]), ("early AMD", "late_amd"))
    assert labels_of(late) == ["late_amd", "late_amd"]


def test_of_two_classes_that_differ_in_case_only_none_is_guessed() -> None:
    classes = ("amd", "AMD", "NORMAL")
    assert labels_of(match_classes(table_of(["AMD", "amd"]), classes)) == ["AMD", "amd"]
    with pytest.raises(OctoscopeError, match=r"Amd could be amd or AMD.*--classes Amd=CLASS"):
        match_classes(table_of(["Amd"]), classes)
    said = match_classes(table_of(["Amd"]), classes, renamed={"Amd": "AMD"})
    assert labels_of(said) == ["AMD"]


def test_the_user_may_say_what_a_label_is() -> None:
    table = table_of(["0", "1", "1", "CNV"])
    matched = match_classes(table, MODEL, renamed={"0": "dme", "1": "DRUSEN"})
    assert labels_of(matched) == ["DME", "DRUSEN", "DRUSEN", "CNV"]
    assert "2 scans labelled 1: taken as DRUSEN, as asked." in matched.notes


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"AMD": "DRUSN"}, r"DRUSN is no class of net \(did you mean \"DRUSEN\"\?\), which knows"),
        ({"ADM": "DRUSEN"}, r"labelled ADM \(did you mean \"AMD\"\?\) \(labels there: AMD, CNV\)"),
    ],
)
def test_a_name_that_does_not_exist_is_said(renamed: dict[str, str], message: str) -> None:
    with pytest.raises(OctoscopeError, match=message):
        match_classes(table_of(["AMD", "CNV"]), MODEL, renamed=renamed, model="net")


def test_unknown_classes_are_refused_or_left_out() -> None:
    table = table_of(["CNV", "NORMAL", "ERM", None])
    with pytest.raises(OctoscopeError, match=r"ERM \(1 scan\) and NORMAL.*--unknown-classes drop"):
        match_classes(table, MODEL)
    kept = match_classes(table, MODEL, unknown="drop")
    assert labels_of(kept) == ["CNV", None]
    assert any("2 scans left out, as asked: ERM" in note for note in kept.notes)
    with pytest.raises(OctoscopeError, match="NORMAL") as refused:
        match_classes(table_of(["NORMAL"]), MODEL, unknown="drop")
    assert "drop" not in str(refused.value), "there would be nothing left"
    with pytest.raises(OctoscopeError, match="use error or drop"):
        match_classes(table, MODEL, unknown="dorp")  # type: ignore[arg-type]


NAMES = st.text("aB -_é1", min_size=1, max_size=4)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.lists(NAMES, max_size=6))
def test_a_match_is_the_same_name_and_the_only_one(classes: list[str], labels: list[str]) -> None:
    found = match_names(sorted(set(labels)), classes)
    assert set(found.names) | set(found.unknown) == set(labels)
    for label, name in found.names.items():
        assert name in classes
        if label in classes:
            assert name == label
        else:
            assert [c for c in classes if folded(c) == folded(label)] == [name]
    for label in found.unknown:
        assert sum(folded(c) == folded(label) for c in classes) != 1


@given(st.permutations(MODEL), st.lists(st.sampled_from((*MODEL, None)), min_size=1, max_size=8))
def test_targets_are_those_of_the_names(order: list[str], labels: list[str | None]) -> None:
    matched = match_classes(table_of(labels, tuple(order)), MODEL)
    assert matched.targets.tolist() == [-1 if x is None else MODEL.index(x) for x in labels]
