"""The metrics of a run: complete, right by an oracle, and frank about what is undefined."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from octoscope.errors import OctoscopeError
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.metrics import OVERALL, PER_CLASS
from octoscope.evaluation.predictions import predictions_frame
from octoscope.files import read_json, write_json
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def predictions(
    seed: int = 0, scans: int = 240, patients: int = 80, skill: float = 1.5, classes=CLASSES
) -> pd.DataFrame:
    """Return predictions whose logits favour the true class by `skill` standard deviations."""
    generator = np.random.default_rng(seed)
    owner = generator.integers(patients, size=scans)
    targets = owner % len(classes)
    logits = generator.normal(size=(scans, len(classes)))
    logits += generator.normal(size=(patients, len(classes)))[owner]  # patients are alike
    logits[np.arange(scans), targets] += skill
    return as_frame(targets, logits, [f"p{p}" for p in owner], classes)


def as_frame(targets, logits, patients, classes=CLASSES, model="net", seed=0) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(len(targets))],
            "label": [None if t < 0 else classes[t] for t in targets],
            "patient": patients,
            "split": "val",
        }
    )
    table = ScanTable.from_frame(frame, Path("data"), classes=classes)
    return predictions_frame(
        table, np.asarray(logits), classes=table.classes, model=model, seed=seed
    )


def numbers(content: dict) -> list[dict]:
    per_class = [v[name] for v in content["per_class"].values() for name in PER_CLASS]
    return [*content["overall"].values(), *per_class, content["calibration"]["ece"]]


def test_the_content_is_that_of_the_contract_and_strict_json(tmp_path: Path) -> None:
    content = evaluate(predictions(), CLASSES, resamples=100)
    write_json(tmp_path / "metrics-val.json", content)
    again = read_json(tmp_path / "metrics-val.json")
    assert (again["model"], again["seed"], again["split"]) == ("net", 0, "val")
    assert set(again["overall"]) == set(OVERALL)
    assert all(set(PER_CLASS) <= set(again["per_class"][name]) for name in CLASSES)
    assert sum(v["support"] for v in again["per_class"].values()) == again["n_scans"] == 240
    assert np.array(again["confusion"]).sum() == 240
    assert {"ece", "temperature", "ece_after", "reliability"} <= set(again["calibration"])
    assert again["bootstrap"] == {"resamples": 100, "unit": "patient", "level": 0.95, "seed": 0}
    json.loads((tmp_path / "metrics-val.json").read_text(), parse_constant=pytest.fail)


def test_values_are_those_of_scikit_learn_and_lie_in_their_intervals() -> None:
    frame = predictions()
    content = evaluate(frame, CLASSES, resamples=500)
    true, said = frame["label"], frame["predicted"]
    probabilities = frame[[f"probability_{c}" for c in CLASSES]].to_numpy()
    overall = {name: number["value"] for name, number in content["overall"].items()}
    assert overall["accuracy"] == pytest.approx(sk.accuracy_score(true, said))
    assert overall["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, said))
    assert overall["macro_f1"] == pytest.approx(sk.f1_score(true, said, average="macro"))
    assert overall["auroc"] == pytest.approx(
        sk.roc_auc_score(true, probabilities, multi_class="ovr")
    )
    np.testing.assert_array_equal(
        content["confusion"], sk.confusion_matrix(true, said, labels=CLASSES)
    )
    for number in numbers(content):
        assert number["low"] <= number["value"] <= number["high"]
        assert 0 < number["high"] - number["low"] < 0.5


def test_the_same_seed_gives_the_same_numbers_and_scan_order_does_not_matter() -> None:
    frame = predictions()
    first = evaluate(frame, CLASSES, resamples=200, seed=3)
    assert first == evaluate(frame, CLASSES, resamples=200, seed=3)
    assert first["overall"] != evaluate(frame, CLASSES, resamples=200, seed=4)["overall"]
    shuffled = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    other = evaluate(shuffled, CLASSES, resamples=200, seed=3)
    for a, b in zip(numbers(first), numbers(other), strict=True):
        assert a == pytest.approx(b)


def test_shuffled_labels_score_chance() -> None:
    """The canary: without a link of labels and logits, 1/K lies in the interval (19 of 20)."""
    hits = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        frame = predictions(seed, scans=300, patients=300)
        targets = generator.permutation(frame["target"].to_numpy())
        logits = frame[[f"logit_{c}" for c in CLASSES]].to_numpy()
        content = evaluate(as_frame(targets, logits, frame["patient"]), CLASSES, resamples=300)
        number = content["overall"]["balanced_accuracy"]
        assert content["chance"]["balanced_accuracy"] == 0.25
        hits += number["low"] <= 0.25 <= number["high"]
        auroc = content["overall"]["auroc"]
        assert 0.4 < auroc["value"] < 0.6
    assert hits >= 34


def test_a_class_that_is_absent_is_undefined_and_said() -> None:
    frame = predictions()
    frame = frame[frame["label"] != "DME"].reset_index(drop=True)
    content = evaluate(frame, CLASSES, resamples=50)
    absent = content["per_class"]["DME"]
    assert absent["support"] == 0
    for name in ("sensitivity", "f1", "auroc", "average_precision"):
        assert np.isnan([absent[name][part] for part in ("value", "low", "high")]).all()
    assert 0 < absent["specificity"]["value"] < 1
    assert content["chance"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert any("No scan is of class DME" in note for note in content["notes"])
    assert content["overall"]["balanced_accuracy"]["value"] == pytest.approx(
        sk.balanced_accuracy_score(frame["label"], frame["predicted"])
    )


def test_a_split_of_one_class_has_no_auroc() -> None:
    frame = predictions()
    content = evaluate(frame[frame["label"] == "CNV"], CLASSES, resamples=50)
    assert np.isnan(content["overall"]["auroc"]["value"])
    assert np.isfinite(content["overall"]["balanced_accuracy"]["low"])
    assert content["per_class"]["DME"]["specificity"]["value"] < 1


def test_one_patient_has_values_but_no_interval() -> None:
    frame = predictions().assign(patient="p0")
    content = evaluate(frame, CLASSES, resamples=50)
    assert all(np.isfinite(n["value"]) and np.isnan(n["low"]) for n in numbers(content))
    assert content["calibration"]["temperature"] is None
    assert np.isnan(content["calibration"]["ece_after"]["value"])
    assert "All scans are of one patient, so no interval can be given." in content["notes"]


def test_a_class_of_one_patient_has_no_interval_of_its_own() -> None:
    frame = predictions()
    frame.loc[frame["label"] == "NORMAL", "patient"] = "unknown:NORMAL"
    content = evaluate(frame, CLASSES, resamples=200)
    assert np.isnan(content["per_class"]["NORMAL"]["sensitivity"]["low"])
    assert np.isfinite(content["per_class"]["NORMAL"]["specificity"]["low"])
    assert np.isfinite(content["per_class"]["CNV"]["sensitivity"]["low"])
    assert np.isfinite(content["overall"]["accuracy"]["low"])
    for name in ("balanced_accuracy", "macro_f1", "auroc", "average_precision"):
        assert np.isnan(content["overall"][name]["low"]), "it cannot know how NORMAL varies"
    notes = " ".join(content["notes"])
    assert "All scans of class NORMAL are of one patient" in notes
    assert "Scans of unknown patients count as one patient per class." in notes


def test_one_patient_per_class_gives_no_interval_without_width() -> None:
    """Resamples that hold all classes hold every patient once: they would all be the same."""
    frame = predictions(patients=4, scans=60)
    content = evaluate(frame, CLASSES, resamples=200)
    assert all(np.isnan(n["low"]) or n["low"] < n["high"] for n in numbers(content))
    assert np.isnan(content["overall"]["balanced_accuracy"]["low"])


def test_resamples_that_miss_a_class_are_counted() -> None:
    frame = predictions()
    rare = frame["label"] == "NORMAL"
    frame.loc[rare, "patient"] = np.where(np.arange(rare.sum()) % 2, "q1", "q2")
    notes = " ".join(evaluate(frame, CLASSES, resamples=500)["notes"])
    assert "of 500 resamples missed a class" in notes


def test_perfect_predictions_get_the_exact_interval_over_patients() -> None:
    targets = np.repeat([0, 1], 30)
    frame = as_frame(targets, 9 * np.eye(2)[targets], (np.arange(60) // 3).astype(str), ("A", "B"))
    content = evaluate(frame, ("A", "B"), resamples=100)
    exact = binomtest(20, 20).proportion_ci(method="exact").low
    assert content["overall"]["accuracy"]["low"] == pytest.approx(exact)
    half = binomtest(10, 10).proportion_ci(method="exact").low
    assert content["overall"]["balanced_accuracy"]["low"] == pytest.approx(half)
    for name in ("sensitivity", "specificity", "precision"):
        number = content["per_class"]["A"][name]
        assert number == {"value": 1, "low": pytest.approx(half), "high": 1, "how": "exact"}
    for number in (content["overall"]["auroc"], content["overall"]["macro_f1"]):
        assert number["value"] == 1 and np.isnan(number["low"]) and number["how"] == "no spread"


def test_a_rate_of_zero_gets_the_exact_interval_too() -> None:
    targets = np.repeat([0, 1], 10)
    logits = np.tile([1.0, 0.0], (20, 1))
    frame = as_frame(targets, logits, np.arange(20).astype(str), ("A", "B"))
    number = evaluate(frame, ("A", "B"), resamples=100)["per_class"]["B"]["sensitivity"]
    exact = binomtest(0, 10).proportion_ci(method="exact")
    assert (number["low"], number["high"]) == (0, pytest.approx(exact.high))


def test_unlabelled_scans_are_left_out_and_counted() -> None:
    frame = predictions(scans=50)
    targets = frame["target"].to_numpy().copy()
    targets[:5] = -1
    logits = frame[[f"logit_{c}" for c in CLASSES]].to_numpy()
    content = evaluate(as_frame(targets, logits, frame["patient"]), CLASSES, resamples=50)
    assert content["n_scans"] == 45
    assert "5 scans without a label are left out." in content["notes"]
    with pytest.raises(OctoscopeError, match="no scan of split val is labelled"):
        evaluate(as_frame(targets[:5], logits[:5], frame["patient"][:5]), CLASSES)


def test_a_temperature_from_validation_is_applied_as_it_is() -> None:
    frame = predictions(skill=3)
    content = evaluate(frame, CLASSES, temperature=1.0, resamples=50)["calibration"]
    assert content["temperature"] == 1.0 and content["temperature_source"] == "validation"
    assert content["ece_after"] == content["ece"]


def test_the_error_of_calibration_falls_with_temperature_scaling() -> None:
    frame = predictions(scans=900, patients=300)
    logits = 6 * frame[[f"logit_{c}" for c in CLASSES]].to_numpy()
    overconfident = as_frame(frame["target"].to_numpy(), logits, frame["patient"])
    content = evaluate(overconfident, CLASSES, resamples=50)["calibration"]
    assert content["temperature_source"] == "cross-fitted over patients"
    assert content["temperature"] > 3
    assert content["ece_after"]["value"] < content["ece"]["value"] / 3
    assert sum(row["count"] for row in content["reliability"]) == 900


def test_several_models_or_splits_at_once_are_refused() -> None:
    frame = predictions()
    mixed = frame.assign(model=["a", "b"] * 120)
    with pytest.raises(OctoscopeError, match=r"several values of model \(a, b\)"):
        evaluate(mixed, CLASSES)
