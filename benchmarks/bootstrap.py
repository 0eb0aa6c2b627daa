"""Every metric with its patient-bootstrap interval: 2,000 resamples of 968 scans × 4 classes.

Prints the seconds that `evaluate` takes, and beside it what a loop over resamples with
scikit-learn takes for the same metrics (a few resamples, scaled up).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from octoscope.evaluation.bootstrap import resample_patients
from octoscope.evaluation.evaluate import evaluate
from octoscope.evaluation.predictions import predictions_frame
from octoscope.scans.table import ScanTable

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def synthetic(scans: int, patients: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    targets = generator.integers(4, size=scans)
    logits = generator.normal(size=(scans, 4))
    logits[np.arange(scans), targets] += 1.5
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(scans)],
            "label": [CLASSES[t] for t in targets],
            "patient": [f"p{p}" for p in generator.integers(patients, size=scans)],
            "split": "val",
        }
    )
    table = ScanTable.from_frame(frame, Path("synthetic"), classes=CLASSES)
    return predictions_frame(table, logits, classes=table.classes, model="synthetic", seed=0)


def scikit_learn_seconds(frame: pd.DataFrame, resamples: int, measured: int) -> float:
    """Return the seconds for `resamples`, extrapolated from `measured` of them."""
    weights = resample_patients(frame["patient"], measured)
    targets = frame["target"].to_numpy()
    probabilities = frame[[f"probability_{name}" for name in CLASSES]].to_numpy()
    predicted = probabilities.argmax(axis=1)
    start = time.perf_counter()
    for r in range(measured):
        rows = np.repeat(np.arange(len(frame)), weights.of(np.arange(len(frame)))[:, r])
        true, said, scores = targets[rows], predicted[rows], probabilities[rows]
        sk.confusion_matrix(true, said)
        sk.accuracy_score(true, said)
        sk.balanced_accuracy_score(true, said)
        sk.precision_recall_fscore_support(true, said, zero_division=0)
        sk.roc_auc_score(np.eye(4)[true], scores, average=None)
        sk.average_precision_score(np.eye(4)[true], scores, average=None)
    return (time.perf_counter() - start) / measured * resamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for scans, patients in ((968, 633), (20_000, 4_686)):
        frame = synthetic(scans, patients)
        seconds = []
        for _ in range(options.repeats if scans < 2000 else 1):
            start = time.perf_counter()
            evaluate(frame, CLASSES, resamples=options.resamples)
            seconds.append(time.perf_counter() - start)
        peer = scikit_learn_seconds(frame, options.resamples, measured=10)
        print(
            f"bootstrap {options.resamples} × {scans} × 4, all metrics and calibration: "
            f"{np.median(seconds):.3f} s (median of {len(seconds)}); "
            f"scikit-learn loop, without calibration: {peer:.1f} s; "
            f"{peer / np.median(seconds):.0f}×"
        )


if __name__ == "__main__":
    main()
